"""f_C, the quantiser of a palette: every pixel becomes the palette colour nearest to it.

    f_C(x) = C[k],   k = argmin_p |x - C[p]|^2 = argmin_p (|C[p]|^2 - 2 x . C[p])

It has no useful derivative and none is given: the result is detached (GIF2Video, section 3).

Distances are kept as (images, palette, pixels): there the minimum over the palette runs along
vectors of pixels. torch's own argmin over that axis does not, and takes three times as long as
all of the below, which finds the index as a product of `distance == minimum` with 0, 1, 2, ...
"""

from __future__ import annotations

import torch
from torch import Tensor

# Distances held at once, 4 bytes each: on a CPU they should stay in its cache, on a GPU fill it.
BUDGET_CPU, BUDGET_GPU = 2**19, 2**23


@torch.no_grad()
def quantize(x: Tensor, palette: Tensor, size: Tensor) -> Tensor:
    """Map each pixel to its nearest palette colour; of equally near ones, to the first.

    Args:
        x: images (N, 3, H, W), in the palette's scale (any: the nearest colour is the same).
        palette: (N, P, 3); fastest up to P = 256, a GIF's own.
        size: (N,) integers, how many rows of each palette count; the rest is padding.

    Returns:
        (N, 3, H, W) in float32, whatever precision `x` and autocast have, without gradient.
    """
    pixels, palette = x.float().flatten(2).contiguous(), palette.float()  # (N, 3, HW)
    rows = torch.arange(palette.shape[1], device=x.device)
    padding = rows >= size[:, None]  # (N, P)
    norm = palette.square().sum(2).masked_fill(padding, torch.inf)  # (N, P)
    budget = BUDGET_GPU if x.is_cuda else BUDGET_CPU
    images = max(1, budget // (pixels.shape[2] * len(rows)))
    length = max(1, budget // (images * len(rows)))
    numbers = torch.stack([rows, torch.ones_like(rows)]).float()  # (2, P)
    nearest = torch.empty_like(pixels)
    with torch.autocast(x.device.type, enabled=False):
        for first in range(0, len(pixels), images):
            group = slice(first, first + images)
            red, green, blue = (-2 * palette[group, :, :, None]).unbind(2)  # (n, P, 1)
            table = palette[group].transpose(1, 2)  # (n, 3, P)
            for start in range(0, pixels.shape[2], length):
                part = pixels[group, :, start : start + length]
                index = _argmin(
                    torch.addcmul(norm[group, :, None], red, part[:, 0:1])
                    .addcmul_(green, part[:, 1:2])
                    .addcmul_(blue, part[:, 2:3]),
                    numbers,
                )  # (n, length)
                colors = table.gather(2, index[:, None].expand(-1, 3, -1))
                nearest[group, :, start : start + length] = colors
    return nearest.view(x.shape)


def _argmin(distance: Tensor, numbers: Tensor) -> Tensor:
    """Return the first minimum over dim 1 of (n, P, L) as (n, L); `distance` is overwritten."""
    if numbers.shape[1] > 256:  # matmul may be set to bfloat16, which holds no integers beyond
        return distance.argmin(1)
    hit = distance.eq_(distance.amin(1, keepdim=True))
    index, count = (numbers @ hit).unbind(1)
    index = index.long()
    image, pixel = (count > 1).nonzero(as_tuple=True)
    index[image, pixel] = hit[image, :, pixel].argmax(1)
    return index
