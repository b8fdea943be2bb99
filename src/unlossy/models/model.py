"""The contract of every model: a clip as a medium kept it goes in, the restored clip comes out.

    restored = model(batch)           differentiable, not clamped; what losses read
    clip = model.restore(batch)       what a user gets: padded, restored, cropped, in [0, 1]

A model is a plain `nn.Module`: no Lightning, no Hydra, no config. Its constructor arguments are
numbers, strings or already built parts.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlossy.sample import Restored, Sample, Split

MEMORY = 3 * 2**29  # bytes that a `budget` is meant for


class EnhancementModel(nn.Module):
    """Restores clips.

    Class attributes (an instance may set its own):
        provides: keys that `forward` puts into `extras`.
        needs: keys that it wants in `batch["side"]`.
        scale: output height / degraded height.
        multiple: `restore` pads height and width to a multiple of this.
        context: degraded frames before and after a window that change its result.
        reach: degraded pixels next to the edge of a tile whose result the edge changes.
        interpolates: whether `t_out` may hold times that `t_in` has not.
        teacher_forced: only a likelihood model may read `clean` in `forward`.
        restores: False for a network that only learns what another will use: nobody wants its clip.
        trainable: False for a classical filter, which `eval.py` runs and `train.py` refuses.
        assembled: made of parts trained before: `train.py` tunes it by `fit` and packs it.
        window: degraded frames that a long clip is restored in at once, besides the context.
        budget: degraded pixels that may go through it at once; larger windows are cut and tiled.
        outputs: keys of `restore_all` that get a row of their own in tables, in this order.
        pictures: further keys of `restore_all`, which are only looked at.
        fits_on: whose clips `fit` is given.
        likelihoods: keys of `bits`, columns of the tables; `nll` first, empty for most models.
    """

    provides: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    scale: int = 1
    multiple: int = 1
    context: int = 0
    reach: int = 48
    interpolates: bool = False
    teacher_forced: bool = False
    restores: bool = True
    trainable: bool = True
    assembled: bool = False
    window: int = 8
    budget: int = 2**20
    outputs: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    fits_on: Split = "val"
    likelihoods: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, batch: Sample) -> Restored:
        """Restore without clamping; `estimate` is (B, T, 3, H, W)."""

    def restore(
        self, batch: Sample, *, generator: torch.Generator | None = None, samples: int = 1
    ) -> Tensor:
        """Return the restored clip (B, T, 3, H, W) in [0, 1].

        Args:
            batch: a sample; `clean` is not read.
            generator: randomness of a model that draws; a deterministic model ignores it.
            samples: draws per clip; with n > 1 a drawing model returns (n * B, T, 3, H, W).
        """
        height, width = batch["degraded"].shape[-2:]
        padded = Sample(**{**batch, "degraded": pad_to_multiple(batch["degraded"], self.multiple)})
        estimate: Tensor = self(padded)["estimate"]
        return estimate[..., : height * self.scale, : width * self.scale].clamp(0.0, 1.0)

    def surveyed(self, batch: Sample) -> Sample:
        """Add to `side` what only whole frames tell, before they may be cut into tiles."""
        return batch

    def restore_all(
        self, batch: Sample, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return by name every clip that the model makes, each as `restore` would return it.

        The restored clip alone is named "". A model of several stages lists theirs in `outputs`
        and `pictures`, and `restore` returns the last of `outputs`.
        """
        return {"": self.restore(batch, generator=generator)}

    def bits(self, batch: Sample) -> dict[str, Tensor]:
        """Return by name the code length of `clean` under each distribution the model has.

        Returns:
            Means over a frame in bits per sub-pixel, (B, T) each; nothing for most models.
        """
        return {}

    def check_lesson(self, batch: Sample) -> None:
        """Refuse a training batch that cannot teach this model anything; most take any.

        Raises:
            UserError: what is wrong with its clips, and what to set instead.
        """

    def fit(self, batches: Iterable[Sample]) -> None:
        """Choose what is not learnt by gradients on clips of `fits_on`; most models have nothing.

        Args:
            batches: whole clips, uint8, batch 1.
        """

    @property
    def label(self) -> str:
        """What `fit` has chosen, for people; empty where there was nothing to choose."""
        return ""

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return optimiser groups that hold every trainable parameter exactly once."""
        return [{"params": [p for p in self.parameters() if p.requires_grad], "lr": lr}]


def pad_to_multiple(frames: Tensor, multiple: int) -> Tensor:
    """Replicate the last row and column of (B, S, C, h, w) up to a multiple of both sizes."""
    height, width = frames.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if not (bottom or right):
        return frames
    folded = functional.pad(frames.flatten(0, 1), (0, right, 0, bottom), mode="replicate")
    return folded.reshape(*frames.shape[:2], *folded.shape[1:])
