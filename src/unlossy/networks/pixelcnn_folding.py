"""The horizontal stack of a PixelCNN as a few matrices, for whoever visits its pixels one by one.

A layer's maps stand in rows: for each colour its k maps of a, then of b, then of h, where

    gate = tanh(a) logistic(2 b) = tanh(a) (1 + tanh(b)) / 2,    h = the residual path

so that one tanh serves both halves; the factors 2 go into the weights around them. What a layer
gets from the one before at the same pixel is one matrix, with G = tanh(a) (1 + tanh(b)):

    [ a ]              [ K_a     ]
    [ b ]  of n + 1 =  [ K_b / 2 ] (h + P G / 2) of n  +  what comes from elsewhere
    [ h ]              [ 1       ]

K is the centre tap of the horizontal convolution, P the 1x1 after the gate; like them the product
reads only maps of colours up to its own. Masks and products are folded in float64. Where a colour
has one map less than another, a map of zeros stands in; it stays zero.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from unlossy.networks.pixelcnn import KERNEL, GatedLayer, MaskedConv, PixelCNN


class Folded(NamedTuple):
    """Matrices into the R = 3 * colors * k rows of each of L layers and of h at the head, the last.

    Taps count from the left, and each has its maps in order of colours.
    """

    bias: Tensor  # (L + 1, R, 1)
    link: Tensor  # (L + 1, R, 2C) from the vertical maps before their gate; last zero
    first_link: Tensor  # (R, C) from the first vertical maps to layer 0
    first: Tensor  # (R, taps * colors) from the row's last pixels to layer 0
    left: Tensor  # (L + 1, R, taps * R / 3) from h of the columns to the left; last zero
    step: Tensor  # (L, R, R) from rows [.., G, h] of the layer before
    hidden: Tensor  # (colors, m, R) from the head's rows [.., .., h] to its m maps for each colour
    hidden_bias: Tensor  # (colors, m, 1)
    logits: Tensor  # (colors, colors * m, levels) from the head's maps
    logits_bias: Tensor  # (colors, 1, levels)


def fold(prior: PixelCNN) -> Folded:
    """Return the matrices in the prior's own precision and on its device."""
    colors, like = prior.colors, prior.first_link.weight
    k = -(-prior.channels // colors)
    rows = torch.eye(3 * colors * k, dtype=torch.float64, device=like.device)
    a, b, h = (part.flatten(1) for part in rows.view(-1, colors, 3, k).unbind(2))  # (R, R / 3)

    def spread(x: Tensor) -> Tensor:
        """Bring what enters a gate, (2C, n), into rows."""
        first, second = (_sorted(half, 0, colors) for half in x.chunk(2))
        return a @ first + b @ second / 2

    into, links, lefts, biases = [], [], [], []
    layers = cast("list[GatedLayer]", list(prior.gated))
    for layer in layers:
        taps = _sorted(layer.horizontal.folded().double()[:, :, 0], 1, colors)
        into.append(h + spread(taps[..., -1]))  # (R, R / 3)
        lefts.append(spread(taps[..., :-1].mT.flatten(1)))
        links.append(spread(_matrix(layer.link)))
        biases.append(spread(_bias(layer.link) + _bias(layer.horizontal)))
    into.append(h)
    lefts.append(rows.new_zeros(len(rows), KERNEL // 2 * colors * k))
    links.append(rows.new_zeros(len(rows), 2 * prior.channels))
    biases.append(rows.new_zeros(len(rows), 1))

    start = _bias(prior.first_link) + _bias(prior.first_horizontal)
    biases[0] = biases[0] + into[0] @ _sorted(start, 0, colors)
    steps = []
    for n, layer in enumerate(layers, 1):
        out = _sorted(_sorted(_matrix(layer.out), 0, colors), 1, colors)
        steps.append(into[n] @ (out @ b.mT / 2 + h.mT))
        biases[n] = biases[n] + into[n] @ _sorted(_bias(layer.out), 0, colors)

    pixels = prior.first_horizontal.folded().double()[:, :, 0].mT.flatten(1)
    wide, _, last = cast("tuple[MaskedConv, nn.Module, MaskedConv]", tuple(prior.head))
    hidden = _sorted(_sorted(_matrix(wide), 0, colors), 1, colors) @ h.mT
    folded = Folded(
        bias=torch.stack(biases),
        link=torch.stack(links),
        first_link=into[0] @ _sorted(_matrix(prior.first_link), 0, colors),
        first=into[0] @ _sorted(pixels, 0, colors),
        left=torch.stack(lefts),
        step=torch.stack(steps) if steps else rows[None][:0],
        hidden=hidden.view(colors, -1, len(rows)),
        hidden_bias=_sorted(_bias(wide), 0, colors).view(colors, -1, 1),
        logits=_sorted(_matrix(last), 1, colors).view(colors, prior.levels, -1).mT,
        logits_bias=_bias(last).view(colors, 1, -1),
    )
    return Folded(*(matrix.to(like).contiguous() for matrix in folded))


def _sorted(x: Tensor, dim: int, colors: int) -> Tensor:
    """Sort the maps along `dim` by colour, and pad to equally many of each with zeros."""
    x = x.movedim(dim, 0)
    x = torch.cat([x, x.new_zeros(-len(x) % colors, *x.shape[1:])])
    return x.view(-1, colors, *x.shape[1:]).transpose(0, 1).flatten(0, 1).movedim(0, dim)


def _matrix(conv: nn.Conv2d) -> Tensor:
    """Return the (outputs, inputs) of a 1x1 convolution in float64."""
    weight = conv.folded() if isinstance(conv, MaskedConv) else conv.weight
    return weight[:, :, 0, 0].double()


def _bias(conv: nn.Conv2d) -> Tensor:
    """Return (outputs, 1) in float64."""
    assert conv.bias is not None
    return conv.bias[:, None].double()
