"""Where the models of experiment 04 put the digit: corners.csv and corners.png.

    python experiments/04_two_corners/measure.py OUT LABEL@SEED=CHECKPOINT [...]

The figure is of the first seed. Every model sees the 500 test digits, those that draw twice, with
two seeds; one called `recursive` also draws its first digit 500 times. NLL is that of the true
canvas, teacher-forced, in nats a picture.
"""

import csv
import math
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import unlossy
from unlossy import cli
from unlossy.data.two_corners import TwoCorners
from unlossy.degradations.corners import Corners
from unlossy.metrics.corners import LABELS, corner_shares
from unlossy.models.model import EnhancementModel
from unlossy.report.lab_book import checkpoints
from unlossy.sample import Sample, pristine

SHOWN = 8  # digits of the figure


def batch_of(canvases: Tensor) -> Sample:
    """Return canvases, uint8 (N, 1, 2s, 2s), and what `degradation=corners` keeps of them."""
    kept = Corners()(pristine("two_corners", canvases), torch.Generator())
    times = kept["t_in"][None]
    return Sample(
        name=["two_corners"],
        degraded=kept["frames"][None].float() / 255,
        t_in=times,
        t_out=times,
        clean=canvases[None].float() / 255,
        side={},
        target={},
        bits=torch.zeros(1),
    )


def drawn(model: EnhancementModel, batch: Sample, seeds: int) -> dict[str, Tensor]:
    """Return by output of the model its canvases (seeds * N, 1, 2s, 2s)."""
    made = [
        model.restore_all(batch, generator=torch.Generator().manual_seed(seed))
        for seed in range(seeds)
    ]
    return {key: torch.cat([one[key][0] for one in made]) for key in made[0]}


def _once(two: Tensor) -> Tensor:
    """Return what two seeds made, once if the seed made no difference."""
    first, second = two.chunk(2)
    return first if torch.equal(first, second) else two


@torch.inference_mode()
def main(out: Path, *named: str) -> None:
    """Measure the checkpoints and write both files into `out`."""
    source = TwoCorners()
    canvases = torch.cat([source.read(clip, 0, clip.frames) for clip in source.clips("test")])
    batch = batch_of(canvases)
    side = canvases.shape[-1] // 2
    digits = batch["degraded"][0, ..., :side, :side]
    one = batch_of(canvases[:1].expand(500, -1, -1, -1))
    table, pictures = (
        [],
        {"clean": batch["clean"][0, :SHOWN], "input": batch["degraded"][0, :SHOWN]},
    )
    for name, seed, path in checkpoints(named):
        model = unlossy.load(path).eval()
        nll = {
            key: float(bits.mean()) * canvases[0].numel() * math.log(2)
            for key, bits in model.bits(batch).items()
        }
        made_twice = {f"{name} {key}".strip(): two for key, two in drawn(model, batch, 2).items()}
        clips = {label: _once(two) for label, two in made_twice.items()}
        if name == "recursive":
            clips |= {"recursive, one digit": drawn(model, one, 1)["t1"]}
        for label, made in clips.items():
            of = digits[:1] if label.endswith("one digit") else digits
            found = corner_shares(made, of.repeat(len(made) // len(of), 1, 1, 1))
            row = {"model": label, "seed": seed, "canvases": len(made)}
            row |= {key: f"{found.shares[key].value:.4f}" for key in LABELS}
            row |= {
                "top_left_low": f"{found.shares['top_left'].low:.4f}",
                "top_left_high": f"{found.shares['top_left'].high:.4f}",
                "correlation": f"{found.correlation:.4f}",
                "elsewhere": f"{found.elsewhere:.4f}",
                "nll_nats_per_picture": f"{nll['nll']:.3f}" if "nll" in nll else "",
            }
            table.append(row)
            pictures.setdefault(label, made[:SHOWN])
    with (out / "corners.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    draw(pictures, out / "corners.png")
    for row in table:
        print(*row.values(), sep=" | ")


def draw(pictures: dict[str, Tensor], path: Path) -> None:
    """Write one line of pictures for each name."""
    figure, axes = plt.subplots(len(pictures), SHOWN, figsize=(SHOWN, 1.15 * len(pictures)))
    for line, (name, shown) in zip(axes, pictures.items(), strict=True):
        for place, picture in zip(line, shown, strict=True):
            place.imshow(picture[0], cmap="gray", vmin=0, vmax=1)
            place.set_xticks([])
            place.set_yticks([])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    with cli.refusing():
        main(Path(sys.argv[1]), *sys.argv[2:])
