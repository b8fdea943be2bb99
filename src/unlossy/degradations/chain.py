"""Media one after the other: a clip is scaled down, then made a GIF; or is a GIF twice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unlossy.sample import Degradation, Degraded


@dataclass(frozen=True)
class Chain:
    """Passes a clip through `parts`, first to last; none at all keeps it as it is.

    Each part answers for what it returns: one that changes pixels drops a palette and index that no
    longer hold. The stream, and so the bits, are those of the last part.
    """

    parts: Sequence[Degradation]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))  # hashable, whatever hydra hands over

    @property
    def scale(self) -> int:
        """Clean height / degraded height."""
        return math.prod(part.scale for part in self.parts)

    @property
    def every(self) -> int:
        """Clean frames per kept frame."""
        return math.prod(part.every for part in self.parts)

    @property
    def keeps(self) -> frozenset[str]:
        """What the last part writes beside the frames."""
        return self.parts[-1].keeps if self.parts else frozenset()

    def __call__(self, clip: Degraded, rng: torch.Generator) -> Degraded:
        """Return what the last part keeps of what the others kept."""
        for part in self.parts:
            clip = part(clip, rng)
        return clip
