"""Ancestral sampling of a PixelCNN's images: exact, each feature computed once.

Drawn by its definition, a sub-pixel costs a pass over the whole image. Here a pass is cut up:

    once a row      V of the row, from two cached rows of every layer, and all that H gets from it
    once a pixel    what H gets from the two columns to the left, in all layers at once
    a sub-pixel     in every layer only the maps of its own colour; then its logits, and the draw

The maps of one colour never change once they are known: at their own pixel they read colours up to
theirs. So nothing is computed twice, and nothing is stored too early (before it has seen green and
blue). Between two layers stands one small matrix: with gate g and residual path h of layer n,

    [ a ]             [ K ]
    [ b ]  of n + 1 = [ K ] (h + P g) + everything that is known before the layers are entered,
    [ h ]             [ 1 ]                  g = tanh(a) logistic(b) = tanh(a) (1 + tanh(b / 2)) / 2

so that a layer is three calls: the product, tanh over both halves at once, and the gate; the halves
of the second formula are folded into K and P. Weights are masked and folded in float64.

The idea of caching is Ramachandran et al., "Fast Generation for Convolutional Autoregressive
Models", 2017, arXiv 1704.06001; they cache whole pixels. On a GPU, where launching is what takes
time, a row's and a pixel's work are a CUDA graph each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from unlossy.networks.pixelcnn import FIRST, KERNEL, PixelCNN, gate


@torch.inference_mode()
def sample(prior: PixelCNN, conditioning: Tensor, uniforms: Tensor, temperature: Tensor) -> Tensor:
    """Draw images from softmax((conditioning + logits of the prior) / temperature).

    A sub-pixel becomes the first level whose cumulated probability, in float64, is at least its
    uniform. An image depends on its own row of every argument only, but for rounding.

    Args:
        prior: on the device of `conditioning`, in the precision to compute in.
        conditioning: (N, colors, levels, H, W) logits.
        uniforms: (N, colors, H, W) float64 in [0, 1).
        temperature: (N,) >= 0; 0 stands for the most likely level, and the uniforms for nothing.

    Returns:
        (N, colors, H, W) int64 levels.

    Raises:
        ValueError: shapes that do not belong together, or a temperature below 0.
    """
    shape = (prior.colors, prior.levels)
    batch, *image = len(conditioning), *conditioning.shape[3:]
    if (
        conditioning.shape[1:3] != shape
        or uniforms.shape != (batch, prior.colors, *image)
        or temperature.shape != (batch,)
        or bool((temperature < 0).any())
    ):
        raise ValueError(
            f"sample got conditioning {tuple(conditioning.shape)}, uniforms "
            f"{tuple(uniforms.shape)} and temperature {temperature.tolist()}; wanted are "
            f"(N, {shape[0]}, {shape[1]}, H, W), (N, {shape[0]}, H, W) and N numbers >= 0."
        )
    device, (height, width) = conditioning.device, image
    levels = torch.empty(uniforms.shape, dtype=torch.int64, device=device)
    with torch.autocast(device.type, enabled=False):
        sampler = _Sampler(prior, width, temperature.to(device, torch.float64))
        row, pixel = _recorded(sampler.row, device), _recorded(sampler.pixel, device)
        sampler.forget()
        for i in range(height):
            sampler.enter(conditioning[..., i, :], uniforms[..., i, :].to(device))
            row()
            for _ in range(width):
                pixel()
            levels[:, :, i] = sampler.leave()
    return levels


def _recorded(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Return `work`; on a GPU a CUDA graph of it."""
    if device.type != "cuda":
        return work
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):  # libraries allocate on their first use, which a graph may not
        work()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    replay: Callable[[], None] = graph.replay
    return replay


class _Weights(NamedTuple):
    """The prior's H stack, with R = 3 * colors * k rows [a, b, h] of k maps for each colour.

    Entry n of L + 1 leads to layer n, the last one to the head. Maps are sorted by colour; where a
    colour has one less, a map of zeros stands in for it.
    """

    bias: Tensor  # (L + 1, R, 1)
    link: Tensor  # (L + 1, R, 2C), of the vertical stack before its gate
    first_link: Tensor  # (R, C), of the first vertical map, to layer 0
    first: Tensor  # (R, taps * colors), of the row's last pixels, to layer 0
    left: Tensor  # (L + 1, R, taps * R / 3), of h in the columns to the left
    step: Tensor  # (L, R, R), of [nothing, g, h] of the layer before
    hidden: Tensor  # (colors, m, R), of the last [.., .., h]
    hidden_bias: Tensor  # (colors, m, 1)
    logits: Tensor  # (colors, colors * m, levels), of the hidden maps
    logits_bias: Tensor  # (colors, 1, levels)


def _fold(prior: PixelCNN) -> _Weights:
    colors, left = prior.colors, KERNEL // 2

    def sort(x: Tensor, dim: int = 0) -> Tensor:
        """Sort the maps of `dim` by colour, padded to the same number for each."""
        missing = x.new_zeros([*x.shape[:dim], -x.shape[dim] % colors, *x.shape[dim + 1 :]])
        x = torch.cat([x, missing], dim).unflatten(dim, (-1, colors))
        return x.transpose(dim, dim + 1).flatten(dim, dim + 1)

    maps = -(-prior.channels // colors) * colors
    rows = torch.eye(3 * maps, dtype=torch.float64, device=prior.head[0].weight.device)
    a, b, h = (part.flatten(1) for part in rows.unflatten(1, (colors, 3, -1)).unbind(2))

    def spread(x: Tensor) -> Tensor:
        """Bring what enters a gate, (2C, ...), into rows; of the second half as much as b / 2."""
        first, second = x.double().chunk(2)
        return a @ sort(first) + b @ sort(second) / 2

    into, biases, links, lefts = [], [], [], []
    for layer in prior.gated:
        taps = sort(layer.horizontal.folded()[:, :, 0], 1)  # (2C, maps, left + 1)
        into.append(h + spread(taps[..., left]))
        lefts.append(spread(taps[..., :left].transpose(1, 2).flatten(1)))
        links.append(spread(layer.link.weight[..., 0, 0]))
        biases.append(spread((layer.link.bias + layer.horizontal.bias)[:, None]))
    into.append(h)
    biases.append(rows.new_zeros(3 * maps, 1))
    links.append(rows.new_zeros(3 * maps, 2 * prior.channels))
    lefts.append(rows.new_zeros(3 * maps, left * maps))

    start = prior.first_horizontal
    biases[0] = biases[0] + into[0] @ sort((start.bias + prior.first_link.bias)[:, None].double())
    steps = []
    for n, layer in enumerate(prior.gated, 1):
        out = sort(sort(layer.out.folded()[..., 0, 0].double()), 1)
        steps.append(into[n] @ (out @ b.T / 2 + h.T))
        biases[n] = biases[n] + into[n] @ sort(layer.out.bias[:, None].double())
    wide, last = prior.head[0], prior.head[2]
    folded = _Weights(
        torch.stack(biases),
        torch.stack(links),
        into[0] @ sort(prior.first_link.weight[..., 0, 0].double()),
        into[0] @ sort(start.folded()[:, :, 0].transpose(1, 2).flatten(1).double()),
        torch.stack(lefts),
        torch.stack(steps) if steps else rows[None][:0],
        (sort(sort(wide.folded()[..., 0, 0].double()), 1) @ h.T).unflatten(0, (colors, -1)),
        sort(wide.bias[:, None]).unflatten(0, (colors, -1)),
        sort(last.folded()[..., 0, 0], 1).unflatten(0, (colors, -1)).transpose(1, 2),
        last.bias.unflatten(0, (colors, 1, -1)),
    )
    return _Weights(*(weight.to(wide.weight.dtype).contiguous() for weight in folded))


class _Layer(NamedTuple):
    """Views of the maps of one colour in one layer, and of what leads to the next one."""

    gate: Tensor  # [a, b]
    a: Tensor
    b: Tensor  # becomes g
    gh: Tensor  # [g, h]
    step: Tensor  # (3k, 2k)
    next: Tensor  # [a, b, h] of the next layer


class _Color(NamedTuple):
    """Views for the sub-step of one colour."""

    before: Tensor  # (L, R', N) the colours before it, in all layers but the last
    from_before: Tensor  # (L, 3k, R')
    known: Tensor  # (L, 3k, N) its own rows, in all layers but the first
    from_pixels: Tensor
    first: Tensor  # (3k, N) its own rows in the first layer
    layers: list[_Layer]
    wide: Tensor  # (m, N) its own hidden maps
    wide_bias: Tensor
    from_last: Tensor
    last: Tensor  # (R' + 3k, N) the last rows of the colours up to it
    hidden: Tensor  # (N, ...) the hidden maps of the colours up to it
    logits: Tensor
    given: Tensor  # (N, levels) the conditioning's logits
    uniform: Tensor  # (N, 1)
    pixel: Tensor  # (N,) its value
    level: Tensor  # (N,)


class _Sampler:
    """The state of sampling N images of `width` columns, all of it in buffers that never move."""

    def __init__(self, prior: PixelCNN, width: int, temperature: Tensor) -> None:
        self.prior = prior
        self.weights = _fold(prior)
        self.temperature = torch.where(temperature > 0, temperature, 1)[:, None]
        self.greedy = (temperature == 0)[:, None]
        batch, colors, levels = len(temperature), prior.colors, prior.levels
        edges, rows, _ = self.weights.bias.shape
        new = self.weights.bias.new_zeros
        self.values = torch.arange(levels, device=temperature.device).to(new(()))
        self.values = self.values / (levels - 1) - 0.5
        reach = FIRST // 2
        # What a row is made of
        self.above = new(batch, colors, reach, width + 2 * reach)
        reach = KERNEL // 2
        self.rows = new(prior.layers, batch, prior.channels, reach + 1, width + 2 * reach)
        self.vertical = new(edges, 2 * prior.channels, width, batch)
        # What a row gives its pixels, and gets from them
        self.row_known = new(width, edges, rows, batch)
        self.row_given = new(width, colors, batch, levels)
        self.row_uniforms = self.temperature.new_zeros(width, colors, batch, 1)
        self.row_levels = torch.zeros(
            width, colors, batch, dtype=torch.int64, device=temperature.device
        )
        # A pixel
        self.column = self.row_levels.new_zeros(1)
        self.known = new(1, edges, rows, batch)
        self.given = new(1, colors, batch, levels)
        self.uniforms = self.row_uniforms.new_zeros(1, colors, batch, 1)
        self.levels = self.row_levels.new_zeros(1, colors, batch)
        self.pixels = new(self.weights.first.shape[1], batch)
        self.past = new(edges, self.weights.left.shape[2], batch)
        self.state = new(edges, rows, batch)
        self.hidden = new(colors, self.weights.hidden.shape[1], batch)
        self.colors = [self._views(c) for c in range(colors)]

    def _views(self, c: int) -> _Color:
        state, weights, colors = self.state, self.weights, self.prior.colors
        size = state.shape[1] // colors
        k = size // 3
        own, before = slice(c * size, (c + 1) * size), slice(c * size)
        layers = []
        for n in range(self.prior.layers):
            block = state[n, own]
            layers.append(
                _Layer(
                    block[: 2 * k],
                    block[:k],
                    block[k : 2 * k],
                    block[k:],
                    weights.step[n, own, own][:, k:].contiguous(),
                    state[n + 1, own],
                )
            )
        return _Color(
            state[:-1, before],
            weights.step[:, own, before].contiguous(),
            state[1:, own],
            weights.first[own].contiguous(),
            state[0, own],
            layers,
            self.hidden[c],
            weights.hidden_bias[c],
            weights.hidden[c, :, : own.stop].contiguous(),
            state[-1, : own.stop],
            self.hidden[: c + 1].flatten(0, 1).T,
            weights.logits[c, : (c + 1) * self.hidden.shape[1]].contiguous(),
            self.given[0, c],
            self.uniforms[0, c],
            self.pixels[c - colors],
            self.levels[0, c],
        )

    def forget(self) -> None:
        """Stand above the first row."""
        self.above.zero_()
        self.rows.zero_()

    def enter(self, conditioning: Tensor, uniforms: Tensor) -> None:
        """Take the (N, colors, levels, W) logits and (N, colors, W) uniforms of the next row."""
        self.row_given.copy_(conditioning.permute(3, 1, 0, 2)).add_(self.weights.logits_bias)
        self.row_uniforms.copy_(uniforms.permute(2, 1, 0)[..., None])

    def row(self) -> None:
        """Advance the vertical stack; afterwards the row's first pixel is next."""
        start, reach = self.prior.first_vertical, KERNEL // 2
        v = functional.conv2d(self.above, start.weight, start.bias)  # (N, C, 1, W)
        first = v[:, :, 0].permute(1, 2, 0).flatten(1)  # (C, W * N)
        for layer, rows, vertical in zip(
            self.prior.gated, self.rows, self.vertical[:-1], strict=True
        ):
            rows[:, :, -1, reach:-reach] = v[:, :, 0]
            p = functional.conv2d(rows, layer.vertical.weight, layer.vertical.bias)
            rows[:, :, :-1] = rows[:, :, 1:].clone()
            vertical.copy_(p[:, :, 0].permute(1, 2, 0))
            v = gate(p)
        known = torch.baddbmm(self.weights.bias, self.weights.link, self.vertical.flatten(2))
        known[0].addmm_(self.weights.first_link, first)
        known = known.unflatten(2, (-1, len(self.above)))  # (L + 1, R, W, N)
        self.row_known.copy_(known.permute(2, 0, 1, 3))
        for buffer in (self.column, self.pixels, self.past):
            buffer.zero_()

    def pixel(self) -> None:
        """Draw the next pixel of the row."""
        torch.index_select(self.row_known, 0, self.column, out=self.known)
        torch.index_select(self.row_given, 0, self.column, out=self.given)
        torch.index_select(self.row_uniforms, 0, self.column, out=self.uniforms)
        torch.baddbmm(self.known[0], self.weights.left, self.past, out=self.state)
        for color in self.colors:
            self._draw(color)
        self.row_levels.index_copy_(0, self.column, self.levels)
        self.column += 1
        colors = self.prior.colors
        self.pixels[:-colors] = self.pixels[colors:].clone()
        newest = self.state.unflatten(1, (colors, 3, -1))[:, :, 2].flatten(1, 2)
        self.past[:, : -newest.shape[1]] = self.past[:, newest.shape[1] :].clone()
        self.past[:, -newest.shape[1] :] = newest

    def _draw(self, color: _Color) -> None:
        tanh, gated = torch.tanh, torch.addcmul
        color.first.addmm_(color.from_pixels, self.pixels)
        if color.before.numel():
            color.known.add_(torch.bmm(color.from_before, color.before))
        for ab, a, b, gh, step, following in color.layers:
            tanh(ab, out=ab)
            gated(a, a, b, out=b)
            following.addmm_(step, gh)
        torch.addmm(color.wide_bias, color.from_last, color.last, out=color.wide)
        color.wide.relu_()
        logits = torch.addmm(color.given, color.hidden, color.logits)
        cumulated = logits.div(self.temperature).softmax(1).cumsum(1)
        level = torch.searchsorted(cumulated, color.uniform * cumulated[:, -1:])
        level = torch.where(self.greedy, logits.argmax(1, keepdim=True), level)[:, 0]
        color.level.copy_(level)
        torch.index_select(self.values, 0, level, out=color.pixel)

    def leave(self) -> Tensor:
        """Return the row's (N, colors, W) levels; they are what the next row sees above it."""
        levels = self.row_levels.permute(2, 1, 0)
        reach = FIRST // 2
        self.above[:, :, :-1] = self.above[:, :, 1:].clone()
        self.above[:, :, -1, reach:-reach] = self.values[levels]
        return levels
