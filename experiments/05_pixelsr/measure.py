"""What experiment 05 shows beside its table: swapped.csv and samples.png.

    python experiments/05_pixelsr/measure.py OUT AUXILIARY.ckpt NO_AUXILIARY.ckpt REGRESSION.ckpt

Swapped: every test patch is coded once under its own small picture and once under that of the next
patch of the same frame; how many bits a sub-pixel are lost says how much the model reads its input,
with a 95 % interval of the bootstrap over clips.
"""

import csv
import sys
from pathlib import Path
from statistics import fmean

import matplotlib.pyplot as plt
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

import unlossy
from unlossy import cli
from unlossy.data.video_data import VideoData
from unlossy.inference.windows import clip_generator
from unlossy.models.baselines import Bicubic, Identity
from unlossy.models.model import EnhancementModel
from unlossy.models.nearest_patch import NearestPatch
from unlossy.report.paired import bootstrap
from unlossy.sample import Sample, to_float
from unlossy.training.configs import build

SHOWN = 10  # patches of the figure


def swapped(model: EnhancementModel, batch: Sample) -> dict[str, tuple[float, float]]:
    """Return the code length under A + B and under A: (with its own input, with another)."""
    other = Sample(**{**batch, "degraded": batch["degraded"].roll(1, 1)})
    own, lost = model.bits(batch), model.bits(other)
    return {key: (float(own[key].mean()), float(lost[key].mean())) for key in own}


@torch.inference_mode()
def main(out: Path, auxiliary: Path, without: Path, regression: Path) -> None:
    """Measure the checkpoints on the test split and write both files into `out`."""
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose("train", ["experiment=pixelsr/small", "data.workers=0"])
    data: VideoData = build(cfg.data)
    data.prepare_data()
    clips = [to_float(sample) for sample in data.test_dataloader()]
    models = {"auxiliary": auxiliary, "without": without}
    table, rises = [], {}
    for name, path in models.items():
        model = unlossy.load(path).eval()
        found = [swapped(model, clip) for clip in clips]
        for key in found[0]:
            own, other = (fmean(clip[key][k] for clip in found) for k in (0, 1))
            rises[name, key] = [clip[key][1] - clip[key][0] for clip in found]
            rise = bootstrap(rises[name, key])
            numbers = (own, other, rise.mean, rise.low, rise.high)
            table.append([name, key, *(f"{number:.3f}" for number in numbers)])
    pairs = zip(rises["auxiliary", "nll"], rises["without", "nll"], strict=True)
    more = bootstrap([with_term - without_it for with_term, without_it in pairs])
    cells = (f"{number:.3f}" for number in (more.mean, more.low, more.high))
    table.append(["auxiliary - without", "nll", "", "", *cells])
    with (out / "swapped.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "of", "own", "swapped", "rise", "low", "high"])
        writer.writerows(table)
    for row in table:
        print(*row, sep=" | ")
    draw(pictures(data, clips, auxiliary, regression), out / "samples.png")


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
    main(*map(Path, sys.argv[1:]))
