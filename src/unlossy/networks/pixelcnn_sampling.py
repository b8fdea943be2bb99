"""Ancestral sampling of a PixelCNN's images: exact, every feature computed once.

Drawn by its definition, a sub-pixel costs a pass over the whole image. Here a pass is cut up:

    once a row      V of the row, from two cached rows of every layer, and all that H gets from it
    once a pixel    what H gets from the two columns to the left, in all layers at once
    a sub-pixel     in every layer only the maps of its own colour; then its logits, and the draw

The maps of one colour never change once they are known: at their own pixel they read colours up to
theirs. So nothing is computed twice, and nothing is stored too early (before it has seen green and
blue). A sub-pixel's layer is three calls, see `pixelcnn_folding`. At one image the number of calls
is what takes the time: all of them are bound to views of buffers that never move, once, and a pixel
runs down the list. On a GPU a row's and a pixel's work become a CUDA graph each.

The idea of caching is Ramachandran et al., "Fast Generation for Convolutional Autoregressive
Models", 2017, arXiv 1704.06001; they cache whole pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from unlossy.networks.pixelcnn import FIRST, KERNEL, GatedLayer, PixelCNN, gate
from unlossy.networks.pixelcnn_folding import fold


def sample(prior: PixelCNN, conditioning: Tensor, uniforms: Tensor, temperature: Tensor) -> Tensor:
    """Draw images from softmax((conditioning + logits of the prior) / temperature).

    A sub-pixel becomes the first level whose cumulated probability, in float64, is at least its
    uniform. An image depends on its own entry of every argument only, but for rounding.

    Args:
        prior: on the device of `conditioning`, in the precision to compute in.
        conditioning: (N, colors, levels, H, W) logits.
        uniforms: (N, colors, H, W) float64 in [0, 1).
        temperature: (N,) >= 0; 0 stands for the most likely level, whatever the uniforms.

    Returns:
        (N, colors, H, W) int64 levels.

    Raises:
        ValueError: shapes that do not belong together, or a temperature below 0.
    """
    batch, _, _, height, width = conditioning.shape
    if (
        conditioning.shape[1:3] != (prior.colors, prior.levels)
        or uniforms.shape != (batch, prior.colors, height, width)
        or temperature.shape != (batch,)
        or not bool((temperature >= 0).all())
    ):
        raise ValueError(
            f"sample got conditioning {tuple(conditioning.shape)}, uniforms "
            f"{tuple(uniforms.shape)} and temperature {temperature.tolist()}; wanted are (N, "
            f"{prior.colors}, {prior.levels}, H, W), (N, {prior.colors}, H, W) and N numbers >= 0."
        )
    device = conditioning.device
    levels = torch.empty(uniforms.shape, dtype=torch.int64, device=device)
    with torch.inference_mode(), torch.autocast(device.type, enabled=False):
        sampler = _Sampler(prior, width, temperature.to(device, torch.float64))
        row, pixel = _recorded(sampler.row, device), _recorded(sampler.pixel, device)
        sampler.forget()
        for i in range(height):
            sampler.enter(conditioning[..., i, :], uniforms[..., i, :])
            row()
            for _ in range(width):
                pixel()
            levels[:, :, i] = sampler.leave()
    return levels


def _recorded(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Return `work`; on a GPU a CUDA graph of it."""
    if device.type != "cuda":
        return work
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):  # libraries allocate on their first use, which a graph may not
        work()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


class _Sampler:
    """The state of N images of `width` columns, between two pixels; temperature (N,)."""

    def __init__(self, prior: PixelCNN, width: int, temperature: Tensor) -> None:
        self.prior = prior
        self.folded = fold(prior)
        self.temperature = torch.where(temperature > 0, temperature, 1)[:, None]
        self.greedy = (temperature == 0)[:, None]
        batch, colors, levels = len(temperature), prior.colors, prior.levels
        layers, rows, _ = self.folded.bias.shape
        new = self.folded.bias.new_zeros
        self.values = torch.arange(levels, device=temperature.device).to(new(0).dtype)
        self.values = self.values / (levels - 1) - 0.5  # the prior's scale, where outside is 0
        # Rows of the image and of every vertical stack, padded: the old ones and the current.
        self.above = new(batch, colors, FIRST // 2, width + FIRST - 1)
        self.stack = new(layers - 1, batch, prior.channels, KERNEL // 2 + 1, width + KERNEL - 1)
        self.vertical = new(layers, 2 * prior.channels, width, batch)
        # A row of pixels, and the one pixel that is next.
        size = (width, 1)
        self.known, self.known_here = (new(n, layers, rows, batch) for n in size)
        self.given, self.given_here = (new(n, colors, batch, levels) for n in size)
        self.uniforms, self.uniforms_here = (
            self.temperature.new_zeros(n, colors, batch, 1) for n in size
        )
        self.levels, self.levels_here = (
            torch.zeros(n, colors, batch, dtype=torch.int64, device=temperature.device)
            for n in size
        )
        self.column = torch.zeros_like(self.levels[:1, 0, 0])
        # What a pixel sees to its left, and its own maps.
        self.pixels = new(self.folded.first.shape[1], batch)
        self.past = new(layers, self.folded.left.shape[2], batch)
        self.state = new(layers, rows, batch)
        self.hidden = new(colors, self.folded.hidden.shape[1], batch)
        # At one image MKL takes eight times as long for the transpose of a product in `pixel`.
        self.left = self.folded.left.mT.contiguous()
        self.calls = [call for c in range(colors) for call in self._draw(c)]

    def forget(self) -> None:
        """Stand above the first row."""
        self.above.zero_()
        self.stack.zero_()

    def enter(self, conditioning: Tensor, uniforms: Tensor) -> None:
        """Take the (N, colors, levels, W) logits and (N, colors, W) uniforms of the next row."""
        self.given.copy_(conditioning.permute(3, 1, 0, 2)).add_(self.folded.logits_bias)
        self.uniforms.copy_(uniforms.permute(2, 1, 0)[..., None])

    def row(self) -> None:
        """Advance the vertical stacks; the row's first pixel is next."""
        start, side = self.prior.first_vertical, KERNEL // 2
        v = functional.conv2d(self.above, start.weight, start.bias)  # (N, C, 1, W)
        first = v[:, :, 0].permute(1, 2, 0).flatten(1)  # (C, W * N)
        layers = cast("list[GatedLayer]", list(self.prior.gated))
        for n, layer in enumerate(layers):
            rows = self.stack[n]
            rows[:, :, -1, side:-side] = v[:, :, 0]
            p = functional.conv2d(rows, layer.vertical.weight, layer.vertical.bias)
            rows[:, :, :-1] = rows[:, :, 1:].clone()
            self.vertical[n] = p[:, :, 0].permute(1, 2, 0)
            v = gate(p)
        known = torch.baddbmm(self.folded.bias, self.folded.link, self.vertical.flatten(2))
        known[0].addmm_(self.folded.first_link, first)
        self.known.copy_(known.view(*known.shape[:2], -1, len(v)).permute(2, 0, 1, 3))
        for buffer in (self.column, self.pixels, self.past):
            buffer.zero_()

    def pixel(self) -> None:
        """Draw the next pixel of the row."""
        for row, here in (
            (self.known, self.known_here),
            (self.given, self.given_here),
            (self.uniforms, self.uniforms_here),
        ):
            torch.index_select(row, 0, self.column, out=here)
        torch.add(self.known_here[0], torch.bmm(self.past.mT, self.left).mT, out=self.state)
        for call in self.calls:
            call()
        self.levels.index_copy_(0, self.column, self.levels_here)
        self.column.add_(1)
        colors = self.prior.colors
        self.pixels[:-colors] = self.pixels[colors:].clone()
        h = self.state.view(len(self.state), colors, 3, -1, self.state.shape[2])[:, :, 2]
        maps = self.state.shape[1] // 3
        self.past[:, :-maps] = self.past[:, maps:].clone()
        self.past[:, -maps:] = h.flatten(1, 2)

    def leave(self) -> Tensor:
        """Return the row's (N, colors, W) levels, which the next row sees above it."""
        levels, side = self.levels.permute(2, 1, 0), FIRST // 2
        self.above[:, :, :-1] = self.above[:, :, 1:].clone()
        self.above[:, :, -1, side:-side] = self.values[levels]
        return levels

    def _draw(self, c: int) -> Iterator[Callable[[], object]]:
        """Bind all the work of one colour, in order."""
        state, folded = self.state, self.folded
        size = state.shape[1] // self.prior.colors  # 3k
        k, own, before = size // 3, slice(c * size, (c + 1) * size), slice(c * size)
        yield partial(state[0, own].addmm_, folded.first[own], self.pixels)
        if c and len(folded.step):
            step = folded.step[:, own, before].mT.contiguous()
            product = step.new_empty(len(step), state.shape[2], size)
            yield partial(torch.bmm, state[:-1, before].mT, step, out=product)
            yield partial(state[1:, own].add_, product.mT)
        for n, step in enumerate(folded.step):
            maps = state[n, own]
            a, b = maps[:k], maps[k : 2 * k]
            yield partial(torch.tanh, maps[: 2 * k], out=maps[: 2 * k])
            yield partial(torch.addcmul, a, a, b, out=b)  # b becomes G
            yield partial(state[n + 1, own].addmm_, step[own, own][:, k:].contiguous(), maps[k:])
        wide, last = self.hidden[c], slice(own.stop)
        weights = folded.hidden[c, :, last].contiguous()
        yield partial(torch.addmm, folded.hidden_bias[c], weights, state[-1, last], out=wide)
        yield wide.relu_
        seen = self.hidden[: c + 1].flatten(0, 1)
        weights = folded.logits[c, : len(seen)].contiguous()
        logits = self.given_here[0, c]
        yield partial(logits.addmm_, seen.mT, weights)
        yield partial(self._choose, c, logits, self.pixels[c - self.prior.colors])

    def _choose(self, c: int, logits: Tensor, pixel: Tensor) -> None:
        """Draw the (N,) levels of a colour from (N, levels) and write their values to `pixel`."""
        cumulated = logits.div(self.temperature).softmax(1).cumsum(1)
        level = torch.searchsorted(cumulated, self.uniforms_here[0, c] * cumulated[:, -1:])
        level = torch.where(self.greedy, logits.argmax(1, keepdim=True), level)[:, 0]
        self.levels_here[0, c] = level
        torch.index_select(self.values, 0, level, out=pixel)
