"""Where a clip has texture and where it is smooth, from the variance of luma in space and time.

    g = luma of BT.601            v = population variance of g in blocks of 3 x 3 x 3 pixels
    mask = clamp(gain v / d, 0, 1)

The mask of ASTF (CVPR Workshops 2021), which names the blocks and the direction; d, the gain, the
borders and what happens at a scene cut are ours.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlossy.networks.luma import luma

Norm = Literal["affine", "clip_quantile", "frame_max"]

_FLAT = 1e-4  # variance (a hundredth of the range, squared) below which nothing is texture


class VarianceMask(nn.Module):
    """Tells texture from smooth regions: v / d times a gain, clipped to [0, 1].

    v is the population variance of luma over the 27 pixels around one, in space and time. Frame
    and clip borders are replicated, and so are the frames at a scene cut.

    Args:
        norm: what d is. `affine`: 1. `clip_quantile`: the 0.99 quantile of v in the clip.
            `frame_max`: the largest v of the frame. Recurrent networks see a long clip in windows:
            the second then jumps where two windows join, and the third from frame to frame.
        gain: None starts at 25 for `affine` (1 / gain is then a variance: the film at QP 37 has
            0.01-0.06 as the 0.99 quantile of its frames) and at 1 for the others.
        deviation: take the standard deviation for v, and the root of the `affine` gain above.
        cut_threshold: mean |difference| in luma, in [0, 1], above which two frames are two scenes.

    Raises:
        ValueError: an unknown norm, or numbers that are not positive.
    """

    gain: Tensor

    def __init__(
        self,
        norm: Norm = "affine",
        gain: float | None = None,
        deviation: bool = False,
        cut_threshold: float = 0.15,
    ) -> None:
        super().__init__()
        if norm not in get_args(Norm):
            raise ValueError(
                f"VarianceMask got norm={norm!r}; use one of {', '.join(get_args(Norm))}."
            )
        if (gain is not None and gain <= 0) or cut_threshold <= 0:
            raise ValueError(
                f"VarianceMask got gain={gain}, cut_threshold={cut_threshold}; use more than 0."
            )
        self.norm = norm
        self.deviation = deviation
        self.cut_threshold = cut_threshold
        if gain is None:
            gain = 1.0 if norm != "affine" else 5.0 if deviation else 25.0
        self.register_buffer("gain", torch.tensor(gain))

    def forward(self, clip: Tensor) -> Tensor:
        """Map RGB (B, T, 3, H, W) in [0, 1] to the mask (B, T, 1, H, W), in float32."""
        return (self.texture(clip) * self.gain).clamp(0, 1)

    def texture(self, clip: Tensor) -> Tensor:
        """Return v / d, (B, T, 1, H, W)."""
        variance = local_variance(luma(clip.float()), self.cut_threshold)
        divisor = torch.ones_like(variance[:, :1, :1, :1])
        if self.norm == "frame_max":
            divisor = variance.amax((2, 3), keepdim=True).clamp(min=_FLAT)
        elif self.norm == "clip_quantile":
            # torch.quantile takes 2^24 values at most.
            rank = round(0.99 * (variance[0].numel() - 1)) + 1
            found = variance.flatten(1).kthvalue(rank).values
            divisor = found[:, None, None, None].clamp(min=_FLAT)
        ratio = variance / divisor
        return (ratio.sqrt() if self.deviation else ratio).unsqueeze(2)


def local_variance(grey: Tensor, cut_threshold: float) -> Tensor:
    """Return the population variance in 3x3x3 blocks of (B, T, H, W), of the same shape."""
    height, width = grey.shape[-2:]
    cut = grey.diff(dim=1).abs().mean((2, 3), keepdim=True) > cut_threshold  # (B, T - 1, 1, 1)
    before = torch.where(cut, grey[:, 1:], grey[:, :-1])
    after = torch.where(cut, grey[:, :-1], grey[:, 1:])
    before, after = torch.cat([grey[:, :1], before], 1), torch.cat([after, grey[:, -1:]], 1)
    total, squares = torch.zeros_like(grey), torch.zeros_like(grey)
    for frames in (before, grey, after):
        around = functional.pad(frames, (1, 1, 1, 1), mode="replicate")
        for y in range(3):
            for x in range(3):
                # From the pixel itself, not from zero: E[g^2] - E[g]^2 would cancel the digits.
                step = around[..., y : y + height, x : x + width] - grey
                total += step
                squares.addcmul_(step, step)
    return (squares / 27 - (total / 27).square()).clamp(min=0)
