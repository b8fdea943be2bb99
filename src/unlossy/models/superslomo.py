"""SuperSloMo: any number of frames between two, from one estimate of their motion.

    I_0, I_1 ──► flow(I_0, I_1) = F01, flow(I_1, I_0) = F10           once per pair
    F01, F10 ──► t_1, t_2, ... ──► refine ──► I_t                     networks/slomo.py

Jiang et al., "Super SloMo: High Quality Estimation of Multiple Intermediate Frames for Video
Interpolation", CVPR 2018, arXiv 1712.00080, in the form that GIF2Video gave it (Wang et al., CVPR
2019, arXiv 1901.02840). Departures: the flow network is a part, the paper's U-Net (`PairFlow`) or a
SPyNet, which learns in minutes; and `residual` lets the refinement correct flows instead of
replacing them.

A fresh network makes the average (1 - t) I_0 + t I_1: its flows are zero and both frames visible.
With a flow from `flow_ckpt` and `residual` it starts at what that flow is worth.

Both flow networks see most of a frame, so tiles do not quite fit together: with a trained SPyNet a
frame of 1280x720 in tiles of 832 differs from the whole by 0.03 levels of 255 in the mean, by more
than 1 in 0.15 % of the pixels, by 5 at most. Up to that size frames go untiled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from unlossy.errors import UserError
from unlossy.models.interpolator import Interpolator
from unlossy.models.model import MEMORY
from unlossy.models.weights import EMBEDDED, read_weights, state_in
from unlossy.networks.flow import SPyNet
from unlossy.networks.flow_unet import FlowUNet, PairFlow
from unlossy.networks.slomo import interpolated
from unlossy.networks.weights import load_tolerantly

# Bytes a pixel of a pair, measured: a SPyNet and what goes with it; either network, per channel.
_SPYNET, _CHANNEL = 1700, 100
_FOREIGN = (ValueError, TypeError, AttributeError)  # weights of other shapes, or none at all


class SuperSloMo(Interpolator):
    """Interpolate between pairs of frames.

    `extras` of a pair, in pixels: `flow01` and `flow10` (B, 2, H, W); for every `t_out` the refined
    `flow_to_first` and `flow_to_last` (B, T, 2, H, W).

    Args:
        flow: (N, 3, H, W) in [0, 1], twice -> the flow (N, 2, H, W) from the first to the second.
        refine: C, 16 -> 5 channels.
        max_flow: pixels that C's flows cannot exceed; 30 as published.
        residual: let C correct the approximated flows; False replaces them, as published.
        flow_ckpt: a checkpoint that holds such a flow network, of model=spynet for a SPyNet, to
            start from; `embedded` leaves the weights to the state dict that will be loaded.
        cut: see `Interpolator`.

    Raises:
        UserError: a number out of range; a refinement of other channels; a flow checkpoint that is
            missing, holds no such network, or says that its `max_flow` is another.
    """

    provides = frozenset({"flow01", "flow10", "flow_to_first", "flow_to_last"})
    multiple = 32
    reach = 192

    def __init__(
        self,
        flow: nn.Module,
        refine: FlowUNet,
        max_flow: float = 30.0,
        residual: bool = False,
        flow_ckpt: str | None = None,
        cut: float | None = 25.0,
    ) -> None:
        super().__init__()
        if not max_flow > 0:
            raise UserError(f"SuperSloMo got max_flow={max_flow}; use pixels above 0.")
        if (refine.in_channels, refine.out_channels) != (16, 5):
            raise UserError(
                f"SuperSloMo's refinement goes from 16 channels to 5, not {refine.in_channels} to "
                f"{refine.out_channels}; set model.refine's in_channels=16 and out_channels=5."
            )
        self.flow, self.refine = flow, refine
        self.max_flow, self.residual, self.cut = max_flow, residual, cut
        self.budget = 2 * MEMORY // max(_SPYNET, _CHANNEL * refine.channels)
        if flow_ckpt is not None and flow_ckpt != EMBEDDED:
            _load_flow(flow, flow_ckpt)

    @classmethod
    def from_official(cls, state: Mapping[str, Any], max_flow: float = 30.0) -> Self:
        """Build from GIF2Video's `netSlomo`, `netA.*` (flow) and `netB.*` (refinement).

        Args:
            state: its state dict, or a released file that holds one.
            max_flow: of the run that it comes from; 30 in all released ones.

        Raises:
            UserError: names or shapes that are not a netSlomo's.
        """
        weights = state_in(state)
        try:
            first, second = (
                FlowUNet.from_weights(
                    {k.removeprefix(name): v for k, v in weights.items() if k.startswith(name)}
                )
                for name in ("netA.", "netB.")
            )
        except _FOREIGN as error:
            raise UserError(f"This is no official SuperSloMo of GIF2Video: {error}") from error
        if (first.in_channels, first.out_channels) != (6, 2):
            raise UserError(
                f"This is no official SuperSloMo of GIF2Video: its netA has {first.in_channels} -> "
                f"{first.out_channels} channels, not 6 -> 2."
            )
        flow = PairFlow(first.channels, max_flow)
        flow.unet = first
        return cls(flow, second, max_flow)

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return all at `lr`, but a SPyNet at an eighth, as BasicVSR does.

        An error of its coarsest flow counts 32 times: at a rate that suits the refinement, flows
        of whole frames ran away within 80 steps.
        """
        if not isinstance(self.flow, SPyNet):
            return super().param_groups(lr)
        parts = ((self.flow, lr / 8), (self.refine, lr))
        return [
            {"params": [x for x in part.parameters() if x.requires_grad], "lr": rate}
            for part, rate in parts
        ]

    def between(
        self, first: Tensor, last: Tensor, times: Sequence[float]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Make the frames at `times` between two frames (B, 3, H, W), H, W >= 32."""
        return self.blend((first, last), (first, last), times)

    def blend(
        self, frames: tuple[Tensor, Tensor], seen: tuple[Tensor, Tensor], times: Sequence[float]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Blend `frames`, (B, 3, H, W) each, by the flows between the frames `seen`."""
        flow01, flow10 = self.flow(torch.cat(seen), torch.cat(seen[::-1])).float().chunk(2)
        t = flow01.new_tensor(times)
        # One by one where nothing has to be kept for a backward pass: memory stays that of one.
        parts = [
            interpolated(self.refine, *frames, (flow01, flow10), part, self.max_flow, self.residual)
            for part in t.split(len(t) if torch.is_grad_enabled() else 1)
        ]
        made, to_first, to_last, _ = (torch.cat(each, 1) for each in zip(*parts, strict=True))
        flows = {"flow01": flow01, "flow10": flow10}
        return made, {**flows, "flow_to_first": to_first, "flow_to_last": to_last}


def _load_flow(flow: nn.Module, path: str | Path) -> None:
    """Load the network of this kind and size that a file holds, alone or inside another one."""
    content = read_weights(path)
    weights = state_in(content)
    name, first = next(flow.named_parameters())
    prefixes = [
        str(key).removesuffix(name)
        for key, value in weights.items()
        if str(key).endswith(name) and getattr(value, "shape", None) == first.shape
    ]
    try:
        if not prefixes:
            raise ValueError(f"it has no {name!r} of {tuple(first.shape)}")
        own = {
            key.removeprefix(prefixes[0]): value
            for key, value in weights.items()
            if key.startswith(prefixes[0])
        }
        load_tolerantly(flow, dict(flow.named_buffers()) | own)
    except _FOREIGN as error:
        raise UserError(
            f"The flow_ckpt {path} holds no {type(flow).__name__} of this size ({error}); give a "
            "checkpoint of one, for a SPyNet of model=spynet."
        ) from error
    theirs = _max_flow(content, prefixes[0])
    if isinstance(flow, PairFlow) and theirs not in (None, flow.max_flow):
        raise UserError(
            f"The flow_ckpt {path} holds a PairFlow of max_flow={theirs}, whose weights mean other "
            f"flows at {flow.max_flow}; set the flow's max_flow={theirs}."
        )


def _max_flow(content: Mapping[str, Any], prefix: str) -> object:
    """Return what our card says of the PairFlow whose weights begin so; None where there is none.

    Parts bear the name of the option that they were given as.
    """
    match content:
        case {"unlossy": {"model": found}}:
            pass
        case _:
            return None
    for option in prefix.removeprefix("model.").split(".")[:-1]:
        found = found.get(option) if isinstance(found, Mapping) else None
    match found:
        case {"_target_": "unlossy.networks.flow_unet.PairFlow"}:
            return found.get("max_flow", signature(PairFlow).parameters["max_flow"].default)
    return None
