"""The clean side of one clip, computed once for all models that are compared with it.

    block k = frames 8 k .. 8 k + 7: LPIPS features, motion of the pairs that end in it

A model's frames arrive in windows of any length and are scored in these blocks, so that no number
depends on the windows. Blocks are made when first asked for and held up to `HELD` bytes, enough for
340 frames of 320x180; those of a longer clip are made anew for each model, save the latest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from unlossy.metrics import pixel
from unlossy.metrics.flicker import Flicker, Motion
from unlossy.networks.lpips import LPIPS

BLOCK = 8  # frames
HELD = 2**30  # bytes


@dataclass(frozen=True)
class Block:
    """What a block of a restored clip is compared with."""

    clean: Tensor  # (n, 3, H, W) uint8
    kept: Tensor | None  # (n, 3, h, w) uint8, what the medium kept, where that is compared
    features: list[Tensor]  # of LPIPS, a layer each, (n, C_k, H_k, W_k); none without LPIPS
    motion: Motion | None  # of the last frame before the block, if any, and the block
    moved: Tensor  # LPIPS between the frames of each of those pairs; empty without either

    @property
    def size(self) -> int:
        """Bytes of the tensors that are not views of the clip."""
        tensors = [*self.features]
        if self.motion is not None:
            tensors += [self.motion.flow, self.motion.visible, self.motion.change, self.motion.flat]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Reference:
    """A clean clip, made by `VideoScores.reference`.

    Args:
        clean: (T, 3, H, W), uint8, or float in [0, 1], which is rounded to 8 bits.
        degraded: what the medium kept of these frames. Frames that equal the clean ones are exact;
            None or frames of another size say that none is.
        kept: which of the clean frames those are, increasing; None for all of them. The others were
            dropped, and are exact in no case.
        lpips: None makes no features.
        flicker: None makes no motion.
        pictures: whether restored frames are compared with smaller degraded ones.
        device: where everything is computed and held.

    Raises:
        ValueError: `clean` is no clip, a float leaves [0, 1], or there is not a degraded frame for
            each that is kept.
    """

    def __init__(
        self,
        clean: Tensor,
        degraded: Tensor | None,
        kept: Sequence[int] | None,
        lpips: LPIPS | None,
        flicker: Flicker | None,
        pictures: bool,
        device: torch.device,
    ) -> None:
        if clean.ndim != 4:
            raise ValueError(f"clean frames are {tuple(clean.shape)}; wanted: (T, 3, H, W).")
        self.clean = pixel.eight_bits(clean, "clean")
        self.kept = list(range(len(clean)) if kept is None else kept)
        self.exact = [False] * len(clean)
        if degraded is not None and len(degraded) != len(self.kept):
            raise ValueError(
                f"degraded holds {len(degraded)} frames where {len(self.kept)} of {len(clean)} are "
                "said to be kept; wanted: as many."
            )
        if degraded is not None and degraded.shape[1:] == clean.shape[1:]:
            for t, frame in zip(self.kept, pixel.eight_bits(degraded, "degraded"), strict=True):
                self.exact[t] = torch.equal(frame.to(clean.device), self.clean[t])
        self.pictures = pictures
        self._kept = None
        if pictures and degraded is not None and _smaller(degraded, clean):
            self._kept = pixel.eight_bits(degraded, "degraded")
        fits = lpips is not None and min(clean.shape[2:]) >= lpips.smallest
        self.lpips = lpips.to(device) if lpips is not None and fits else None
        self.device = device
        self._flicker = flicker if len(clean) > 1 else None
        self._held: dict[int, Block] = {}
        self._size = 0
        self._latest: tuple[int, Block] | None = None

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """First and last frame of each run from a kept frame to the next; none if all are kept."""
        if len(self.kept) == len(self.clean):
            return []
        return list(pairwise(self.kept))

    def block(self, k: int) -> Block:
        """Return block `k`."""
        if k in self._held:
            return self._held[k]
        if self._latest is None or self._latest[0] != k:
            self._latest = k, self._make(k)
            self._size += self._latest[1].size
            if self._size <= HELD:
                self._held[k] = self._latest[1]
        return self._latest[1]

    @cached_property
    def _flat(self) -> Tensor:
        assert self._flicker is not None
        return self._flicker.flat(self.clean, self.device)

    def _make(self, k: int) -> Block:
        start, stop = k * BLOCK, min((k + 1) * BLOCK, len(self.clean))
        first = max(0, start - 1) if self._flicker else start
        run = self.clean[first:stop].to(self.device)
        features: list[Tensor] = []
        motion, moved = None, torch.empty(0)
        if self.lpips is not None:
            features = self.lpips.features(run.float().div(255))
        if self._flicker is not None:
            motion = self._flicker.motion(run, self._flat[first:stop])
            if self.lpips is not None:
                moved = self.lpips.between([f[:-1] for f in features], [f[1:] for f in features])
        kept = None if self._kept is None else self._kept[start:stop].to(self.device)
        own = start - first
        return Block(run[own:], kept, [f[own:] for f in features], motion, moved)


def _smaller(degraded: Tensor, clean: Tensor) -> bool:
    """Whether a medium kept every frame, shrunk by a whole factor."""
    (height, width), (h, w) = clean.shape[-2:], degraded.shape[-2:]
    factor = height // h
    return (
        len(degraded) == len(clean) and factor > 1 and (factor * h, factor * w) == (height, width)
    )
