"""The nearest neighbour among all training patches: what memory alone achieves.

    answer(x) = clean patch k,  k = argmin_k |x - x_k|^2 = argmin_k |x_k|^2 / 2 - x . x_k

The baseline NN of pixel-recursive super-resolution (Dahl et al. 2017). Its answers are as sharp as
pictures are, and some other picture's: it shows how much of a score plausible detail earns when it
is not that of the input. The search is exact, a matrix product per chunk of patches; bytes around
zero keep every sum of an 8x8x3 patch below 2^24, which float32 holds without rounding.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from unlossy.errors import UserError
from unlossy.models.model import EnhancementModel
from unlossy.sample import Restored, Sample, Split

CHUNK = 2**14  # patches compared at once


class NearestPatch(EnhancementModel):
    """Answers with the clean frame whose degraded one is nearest in L2, of all training frames.

    Args:
        scale: clean height / degraded height.
        most: frames that it will hold; of 8x8 and 32x32 pixels each takes 3.3 kB.
    """

    trainable = False
    reach = 0
    window = 256  # frames that share one pass over the patches
    fits_on: Split = "train"
    keys: Tensor
    values: Tensor

    def __init__(self, scale: int = 4, most: int = 200_000) -> None:
        super().__init__()
        self.scale = scale
        self.most = most
        self.register_buffer("keys", torch.empty(0, dtype=torch.uint8))
        self.register_buffer("values", torch.empty(0, dtype=torch.uint8))

    @property
    def label(self) -> str:
        """How many patches it knows."""
        return f"{len(self.keys)} patches"

    def fit(self, batches: Iterable[Sample]) -> None:
        """Learn every frame of the clips by heart.

        Raises:
            UserError: there are none, more than `most`, or degraded frames differ in size.
        """
        keys: list[Tensor] = []
        values: list[Tensor] = []
        count = 0
        for batch in batches:
            small, large = batch["degraded"].flatten(0, 1), batch["clean"].flatten(0, 1)
            if keys and small.shape[1:] != keys[0].shape[1:]:
                raise UserError(
                    f"NearestPatch compares patches of one size, and {batch['name'][0]} has frames "
                    f"of {_size(small)} where others have {_size(keys[0])}; take a source of "
                    "patches, such as source=patches32."
                )
            count += len(small)
            if count > self.most:
                raise UserError(
                    f"NearestPatch holds at most {self.most} patches, and the training clips have "
                    "more; raise its option most, or take a smaller source."
                )
            keys.append(small)
            values.append(large)
        if not count:
            raise UserError("NearestPatch has no training clips to learn; take a source with some.")
        self.keys = torch.cat(keys).to(self.keys.device)
        self.values = torch.cat(values).to(self.values.device)

    def forward(self, batch: Sample) -> Restored:
        """Return the nearest known frames, (B, S, 3, h * scale, w * scale).

        Raises:
            UserError: it knows no patches, or only such of another size.
        """
        frames = batch["degraded"].flatten(0, 1)  # (N, 3, h, w)
        if not len(self.keys):
            raise UserError(
                "NearestPatch knows no patches yet; call fit on training clips first, as eval.py "
                "and train.py do."
            )
        if frames.shape[1:] != self.keys.shape[1:]:
            raise UserError(
                f"NearestPatch has learnt patches of {_size(self.keys)}, and the input is "
                f"{_size(frames)}; cut it into patches of that size."
            )
        nearest = self.values[self._search(frames)].to(frames.dtype).div(255)
        shape = (*batch["degraded"].shape[:2], *nearest.shape[1:])
        return Restored(estimate=nearest.reshape(shape), extras={})

    def _search(self, frames: Tensor) -> Tensor:
        """Return the index of the nearest key, (N,), of equally near ones the first."""
        wanted = _centred(frames.mul(255).round())  # (N, D)
        best = wanted.new_full((len(wanted),), torch.inf)
        found = torch.zeros(len(wanted), dtype=torch.long, device=wanted.device)
        for start in range(0, len(self.keys), CHUNK):
            keys = _centred(self.keys[start : start + CHUNK])  # (K, D)
            distances = keys.square().sum(1) / 2 - wanted @ keys.mT  # (N, K)
            nearest, index = distances.min(1)
            nearer = nearest < best
            best = torch.where(nearer, nearest, best)
            found = torch.where(nearer, start + index, found)
        return found


def _centred(patches: Tensor) -> Tensor:
    """Return (N, D) of bytes around zero."""
    return patches.flatten(1).float() - 128


def _size(frames: Tensor) -> str:
    channels, height, width = frames.shape[1:]
    return f"{channels} x {height} x {width}"
