"""What the models around a `Conditioning` network share: the network, and whom they refuse."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from unlossy.errors import UserError
from unlossy.models.model import EnhancementModel
from unlossy.networks.conditioning import Conditioning


class Conditioned(EnhancementModel):
    """Looks at every frame by itself through one network.

    Args:
        conditioning: its `outputs` are `wanted`.
        wanted: values that the model needs for each pixel, and `meaning` is what they are.

    Raises:
        UserError: a network of other outputs.
    """

    def __init__(self, conditioning: Conditioning, wanted: int, meaning: str) -> None:
        super().__init__()
        if conditioning.outputs != wanted:
            raise UserError(
                f"{type(self).__name__} needs {wanted} outputs of its conditioning network, "
                f"{meaning}, and got one of {conditioning.outputs}; set "
                f"model.conditioning.outputs={wanted}."
            )
        self.conditioning = conditioning
        self.scale = conditioning.scale
        # At each size two 3x3 convolutions a block, which at size 2^d are worth 2^-d pixels each.
        self.reach = 4 * conditioning.blocks + 2

    def frames_of(self, clips: Tensor) -> Tensor:
        """Return the frames (B * T, colors, h, w) of clips (B, T, colors, h, w).

        Raises:
            UserError: they have another number of colours than the network.
        """
        found, wanted = clips.shape[2], self.conditioning.colors
        if found != wanted:
            raise UserError(
                f"{type(self).__name__} reads {wanted} colours and got frames of {found}; convert "
                f"the clip, or train with model.conditioning.colors={found}."
            )
        return clips.flatten(0, 1)

    def warn_if_untrained(self) -> None:
        """Say so where what would be drawn is noise."""
        if self.conditioning.untrained:
            warnings.warn(
                f"This {type(self).__name__} has not been trained: what it draws is noise; load a "
                "checkpoint, or train it first.",
                stacklevel=3,
            )


def uniforms(shape: tuple[int, ...], frames: int, generator: torch.Generator | None) -> Tensor:
    """Draw (len, frames, ...) float64 numbers in [0, 1) on the CPU for a shape (len, ...).

    Frame by frame, so that a clip in windows gets the same ones. Without a generator always the
    same: then a model that draws repeats itself.
    """
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    drawn = [torch.rand(shape, dtype=torch.float64, generator=generator) for _ in range(frames)]
    return torch.stack(drawn, 1)
