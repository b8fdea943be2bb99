"""A trunk of residual blocks without normalisation, at one resolution.

    x ─ conv 3x3 ─ LeakyReLU 0.1 ─ [ + conv 3x3 ( ReLU ( conv 3x3 )) ] blocks times ─► y

Named as in BasicSR's `ConvResidualBlocks`, so that official state dicts load as they are. As there,
the blocks start near the identity: Kaiming-normal weights times 0.1, no bias.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Map (N, channels, H, W) to its sum with a small network of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
            with torch.no_grad():
                conv.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, channels, H, W)."""
        # In place: a convolution's gradient does not read its result.
        change: Tensor = self.conv2(self.conv1(x).relu_())
        return change.add_(x)


class Trunk(nn.Module):
    """Map (N, inputs, H, W) to (N, channels, H, W).

    Args:
        inputs: >= 1.
        channels: width, >= 1.
        blocks: >= 0.
    """

    def __init__(self, inputs: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(inputs, channels, 3, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks))),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, channels, H, W)."""
        y: Tensor = self.main(x)
        return y
