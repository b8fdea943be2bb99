"""A medium that forgets in which of two corners a thing was.

    y = [a .]
        [. b]  ──►  x = a + b

Of a digit in one corner of an empty canvas (`source=two_corners`) x is the digit: every pixel is
known but for one bit, the corner. A network that gives each pixel a distribution of its own cannot
put it back (Dahl et al., "Pixel Recursive Super Resolution", ICCV 2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from unlossy.degradations.resample import with_frames
from unlossy.errors import UserError
from unlossy.sample import Degraded


@dataclass(frozen=True)
class Corners:
    """Adds the upper left and the lower right quadrant of every frame; sums above 255 are cut off.

    Draws nothing; stores no stream, so the bits are the bare frames'.
    """

    scale: ClassVar[int] = 2
    every: ClassVar[int] = 1
    keeps: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, clip: Degraded, rng: torch.Generator) -> Degraded:
        """Return the sums; `reference` stays the clean clip.

        Raises:
            UserError: a side of the frames is odd.
        """
        frames = clip["frames"]
        height, width = frames.shape[-2:]
        if height % 2 or width % 2:
            raise UserError(
                f"{clip['name']} has frames of {width}x{height}, which have no quadrants of half "
                "that size; take source=two_corners, or clips of even width and height."
            )
        first, last = (
            frames[..., : height // 2, : width // 2].short(),
            frames[..., height // 2 :, width // 2 :].short(),
        )
        return with_frames(clip, (first + last).clamp(max=255).to(torch.uint8))
