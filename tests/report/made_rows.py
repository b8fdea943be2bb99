"""Result rows with plausible numbers where a test does not care, and run folders of them."""

import csv
import json


def make_row(model, clip, psnr, *, loss="", source="bunny", exact=0, **more):
    return {
        "model": model,
        "loss": loss,
        "degradation": "gif",
        "source": source,
        "clip": clip,
        "frames": 10,
        "psnr": psnr,
        "psnr_all": psnr,
        "ssim": 0.9,
        "ssim_uniform7": 0.9,
        "lpips_alex": 0.1,
        "bits": 8000,
        "bpp": 2.0,
        "seconds_per_frame": 0.01,
        "exact": exact,
        "seed": 0,
    } | more


def write_run(
    root, name, rows, *, seed=0, config=None, stamp="2026-11-21_10-00-00_abc", metrics=None
):
    """Write a run folder as training does, and return it."""
    folder = root / name / stamp
    folder.mkdir(parents=True)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(make_row("", "", 0.0)), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row | {"seed": seed} for row in rows)
    (folder / "run.json").write_text(json.dumps({"seed": seed, "config": config or {}}))
    if metrics:
        (folder / "metrics.csv").write_text(metrics)
    return folder
