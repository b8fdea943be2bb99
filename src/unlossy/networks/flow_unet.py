"""The U-Net of SuperSloMo in the form that GIF2Video gave it: six sizes, no normalisation.

    x ─► inconv 7x7 ──────────────────────────────────────────────► ⊕ ─► upconv5 ─► outconv ─► y
             └► downconv1 5x5 ────────────────────────────► ⊕ ─► upconv4 ┘
                    └► downconv2 ───────────────────► ⊕ ─► upconv3 ┘
                           └► downconv3 ──────► ⊕ ─► upconv2 ┘
                                  └► downconv4 ► ⊕ ► upconv1 ┘     ⊕ = concatenate [skip, upsampled]
                                         └► downconv5 ┘

    block(a, b) = [conv ─ LeakyReLU 0.1] twice, 3x3 unless said; average pooling, bilinear doubling
    widths c, 2c, 4c, 8c, 16c, 16c, and back 16c, 8c, 4c, 2c, c

Jiang et al., "Super SloMo", CVPR 2018, arXiv 1712.00080; Wang et al., "GIF2Video", CVPR 2019.
Modules and their indices are named as in GIF2Video's released state dicts. Departures: a fresh
network says zero (its last convolution is zero), and the others are drawn for LeakyReLU (He et al.,
ICCV 2015): with torch's own draw a signal loses a factor 0.6 in each of 23 layers without
normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlossy.networks.motion_filters import see_motion
from unlossy.networks.unet import beside
from unlossy.networks.weights import load_tolerantly

_SLOPE = 0.1


def _block(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2),
        nn.LeakyReLU(_SLOPE, inplace=True),
        nn.Conv2d(outputs, outputs, kernel, padding=kernel // 2),
        nn.LeakyReLU(_SLOPE, inplace=True),
    )


def _down(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.AvgPool2d(2), _block(inputs, outputs, kernel))


class _Up(nn.Module):
    """Double the size, pad to the skip's, concatenate, convolve."""

    def __init__(self, skip: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = _block(skip + inputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        refined: Tensor = self.conv(beside(skip, x))
        return refined


class FlowUNet(nn.Module):
    """Map (N, in_channels, H, W) to (N, out_channels, H, W), for any H, W >= 32.

    Args:
        in_channels: >= 1.
        out_channels: >= 1; no activation follows the last convolution.
        channels: width c of the finest level, >= 1; the paper's is 32 (19.8 M parameters).
    """

    def __init__(self, in_channels: int, out_channels: int, channels: int = 32) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.channels = in_channels, out_channels, channels
        c = channels
        self.inconv = _block(in_channels, c, 7)
        self.downconv1 = _down(c, 2 * c, 5)
        self.downconv2 = _down(2 * c, 4 * c)
        self.downconv3 = _down(4 * c, 8 * c)
        self.downconv4 = _down(8 * c, 16 * c)
        self.downconv5 = _down(16 * c, 16 * c)
        self.upconv1 = _Up(16 * c, 16 * c, 16 * c)
        self.upconv2 = _Up(8 * c, 16 * c, 8 * c)
        self.upconv3 = _Up(4 * c, 8 * c, 4 * c)
        self.upconv4 = _Up(2 * c, 4 * c, 2 * c)
        self.upconv5 = _Up(c, 2 * c, c)
        self.outconv = nn.Conv2d(c, out_channels, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, _SLOPE)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.outconv.weight)

    @classmethod
    def from_weights(cls, weights: Mapping[str, Tensor]) -> FlowUNet:
        """Build the network that a state dict in official names belongs to, and load it.

        Raises:
            ValueError: the names or shapes are not this network's.
        """
        if "inconv.0.weight" not in weights or "outconv.weight" not in weights:
            raise ValueError("these weights hold no 'inconv' and 'outconv': not a flow U-Net.")
        channels, inputs = weights["inconv.0.weight"].shape[:2]
        network = cls(inputs, weights["outconv.weight"].shape[0], channels)
        load_tolerantly(network, weights)
        return network

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out_channels, H, W) in float32, or better if `x` is."""
        if min(x.shape[-2:]) < 32:
            raise ValueError(
                f"the flow U-Net got {x.shape[-2]}x{x.shape[-1]} pixels; wanted: at least 32x32."
            )
        x = x.contiguous(memory_format=torch.channels_last)
        full = self.inconv(x)  # (N, c, H, W)
        half = self.downconv1(full)  # (N, 2c, H/2, W/2)
        quarter = self.downconv2(half)  # (N, 4c, H/4, W/4)
        eighth = self.downconv3(quarter)  # (N, 8c, H/8, W/8)
        sixteenth = self.downconv4(eighth)  # (N, 16c, H/16, W/16)
        deepest = self.downconv5(sixteenth)  # (N, 16c, H/32, W/32)
        up = self.upconv1(deepest, sixteenth)  # (N, 16c, H/16, W/16)
        up = self.upconv2(up, eighth)  # (N, 8c, H/8, W/8)
        up = self.upconv3(up, quarter)  # (N, 4c, H/4, W/4)
        up = self.upconv4(up, half)  # (N, 2c, H/2, W/2)
        up = self.upconv5(up, full)  # (N, c, H, W)
        # A flow of 20 pixels in bfloat16 would move in steps of an eighth.
        with torch.autocast(x.device.type, enabled=False):
            y: Tensor = self.outconv(up.to(self.outconv.weight.dtype))
        return y


class PairFlow(nn.Module):
    """Estimate the flow between two frames by such a U-Net, 6 -> 2 channels, through tanh.

    Its first filters start from ones that see motion (ours, `networks/motion_filters.py`), lest
    a short training end before its flows have left zero.

    Args:
        channels: its width, >= 1; the paper's is 32.
        max_flow: pixels that no flow exceeds; 30 as published.
    """

    def __init__(self, channels: int = 32, max_flow: float = 30.0) -> None:
        super().__init__()
        self.unet = FlowUNet(6, 2, channels)
        first = self.unet.inconv[0]
        assert isinstance(first, nn.Conv2d)
        see_motion(first, (0, 3), widths=(0.8, 1.6), gain=4.0)
        self.max_flow = max_flow

    def forward(self, ref: Tensor, supp: Tensor) -> Tensor:
        """Return the flow (N, 2, H, W) in pixels that samples `supp` onto the grid of `ref`.

        Args:
            ref: (N, 3, H, W) in [0, 1], H, W >= 32.
            supp: the same shape.
        """
        flow: Tensor = self.unet(torch.cat([ref, supp], 1) * 2 - 1)
        return self.max_flow * flow.tanh()
