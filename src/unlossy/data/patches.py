"""Small patches of another source's frames: pictures of 32x32 where there are no faces at hand.

    frame t of clip C ──► patches 0, 1, ... of it, size x size each = the frames of clip C/t

A clip is one picture, so that what is measured is averaged over the patches of a picture first.
Splits and the column `source` are those of the frame's clip: no pixel is in two splits. Nothing is
decoded here: `read` cuts out of what the other source maps into memory.

Patch k lies at the fraction (o + k a) mod 1 of the free columns and rows, a = (1/g, 1/g^2) with
g^3 = g + 1: Roberts' additive sequence ("The Unreasonable Effectiveness of Quasirandom Sequences",
2018), which leaves no large gap however many there are. A hash of the clip's name is o.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from unlossy.data.digest import code, digest
from unlossy.data.source import Source
from unlossy.errors import UserError
from unlossy.sample import Clip, Split

_STEPS = (0.7548776662466927, 0.5698402909980532)  # 1/g, 1/g^2


@dataclass(frozen=True)
class Patches(Source):
    """Cuts patches out of the frames of another source.

    Args:
        source: where the frames come from.
        per_frame: split -> patches of each frame.
        pictures: split -> frames to cut, spread evenly over the split; None for all. The cache
            holds a file for each.
        size: side of a patch in pixels.
        mirror: whether training mirrors half of the patches.

    Raises:
        UserError: a number is not positive or a split lacks its own; or, of `clips`, a frame is
            smaller than a patch.
    """

    source: Source
    per_frame: Mapping[Split, int]
    pictures: Mapping[Split, int | None]
    size: int = 32
    mirror: bool = False

    def __post_init__(self) -> None:
        for split in get_args(Split):
            most = self.pictures.get(split, 0)
            if min(self.size, self.per_frame.get(split, 0), 1 if most is None else most) < 1:
                raise UserError(
                    f"Patches of {self.size} pixels (source.size) need numbers of 1 or more for "
                    f"each split; source.per_frame is {dict(self.per_frame)} and source.pictures "
                    f"{dict(self.pictures)}."
                )

    def clips(self, split: Split) -> Sequence[Clip]:
        """Return a clip for each picture, named clip/frame."""
        return list(self._pictures[split])

    def read(self, clip: Clip, start: int, count: int) -> Tensor:
        """Return patches, uint8 (T, C, size, size)."""
        base, frame = self._picture_of[clip]
        picture = self.source.read(base, frame, 1)[0]
        places = [self._place(clip, base, k) for k in range(start, min(start + count, clip.frames))]
        return torch.stack(
            [picture[:, top : top + self.size, left : left + self.size] for top, left in places]
        )

    def weight(self, clip: Clip) -> float:
        """Return that of the picture's clip."""
        return self.source.weight(self._picture_of[clip][0])

    def flips(self, clip: Clip) -> Collection[int]:
        """Return columns if patches are mirrored; light falls from above, so never rows."""
        return (-1,) if self.mirror else ()

    def version(self, clip: Clip) -> str:
        """Return the digest of the picture and of what places patches in it."""
        base, frame = self._picture_of[clip]
        return digest(self.source.version(base), frame, clip.frames, self.size, self._code)

    @cached_property
    def _pictures(self) -> dict[Split, dict[Clip, tuple[Clip, int]]]:
        """Split -> clip -> clip of the other source and frame of it."""
        found: dict[Split, dict[Clip, tuple[Clip, int]]] = {}
        for split in get_args(Split):
            frames = [(base, t) for base in self.source.clips(split) for t in range(base.frames)]
            most = self.pictures[split]
            count = len(frames) if most is None else min(most, len(frames))
            found[split] = {}
            for base, t in (frames[(2 * k + 1) * len(frames) // (2 * count)] for k in range(count)):
                if min(base.height, base.width) < self.size:
                    raise UserError(
                        f"{base.name} is {base.width}x{base.height}, smaller than a patch of "
                        f"{self.size}x{self.size} (source.size); choose smaller patches or leave "
                        "it out."
                    )
                size = (self.per_frame[split], self.size, self.size)
                found[split][Clip(f"{base.name}/{t:05d}", *size, base.source)] = (base, t)
        return found

    @cached_property
    def _picture_of(self) -> dict[Clip, tuple[Clip, int]]:
        return {clip: own for split in self._pictures.values() for clip, own in split.items()}

    @cached_property
    def _code(self) -> str:
        return code(Path(__file__))

    def _place(self, clip: Clip, base: Clip, k: int) -> tuple[int, int]:
        """Return the top row and left column of patch `k`."""
        name = hashlib.sha256(clip.name.encode()).digest()
        offsets = (
            int.from_bytes(name[:6], "big") / 2**48,
            int.from_bytes(name[6:12], "big") / 2**48,
        )
        across, down = ((o + k * step) % 1 for o, step in zip(offsets, _STEPS, strict=True))
        free_rows, free_columns = base.height - self.size + 1, base.width - self.size + 1
        return int(down * free_rows), int(across * free_columns)
