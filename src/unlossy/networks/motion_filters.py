"""First filters that see motion, with which a flow network learns within minutes on a CPU.

    a = a smoothed gradient of the mean of both frames, along x or y
    b = the smoothed change from `ref` to `supp`
    filters    a + b, a - b, -a + b, -a - b        of grey, four for each axis and width

What a ReLU leaves of the four sums to |a + b| - |a - b| = 2 sign(ab) min(|a|, |b|), nearly the
product ab that Lucas and Kanade average ("An Iterative Image Registration Technique", IJCAI 1981);
a leaky ReLU leaves a share of it. Random filters would have to find that product first, and until
they do zero flow is the best guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn


def motion_filters(kernel: int, widths: Sequence[float]) -> Tensor:
    """Return (8 * len(widths), 2, kernel, kernel): what to do with a grey `ref` and `supp`.

    Args:
        kernel: odd, >= 3.
        widths: of the Gaussians that smooth, in pixels.
    """
    x = torch.arange(kernel) - (kernel - 1) / 2
    filters = []
    for width in widths:
        smooth = torch.exp(-x.square() / (2 * width**2))
        smooth = smooth / smooth.sum()
        slope = x * smooth / (x.square() * smooth).sum()
        change = torch.outer(smooth, smooth)
        for gradient in (torch.outer(smooth, slope), torch.outer(slope, smooth)):
            for s, d in product((1, -1), repeat=2):
                pair = [s * gradient / 2 - d * change, s * gradient / 2 + d * change]
                filters.append(torch.stack(pair))
    return torch.stack(filters)


@torch.no_grad()
def see_motion(
    convolution: nn.Conv2d, colors: tuple[int, int], widths: Sequence[float], gain: float = 1.0
) -> None:
    """Let the first filters of a convolution see motion, as far as it has outputs for them.

    Args:
        convolution: square and odd, of both frames' channels.
        colors: the channels at which the three colours of `ref` and of `supp` begin.
        widths: see `motion_filters`.
        gain: of the sum over the colours.
    """
    filters = motion_filters(convolution.kernel_size[0], widths)[: convolution.out_channels]
    first = convolution.weight[: len(filters)]
    first.zero_()
    for frame, start in enumerate(colors):
        first[:, start : start + 3] = gain / 3 * filters[:, frame, None]
