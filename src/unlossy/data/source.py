"""The contract of a source of clean clips.

    clips(split) ──► names and sizes          read(clip, start, count) ──► uint8 (T, C, H, W)

A source is a frozen dataclass of plain values, so that its configuration is its identity. `read`
must cost the same at the start and the end of a clip: what has to be decoded is decoded once, by
`frame_store.stored`. A split never shares a frame with another. C is 3, or 1 for digits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from torch import Tensor

from unlossy.data.digest import digest
from unlossy.sample import Clip, Split

Area = tuple[slice, slice]  # rows and columns of a frame, in its pixels
EVERYWHERE: Area = (slice(None), slice(None))


class Source(Protocol):
    """Where clean clips come from. Subclass it for the methods that have a default."""

    def clips(self, split: Split) -> Sequence[Clip]:
        """Return the clips of a split, in an order that depends on the configuration alone."""
        ...

    def read(self, clip: Clip, start: int, count: int) -> Tensor:
        """Return frames as uint8 (T, C, H, W), possibly a view of a memory map: do not write it."""
        ...

    def weight(self, clip: Clip) -> float:
        """Return how often training draws a frame of `clip`, relative to frames of other clips."""
        return 1.0

    def flips(self, clip: Clip) -> Collection[int]:
        """Return the axes that training may flip `clip` along: -1 mirrors, -2 turns upside down."""
        return (-1, -2)

    def target(
        self, clip: Clip, start: int, count: int, area: Area = EVERYWHERE
    ) -> dict[str, Tensor]:
        """Return what training may see of frames beside themselves, each tensor (N, C, h, w).

        Only `area` is wanted of it, so a sample costs what its crop does. It is flipped with the
        frames; a flow in pixels (channel 0 to the right, 1 down), whose name begins with `flow`,
        also changes its sign. Where a small clip is continued by its edge it is zero.
        """
        return {}

    def version(self, clip: Clip) -> str:
        """Return a digest that changes whenever the frames of `clip` do."""
        return digest(self, clip)
