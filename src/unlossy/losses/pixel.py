"""Distances between images and between their gradients.

    L_pixel = mean |I - T|^p                                                        in [-1, 1]
    L_grad  = 2 mean | |D(I)| - |D(T)| |^p    D(x) = [dx, dy]; 2 mean = x-mean + y-mean, [-1, 1]
    L_charb = mean or sum of sqrt((I - T)^2 + eps)                                  in [0, 1]

Absolute gradients are compared: a term that only asks for edges of the same strength, and in flat
areas for none, which is what removes false contours. A model that returns `extras["steps"]` is
judged on the mean over its steps.

Wang et al., GIF2Video, CVPR 2019, section 3, in its range; Mathieu et al., ICLR 2016 (gradient
difference loss). Charbonnier et al., ICIP 1994, with the eps of EDVR's training code.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from unlossy.errors import UserError
from unlossy.losses.objective import Term
from unlossy.sample import Restored, Sample


def image_gradients(x: Tensor) -> Tensor:
    """Backward differences of (..., C, H, W) along x, then y: (..., 2C, H - 1, W - 1)."""
    corner = x[..., 1:, 1:]
    return torch.cat([corner - x[..., 1:, :-1], corner - x[..., :-1, 1:]], dim=-3)


def _pair(restored: Restored, batch: Sample) -> tuple[Tensor, Tensor]:
    """Return outputs (B, K, T, 3, H, W) and targets (B, 1, T, 3, H, W) in [-1, 1]."""
    return _outputs(restored) * 2 - 1, batch["clean"][:, None] * 2 - 1


def _outputs(restored: Restored) -> Tensor:
    """Return (B, K, T, 3, H, W) in [0, 1], not clamped, in float32 or better."""
    outputs = restored["extras"].get("steps", restored["estimate"][:, None])
    return outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs


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


class Charbonnier(Term):
    """A distance like |I - T| that is smooth at zero, per element, in [0, 1].

    Args:
        eps: > 0, under the root: an error far below sqrt(eps) counts as squared.
        reduction: `mean` over steps, clips, frames, channels and pixels, or EDVR's `sum`, which is
            the mean times the elements of a step and so grows with batch, window and crop.

    Raises:
        UserError: `eps` is not positive, or an unknown reduction.
    """

    def __init__(self, eps: float = 1e-6, reduction: Literal["mean", "sum"] = "mean") -> None:
        super().__init__()
        if not eps > 0 or reduction not in ("mean", "sum"):
            raise UserError(
                f"Charbonnier got eps={eps}, reduction={reduction!r}; wanted: eps above 0 (the "
                "gradient at zero error needs it) and 'mean' or 'sum'."
            )
        self.eps = eps
        self.reduction = reduction

    def forward(self, restored: Restored, batch: Sample) -> Tensor:
        """Return L_charb."""
        target = batch["clean"]
        mean = ((_outputs(restored) - target[:, None]).square() + self.eps).sqrt().mean()
        return mean * target.numel() if self.reduction == "sum" else mean
