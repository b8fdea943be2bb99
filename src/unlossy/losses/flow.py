"""How far an estimated flow misses the true one.

    L_flow = mean over what is seen in both frames of sqrt(|u - u*|^2 + eps)      in pixels

The end-point error of Ranjan and Black, CVPR 2017, in a form that is smooth at zero. Pixels that
are covered in the frame that the flow leads to, or leave the crop on the way, are not counted:
their flow is known, but nothing in the pictures tells it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from unlossy.errors import UserError
from unlossy.losses.objective import Term
from unlossy.sample import Restored, Sample

FlowName = Literal["flow", "flow_to_first", "flow_to_last", "flow01", "flow10"]


class _Truth(NamedTuple):
    """What an estimate is compared with: the flow of these frames in `target`, where `seen`."""

    flow: str
    seen: str
    frames: slice


_INTERIOR = slice(1, -1)  # an end of the window is observed, and one of its flows is zero
_TRUTHS: Mapping[FlowName, _Truth] = MappingProxyType(
    {
        "flow": _Truth("flow", "visible", slice(None)),
        "flow_to_first": _Truth("flow_to_first", "seen_in_first", _INTERIOR),
        "flow_to_last": _Truth("flow_to_last", "seen_in_last", _INTERIOR),
        "flow01": _Truth("flow_to_last", "seen_in_last", slice(0, 1)),
        "flow10": _Truth("flow_to_first", "seen_in_first", slice(-1, None)),
    }
)


class EndPointError(Term):
    """The mean distance of a flow in `extras` from the true one, both in pixels.

    Args:
        of: which one. `flow` (B, T - 1, 2, H, W) leads from each frame to the next. Interpolators
            have `flow_to_first` and `flow_to_last` (B, T, 2, H, W), from each frame to the ends of
            the window, counted strictly between these; and `flow01` and `flow10` (B, 2, H, W), from
            one end to the other and back.
        eps: > 0, in squared pixels.

    Raises:
        UserError: `eps` is not positive, or there is no such flow.
    """

    def __init__(self, of: FlowName = "flow", eps: float = 1e-6) -> None:
        super().__init__()
        if of not in _TRUTHS:
            raise UserError(f"EndPointError got of={of}; use one of {', '.join(_TRUTHS)}.")
        if not eps > 0:
            raise UserError(f"EndPointError got eps={eps}; the gradient at zero needs one above 0.")
        self.of = of
        self.eps = eps
        self.needs = frozenset({of})

    def forward(self, restored: Restored, batch: Sample) -> Tensor:
        """Return L_flow.

        Raises:
            UserError: the batch has no true flow, none of that shape, or no frames to count.
        """
        truth = _TRUTHS[self.of]
        flow, known = restored["extras"][self.of].float(), batch["target"].get(truth.flow)
        if known is None:
            raise UserError(
                "A loss on flow needs clips whose motion is known; use source=synthetic_motion."
            )
        wanted = known[:, truth.frames]
        # `flow01` and `flow10` are one flow a clip; the others come for all frames.
        flow = flow[:, None] if flow.ndim == 4 else flow[:, truth.frames]
        if flow.shape != wanted.shape or flow.shape[1] == 0:
            raise UserError(
                f"A loss on '{self.of}' needs pairs of frames of one size, data.frames=2 or more, "
                f"and frames between them if it is an interpolator's; the flow is "
                f"{tuple(flow.shape)}, the true one {tuple(wanted.shape)}."
            )
        error = ((flow - wanted).square().sum(2, keepdim=True) + self.eps).sqrt()
        seen = _stays(wanted)
        if truth.seen in batch["target"]:
            seen = seen & batch["target"][truth.seen][:, truth.frames]
        return (error * seen).sum() / seen.sum().clamp(min=1)


def _stays(flow: Tensor) -> Tensor:
    """Return whether p + flow(p) lies within the frame: (..., 1, H, W) of (..., 2, H, W)."""
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device) + flow[..., :1, :, :]
    y = torch.arange(height, device=flow.device)[:, None] + flow[..., 1:, :, :]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
