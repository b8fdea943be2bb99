"""VRCNN: four layers that clean a decoded frame; the two in the middle look at two sizes each.

    Y ── 64 of 5x5 ──┬─ 16 of 5x5 ─┬──┬─ 16 of 3x3 ─┬── 1 of 3x3 ──► what Y lacks
                     └─ 32 of 3x3 ─┘  └─ 32 of 1x1 ─┘                ReLU between layers

Dai, Liu, Wu: "A Convolutional Neural Network Approach for Post-Processing in HEVC Intra Coding",
MMM 2017, arXiv 1608.06690: HEVC transforms blocks of several sizes, hence filters of several sizes.
The numbers of filters are recalled, not read there; they make 54,512 weights and 161 biases.
Departures: `channels=rgb`; the first layer starts from filters that see detail, the last at zero,
so that training starts at the input.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from unlossy.errors import UserError
from unlossy.models.model import EnhancementModel
from unlossy.networks.detail import see_detail
from unlossy.networks.luma import luma
from unlossy.sample import Restored, Sample


class VRCNN(EnhancementModel):
    """Restores each frame by itself.

    Args:
        channels: `y` sees and corrects the luma of BT.601 alone, as published: chroma, which a
            codec stores more coarsely, stays as it is. `rgb` sees and corrects all three, which an
            RGB metric rewards.

    Raises:
        UserError: other channels.
    """

    reach = 6  # pixels: 2 + 2 + 1 + 1, half of every layer's widest filter

    def __init__(self, channels: Literal["y", "rgb"] = "rgb") -> None:
        super().__init__()
        if channels not in ("y", "rgb"):
            raise UserError(f"VRCNN got channels={channels!r}; use 'y' or 'rgb'.")
        self.luma = channels == "y"
        planes = len(channels)
        self.first = nn.Conv2d(planes, 64, 5, padding=2)
        self.second = nn.ModuleList(
            [nn.Conv2d(64, 16, 5, padding=2), nn.Conv2d(64, 32, 3, padding=1)]
        )
        self.third = nn.ModuleList([nn.Conv2d(48, 16, 3, padding=1), nn.Conv2d(48, 32, 1)])
        self.last = nn.Conv2d(48, planes, 3, padding=1)
        see_detail(self.first, planes)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, batch: Sample) -> Restored:
        """Return the frames plus what the network finds missing, not clamped."""
        frames = batch["degraded"]  # (B, T, 3, h, w) in [0, 1]
        seen = frames.flatten(0, 1)  # (B T, 3, h, w)
        if self.luma:
            seen = luma(seen)[:, None]  # (B T, 1, h, w)
        x = self.first(seen).relu()
        for layer in (self.second, self.third):
            x = torch.cat([convolve(x) for convolve in layer], 1).relu()  # (B T, 48, h, w)
        # With chroma kept, what Y gains R, G and B gain alike: no way back from YCbCr to round in.
        change = self.last(x).unflatten(0, frames.shape[:2])  # (B, T, 1 or 3, h, w)
        return Restored(estimate=frames + change, extras={})
