"""How far an estimated flow misses the true one.

    L_flow = mean over what is seen in both frames of sqrt(|u - u*|^2 + eps)      in pixels

The end-point error of Ranjan and Black, CVPR 2017, in a form that is smooth at zero. Pixels that
are covered in the next frame (`target["visible"]`) or leave the crop are not counted: their flow is
known, but nothing in the pictures tells it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unlossy.errors import UserError
from unlossy.losses.objective import Term
from unlossy.sample import Restored, Sample


class EndPointError(Term):
    """The mean distance of `extras["flow"]` from `target["flow"]`, (B, T - 1, 2, H, W) both.

    Args:
        eps: > 0, in squared pixels.

    Raises:
        UserError: `eps` is not positive.
    """

    needs = frozenset({"flow"})

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        if not eps > 0:
            raise UserError(f"EndPointError got eps={eps}; the gradient at zero needs one above 0.")
        self.eps = eps

    def forward(self, restored: Restored, batch: Sample) -> Tensor:
        """Return L_flow.

        Raises:
            UserError: the batch has no true flow, none of that shape, or no pair of frames.
        """
        flow, wanted = restored["extras"]["flow"].float(), batch["target"].get("flow")
        if wanted is None:
            raise UserError(
                "A loss on flow needs clips whose motion is known; use source=synthetic_motion."
            )
        if flow.shape != wanted.shape or flow.shape[1] == 0:
            raise UserError(
                f"A loss on flow needs pairs of frames of one size, data.frames=2 or more; the "
                f"flow is {tuple(flow.shape)}, the true one {tuple(wanted.shape)}."
            )
        error = ((flow - wanted).square().sum(2, keepdim=True) + self.eps).sqrt()
        seen = _stays(wanted) & batch["target"].get("visible", wanted.new_ones(()).bool())
        return (error * seen).sum() / seen.sum().clamp(min=1)


def _stays(flow: Tensor) -> Tensor:
    """Return whether p + flow(p) lies within the frame: (..., 1, H, W) of (..., 2, H, W)."""
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device) + flow[..., :1, :, :]
    y = torch.arange(height, device=flow.device)[:, None] + flow[..., 1:, :, :]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
