"""f_C, the quantiser of a palette: every pixel becomes the palette colour nearest to it.

    f_C(x) = C[k],   k = argmin_p |x - C[p]|^2 = argmin_p (|C[p]|^2 - 2 x . C[p])

It has no useful derivative and none is given: the result is detached (GIF2Video, section 3).
"""

from __future__ import annotations

import torch
from torch import Tensor

# Distances held at once: 4 MB of float32 stay in a CPU's caches and cost no memory to speak of.
BUDGET = 2**20


@torch.no_grad()
def quantize(x: Tensor, palette: Tensor, size: Tensor) -> Tensor:
    """Map each pixel to its nearest palette colour; of equally near ones, to the first.

    Args:
        x: images (N, 3, H, W), in the palette's scale (any: the nearest colour is the same).
        palette: (N, P, 3).
        size: (N,) integers, how many rows of each palette count; the rest is padding.

    Returns:
        (N, 3, H, W) in float32, whatever precision `x` and autocast have, without gradient.
    """
    with torch.autocast(x.device.type, enabled=False):
        pixels = x.detach().float().flatten(2)  # (N, 3, HW)
        colors = palette.detach().float()  # (N, P, 3)
        count = colors.shape[1]
        padding = torch.arange(count, device=x.device) >= size[:, None]  # (N, P)
        offset = colors.square().sum(2).masked_fill(padding, torch.inf)[..., None]  # (N, P, 1)
        nearest = torch.empty_like(pixels)
        chunk = max(1, BUDGET // (len(pixels) * count))
        for start in range(0, pixels.shape[2], chunk):
            part = pixels[..., start : start + chunk]
            index = torch.baddbmm(offset, colors, part, alpha=-2).argmin(1)  # (N, n)
            chosen = colors.gather(1, index[..., None].expand(-1, -1, 3))  # (N, n, 3)
            nearest[..., start : start + chunk] = chosen.transpose(1, 2)
    return nearest.view(x.shape)
