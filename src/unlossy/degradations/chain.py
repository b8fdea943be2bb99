"""Media one after the other: frames are dropped, then the rest is made a GIF; or is a GIF twice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field

import torch

from unlossy.sample import Degradation, Degraded


@dataclass(frozen=True)
class Chain:
    """Passes a clip through its media, first to last; none at all keeps it as it is.

    Each answers for what it returns: one that changes pixels drops a palette and index that no
    longer hold. The stream, and so the bits, are those of the last one.

    Args:
        parts: name -> medium, in order; the names are for overrides, and change no result.

    Attributes:
        media: those, without their names.
    """

    parts: InitVar[Mapping[str, Degradation]]
    # A sequence: of a mapping, the digest that files cache entries would not see the order.
    media: tuple[Degradation, ...] = field(init=False)

    def __post_init__(self, parts: Mapping[str, Degradation]) -> None:
        object.__setattr__(self, "media", tuple(parts.values()))

    @property
    def scale(self) -> int:
        """Clean height / degraded height."""
        return math.prod(medium.scale for medium in self.media)

    @property
    def every(self) -> int:
        """Clean frames per kept frame."""
        return math.prod(medium.every for medium in self.media)

    @property
    def keeps(self) -> frozenset[str]:
        """What the last medium writes beside the frames."""
        return self.media[-1].keeps if self.media else frozenset()

    def __call__(self, clip: Degraded, rng: torch.Generator) -> Degraded:
        """Return what the last medium keeps of what the others kept."""
        for medium in self.media:
            clip = medium(clip, rng)
        return clip
