"""What pictures and small patches are asked for: MS-SSIM, consistency, diversity.

    MS-SSIM      mean over channels of  prod_k cs_k^w_k * (l_K cs_K)^w_K              at most 1
    consistency  mean (x - bicubic(y))^2 in [0, 1]           x kept by the medium, y restored
    diversity    mean |y_a - y_b| in [0, 1] over pairs of draws                            at most 1

with l and cs the means of SSIM's luminance and contrast at scale k, each scale half the last by
means of 2x2 pixels, cs below zero counted as zero (Wang, Simoncelli and Bovik, "Multiscale
structural similarity for image quality assessment", 2003). Its five scales of 11x11 windows want
pictures of 176 pixels, and ours have 32. Two variants here:

    msssim_scaled   five scales; a window is no larger than its scale, sigma shrinks along
    msssim2         two scales, of the first two weights, in windows of 11x11 at both
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

import torch
from torch import Tensor
from torch.nn import functional

from unlossy.metrics import pixel

FIVE = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # the paper's weights
TWO = (0.0448 / 0.3304, 0.2856 / 0.3304)
# The least side: at 16 the last of five scales is one pixel, in which nothing varies.
VARIANTS = {"msssim_scaled": (FIVE, 32), "msssim2": (TWO, 22)}
COLUMNS = ("consistency", *VARIANTS)


def compare(frames: Tensor, clean: Tensor, kept: Tensor | None) -> dict[str, list[float]]:
    """Return `COLUMNS` of each of the uint8 (T, C, H, W) frames; no numbers where one is blank.

    Args:
        frames: restored.
        clean: of the same shape.
        kept: what the medium kept of them, uint8 (T, C, h, w) and smaller; None leaves
            `consistency` out.
    """
    values = {} if kept is None else {"consistency": consistency(frames, kept)}
    for name, (weights, least) in VARIANTS.items():
        if min(frames.shape[-2:]) >= least and len(frames):
            values[name] = msssim(frames, clean, weights)
    return values


def msssim(frames: Tensor, clean: Tensor, weights: Sequence[float]) -> list[float]:
    """Return the MS-SSIM of each of the uint8 (T, C, H, W) frames over `len(weights)` scales.

    H and W are at least 2^(scales - 1).
    """
    x, y = frames.float(), clean.float()
    product = torch.ones(x.shape[:2], dtype=torch.float64, device=x.device)  # (T, C)
    for scale, weight in enumerate(weights, 1):
        if scale > 1:
            x, y = functional.avg_pool2d(x, 2), functional.avg_pool2d(y, 2)
        window = pixel.gaussian(min(11, *x.shape[-2:]))
        luminance, contrast = pixel.similarity(x, y, window)
        last = luminance * contrast if scale == len(weights) else contrast
        product *= last.mean((-2, -1), dtype=torch.float64).clamp(min=0) ** weight
    values: list[float] = product.mean(1).tolist()
    return values


def consistency(frames: Tensor, kept: Tensor) -> list[float]:
    """Return how far each of the uint8 (T, C, H, W) frames is from what the medium kept of it.

    The frames are made as small as uint8 (T, C, h, w) by the antialiased bicubic of
    `degradations/resample.py`, a = -0.5, and rounded to 8 bits as there: a clean frame has 0.
    """
    smaller = functional.interpolate(
        frames.float(), kept.shape[-2:], mode="bicubic", align_corners=False, antialias=True
    )
    error = (smaller.round().clamp(0, 255) - kept).div(255)
    values: list[float] = error.square().mean((1, 2, 3), dtype=torch.float64).tolist()
    return values


def diversity(draws: Sequence[Tensor]) -> float:
    """Return how far the draws of one clip, two or more, uint8 (T, C, H, W), are apart."""
    pairs = combinations([draw.float() for draw in draws], 2)
    return fmean(float((a - b).abs().mean()) / 255 for a, b in pairs)
