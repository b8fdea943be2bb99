"""What frames between frames are worth, by how far things moved: displacement.csv, .png, gains.csv.

    python experiments/07_film_losses/displacement.py OUT LABEL@SEED=CHECKPOINT [...]

Pans: the clips of source=synthetic_pans, each one shift of up to 6 pixels a frame, which is known,
so that models that estimate flow (`flow_to_first`) also have an end-point error. Film: the test
clips of source=footage, nine frames of each, at factor 2, frame by frame. How much moves there is
the mean grey difference of the two kept frames, of 255; above 25 there is a cut, and the frame is
left out. Models do not look out for cuts themselves (cut=null): some pans differ by as much.

A gain is over the frame average on the same frames: a mean of differences, never a difference of
means, and where there are several trainings over them, too; `gain_seeds_std` is the sample
standard deviation between these. The interval of 95 % is a bootstrap over clips, each with all its
frames.
"""

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib.pyplot as plt
import torch
from hydra import compose, initialize_config_dir
from rich.progress import track

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
from unlossy.report.lab_book import checkpoints
from unlossy.report.paired import Interval, bootstrap
from unlossy.sample import Sample, to_float
from unlossy.training.configs import build

AVERAGE = "frame_average"
CUT = 25.0
# The first frames of every shot: with all 16 the experiment takes more than an hour.
FILM = ("source=footage", *(f"source.parts.{part}.longest.test=9" for part in ("bunny", "clips")))
BINS = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6.001))  # pixels a frame
COLUMNS = ("set", "model", "seed", "clip", "frame", "psnr", "difference", "shift", "epe")

Row = dict[str, Any]


def data_of(*source: str) -> VideoData:
    """Return a source, told by overrides, under the medium that drops every second frame."""
    settings = ("degradation=drop_frames", "data.workers=0", "name=x")
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose("train", [*source, *settings])
    data: VideoData = build(cfg.data)
    data.prepare_data()
    return data


def frames_of(model: EnhancementModel, sample: Sample) -> torch.Tensor:
    """Return all frames at t_out, uint8 (T, 3, H, W)."""
    return torch.cat([made for _, made in restored_windows(model, sample)])


def rows_of(name: str, seed: int, model: EnhancementModel, sample: Sample) -> Iterator[Row]:
    """Yield a row for each frame that was dropped."""
    made, clean = frames_of(model, sample), sample["clean"][0]
    kept = sample["degraded"].float() / 255
    moved = grey_difference(kept[:, :-1], kept[:, 1:])[0].tolist()
    for k, difference in enumerate(moved):
        scored = psnr(made[2 * k + 1][None], clean[2 * k + 1][None])[0]
        yield {
            "model": name,
            "seed": seed,
            "clip": sample["name"][0],
            "frame": 2 * k + 1,
            "psnr": scored,
            "difference": difference,
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


def measured(models: Mapping[tuple[str, int], EnhancementModel]) -> Iterator[Row]:
    """Yield the rows of all models on both sets."""
    pans, film = data_of("source=synthetic_pans"), data_of(*FILM)
    for sample in track(list(pans.test_dataloader()), "pans"):
        clip = next(clip for clip in pans.clips["test"] if clip.name == sample["name"][0])
        shift = float(pans.source.target(clip, 0, 2)["flow"][0, :, 0, 0].norm())
        for key, model in models.items():
            error = missed(model, sample, pans)
            for row in rows_of(*key, model, sample):
                yield {"set": "pans", **row, "shift": shift, "epe": error}
    for sample in track(list(film.test_dataloader()), "film"):
        for key, model in models.items():
            yield from (
                {"set": film.source_of(sample["name"][0]), **row}
                for row in rows_of(*key, model, sample)
            )


def gain(rows: Iterable[Row], name: str) -> Interval | None:
    """Return the mean gain over the frame average and its interval, in dB; None without rows."""
    scores: dict[tuple[str, int], dict[str, list[float]]] = {}
    for row in rows:
        of = scores.setdefault((row["clip"], row["frame"]), {})
        of.setdefault(row["model"], []).append(row["psnr"])
    by_clip: dict[str, list[float]] = {}
    for (clip, _), found in scores.items():
        by_clip.setdefault(clip, []).append(fmean(found[name]) - fmean(found[AVERAGE]))
    if not by_clip:
        return None
    return bootstrap([fmean(own) for own in by_clip.values()], [*map(len, by_clip.values())])


def groups_of(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of pans by pixels a frame, those of film by how much moves; cuts left out."""
    rows = list(rows)
    pans = [row for row in rows if row["set"] == "pans"]
    groups = {
        f"pans, {low}-{high:.0f} pixels": [row for row in pans if low <= row["shift"] < high]
        for low, high in BINS
    }
    groups["pans"] = pans
    for place in dict.fromkeys(row["set"] for row in rows if row["set"] != "pans"):
        own = [row for row in rows if row["set"] == place and row["difference"] <= CUT]
        ranked = sorted(row["difference"] for row in own if row["model"] == AVERAGE)
        least, most = ranked[len(ranked) // 4], ranked[3 * len(ranked) // 4]
        groups[place] = own
        groups[f"{place}, least"] = [row for row in own if row["difference"] < least]
        groups[f"{place}, most"] = [row for row in own if row["difference"] >= most]
    return {group: members for group, members in groups.items() if members}


def gains(groups: Mapping[str, list[Row]]) -> Iterator[Row]:
    """Yield for every group and model its frames, PSNR, gain, interval, and end-point error."""
    for group, rows in groups.items():
        for name in dict.fromkeys(row["model"] for row in rows):
            own = [row for row in rows if row["model"] == name]
            errors = [row["epe"] for row in own if row.get("epe") is not None]
            line = {"group": group, "model": name}
            line["frames"] = len({(row["clip"], row["frame"]) for row in own})
            line["psnr"] = fmean(row["psnr"] for row in own)
            if name != AVERAGE and (found := gain(rows, name)) is not None:
                line |= {"gain": found.mean}
                if len({row["clip"] for row in own}) > 1:
                    line |= {"low": found.low, "high": found.high}
            by_seed = [
                [row["psnr"] for row in own if row["seed"] == seed]
                for seed in sorted({row["seed"] for row in own})
            ]
            if len(by_seed) > 1:
                line["gain_seeds_std"] = stdev(map(fmean, by_seed))
            yield line | ({"epe": fmean(errors)} if errors else {})


def write(path: Path, header: Sequence[str], rows: Iterable[Row]) -> None:
    """Write rows as CSV, numbers in six digits."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, header, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def plot(groups: Mapping[str, list[Row]], names: Sequence[str], path: Path) -> None:
    """Draw the gains on pans by displacement."""
    bins = {group: rows for group, rows in groups.items() if group.startswith("pans, ")}
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for k, name in enumerate(names):
        found = [gain(rows, name) for rows in bins.values()]
        places = [place + (k - 2) * 0.06 for place, each in enumerate(found) if each]
        known = [each for each in found if each]
        means = [each.mean for each in known]
        reach = (
            [each.mean - each.low for each in known],
            [each.high - each.mean for each in known],
        )
        axes.errorbar(places, means, reach, fmt="o-", capsize=3, label=name)
    axes.axhline(0, color="grey", linewidth=1)
    axes.set_xticks(range(len(bins)), [group.removeprefix("pans, ") for group in bins])
    axes.set_xlabel("how far a held-out pan moves from frame to frame")
    axes.set_ylabel("gain over the frame average, dB")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


@torch.inference_mode()
def main(out: str, *named: str) -> None:
    """Measure the checkpoints and write the files into `out`."""
    models: dict[tuple[str, int], EnhancementModel] = {
        ("input", 0): Identity(),
        (AVERAGE, 0): FrameAverage(),
        ("minterpolate", 0): Minterpolate(),
    }
    models |= {(label, seed): unlossy.load(path) for label, seed, path in checkpoints(named)}
    for model in models.values():
        model.eval()
        if isinstance(model, Interpolator):
            model.cut = None
    rows = list(measured(models))
    groups = groups_of(rows)
    write(Path(out, "displacement.csv"), COLUMNS, rows)
    found = list(gains(groups))
    write(Path(out, "gains.csv"), list(dict.fromkeys(key for row in found for key in row)), found)
    shown = [*dict.fromkeys(name for name, _ in models if name not in ("input", AVERAGE))]
    plot(groups, shown, Path(out, "displacement.png"))


if __name__ == "__main__":
    with cli.refusing():
        main(*sys.argv[1:])
