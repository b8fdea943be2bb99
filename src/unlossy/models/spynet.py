"""SPyNet by itself: each frame is predicted from its successor, as far as the flow is right.

    flow_t = SPyNet(x_t, x_{t+1})      y_t = warp(x_{t+1}, flow_t)      y_T = x_T

Nobody needs such a clip: the network is trained here on motion that is known, and BasicVSR takes it
from this model's checkpoint (`model.flow_ckpt`). The PSNR of y says how good the flow is, but for
the last frame of a clip, which stays as it is.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

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

    def check_lesson(self, batch: Sample) -> None:
        """Refuse clips of one frame."""
        if batch["degraded"].shape[1] == 1:
            raise UserError("SPyNetWarp learns from pairs of frames; use data.frames=2.")

    def forward(self, batch: Sample) -> Restored:
        """Predict (B, T, 3, H, W).

        Raises:
            UserError: in training mode, the clips have one frame.
        """
        frames: Tensor = batch["degraded"]
        clips, count, _, height, width = frames.shape
        if count == 1:
            if self.training:
                self.check_lesson(batch)
            nothing = frames.new_zeros(clips, 0, 2, height, width)
            return Restored(estimate=frames, extras={"flow": nothing})
        successors = frames[:, 1:].flatten(0, 1)
        flow = self.spynet(frames[:, :-1].flatten(0, 1), successors)  # (B (T - 1), 2, H, W)
        warped = warp(successors, flow, "border")
        warped, flow = (rearrange(x, "(b t) c h w -> b t c h w", b=clips) for x in (warped, flow))
        return Restored(estimate=torch.cat([warped, frames[:, -1:]], 1), extras={"flow": flow})
