"""The U-Net of GIF2Video: five resolutions, average pooling, no opinion about what it is asked for.

    x ─► inconv ─────────────────────────────────────────► ⊕ ─► upconv4 ─► outconv ─► y
            └► downconv1 ────────────────────────► ⊕ ─► upconv3 ┘
                   └► downconv2 ───────────► ⊕ ─► upconv2 ┘
                          └► downconv3 ─► ⊕ ─► upconv1 ┘       ⊕ = concatenate [skip, upsampled]
                                 └► downconv4 ┘

    block(a, b) = [conv 3x3 ─ norm ─ ReLU] twice;  widths c, 2c, 4c, 8c, 8c, and back 4c, 2c, c, c

Wang et al., "GIF2Video", CVPR 2019, arXiv 1901.02840. Modules and their indices are named as in the
authors' released state dicts, so that official weights load as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlossy.networks.weights import load_tolerantly

Norm = Literal["batch", "none"]


def _block(inputs: int, outputs: int, norm: Norm) -> nn.Sequential:
    def normalize() -> nn.Module:
        return nn.BatchNorm2d(outputs) if norm == "batch" else nn.Identity()

    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        normalize(),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        normalize(),
        nn.ReLU(inplace=True),
    )


class _Up(nn.Module):
    """Double the size, pad to the skip's, concatenate, convolve."""

    def __init__(self, skip: int, inputs: int, outputs: int, norm: Norm) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, inputs, 2, stride=2)
        self.conv = _block(skip + inputs, outputs, norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        refined: Tensor = self.conv(beside(skip, self.up(x)))
        return refined


def beside(skip: Tensor, x: Tensor) -> Tensor:
    """Concatenate the channels of a skip and of x, which lost a row or column of odd sizes."""
    rows, columns = skip.shape[-2] - x.shape[-2], skip.shape[-1] - x.shape[-1]
    if rows or columns:
        top, left = rows // 2, columns // 2
        x = functional.pad(x, (left, columns - left, top, rows - top))
    return torch.cat([skip, x], dim=1)


class UNet(nn.Module):
    """Map (N, in_channels, H, W) to (N, out_channels, H, W), for any H, W >= 16.

    Args:
        in_channels: >= 1.
        out_channels: >= 1; no activation follows the last convolution.
        channels: width c of the finest level, >= 1; the paper's is 64 (14.8 M parameters).
        norm: `batch` as published; `none` keeps the same layers without normalisation.
    """

    def __init__(
        self, in_channels: int, out_channels: int = 3, channels: int = 64, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        if norm not in ("batch", "none"):
            raise ValueError(f"norm is {norm!r}; wanted: 'batch' or 'none'.")
        c = channels
        self.inconv = _block(in_channels, c, norm)
        self.downconv1 = nn.Sequential(nn.AvgPool2d(2), _block(c, 2 * c, norm))
        self.downconv2 = nn.Sequential(nn.AvgPool2d(2), _block(2 * c, 4 * c, norm))
        self.downconv3 = nn.Sequential(nn.AvgPool2d(2), _block(4 * c, 8 * c, norm))
        self.downconv4 = nn.Sequential(nn.AvgPool2d(2), _block(8 * c, 8 * c, norm))
        self.upconv1 = _Up(8 * c, 8 * c, 4 * c, norm)
        self.upconv2 = _Up(4 * c, 4 * c, 2 * c, norm)
        self.upconv3 = _Up(2 * c, 2 * c, c, norm)
        self.upconv4 = _Up(c, c, c, norm)
        self.outconv = nn.Conv2d(c, out_channels, 1)

    @classmethod
    def from_weights(cls, weights: Mapping[str, Tensor]) -> UNet:
        """Build the network that a state dict in official names belongs to, and load it.

        Raises:
            ValueError: the names or shapes are not this network's.
        """
        if "inconv.0.weight" not in weights or "outconv.weight" not in weights:
            raise ValueError("these weights hold no 'inconv' and 'outconv': not a CCDNet U-Net.")
        channels, inputs = weights["inconv.0.weight"].shape[:2]
        norm: Norm = "batch" if "inconv.1.weight" in weights else "none"
        network = cls(inputs, weights["outconv.weight"].shape[0], channels, norm)
        load_tolerantly(network, weights)
        return network

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out_channels, H, W)."""
        if min(x.shape[-2:]) < 16:
            raise ValueError(
                f"the U-Net got {x.shape[-2]}x{x.shape[-1]} pixels; wanted: at least 16x16."
            )
        # On a CPU a narrow network takes a quarter of the time (16 channels, 8 frames of 320x180).
        x = x.contiguous(memory_format=torch.channels_last)
        full = self.inconv(x)  # (N, c, H, W)
        half = self.downconv1(full)  # (N, 2c, H/2, W/2)
        quarter = self.downconv2(half)  # (N, 4c, H/4, W/4)
        eighth = self.downconv3(quarter)  # (N, 8c, H/8, W/8)
        deepest = self.downconv4(eighth)  # (N, 8c, H/16, W/16)
        up = self.upconv1(deepest, eighth)  # (N, 4c, H/8, W/8)
        up = self.upconv2(up, quarter)  # (N, 2c, H/4, W/4)
        up = self.upconv3(up, half)  # (N, c, H/2, W/2)
        up = self.upconv4(up, full)  # (N, c, H, W)
        y: Tensor = self.outconv(up)
        return y
