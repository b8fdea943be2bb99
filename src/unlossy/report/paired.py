"""Paired comparison of two models on the same clips: is the one above the other, or is it chance?

    d_c = mean over seeds of a on clip c - mean over seeds of b on clip c
    d* = mean of n draws with replacement from the n differences, 10,000 times
    [2.5 %, 97.5 %] of the d* : interval          share of the d* in a's favour : probability

Clips differ by decibels from each other, models by hundredths: means with their own deviations
would hide every order that the differences show. The percentile interval and the probability are
read off the same draws and cannot contradict each other; BCa's shifted limits would, and cover no
better. Measured (4,000 trials of normal differences; BCa 600): of 33 clips 93 % (92), of 16 92 %
(93), of 8 90 % (90), of 4 81 % (81), and of skewed ones 92, 89, 84 and 74 %. So an interval is
somewhat too narrow, and that of `FEW` clips or fewer decides nothing.

An interval covers other clips of the same kind. It says nothing about other films, and nothing
about other seeds: their spread, in `seeds_std`, stands beside it. The filter beside the trained
models is the best on these very clips.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unlossy.report.rows import INPUT, Row, grouped, label, number
from unlossy.report.table import COLUMNS as SHOWN
from unlossy.report.table import FLICKER, PICTURES, PSNR, Column

KEYS = ("psnr", "psnr_all", "psnr_clip", "ssim", "lpips_alex", "flicker_flat", "tlp", "nll")
COLUMNS = tuple(column for column in (*SHOWN, *FLICKER, *PICTURES) if column.key in KEYS)
READING = (
    "First minus second: mean over clips, [95 % interval] of a paired bootstrap over clips, and P, "
    "the share of resamples in which the first is better. Bold where the interval leaves 0 out, of "
    "at least 8 clips and, between two trained models, two seeds of each, and the mean is larger "
    "than its deviation over seeds. It covers other clips of the same kind, not other films or "
    "seeds; of 20 such intervals between equal models one leaves 0 out by chance."
)
RESAMPLES = 10_000
FEW = 7  # clips up to which an interval is too narrow to tell an order
MOST = 8  # trained models in a table of pairs


class Interval(NamedTuple):
    """A mean, the limits of its 95 % interval, and the share of resamples above zero."""

    mean: float
    low: float
    high: float
    above: float


@dataclass(frozen=True)
class Comparison:
    """How far `first` lies above `second` in a column of one source and degradation.

    Args:
        source: where the clips are from.
        degradation: what they went through.
        first: label of the one.
        second: label of the other.
        column: its key in `rows.csv`.
        clips: that both have a value for, of the same frames.
        seeds: where both are trained, of the one with fewer; else None. Counted are those with a
            value for every clip.
        mean: of first - second over clips, in the column's unit.
        low: end of the 95 % interval over clips; None for one clip.
        high: its other end.
        probability: share of resamples in which `first` is better, ties counting half; None for
            one clip, and where neither direction is better.
        seeds_std: standard deviation of `mean` over seeds, taken as independent between the two;
            None unless every trained one has two.
    """

    source: str
    degradation: str
    first: str
    second: str
    column: str
    clips: int
    seeds: int | None
    mean: float
    low: float | None
    high: float | None
    probability: float | None
    seeds_std: float | None = None

    @property
    def certain(self) -> bool:
        """Whether the interval leaves zero out, and stands on enough clips and trainings.

        One training of each of two models tells these apart, not what they were trained by; nor do
        two whose difference is no larger than their deviation over seeds.
        """
        if self.low is None or self.high is None or self.clips <= FEW or self.seeds in (0, 1):
            return False
        if self.seeds_std is not None and abs(self.mean) <= self.seeds_std:
            return False
        return self.low > 0 or self.high < 0

    def text(self, form: str) -> str:
        """Return `**-0.08** [-0.10, -0.06], P 0.02`, and the spread over seeds where known.

        Args:
            form: of the column's digits, such as ".2f".
        """
        form = form.lstrip("+")
        text = f"**{self.mean:+{form}}**" if self.certain else f"{self.mean:+{form}}"
        if self.low is not None and self.high is not None:
            text += f" [{self.low:+{form}}, {self.high:+{form}}]"
        if self.probability is not None:
            text += f", P {share(self.probability)}"
        return text if self.seeds_std is None else f"{text}, seeds ± {self.seeds_std:{form}}"


def share(probability: float) -> str:
    """Return a share of resamples with two digits, of which neither end is certain."""
    if probability > 0.99:
        return "> 0.99"
    return "< 0.01" if probability < 0.01 else f"{probability:.2f}"


def bootstrap(values: ArrayLike, weights: ArrayLike | None = None) -> Interval:
    """Return the mean of independent values and its percentile bootstrap interval.

    Args:
        values: (n,), n at least 1; two or more for an interval that says anything.
        weights: (n,), such as the frames behind each value; equal if None. A resample's mean is
            weighted by those of the values it drew.
    """
    found = np.asarray(values, dtype=np.float64)
    size = np.ones_like(found) if weights is None else np.asarray(weights, dtype=np.float64)
    counts = _resamples(len(found))
    means = (counts @ (found * size)) / (counts @ size)
    low, high = np.quantile(means, (0.025, 0.975))
    even = np.abs(means) <= 1e-12 * np.abs(found).max(initial=0.0)  # but for rounding
    above = np.where(even, 0.5, means > 0).mean()
    return Interval(float(np.average(found, weights=size)), float(low), float(high), float(above))


@lru_cache(maxsize=4)
def _resamples(n: int) -> NDArray[np.float64]:
    """Return how often each of n values is drawn in each resample, (RESAMPLES, n)."""
    draws = np.random.default_rng(0).integers(n, size=(RESAMPLES, n))
    places = draws + n * np.arange(RESAMPLES)[:, None]
    counts = np.bincount(places.ravel(), minlength=RESAMPLES * n)
    return counts.reshape(RESAMPLES, n).astype(np.float64)


def compare(a: Sequence[Row], b: Sequence[Row], column: Column) -> Comparison | None:
    """Return how far `a` lies above `b` in a column, over the clips that both have a value for.

    Rows of several seeds of one clip are averaged first. None where no clip has both. A clip that
    the two were scored on over different numbers of frames is not the same clip.

    Args:
        a: rows of one model under one source and degradation.
        b: those of the other.
        column: what is compared.
    """
    ours, theirs = _by_clip(a, column.key), _by_clip(b, column.key)
    shared = [clip for clip in ours if clip in theirs]
    if not shared:
        return None
    found = bootstrap([fmean(ours[c].values()) - fmean(theirs[c].values()) for c in shared])
    several = len(shared) > 1
    better = {1: found.above, -1: 1 - found.above}.get(column.better)
    trained = [
        [values[clip] for clip in shared]
        for values, rows in ((ours, a), (theirs, b))
        if rows[0].get("loss")
    ]
    stds = [_seeds_std(clips) for clips in trained]
    seeds = min(len(_seeds(clips)) for clips in trained) if len(trained) == 2 else None
    return Comparison(
        source=a[0].get("source", ""),
        degradation=a[0].get("degradation", ""),
        first=label(a[0]),
        second=label(b[0]),
        column=column.key,
        clips=len(shared),
        seeds=seeds,
        mean=found.mean,
        low=found.low if several else None,
        high=found.high if several else None,
        probability=better if several else None,
        seeds_std=math.hypot(*known) if (known := _all_known(stds)) else None,
    )


def comparisons(rows: Sequence[Row], columns: Sequence[Column] = COLUMNS) -> list[Comparison]:
    """Return every pair of models per (source, degradation), column by column.

    Compared are trained models, the filter of the highest mean PSNR, and the input; where nothing
    was trained, nothing.
    """
    found = []
    for members in grouped(rows, "source", "degradation").values():
        models, trained = compared(members)
        for a, b in combinations(models, 2) if trained else ():
            found += [
                pair
                for column in columns
                if _asked(members, column) and (pair := compare(a, b, column))
            ]
    return found


def tables(rows: Sequence[Row]) -> str:
    """Return a Markdown table of `comparisons` per (source, degradation); without any, nothing.

    A sentence stands in for the table of more than `MOST` trained models.
    """
    parts = []
    for (source, degradation), members in grouped(rows, "source", "degradation").items():
        trained = compared(members)[1]
        if trained > MOST:
            parts.append(
                f"### {source}, {degradation}\n\n{trained} trained models, more than the {MOST} "
                "whose pairs are listed; report on a folder with fewer runs to see them.\n"
            )
        elif pairs := comparisons(members):
            parts.append(f"### {source}, {degradation}\n\n{table(pairs)}\n")
    return "\n".join(parts)


def table(
    pairs: Iterable[Comparison],
    columns: Sequence[Column] = COLUMNS,
    labels: Mapping[str, str] | None = None,
    title: str = "",
) -> str:
    """Return a Markdown table, a line for each pair of models and a column for each key.

    Args:
        pairs: of one source and degradation.
        columns: in the order they are shown; those of which there is nothing are left out.
        labels: what models are called, if not what their rows say.
        title: at the head of the first column.
    """
    pairs, labels = list(pairs), labels or {}
    lines: dict[tuple[str, str], dict[str, Comparison]] = {}
    for pair in pairs:
        lines.setdefault((pair.first, pair.second), {})[pair.column] = pair
    kept = [column for column in columns if any(pair.column == column.key for pair in pairs)]
    text = [
        f"| {title} | clips | {' | '.join(column.title for column in kept)} |".replace(
            "|  |", "| |"
        ),
        f"| --- | ---: | {' | '.join('---:' for _ in kept)} |",
    ]
    for (first, second), cells in lines.items():
        clips = max(cell.clips for cell in cells.values())
        shown = [
            cells[column.key].text(column.form) if column.key in cells else "" for column in kept
        ]
        name = f"{labels.get(first, first)} - {labels.get(second, second)}".replace("|", "/")
        text.append(f"| {name} | {clips} | {' | '.join(shown)} |")
    return "\n".join(text)


def compared(rows: Sequence[Row], by: Column = PSNR) -> tuple[list[list[Row]], int]:
    """Return the rows per model, trained ones first, and how many are trained.

    Behind them come the filter that is the best of a column, and the input.
    """
    models = list(grouped(rows, "model", "loss", "setting").values())
    trained = [members for members in models if members[0]["loss"]]
    fixed = [members for members in models if not members[0]["loss"]]
    before = [members for members in fixed if members[0]["model"] == INPUT]
    filters = [members for members in fixed if members[0]["model"] != INPUT]
    best = sorted(filters, key=lambda members: _merit(members, by))[-1:]
    return [*trained, *best, *before], len(trained)


def _merit(rows: Sequence[Row], column: Column) -> float:
    """Return the mean of a column, of which more is better."""
    values = [value for row in rows if (value := number(row, column.key)) is not None]
    return column.better * fmean(values) if values else -math.inf


def _asked(rows: Iterable[Row], column: Column) -> bool:
    """Return whether a column says anything of its own about these rows."""
    return not column.beside or any(number(row, column.beside) is not None for row in rows)


def _by_clip(rows: Iterable[Row], column: str) -> dict[tuple[object, ...], dict[int, float]]:
    """Return values by (source, clip, frames), then by seed."""
    found: dict[tuple[object, ...], dict[int, float]] = {}
    for row in rows:
        if (value := number(row, column)) is not None:
            clip = row.get("source"), row["clip"], number(row, "frames")
            found.setdefault(clip, {})[int(number(row, "seed") or 0)] = value
    return found


def _seeds_std(clips: Sequence[Mapping[int, float]]) -> float | None:
    """Return the deviation over seeds of a model's mean over clips, None of fewer than two."""
    means = [fmean(values[seed] for values in clips) for seed in _seeds(clips)]
    return stdev(means) if len(means) > 1 else None


def _seeds(clips: Sequence[Mapping[int, float]]) -> set[int]:
    """Return the seeds that have a value for every clip."""
    return set.intersection(*(set(values) for values in clips))


def _all_known(values: Sequence[float | None]) -> list[float]:
    """Return the values if none is missing, else nothing."""
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else []
