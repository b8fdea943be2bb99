"""A run's gallery as training leaves it, of flat colours that a test can tell apart."""

import json

from PIL import Image

COLORS = {"input": (200, 0, 0), "clean": (0, 0, 200)}
WIDTH, HEIGHT, FRAMES = 32, 18, 4


def write_gallery(run_folder, clips, models, color=(0, 200, 0), source="bunny"):
    """Leave stills, films and flicker strips of `clips`: input, `models`, clean."""
    folder = run_folder / "gallery"
    folder.mkdir()
    sizes = {"still": (WIDTH, HEIGHT), "film": (3 * WIDTH, HEIGHT), "rows": (WIDTH, FRAMES)}
    exhibits = []
    for number, clip in enumerate(clips):
        outputs = []
        for label in ("input", *models, "clean"):
            names = {kind: f"{number}_{label.replace(':', '_')}.{kind}.webp" for kind in sizes}
            red, green, blue = COLORS.get(label, color)
            for kind, size in sizes.items():
                picture = Image.new("RGB", size, (red, green, blue + 5 * number))
                picture.save(folder / names[kind], lossless=True)
            psnr = {"input": 30.0, "clean": None}.get(label, 33.0)
            outputs.append({"label": label, "psnr": psnr, **names})
        exhibits.append(
            {
                "clip": clip,
                "source": source,
                "degradation": "gif",
                "width": WIDTH,
                "height": HEIGHT,
                "frames": FRAMES,
                "row": HEIGHT // 2,
                "outputs": outputs,
            }
        )
    (folder / "index.json").write_text(json.dumps({"exhibits": exhibits}))
