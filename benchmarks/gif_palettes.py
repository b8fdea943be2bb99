"""Our default palette against Pillow's median cut: quality and time, 32 colours, no dither.

    python benchmarks/gif_palettes.py [--colors 32] [--every 1]

Both see the same frames in turn, in one process. Time is the CPU time of palette and mapping (both
run on one core), palettes/s its inverse. PSNR is per frame in RGB, averaged over the clip.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from PIL import Image

from unlossy import assets, video
from unlossy.degradations import palettes
from unlossy.degradations.palettes import Bytes

CLIPS: dict[str, tuple[int, int] | None] = {
    "bikes": None,
    "carphone_pristine": None,
    "bigbuckbunny": (320, 180),
}


def ours(frame: Bytes, colors: int) -> Bytes:
    pixels = frame.reshape(-1, 3)
    table = palettes.few(pixels, colors)
    if table is None:
        table = palettes.kmeans(pixels, colors)
    return table[palettes.nearest(frame, table)]


def pillow(frame: Bytes, colors: int) -> Bytes:
    method, dither = Image.Quantize.MEDIANCUT, Image.Dither.NONE
    found = Image.fromarray(frame).quantize(colors, method, dither=dither)
    return np.asarray(found.convert("RGB"))


def psnr(shown: Bytes, frame: Bytes) -> float:
    error = np.square(shown.astype(np.float64) - frame).mean()
    return float(min(100.0, 10 * np.log10(255**2 / max(error, 1e-9))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--colors", type=int, default=32)
    parser.add_argument("--every", type=int, default=1, help="take every n-th frame")
    arguments = parser.parse_args()
    print(f"{'clip':18} {'frames':>6} {'ours dB':>8} {'Pillow dB':>9} {'gain dB':>8}", end="")
    print(f" {'ours ms':>8} {'Pillow ms':>9} {'ratio':>6} {'palettes/s':>10} {'Pillow/s':>8}")
    for name, size in CLIPS.items():
        path = assets.fetch("clips") / f"{name}.mp4"
        scores: dict[str, list[float]] = {"ours": [], "pillow": []}
        seconds = {"ours": 0.0, "pillow": 0.0}
        for frame in video.iter_frames(path, size=size, every=arguments.every):
            packed = np.ascontiguousarray(frame.permute(1, 2, 0).numpy())
            for way in (ours, pillow):
                start = time.process_time()
                shown = way(packed, arguments.colors)
                seconds[way.__name__] += time.process_time() - start
                scores[way.__name__].append(psnr(shown, packed))
        count = len(scores["ours"])
        mine, theirs = np.mean(scores["ours"]), np.mean(scores["pillow"])
        print(f"{name:18} {count:6} {mine:8.2f} {theirs:9.2f} {mine - theirs:8.2f}", end="")
        print(
            f" {1e3 * seconds['ours'] / count:8.1f} {1e3 * seconds['pillow'] / count:9.1f}", end=""
        )
        print(
            f" {seconds['ours'] / seconds['pillow']:6.2f} {count / seconds['ours']:10.0f}", end=""
        )
        print(f" {count / seconds['pillow']:8.0f}")


if __name__ == "__main__":
    main()
