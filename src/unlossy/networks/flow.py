"""Optical flow by SPyNet, and the warp that goes with it.

    flow_k = up(flow_{k-1}) + net_k([ref_k, warp(supp_k, up(flow_{k-1})), up(flow_{k-1})])
    k = 0..5, coarse to fine: 1/32 of the size, 1/16, ..., 1; below k = 0 the flow is zero

A flow says for each pixel of `ref` where it lies in `supp`: warp(supp, flow)(p) = supp(p + flow(p))
looks like ref(p). In pixels, channel 0 to the right, channel 1 down.

Ranjan and Black, "Optical Flow Estimation using a Spatial Pyramid Network", CVPR 2017; named as in
BasicSR's state dicts, so that official weights load as they are. Departures: a fresh network starts
at zero flow (the last convolution of every level is zero), with half of its first filters as in
`motion_filters`; and frames of less than 64 pixels work. Flow and warp are computed in float32
whatever autocast says: bfloat16 has 8 bits for a coordinate.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlossy.networks.motion_filters import see_motion
from unlossy.networks.weights import load_tolerantly

_FIRST = "basic_module.0.basic_module.0.weight"
# Pixels that go through SPyNet at once where no gradient is wanted, 64 maps of them at its widest.
# NNPACK is fastest with one picture, a GPU with many.
_BUDGET_CPU, _BUDGET_GPU = 2**16, 2**22


class SPyNet(nn.Module):
    """Estimate the flow between frames of any size; 1,440,300 parameters."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.basic_module = nn.ModuleList(_Level() for _ in range(6))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    @classmethod
    def from_weights(cls, weights: Mapping[str, Tensor]) -> SPyNet:
        """Build from a state dict of SPyNet alone or of a network that holds one.

        `mean` and `std` may be missing, as in BasicSR's stand-alone files.

        Raises:
            ValueError: there is no SPyNet in it.
        """
        prefix = next((k.removesuffix(_FIRST) for k in weights if str(k).endswith(_FIRST)), None)
        if prefix is None:
            raise ValueError(f"these weights hold no '{_FIRST}': no SPyNet.")
        network = cls()
        own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        load_tolerantly(network, {"mean": network.mean, "std": network.std} | own)
        return network

    def forward(self, ref: Tensor, supp: Tensor) -> Tensor:
        """Return the flow (N, 2, h, w) that samples `supp` onto the grid of `ref`.

        Args:
            ref: (N, 3, h, w) in [0, 1].
            supp: the same shape.
        """
        with torch.autocast(ref.device.type, enabled=False):
            ref, supp = ref.float(), supp.float()
            if torch.is_grad_enabled():
                return self._flow(ref, supp)
            budget = _BUDGET_GPU if ref.is_cuda else _BUDGET_CPU
            part = max(1, budget // (ref.shape[-2] * ref.shape[-1]))
            parts = zip(torch.split(ref, part), torch.split(supp, part), strict=True)
            return torch.cat([self._flow(a, b) for a, b in parts])

    def _flow(self, ref: Tensor, supp: Tensor) -> Tensor:
        height, width = ref.shape[-2:]
        refs, supps = self._pyramid(ref), self._pyramid(supp)
        flow = refs[0].new_zeros(len(ref), 2, *refs[0].shape[-2:])
        for k, level in enumerate(self.basic_module):
            warped = supps[k]
            if k > 0:
                flow = 2 * functional.interpolate(
                    flow, scale_factor=2, mode="bilinear", align_corners=True
                )
                warped = warp(warped, flow, "border")
            flow = flow + level(torch.cat([refs[k], warped, flow], 1))
        rows, columns = flow.shape[-2:]
        if (rows, columns) == (height, width):
            return flow
        scale = flow.new_tensor([width / columns, height / rows]).view(1, 2, 1, 1)
        resized = functional.interpolate(flow, (height, width), mode="bilinear")
        return resized * scale

    def _pyramid(self, frames: Tensor) -> list[Tensor]:
        """Return six sizes, coarse to fine; the finest has the next multiples of 32."""
        height, width = (-(-size // 32) * 32 for size in frames.shape[-2:])
        if (height, width) != frames.shape[-2:]:
            frames = functional.interpolate(frames, (height, width), mode="bilinear")
        levels = [(frames - self.mean) / self.std]
        for _ in range(5):
            levels.append(functional.avg_pool2d(levels[-1], 2))
        return levels[::-1]


class _Level(nn.Module):
    """Correct the flow of one level: (N, 8, h, w) to (N, 2, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (8, 32, 64, 32, 16, 2)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            convolution = _Conv(inputs, outputs, 7, padding=3)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)
            if not layers:
                see_motion(convolution, (0, 3), widths=(0.8, 1.6), gain=4.0)
            layers += [convolution, nn.ReLU(inplace=True)]
        nn.init.zeros_(convolution.weight)
        self.basic_module = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.basic_module(x)
        return change


class _Conv(nn.Conv2d):
    """A 7x7 convolution, on a CPU by NNPACK's FFT: a quarter of the time, the same to 2e-6."""

    def forward(self, x: Tensor) -> Tensor:
        # torch takes NNPACK by itself only for batches of 16 and without oneDNN. Asking whether it
        # is there also sets it up, without which the call fails.
        direct = x.device.type != "cpu" or torch.is_grad_enabled()
        if direct or not torch._nnpack_available():
            return super().forward(x)
        return torch._nnpack_spatial_convolution(x, self.weight, self.bias, padding=3)


def warp(x: Tensor, flow: Tensor, padding: Literal["zeros", "border"] = "zeros") -> Tensor:
    """Return x(p + flow(p)), bilinear, as float32.

    Args:
        x: (N, C, h, w).
        flow: (N, 2, h, w) in pixels.
        padding: what lies beyond the edge: zeros, or the edge repeated.
    """
    height, width = x.shape[-2:]
    with torch.autocast(x.device.type, enabled=False):
        x, flow = x.float(), flow.float()
        rows = torch.arange(height, device=x.device, dtype=flow.dtype)[:, None]
        columns = torch.arange(width, device=x.device, dtype=flow.dtype)
        grid = torch.stack(
            (
                2 * (columns + flow[:, 0]) / max(width - 1, 1) - 1,
                2 * (rows + flow[:, 1]) / max(height - 1, 1) - 1,
            ),
            dim=3,
        )  # (N, h, w, 2)
        return functional.grid_sample(x, grid, padding_mode=padding, align_corners=True)
