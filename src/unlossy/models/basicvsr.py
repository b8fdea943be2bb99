"""BasicVSR: every frame is restored from the whole clip, by two recurrent networks.

    h^b_t = B([x_t, warp(h^b_{t+1}, flow t -> t+1)])        from the last frame to the first
    h^f_t = F([x_t, warp(h^f_{t-1}, flow t -> t-1)])        from the first frame to the last
    y_t   = up(x_t) + head([h^b_t, h^f_t])                  up: bilinear x4, or nothing at scale 1

    head  fusion 1x1 ─ (upconv1 ─ upconv2) ─ conv_hr ─ conv_last      LeakyReLU 0.1 between them

Chan et al., "BasicVSR: The Search for Essential Components in Video Super-Resolution and Beyond",
CVPR 2021, arXiv 2012.02181; named as in BasicSR's state dicts. Departures: at scale 1 (compressed
video, as in ASTF, CVPRW 2021) the head has no pixel shuffles; `flow=zero` leaves the flow network
out and passes features on where they are; a fresh network starts at up(x_t), its last convolution
being zero, and its trunks start from filters that see detail; SPyNet learns from the first step,
where BasicVSR's recipe freezes it for 5,000. All flows of a clip, in both directions, are one call
of SPyNet.

`reach` counts the convolutions of one step. What wanders further, from frame to frame, is faint: 6
frames of 160x160 in tiles of 96 differ from the whole by at most 0.005 levels of 255 (random
weights, 8 channels, 2 blocks). SPyNet, whose coarsest level sees most of a frame, is not counted:
with it, by 0.2 to 0.5 levels in the mean and by 18 at most.

A scene cut is met like any other pair of frames: the flow across it means nothing, and the trunks
have to learn from the frame beside the warped features that they do not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from unlossy.errors import UserError
from unlossy.models.model import MEMORY, EnhancementModel
from unlossy.models.weights import EMBEDDED, read_weights, state_in
from unlossy.networks.detail import see_detail
from unlossy.networks.flow import SPyNet, warp
from unlossy.networks.residual import Trunk
from unlossy.networks.weights import load_tolerantly
from unlossy.sample import Restored, Sample

Flow = Literal["spynet", "zero"]
Head = Literal["hr_only", "keep_upconv"]

_SHUFFLED = {f"upconv{k}.{part}" for k in (1, 2) for part in ("weight", "bias")}
_FOREIGN = (ValueError, TypeError, AttributeError, KeyError)  # weights of other shapes, or none


class BasicVSR(EnhancementModel):
    """Restore or upscale whole clips; a clip of one frame is one step of each recurrence.

    Args:
        channels: width of the trunks, >= 1; the paper's is 64.
        blocks: residual blocks per direction, >= 1; the paper's is 30 (6.3 M parameters at x4).
        scale: 1 or 4.
        flow: `spynet` aligns features by learned flow; `zero` does not align them.
        head: at scale 1, whether the layers before the pixel shuffles stay as plain convolutions.
        flow_ckpt: a SPyNet file of BasicSR, or a checkpoint of ours that holds a SPyNet, to start
            from; `embedded` leaves the weights to the state dict that will be loaded.
        checkpointing: compute the trunks again in the backward pass instead of keeping them: a
            third more time for a fraction of the memory.

    Raises:
        UserError: numbers out of range; a flow checkpoint that is missing or holds no SPyNet.
    """

    window = 60
    context = 8

    def __init__(
        self,
        channels: int = 64,
        blocks: int = 30,
        scale: int = 1,
        flow: Flow = "spynet",
        head: Head = "hr_only",
        flow_ckpt: str | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if channels < 1 or blocks < 1:
            raise UserError(
                f"BasicVSR got channels={channels}, blocks={blocks}; both must be at least 1."
            )
        if scale not in (1, 4):
            raise UserError(f"BasicVSR got scale={scale}; use 1 or 4.")
        if flow not in get_args(Flow):
            raise UserError(f"BasicVSR got flow={flow!r}; use 'spynet' or 'zero'.")
        if head not in get_args(Head):
            raise UserError(f"BasicVSR got head={head!r}; use 'hr_only' or 'keep_upconv'.")
        if flow_ckpt is not None and flow == "zero":
            raise UserError(
                "BasicVSR with flow=zero has no flow network to load flow_ckpt into; set "
                "model.flow=spynet or leave flow_ckpt out."
            )
        self.channels = channels
        self.scale = scale
        self.reach = 2 * blocks + 4
        # Floats a pixel that a window keeps: features, flows, the frame, three times the result.
        # 60 + 2 * 8 frames of 320x180 fit at 64 channels and scale 1.
        self.budget = MEMORY // (4 * (channels + 7 + 9 * scale**2))
        self.checkpointing = checkpointing
        if flow == "spynet":
            self.spynet = SPyNet() if flow_ckpt in (None, EMBEDDED) else _read_flow(flow_ckpt)
        self.aligned = flow == "spynet"
        self.backward_trunk = Trunk(3 + channels, channels, blocks)
        self.forward_trunk = Trunk(3 + channels, channels, blocks)
        self.fusion = nn.Conv2d(2 * channels, channels, 1)
        last = channels
        if scale == 4:
            last = 64  # whatever the width of the trunks, in BasicSR too
            self.upconv1 = nn.Conv2d(channels, 4 * channels, 3, padding=1)
            self.upconv2 = nn.Conv2d(channels, 4 * last, 3, padding=1)
        elif head == "keep_upconv":
            self.upconv1 = nn.Conv2d(channels, channels, 3, padding=1)
            self.upconv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.has_upconv = scale == 4 or head == "keep_upconv"
        self.conv_hr = nn.Conv2d(last, last, 3, padding=1)
        self.conv_last = nn.Conv2d(last, 3, 3, padding=1)
        for parameter in self.conv_last.parameters():
            nn.init.zeros_(parameter)
        for trunk in (self.backward_trunk, self.forward_trunk):
            first = trunk.main[0]
            assert isinstance(first, nn.Conv2d)
            see_detail(first, planes=3)

    @classmethod
    def from_official(cls, state: Mapping[str, Any], scale: Literal[1, 4] | None = None) -> Self:
        """Build from a BasicSR file or state dict; names and shapes tell every size.

        Args:
            state: names as in BasicSR, possibly under `params_ema` or `params`.
            scale: of the network to build, None for the file's own. 1 takes a x4 file as a start:
                exactly the two layers before its pixel shuffles are left out.

        Raises:
            UserError: names or shapes that are not a BasicVSR's, or not one of that scale.
        """
        try:
            weights: dict[str, Tensor] = dict(state_in(state))
            channels = weights["fusion.weight"].shape[0]
            blocks = sum(k.startswith("forward_trunk.main.2.") for k in weights) // 4
            has_upconv = "upconv1.weight" in weights
            own = 4 if has_upconv and len(weights["upconv1.weight"]) == 4 * channels else 1
            aligned = any(k.startswith("spynet.") for k in weights)
        except _FOREIGN as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise _unofficial(reason) from error
        if scale == 1 and own == 4:
            dropped = {key for key in weights if key.startswith("upconv")}
            if dropped != _SHUFFLED:
                raise _unofficial(f"it has {sorted(dropped)} to drop, not {sorted(_SHUFFLED)}")
            weights = {k: v for k, v in weights.items() if k not in dropped}
            own, has_upconv = 1, False
        if scale not in (None, own):
            raise _unofficial(f"it is of scale {own}, not {scale}")
        if blocks < 1:
            raise _unofficial("its forward_trunk has no whole block")
        head: Head = "keep_upconv" if has_upconv and own == 1 else "hr_only"
        model = cls(channels, blocks, own, "spynet" if aligned else "zero", head)
        buffers = {key: value for key, value in model.named_buffers() if key.startswith("spynet.")}
        try:
            load_tolerantly(model, buffers | weights)
        except _FOREIGN as error:
            raise _unofficial(str(error)) from error
        return model

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return the network at `lr` and its SPyNet at an eighth of that, as published."""
        groups = {"": (lr, list[Tensor]()), "spynet": (lr / 8, list[Tensor]())}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                groups["spynet" if name.startswith("spynet.") else ""][1].append(parameter)
        return [{"params": params, "lr": rate} for rate, params in groups.values() if params]

    def forward(self, batch: Sample) -> Restored:
        """Return the clips as (B, T, 3, scale h, scale w), not clamped; any T, h, w >= 1."""
        frames = batch["degraded"]
        clip = frames.unbind(1)  # T times (B, 3, h, w)
        to_later, to_earlier = self._flows(frames)
        later = _kept(self._propagate(self.backward_trunk, clip[::-1], to_later[::-1]), len(clip))
        earlier = self._propagate(self.forward_trunk, clip, to_earlier)
        parts = zip(clip, reversed(later), earlier, strict=True)
        restored = [self._reconstruct(x, after, before) for x, after, before in parts]
        return Restored(estimate=torch.stack(restored, 1), extras={})

    def _flows(self, frames: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return T - 1 flows (B, 2, h, w) from each frame to the next, and as many back."""
        clips, length = frames.shape[:2]
        if length == 1 or not self.aligned:
            return (), ()
        first, second = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
        flows: Tensor = self.spynet(torch.cat([first, second]), torch.cat([second, first]))
        to_later, to_earlier = flows.view(2, clips, length - 1, *flows.shape[1:])
        return to_later.unbind(1), to_earlier.unbind(1)

    def _propagate(
        self, trunk: Trunk, clip: Sequence[Tensor], flows: Sequence[Tensor]
    ) -> Iterator[Tensor]:
        """Yield the features (B, C, h, w) of each frame; `flows` lead to the frame before."""
        batch, _, height, width = clip[0].shape
        hidden = clip[0].new_zeros(batch, self.channels, height, width)
        for t, x in enumerate(clip):
            if t > 0 and flows:
                hidden = warp(hidden, flows[t - 1])
            seen = torch.cat([x, hidden], 1)  # (B, 3 + C, h, w)
            # Saves a CPU two reorderings in each convolution, and is what tensor cores want.
            seen = seen.contiguous(memory_format=torch.channels_last)
            if self.checkpointing and torch.is_grad_enabled():
                hidden = checkpoint(trunk, seen, use_reentrant=False)
            else:
                hidden = trunk(seen)
            yield hidden

    def _reconstruct(self, x: Tensor, later: Tensor, earlier: Tensor) -> Tensor:
        def activate(features: Tensor) -> Tensor:
            return functional.leaky_relu_(features, 0.1)

        features = activate(self.fusion(torch.cat([later, earlier], 1)))
        if self.has_upconv:
            for upconv in (self.upconv1, self.upconv2):
                features = upconv(features)
                if self.scale == 4:
                    features = functional.pixel_shuffle(features, 2)
                features = activate(features)
        change: Tensor = self.conv_last(activate(self.conv_hr(features)))
        if self.scale == 4:
            x = functional.interpolate(x, scale_factor=4, mode="bilinear")
        return (x + change).contiguous()


def _kept(features: Iterator[Tensor], count: int) -> list[Tensor]:
    """Return all features of a clip; where no gradient is wanted, in one piece of memory.

    In pieces of a frame, glibc's heap took almost twice their size from the second window on.
    """
    if torch.is_grad_enabled():
        return list(features)
    first = next(features)
    batch, channels, height, width = first.shape
    whole = first.new_empty(count, batch, height, width, channels).movedim(4, 2).unbind(0)
    for place, feature in zip(whole, chain([first], features), strict=True):
        place.copy_(feature)
    return list(whole)


def _unofficial(reason: str) -> UserError:
    return UserError(
        f"This is no official BasicVSR: {reason.rstrip('.')}; give a file of BasicSR's BasicVSR."
    )


def _read_flow(path: str | Path) -> SPyNet:
    content = read_weights(path)
    try:
        return SPyNet.from_weights(state_in(content))
    except _FOREIGN as error:
        raise UserError(
            f"The flow_ckpt {path} holds no SPyNet; give BasicSR's SPyNet file or a checkpoint of "
            "model=spynet."
        ) from error
