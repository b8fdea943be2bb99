"""What frames between frames are worth, by how far things moved: displacement.csv and .png, tables.

    python experiments/07_film_losses/displacement.py LABEL=CHECKPOINT [LABEL=CHECKPOINT ...]

Pans: the clips of source=synthetic_pans, each one shift of up to 6 pixels a frame, which is known,
so that models that estimate flow (`flow_to_first`) also have an end-point error. Film: the test
clips of source=footage at factor 2, frame by frame. How much moves there is the mean grey
difference of the two kept frames, of 255; above 25 there is a cut, and the frame is left out.
Models do not look out for cuts themselves (cut=null): some pans differ by as much.

A gain is over the frame average on the same frames: a mean of differences, never a difference of
means. Its interval of 95 % is a bootstrap over clips.
"""

import csv
import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib.pyplot as plt
import torch
from hydra import compose, initialize_config_dir

import unlossy
from unlossy import cli
from unlossy.data.video_data import VideoData
from unlossy.inference.windows import restored_windows
from unlossy.losses.flow import EndPointError
from unlossy.metrics.pixel import psnr
from unlossy.models.baselines import Identity
from unlossy.models.interpolation_baselines import FrameAverage, Minterpolate
from unlossy.models.interpolator import Interpolator, grey_difference
from unlossy.models.model import EnhancementModel
from unlossy.sample import Sample, to_float
from unlossy.training.configs import build

HERE = Path(__file__).parent
AVERAGE = "frame_average"
CUT = 25.0
BINS = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6.001))  # pixels a frame
RESAMPLES = 2000

Row = dict[str, Any]


def data_of(source: str) -> VideoData:
    """Return a source under the medium that drops every second frame."""
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose(
            "train", [f"source={source}", "degradation=drop_frames", "data.workers=0", "name=x"]
        )
    data: VideoData = build(cfg.data)
    data.prepare_data()
    return data


def frames_of(model: EnhancementModel, sample: Sample) -> torch.Tensor:
    """Return all frames at t_out, uint8 (T, 3, H, W)."""
    return torch.cat([made for _, made in restored_windows(model, sample)])


def rows_of(name: str, model: EnhancementModel, sample: Sample) -> Iterator[Row]:
    """Yield a row for each frame that was dropped."""
    made, clean = frames_of(model, sample), sample["clean"][0]
    kept = sample["degraded"].float() / 255
    moved = grey_difference(kept[:, :-1], kept[:, 1:])[0].tolist()
    for k, difference in enumerate(moved):
        scored = psnr(made[2 * k + 1][None], clean[2 * k + 1][None])[0]
        yield {"model": name, "clip": sample["name"][0], "frame": 2 * k + 1, "psnr": scored} | {
            "difference": difference
        }


def missed(model: EnhancementModel, sample: Sample, data: VideoData) -> float | None:
    """Return the end-point error of a clip of three frames in pixels, None without a flow."""
    if "flow_to_first" not in model.provides:
        return None
    clip = next(clip for clip in data.clips["test"] if clip.name == sample["name"][0])
    target = {key: value[None] for key, value in data.source.target(clip, 0, 3).items()}
    batch = Sample(**{**to_float(sample), "target": target})
    restored = model(batch)
    return fmean(
        float(EndPointError(of)(restored, batch)) for of in ("flow_to_first", "flow_to_last")
    )


def measured(models: Mapping[str, EnhancementModel]) -> Iterator[Row]:
    """Yield the rows of all models on both sets."""
    pans, film = data_of("synthetic_pans"), data_of("footage")
    for sample in pans.test_dataloader():
        clip = next(clip for clip in pans.clips["test"] if clip.name == sample["name"][0])
        shift = float(pans.source.target(clip, 0, 2)["flow"][0, :, 0, 0].norm())
        for name, model in models.items():
            error = missed(model, sample, pans)
            for row in rows_of(name, model, sample):
                yield {"set": "pans", **row, "shift": shift, "epe": error}
    for sample in film.test_dataloader():
        for name, model in models.items():
            yield from (
                {"set": film.source_of(sample["name"][0]), **row}
                for row in rows_of(name, model, sample)
            )


def gain(rows: Iterable[Row], name: str) -> tuple[float, float, float] | None:
    """Return the mean gain over the frame average and its interval, in dB; None without rows."""
    pairs: dict[tuple[str, int], dict[str, float]] = {}
    for row in rows:
        pairs.setdefault((row["clip"], row["frame"]), {})[row["model"]] = row["psnr"]
    by_clip: dict[str, list[float]] = {}
    for (clip, _), scores in pairs.items():
        by_clip.setdefault(clip, []).append(scores[name] - scores[AVERAGE])
    if not by_clip:
        return None
    draws, clips = random.Random(0), list(by_clip.values())
    means = sorted(
        fmean(x for own in draws.choices(clips, k=len(clips)) for x in own)
        for _ in range(RESAMPLES)
    )
    low, high = means[RESAMPLES // 40], means[-RESAMPLES // 40]
    if len(clips) == 1:
        low, high = float("-inf"), float("inf")
    return fmean(x for own in clips for x in own), low, high


def table(title: str, groups: Mapping[str, list[Row]], names: Iterable[str]) -> None:
    """Print the average's PSNR and every model's gain over it, group by group."""
    print(f"\n{title}")
    for group, rows in groups.items():
        average = [row["psnr"] for row in rows if row["model"] == AVERAGE]
        if not average:
            continue
        print(f"  {group}: {len(average)} frames, {AVERAGE} {fmean(average):.2f} dB")
        for name in names:
            errors = [row["epe"] for row in rows if row["model"] == name and row.get("epe")]
            error = f"   end-point error {fmean(errors):.2f}" if errors else ""
            if (found := gain(rows, name)) is not None:
                mean, low, high = found
                print(f"    {name:24} {mean:+.2f} [{low:+.2f}, {high:+.2f}]{error}")


def plot(bins: Mapping[str, list[Row]], names: Iterable[str]) -> None:
    """Draw the gains by displacement."""
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for k, name in enumerate(names):
        found = [gain(rows, name) for rows in bins.values()]
        places = [place + (k - 2) * 0.06 for place, each in enumerate(found) if each]
        means, lows, highs = zip(*(each for each in found if each), strict=True)
        reach = (
            [mean - low for mean, low in zip(means, lows, strict=True)],
            [high - mean for mean, high in zip(means, highs, strict=True)],
        )
        axes.errorbar(places, means, reach, fmt="o-", capsize=3, label=name)
    axes.axhline(0, color="grey", linewidth=1)
    axes.set_xticks(range(len(bins)), list(bins))
    axes.set_xlabel("how far a held-out pan moves from frame to frame")
    axes.set_ylabel("gain over the frame average, dB")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(HERE / "displacement.png", dpi=120)


@torch.inference_mode()
def main(*named: str) -> None:
    """Measure the checkpoints, write the rows and print the tables."""
    models: dict[str, EnhancementModel] = {
        "input": Identity(),
        AVERAGE: FrameAverage(),
        "minterpolate": Minterpolate(),
    }
    for label, _, path in (text.partition("=") for text in named):
        models[label] = unlossy.load(path)
    for model in models.values():
        model.eval()
        if isinstance(model, Interpolator):
            model.cut = None
    rows = list(measured(models))
    columns = ("set", "model", "clip", "frame", "psnr", "difference", "shift", "epe")
    with (HERE / "displacement.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    names = [name for name in models if name != AVERAGE]
    pans = [row for row in rows if row["set"] == "pans"]
    bins = {
        f"{low}-{high:.0f} pixels": [row for row in pans if low <= row["shift"] < high]
        for low, high in BINS
    }
    table("Pans, by pixels a frame", {**bins, "all": pans}, names)
    plot(bins, [name for name in names if name != "input"])
    for place in dict.fromkeys(row["set"] for row in rows if row["set"] != "pans"):
        own = [row for row in rows if row["set"] == place and row["difference"] <= CUT]
        ranked = sorted(row["difference"] for row in own if row["model"] == AVERAGE)
        least, most = ranked[len(ranked) // 4], ranked[3 * len(ranked) // 4]
        groups = {
            "the quarter that moves least": [row for row in own if row["difference"] < least],
            "the quarter that moves most": [row for row in own if row["difference"] >= most],
            "all": own,
        }
        table(f"{place}, factor 2", groups, names)


if __name__ == "__main__":
    main(*sys.argv[1:])
