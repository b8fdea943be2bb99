"""Dropped frames: what interpolation has to put back.

    clean  0 1 2 3 4 5 6 7 8 9         factor 4
    kept   0       4       8           t_in = 0, 4, 8; wanted: 0 ... 8

Frames after the last kept one lie between nothing, so nobody asks for them. A clip too short to
keep two frames becomes a still: a medium refuses no picture, and there is nothing between for a
model to be scored on (or to be trained on: its window is two kept frames).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from unlossy.degradations.frames import keep_every
from unlossy.degradations.limits import check_whole
from unlossy.sample import Degraded


@dataclass(frozen=True)
class DropFrames:
    """Keeps frames 0, factor, 2 factor, ... as they are. Draws nothing; stores no stream.

    Args:
        factor: clean frames per kept frame, 2 to 64.

    Raises:
        UserError: `factor` is out of its range.
    """

    factor: int = 2

    scale: ClassVar[int] = 1
    keeps: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_whole("factor", self.factor, 2, 64)

    @property
    def every(self) -> int:
        """Clean frames per kept frame."""
        return self.factor

    def __call__(self, clip: Degraded, rng: torch.Generator) -> Degraded:
        """Return the kept frames at their own times; `reference` stays the whole clip."""
        return keep_every(clip, self.factor)
