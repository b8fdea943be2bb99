"""What FILM's three losses are worth on the film's test shots at factor 2: losses.csv, losses.png.

    python experiments/07_film_losses/sharpness.py OUT LABEL@SEED=CHECKPOINT [...]

The figure is of the first seed. Only frames that were dropped count, of the first nine of every
clip, a mean of them per clip. Sharpness is the sum of |gradients| of a made
frame over that of the clean one: below 1 it is smoother, above 1 rougher.
"""

import csv
import sys
from pathlib import Path
from statistics import fmean

import torch
from displacement import FILM, data_of, frames_of
from rich.progress import track

import unlossy
from unlossy import cli
from unlossy.losses.pixel import image_gradients
from unlossy.metrics.lpips import lpips
from unlossy.metrics.pixel import psnr
from unlossy.models.interpolation_baselines import FrameAverage, Minterpolate
from unlossy.models.interpolator import Interpolator
from unlossy.models.model import EnhancementModel
from unlossy.report.lab_book import checkpoints
from unlossy.report.pictures import strip
from unlossy.report.rows import Row

SHOWN = "bunny/10999"  # of its made frames the one that the frame average does worst on


def sharpness(made: torch.Tensor, clean: torch.Tensor) -> list[float]:
    """Return for each uint8 (N, 3, H, W) the ratio of summed |gradients|."""
    sums = [image_gradients(x.float()).abs().sum((1, 2, 3)) for x in (made, clean)]
    ratio: list[float] = (sums[0] / sums[1]).tolist()
    return ratio


@torch.inference_mode()
def main(out: str, *named: str) -> None:
    """Measure the checkpoints, write the rows and the picture into `out`."""
    models: dict[tuple[str, int], EnhancementModel] = {
        ("frame average", 0): FrameAverage(),
        ("minterpolate", 0): Minterpolate(),
    }
    filters = {label for label, _ in models}
    models |= {(label, seed): unlossy.load(path) for label, seed, path in checkpoints(named)}
    for model in models.values():
        model.eval()
        if isinstance(model, Interpolator):
            model.cut = None
    data, distance = data_of(*FILM), lpips("lpips_alex")
    rows: list[Row] = []
    for sample in track(list(data.test_dataloader()), "scoring"):
        clip, clean = sample["name"][0], sample["clean"][0, 1:-1:2]
        made = {key: frames_of(model, sample)[1:-1:2] for key, model in models.items()}
        for (name, seed), frames in made.items():
            pairs = zip(frames.float().split(1), clean.float().split(1), strict=True)
            scores = {
                "psnr": psnr(frames, clean),
                "lpips_alex": [float(distance(x / 255, y / 255)) for x, y in pairs],
                "sharpness": sharpness(frames, clean),
            }
            rows.append(
                {"source": data.source_of(clip), "clip": clip, "model": name}
                | {"loss": "" if name in filters else "trained", "seed": seed}
                | {key: fmean(values) for key, values in scores.items()}
            )
        if clip == SHOWN:
            first: dict[str, torch.Tensor] = {}
            for (name, _), frames in made.items():
                first.setdefault(name, frames)
            worst = psnr(made["frame average", 0], clean)
            k = worst.index(min(worst))
            strip(
                {name: frames[k] for name, frames in first.items()},
                clean[k],
                Path(out, "losses.png"),
            )
    with Path(out, "losses.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    with cli.refusing():
        main(*sys.argv[1:])
