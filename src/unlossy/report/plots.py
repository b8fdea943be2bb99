"""Plots of results: validation scores against steps, and what every clip gained.

Figures are made without pyplot, so that there is no global state and no display is looked for.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure

from unlossy.report.rows import Row, grouped, label

Curve = list[tuple[float, float]]  # (step, value), steps increasing
BETTER, WORSE = "#2a788e", "#d1495b"
LONGEST = 28  # characters of a clip's name that a plot shows
# In this order, before metrics of other names.
TITLES = {
    "val/psnr": "PSNR, dB (higher is better)",
    "val/ssim": "SSIM (higher is better)",
    "val/lpips_alex": "LPIPS (lower is better)",
    "val/nll": "NLL, bits per sub-pixel (lower is better)",
}


def read_curves(folder: Path) -> dict[str, Curve]:
    """Return every `val/...` scalar of the run's `metrics.csv` (step, name, value) by name.

    Of a step that was logged twice the last value counts; lines that were cut off are passed over.
    """
    path = folder / "metrics.csv"
    if not path.exists():
        return {}
    values: dict[str, dict[float, float]] = defaultdict(dict)
    with path.open(newline="", encoding="utf-8") as file:
        for cells in csv.reader(file):
            if len(cells) == 3 and cells[1].startswith("val/"):
                values[cells[1]][float(cells[0])] = float(cells[2])
    return {name: sorted(points.items()) for name, points in values.items()}


def curves_of(rows: Iterable[Row], root: Path) -> list[tuple[str, dict[str, Curve]]]:
    """Return label and curves of every run under `root` that trained what some rows are of."""
    trained = grouped((row for row in rows if row["loss"]), "trained_in")
    return [(label(found[-1]), read_curves(root / run)) for (run,), found in trained.items()]


def metrics_of(runs: Iterable[tuple[str, Mapping[str, Curve]]]) -> list[str]:
    """Return the metrics that any run has a curve of, in the order they are drawn in."""
    found = {metric for _, curves in runs for metric in curves}
    return [*(metric for metric in TITLES if metric in found), *sorted(found - TITLES.keys())]


def plot_steps(runs: Sequence[tuple[str, Mapping[str, Curve]]], path: Path) -> bool:
    """Draw a panel per validation metric and a line per run; runs of one recipe share a colour.

    Args:
        runs: label of the recipe, and metric -> curve.
        path: where the PNG goes.

    Returns:
        Whether there was anything to draw.
    """
    if not (metrics := metrics_of(runs)):
        return False
    labels = dict.fromkeys(label for label, _ in runs)
    colors = {label: colormaps["tab10"](place % 10) for place, label in enumerate(labels)}
    columns = min(3, len(metrics))
    lines = -(-len(metrics) // columns)
    figure = Figure((4.2 * columns, 3.2 * lines + 0.3), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, metric in zip(grid, metrics, strict=False):
        for name, curves in runs:
            if points := curves.get(metric):
                axes.plot(*zip(*points, strict=True), color=colors[name], label=name, marker=".")
        axes.set(title=TITLES.get(metric, metric), xlabel="step")
        axes.grid(alpha=0.3)
    for axes in grid[len(metrics) :]:
        axes.remove()
    drawn = [line for axes in grid[: len(metrics)] for line in axes.get_lines()]
    handles = {line.get_label(): line for line in drawn}  # one entry per recipe
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=110)
    return True


def plot_clips(models: Mapping[str, Mapping[str, float]], path: Path) -> bool:
    """Draw what every clip gained over the input, sorted, a panel per model.

    Args:
        models: label -> clip -> gain in dB.
        path: where the PNG goes.

    Returns:
        Whether there was anything to draw.
    """
    gains = {
        label: sorted((gain, _short(clip)) for clip, gain in found.items())
        for label, found in models.items()
        if found
    }
    if not gains:
        return False
    widest = max(len(found) for found in gains.values())
    longest = max(len(clip) for found in gains.values() for _, clip in found)
    size = (max(5.0, 1.5 + 0.22 * widest), (2.3 + 0.07 * longest) * len(gains))
    figure = Figure(size, layout="constrained")
    grid = figure.subplots(len(gains), 1, squeeze=False, sharey=True).ravel()
    for axes, (name, found) in zip(grid, gains.items(), strict=True):
        places = range(len(found))
        axes.bar(
            places, [g for g, _ in found], color=[BETTER if g >= 0 else WORSE for g, _ in found]
        )
        axes.axhline(0.0, color="black", linewidth=0.8)
        axes.set_xticks(places, [clip for _, clip in found], rotation=90, fontsize=8)
        axes.margins(x=0.01)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        axes.set_title(name)
    figure.supylabel("dB over the input", fontsize="medium")
    figure.savefig(path, dpi=110)
    return True


def _short(clip: str) -> str:
    return clip if len(clip) <= LONGEST else f"…{clip[1 - LONGEST :]}"
