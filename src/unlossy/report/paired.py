"""Paired comparison of two models on the same clips: is the one above the other, or is it chance?

    d_c = value of a on clip c - value of b on clip c
    mean d ± t(0.975, n - 1) s_d / sqrt(n)                  a 95 % interval over n clips

Clips differ by decibels from each other, models by hundredths: means with their own deviations
would hide every order that the differences show. Student's t takes the clips as draws from all
clips of their kind, which shots of one film are not: the interval says nothing about other films,
nor about other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean, stdev
from typing import NamedTuple

from scipy.stats import t as student

from unlossy.report.rows import Row, grouped, label, number

COLUMNS = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "lpips_alex": "LPIPS",
    "flicker_flat": "flat flicker",
    "tlp": "tLP",
}
MOST = 8  # trained models in a table of pairs


class Difference(NamedTuple):
    """Mean of a - b over clips and half the width of its interval; infinite for one clip."""

    mean: float
    half: float
    clips: int

    def __str__(self) -> str:
        """`-0.08 ± 0.02`, bold where the interval leaves zero out."""
        digits = 2 if abs(self.mean) >= 0.1 else 4
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
    """Return a Markdown table of all pairs of trained models per (source, degradation).

    Empty where there are no two, or more than `MOST` of them.
    """
    parts = []
    for (source, degradation), members in grouped(rows, "source", "degradation").items():
        models = grouped(
            (row for row in members if row["loss"]), "model", "loss", "degradation", "setting"
        )
        if not 1 < len(models) <= MOST:
            continue
        lines = [
            (f"{label(a[-1])} - {label(b[-1])}", [difference(a, b, key) for key in COLUMNS])
            for a, b in combinations(models.values(), 2)
        ]
        kept = [k for k in range(len(COLUMNS)) if any(cells[k] for _, cells in lines)]
        titles = [list(COLUMNS.values())[k] for k in kept]
        parts += [f"### {source}, {degradation}\n", f"| | clips | {' | '.join(titles)} |"]
        parts += [f"|---|---:|{'---:|' * len(titles)}"]
        for name, cells in lines:
            clips = max(cell.clips for cell in cells if cell)
            shown = " | ".join(str(cells[k] or "") for k in kept)
            parts.append(f"| {name} | {clips} | {shown} |")
        parts.append("")
    return "\n".join(parts)


def _by_clip(rows: Sequence[Row], column: str) -> dict[str, float]:
    values = {
        clip: [value for row in members if (value := number(row, column)) is not None]
        for (clip,), members in grouped(rows, "clip").items()
    }
    return {clip: fmean(found) for clip, found in values.items() if found}
