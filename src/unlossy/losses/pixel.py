"""Distances between images and between their gradients, in [-1, 1] as published.

    L_pixel = mean |I - T|^p
    L_grad  = 2 mean | |D(I)| - |D(T)| |^p       D(x) = [dx, dy]; 2 mean = x-mean + y-mean

Absolute gradients are compared: a term that only asks for edges of the same strength, and in flat
areas for none, which is what removes false contours. A model that returns `extras["steps"]` is
judged on the mean over its steps.

Wang et al., GIF2Video, CVPR 2019, section 3; Mathieu et al., ICLR 2016 (gradient difference loss).
"""

from __future__ import annotations

import torch
from torch import Tensor

from unlossy.losses.objective import Term
from unlossy.sample import Restored, Sample


def image_gradients(x: Tensor) -> Tensor:
    """Backward differences of (..., C, H, W) along x, then y: (..., 2C, H - 1, W - 1)."""
    corner = x[..., 1:, 1:]
    return torch.cat([corner - x[..., 1:, :-1], corner - x[..., :-1, 1:]], dim=-3)


def _pair(restored: Restored, batch: Sample) -> tuple[Tensor, Tensor]:
    """Return outputs (B, K, T, 3, H, W) and targets (B, 1, T, 3, H, W) in [-1, 1]."""
    outputs = restored["extras"].get("steps", restored["estimate"][:, None])
    if outputs.dtype in (torch.float16, torch.bfloat16):
        outputs = outputs.float()
    return outputs * 2 - 1, batch["clean"][:, None] * 2 - 1


class PixelLoss(Term):
    """Mean |I - T|^p over pixels, channels, frames, clips and steps.

    Args:
        p: > 0; 1 as published.
    """

    def __init__(self, p: float = 1.0) -> None:
        super().__init__()
        self.p = p

    def forward(self, restored: Restored, batch: Sample) -> Tensor:
        """Return L_pixel."""
        outputs, target = _pair(restored, batch)
        return (outputs - target).abs().pow(self.p).mean()


class GradientLoss(Term):
    """Twice the mean difference of image gradients, folded over time; needs H, W >= 2.

    Args:
        p: > 0; 1 as published.
        absolute: compare |D| as published; False compares signed gradients.
    """

    def __init__(self, p: float = 1.0, absolute: bool = True) -> None:
        super().__init__()
        self.p = p
        self.absolute = absolute

    def forward(self, restored: Restored, batch: Sample) -> Tensor:
        """Return L_grad."""
        ours, theirs = (image_gradients(x) for x in _pair(restored, batch))
        if self.absolute:
            ours, theirs = ours.abs(), theirs.abs()
        return 2 * (ours - theirs).abs().pow(self.p).mean()
