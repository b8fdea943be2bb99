"""SPyNet by itself: each frame is predicted from its successor, as far as the flow is right.

    flow_t = SPyNet(x_t, x_{t+1})      y_t = warp(x_{t+1}, flow_t)      y_T = x_T

Nobody needs such a clip: the network is trained here on motion that is known, and BasicVSR takes it
from this model's checkpoint (`model.flow_ckpt`). The PSNR of y says how good the flow is, but for
the last frame of a clip, which stays as it is.

It learns within minutes on a CPU because half of the first filters of a level start as a + b, a - b
and their negatives, of a smoothed gradient a and the smoothed change b: the sum of what ReLUs leave
of these, |a + b| - |a - b| = 2 sign(ab) min(|a|, |b|), is nearly what Lucas and Kanade average.
From random filters a level by itself did not leave zero flow in 380 steps.
"""

from __future__ import annotations

from itertools import product

import torch
from einops import rearrange
from torch import Tensor, nn

from unlossy.errors import UserError
from unlossy.models.model import EnhancementModel
from unlossy.networks.flow import SPyNet, warp
from unlossy.sample import Restored, Sample


class SPyNetWarp(EnhancementModel):
    """Predict frames by warping; `extras["flow"]` is (B, T - 1, 2, H, W) in pixels."""

    provides = frozenset({"flow"})
    restores = False
    context = 1
    budget = 2**24  # its coarsest level sees all of a frame, so tiles would not fit together

    def __init__(self) -> None:
        super().__init__()
        self.spynet = SPyNet()
        for level in self.spynet.basic_module:
            _see_motion(level)

    def forward(self, batch: Sample) -> Restored:
        """Predict (B, T, 3, H, W).

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
        flow = self.spynet(frames[:, :-1].flatten(0, 1), successors)  # (B (T - 1), 2, H, W)
        warped = warp(successors, flow, "border")
        warped, flow = (rearrange(x, "(b t) c h w -> b t c h w", b=clips) for x in (warped, flow))
        return Restored(estimate=torch.cat([warped, frames[:, -1:]], 1), extras={"flow": flow})


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
