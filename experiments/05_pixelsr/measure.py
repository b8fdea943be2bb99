"""What experiment 05 shows beside its table: swapped.csv and samples.png.

    python experiments/05_pixelsr/measure.py OUT LABEL@SEED=CHECKPOINT [...]

Swapped: every test patch is coded once under its own small picture and once under that of the next
patch of the same frame; how many bits a sub-pixel are lost says how much the model reads its input.
A row per training and clip. Labels are `auxiliary`, `without` and `L2`, of which the last does not
code; the figure is of the first seed.
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from hydra import compose, initialize_config_dir
from rich.progress import track
from torch import Tensor

import unlossy
from unlossy import cli
from unlossy.data.video_data import VideoData
from unlossy.inference.windows import clip_generator
from unlossy.models.baselines import Bicubic, Identity
from unlossy.models.model import EnhancementModel
from unlossy.models.nearest_patch import NearestPatch
from unlossy.report.lab_book import checkpoints
from unlossy.sample import Sample, to_float
from unlossy.training.configs import build

SHOWN = 10  # patches of the figure


def coded(
    model: EnhancementModel, clips: list[Sample]
) -> Iterator[tuple[Sample, dict[str, list[tuple[str, float]]]]]:
    """Yield clips, and of each code length the bits under its own input and under another."""
    for clip in track(clips, "coding"):
        other = Sample(**{**clip, "degraded": clip["degraded"].roll(1, 1)})
        own, swapped = model.bits(clip), model.bits(other)
        told = {}
        for key in own:
            with_own, without = float(own[key].mean()), float(swapped[key].mean())
            told[key] = [("own", with_own), ("swapped", without), ("rise", without - with_own)]
        yield clip, told


@torch.inference_mode()
def main(out: Path, *named: str) -> None:
    """Measure the checkpoints on the test split and write both files into `out`."""
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose("train", ["experiment=pixelsr/small", "data.workers=0"])
    data: VideoData = build(cfg.data)
    data.prepare_data()
    clips = [to_float(sample) for sample in data.test_dataloader()]
    trained: dict[str, dict[int, Path]] = {}
    for label, seed, path in checkpoints(named):
        trained.setdefault(label, {})[seed] = path
    rows = [
        {"clip": clip["name"][0], "model": label, "loss": "nll", "seed": seed}
        | {f"{key}_{what}": f"{bits:.5f}" for key, found in told.items() for what, bits in found}
        for label in ("auxiliary", "without")
        for seed, path in trained[label].items()
        for clip, told in coded(unlossy.load(path).eval(), clips)
    ]
    with (out / "swapped.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    seed = next(iter(trained["auxiliary"]))
    draw(
        pictures(data, clips, trained["auxiliary"][seed], trained["L2"][seed]), out / "samples.png"
    )


def pictures(
    data: VideoData, clips: list[Sample], auxiliary: Path, regression: Path
) -> dict[str, list[Tensor]]:
    """Return by name one patch of each of some clips, (3, 32, 32) in [0, 1]."""
    nearest = NearestPatch()
    nearest.fit(data.whole("train"))
    recursive = unlossy.load(auxiliary)
    models = {
        "input": Identity(4),
        "bicubic": Bicubic(),
        "nearest patch": nearest,
        "L2": unlossy.load(regression),
        "": recursive,
    }
    names = {"a_greedy": "A greedy", "a_sampled": "A drawn", "greedy": "greedy"}
    drawn: dict[str, list[Tensor]] = {}
    for clip in clips[:: len(clips) // SHOWN][:SHOWN]:
        middle = clip["degraded"].shape[1] // 2
        one = slice(middle, middle + 1)
        patch = Sample(
            **{**clip, "degraded": clip["degraded"][:, one], "t_in": clip["t_in"][:, :1]}
        )
        patch["t_out"], patch["clean"] = patch["t_in"], clip["clean"][:, one]
        for name, model in models.items():
            made = model.eval().restore_all(patch, generator=clip_generator(clip["name"][0], 0))
            for key, frames in made.items():
                drawn.setdefault(name or names.get(key, key), []).append(frames[0, 0])
        drawn.setdefault("clean", []).append(patch["clean"][0, 0])
    return drawn


def draw(drawn: dict[str, list[Tensor]], path: Path) -> None:
    """Write one line of patches for each name."""
    figure, axes = plt.subplots(len(drawn), SHOWN, figsize=(SHOWN, 1.02 * len(drawn)))
    for line, (name, shown) in zip(axes, drawn.items(), strict=True):
        for place, picture in zip(line, shown, strict=True):
            place.imshow(picture.permute(1, 2, 0), interpolation="nearest")
            place.set_xticks([])
            place.set_yticks([])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    figure.subplots_adjust(0.11, 0.005, 0.995, 0.995, 0.03, 0.03)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    with cli.refusing():
        main(Path(sys.argv[1]), *sys.argv[2:])
