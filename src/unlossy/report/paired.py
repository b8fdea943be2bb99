"""Paired comparison of two models on the same clips: is the one above the other, or is it chance?

    d_c = value of a on clip c - value of b on clip c
    mean d ± t(0.975, n - 1) s_d / sqrt(n)                  a 95 % interval over n clips

Clips differ by decibels from each other, models by hundredths: means with their own deviations
would hide every order that the differences show. Student's t takes the clips as draws from all
clips of their kind, which shots of one film are not: the interval says nothing about other films,
nor about other seeds. The filter beside the trained models is the best on these very clips.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean, stdev
from typing import NamedTuple

from scipy.stats import t as student

from unlossy.report.rows import INPUT, Row, grouped, label, number


class Column(NamedTuple):
    """What is compared, and the digits after the point that it is shown with."""

    key: str
    title: str
    digits: int


COLUMNS = (
    Column("psnr", "PSNR", 2),
    Column("ssim", "SSIM", 4),
    Column("lpips_alex", "LPIPS", 4),
    Column("flicker_flat", "flat flicker", 3),
    Column("tlp", "tLP", 3),
)
MOST = 8  # trained models in a table of pairs


class Difference(NamedTuple):
    """Mean of a - b over clips and half the width of its interval; infinite for one clip."""

    mean: float
    half: float
    clips: int

    def text(self, digits: int) -> str:
        """Return `-0.08 ± 0.02`, bold where the interval leaves zero out."""
        half = "?" if math.isinf(self.half) else f"{self.half:.{digits}f}"
        text = f"{self.mean:+.{digits}f} ± {half}"
        return f"**{text}**" if abs(self.mean) > self.half else text


def difference(a: Sequence[Row], b: Sequence[Row], column: str) -> Difference | None:
    """Return how far `a` lies above `b` in a column, over the clips that both have a value for.

    Rows of several seeds of one clip are averaged first. None where no clip has both.
    """
    ours, theirs = _by_clip(a, column), _by_clip(b, column)
    found = [ours[clip] - theirs[clip] for clip in ours.keys() & theirs.keys()]
    if not found:
        return None
    half = math.inf
    if len(found) > 1:
        half = float(student.ppf(0.975, len(found) - 1)) * stdev(found) / math.sqrt(len(found))
    return Difference(fmean(found), half, len(found))


def tables(rows: Sequence[Row]) -> str:
    """Return a Markdown table of pairs per (source, degradation); without a trained model, none.

    Compared are trained models, the filter of the highest mean PSNR, and the input. A sentence
    stands in for the table of more than `MOST` trained models.
    """
    parts = []
    for (source, degradation), members in grouped(rows, "source", "degradation").items():
        models, trained = _compared(members)
        pairs = list(combinations(models, 2)) if trained else []
        lines = [
            (f"{label(a[-1])} - {label(b[-1])}", cells)
            for a, b in pairs
            if any(cells := [difference(a, b, column.key) for column in COLUMNS])
        ]
        if not lines:
            continue
        parts.append(f"### {source}, {degradation}\n")
        if trained > MOST:
            parts.append(
                f"{trained} trained models, more than the {MOST} whose pairs are listed; report on "
                "a folder with fewer runs to see them.\n"
            )
            continue
        kept = [k for k in range(len(COLUMNS)) if any(cells[k] for _, cells in lines)]
        parts.append(f"| | clips | {' | '.join(COLUMNS[k].title for k in kept)} |")
        parts.append(f"|---|---:|{'---:|' * len(kept)}")
        for name, cells in lines:
            clips = max(cell.clips for cell in cells if cell)
            shown = [cell.text(COLUMNS[k].digits) if (cell := cells[k]) else "" for k in kept]
            parts.append(f"| {name} | {clips} | {' | '.join(shown)} |")
        parts.append("")
    return "\n".join(parts)


def _compared(rows: Sequence[Row]) -> tuple[list[list[Row]], int]:
    """Return the rows per model, trained ones first, and how many are trained."""
    models = list(grouped(rows, "model", "loss", "setting").values())
    trained = [members for members in models if members[0]["loss"]]
    fixed = [members for members in models if not members[0]["loss"]]
    before = [members for members in fixed if members[0]["model"] == INPUT]
    filters = [members for members in fixed if members[0]["model"] != INPUT]
    best = sorted(filters, key=_mean_psnr)[-1:]
    return [*trained, *best, *before], len(trained)


def _mean_psnr(rows: Sequence[Row]) -> float:
    values = [value for row in rows if (value := number(row, "psnr")) is not None]
    return fmean(values) if values else -math.inf


def _by_clip(rows: Sequence[Row], column: str) -> dict[str, float]:
    values = {
        clip: [value for row in members if (value := number(row, column)) is not None]
        for (clip,), members in grouped(rows, "clip").items()
    }
    return {clip: fmean(found) for clip, found in values.items() if found}
