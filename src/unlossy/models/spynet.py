"""SPyNet by itself: each frame is predicted from its successor, as far as the flow is right.

    flow_t = SPyNet(x_t, x_{t+1})      y_t = warp(x_{t+1}, flow_t)      y_T = x_T

Nobody needs such a clip: the network is trained here on motion that is known, and BasicVSR takes it
from this model's checkpoint (`model.flow_ckpt`). The PSNR of y says how good the flow is, but for
the last frame of a clip, which stays as it is.

Two things let it learn within minutes. Half of the first filters of a level start by seeing the
difference of the two frames, the others their sum; from plain random filters, in which the little
that moves drowns, a level alone was still at zero flow after 380 steps of 48 patches. And one level
may serve all six (`tied`), which makes six examples of each. The original trained them one after
the other, each starting from the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from unlossy.errors import UserError
from unlossy.models.model import EnhancementModel
from unlossy.networks.flow import SPyNet, warp
from unlossy.sample import Restored, Sample


class SPyNetWarp(EnhancementModel):
    """Predict frames by warping; `extras["flow"]` is (B, T - 1, 2, H, W) in pixels.

    Args:
        tied: let all levels share their weights. The state dict holds them six times all the same.
    """

    provides = frozenset({"flow"})
    context = 1
    budget = 2**24  # its coarsest level sees all of a frame, so tiles would not fit together

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.spynet = SPyNet()
        levels = self.spynet.basic_module
        for level in levels:
            _see_motion(level)
        if tied:
            self.spynet.basic_module = nn.ModuleList([levels[0]] * len(levels))

    def forward(self, batch: Sample) -> Restored:
        """Predict (B, T, 3, H, W); in training mode `extras["flows"]` holds those of all levels.

        Raises:
            UserError: in training mode, the clips have one frame.
        """
        frames: Tensor = batch["degraded"]
        clips, count, _, height, width = frames.shape
        if count == 1:
            if self.training:
                raise UserError("SPyNetWarp learns from pairs of frames; use data.frames=2.")
            nothing = frames.new_zeros(clips, 0, 2, height, width)
            return Restored(estimate=frames, extras={"flow": nothing})
        successors = frames[:, 1:].flatten(0, 1)
        flows: list[Tensor] = []
        with self._overheard(flows):
            flow = self.spynet(frames[:, :-1].flatten(0, 1), successors)  # (B (T - 1), 2, H, W)
        warped = warp(successors, flow, "border")
        warped, flow = (rearrange(x, "(b t) c h w -> b t c h w", b=clips) for x in (warped, flow))
        extras = {"flow": flow}
        if self.training:
            whole = torch.stack([_resized(coarse, height, width) for coarse in flows])
            extras["flows"] = rearrange(whole, "k (b t) c h w -> b k t c h w", b=clips)
        return Restored(estimate=torch.cat([warped, frames[:, -1:]], 1), extras=extras)

    @contextmanager
    def _overheard(self, flows: list[Tensor]) -> Iterator[None]:
        """Note in training the flow of each level, whose gradient ends in that level."""

        def note(level: nn.Module, inputs: tuple[Tensor], change: Tensor) -> None:
            flows.append(inputs[0][:, 6:].detach() + change)

        levels = set(self.spynet.basic_module) if self.training else set()
        hooks = [level.register_forward_hook(note) for level in levels]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _resized(flow: Tensor, height: int, width: int) -> Tensor:
    scale = flow.new_tensor([width / flow.shape[-1], height / flow.shape[-2]]).view(2, 1, 1)
    return functional.interpolate(flow, (height, width), mode="bilinear") * scale


@torch.no_grad()
def _see_motion(level: nn.Module) -> None:
    """Draw the weights of a level but for its last convolution, which stays at zero."""
    first, *inner, _ = (part for part in level.modules() if isinstance(part, nn.Conv2d))
    for convolution in (first, *inner):
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)
    x = torch.arange(-3.0, 4.0)
    filters = []
    for width in (0.8, 1.6):
        smooth = torch.exp(-x.square() / (2 * width**2))
        smooth = smooth / smooth.sum()
        slope = x * smooth / (x.square() * smooth).sum()
        change = torch.outer(smooth, smooth)
        for gradient in (torch.outer(smooth, slope), torch.outer(slope, smooth)):
            for s, d in product((1, -1), repeat=2):
                pair = [s * gradient / 2 - d * change, s * gradient / 2 + d * change]
                filters.append(torch.stack(pair))
    seen = torch.stack(filters)  # (16, 2, 7, 7): what to do with a grey ref and supp
    first.weight[: len(seen)] = 0
    first.weight[: len(seen), :6] = 4 / 3 * seen.repeat_interleave(3, dim=1)
