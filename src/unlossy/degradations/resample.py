"""Fewer pixels: bicubic downscaling from 8 bits to 8 bits.

    antialiased   every output pixel weighs the 4 * factor input pixels around it on each axis with
                  the stretched cubic of Keys (1981), a = -0.5, as Pillow's BICUBIC does
    plain         torch's, without antialiasing: the 4 nearest on each axis, a = -0.75; it passes
                  over pixels, and is here to show what that does

The small frame is a function of the clean frame as it is stored, in 8 bits: so whether a
restoration agrees with its input can be computed. Pillow rounds and clamps between the axes too:
one level on pictures, up to four where black meets white.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from unlossy.degradations.limits import check_whole
from unlossy.errors import UserError
from unlossy.sample import Degraded


@dataclass(frozen=True)
class Downscale:
    """Shrinks every frame. Draws nothing; stores no stream, so the bits are the bare frames'.

    Args:
        factor: clean height / degraded height, 2 to 64; it divides height and width.
        antialias: the wide kernel; see the head of this file.

    Raises:
        UserError: `factor` is out of its range.
    """

    factor: int = 4
    antialias: bool = True

    every: ClassVar[int] = 1
    keeps: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_whole("factor", self.factor, 2, 64)

    @property
    def scale(self) -> int:
        """Clean height / degraded height."""
        return self.factor

    def __call__(self, clip: Degraded, rng: torch.Generator) -> Degraded:
        """Return the small frames; `reference` stays the clean clip.

        Raises:
            UserError: `factor` does not divide the frames' size.
        """
        height, width = clip["frames"].shape[-2:]
        if height % self.factor or width % self.factor:
            raise UserError(
                f"{clip['name']} has frames of {width}x{height}, which "
                f"degradation.factor={self.factor} does not divide; crop or resize the clip, or "
                "take another factor."
            )
        # Frame by frame: a long clip as float32 would not fit into memory.
        return with_frames(clip, torch.stack([self._small(frame) for frame in clip["frames"]]))

    def _small(self, frame: Tensor) -> Tensor:
        size = [side // self.factor for side in frame.shape[-2:]]
        small = functional.interpolate(
            frame[None].float(), size, mode="bicubic", antialias=self.antialias
        )
        return small[0].round().clamp(0, 255).to(torch.uint8)


def with_frames(clip: Degraded, frames: Tensor) -> Degraded:
    """Return `clip` with other frames, uint8 (S, C, h, w), for which no stream or palette holds."""
    return Degraded(
        name=clip["name"],
        frames=frames,
        t_in=clip["t_in"],
        side={k: v for k, v in clip["side"].items() if not k.startswith("palette")},
        stream=None,
        reference=clip["reference"],
    )
