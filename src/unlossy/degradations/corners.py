"""A medium that forgets in which of two corners a thing was.

    y = [a .]  ──►  x = [d .]
        [. b]           [. d]      d = a + b

Of a digit in one corner of an empty canvas (`source=two_corners`) x shows it in both: every pixel
is known but for one bit, the corner. A network that gives each pixel a distribution of its own
cannot choose (Dahl et al., "Pixel Recursive Super Resolution", ICCV 2017, who do not give x). Told
d alone, at half the size, a convolutional network must first learn to shift every pixel by another
distance, which took most of its training and is not what the toy is about.
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
    """Shows the sum of the upper left and the lower right quadrant in both, and nothing elsewhere.

    Sums above 255 are cut off. Draws nothing; stores no stream, so the bits are the bare frames'.
    """

    scale: ClassVar[int] = 1
    every: ClassVar[int] = 1
    keeps: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, clip: Degraded, rng: torch.Generator) -> Degraded:
        """Return the canvases of two; `reference` stays the clean clip.

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
        first = (..., slice(height // 2), slice(width // 2))
        last = (..., slice(height // 2, None), slice(width // 2, None))
        both = torch.zeros_like(frames)
        both[first] = both[last] = (frames[first].short() + frames[last].short()).clamp(max=255)
        return with_frames(clip, both)
