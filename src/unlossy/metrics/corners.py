"""The two-corners task: does a canvas hold its digit in one corner, as every true one does?

    canvas (2s, 2s)   TL | .      ink(corner) = sum of the corner / sum of the digit (s, s)
                      ---+---
                       . | BR     seen from 0.9 on, absent up to 0.1

    top_left      seen in TL, absent in BR          both    seen in both
    bottom_right  seen in BR, absent in TL          none    absent in both
    other         any other, such as the mean of both corners or speckle

A true canvas is `top_left` or `bottom_right`, each half of the time. Ink alone would pass a
scribble of the same darkness, hence the correlation; and ink in the two corners that no digit is
ever in, hence `elsewhere`. The intervals are Wilson's, 95 %, and take canvases as independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.stats import binomtest
from torch import Tensor

LABELS = ("top_left", "bottom_right", "both", "none", "other")
SEEN = 0.9  # of the digit's ink
ABSENT = 0.1


class Share(NamedTuple):
    """A share of the canvases in [0, 1] and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CornerShares:
    """What became of the digits.

    Attributes:
        shares: of each of `LABELS`.
        correlation: mean over canvases of Pearson's, between the digit and the corner with more
            ink; 0 where that corner is of one level.
        elsewhere: mean ink of the other two corners together.
    """

    shares: dict[str, Share]
    correlation: float
    elsewhere: float


def corner_shares(canvases: Tensor, digits: Tensor) -> CornerShares:
    """Return where the digits are, over all canvases.

    Args:
        canvases: (N, 1, 2s, 2s) in [0, 1].
        digits: (N, 1, s, s) in [0, 1], what should be in one corner of each.

    Raises:
        ValueError: as `corner_labels`.
    """
    labels = corner_labels(canvases, digits)
    quarters, digits = _quarters(canvases), digits.double()
    ink = _sum(quarters) / _sum(digits)[:, None]  # (N, 4)
    pasted = torch.where((ink[:, 0] >= ink[:, 3])[:, None, None], quarters[:, 0], quarters[:, 3])
    counts = torch.bincount(labels, minlength=len(LABELS)).tolist()
    return CornerShares(
        shares={name: _share(n, len(labels)) for name, n in zip(LABELS, counts, strict=True)},
        correlation=float(_correlation(pasted, digits[:, 0]).mean()),
        elsewhere=float(ink[:, 1:3].sum(1).mean()),
    )


def corner_labels(canvases: Tensor, digits: Tensor) -> Tensor:
    """Return for each canvas, as `corner_shares` takes them, its place (N,) in `LABELS`.

    Raises:
        ValueError: shapes do not match, a range is left, there is no canvas, or a digit has no ink.
    """
    count, _, height, width = digits.shape
    if canvases.shape != (count, 1, 2 * height, 2 * width) or digits.shape[1] != 1 or not count:
        raise ValueError(
            f"canvases {tuple(canvases.shape)} do not fit digits {tuple(digits.shape)}; wanted: "
            "(N, 1, 2s, 2s) and (N, 1, s, s), N at least 1."
        )
    for key, pixels in (("canvases", canvases), ("digits", digits)):
        if not (pixels.min() >= 0 and pixels.max() <= 1):  # NaN fails both comparisons
            raise ValueError(f"{key} leave [0, 1]; wanted: levels divided by the highest one.")
    whole = _sum(digits.double())
    if not (whole > 0).all():
        raise ValueError("a digit has no ink, so no corner can be compared with it.")
    ink = _sum(_quarters(canvases)) / whole[:, None]  # (N, 4)
    top, bottom = ink[:, 0], ink[:, 3]
    cases = [
        (top >= SEEN) & (bottom <= ABSENT),
        (bottom >= SEEN) & (top <= ABSENT),
        (top >= SEEN) & (bottom >= SEEN),
        (top <= ABSENT) & (bottom <= ABSENT),
    ]
    other = ~torch.stack(cases).any(0)
    return torch.stack([*cases, other]).int().argmax(0)


def _quarters(canvases: Tensor) -> Tensor:
    """Return (N, 4, s, s) in float64: top left, top right, bottom left, bottom right."""
    count, _, height, width = canvases.shape
    halves = canvases.double().view(count, 2, height // 2, 2, width // 2)
    return halves.transpose(2, 3).flatten(1, 2)


def _sum(pictures: Tensor) -> Tensor:
    """Return the ink of (N, 1, s, s) as (N,), of (N, 4, s, s) as (N, 4)."""
    return pictures.sum((-2, -1)).squeeze(1)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return Pearson's correlation (N,) over the pixels of each pair (N, s, s)."""
    a, b = (x.flatten(1) - x.mean((-2, -1))[:, None] for x in (a, b))
    lengths = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(lengths > 1e-12, (a * b).sum(1) / lengths.clamp_min(1e-12), 0.0)


def _share(count: int, of: int) -> Share:
    low, high = binomtest(count, of).proportion_ci(0.95, "wilson")
    return Share(count / of, float(low), float(high))
