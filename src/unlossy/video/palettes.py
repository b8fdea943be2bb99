"""Palettes by FFmpeg: `palettegen` finds at most 256 colours, `paletteuse` maps frames to them.

    frames ──► palettegen ──► palette (P, 3)
    frame, palette ──► paletteuse, dithered or not ──► frame of these colours

`palettegen` cuts boxes of OkLab at the median, weighted by variance; `paletteuse` takes the nearest
colour there. Ordered (Bayer) dither depends on the place alone, so that under one palette still
parts of the picture stand still; error diffusion shimmers and costs bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Literal

import av
import torch
from av.filter import Graph
from av.video.format import VideoFormat
from torch import Tensor

Dither = Literal["none", "floyd_steinberg", "bayer"]
_TICK = Fraction(1, 100)


class PaletteUse:
    """Maps frames to one palette.

    Args:
        palette: uint8 (P, 3), 1 <= P <= 256.
        like: a frame, uint8 (3, H, W), of the size of all.
        dither: how the error is spread.
    """

    def __init__(self, palette: Tensor, like: Tensor, dither: Dither) -> None:
        graph = Graph()
        self._frames = _source(graph, like.shape[2], like.shape[1])
        table = _source(graph, 16, 16)
        use = graph.add("paletteuse", f"dither={dither}")
        self._frames.link_to(use, 0, 0)
        table.link_to(use, 0, 1)
        self._sink = _rgb_sink(graph, use)
        entries = torch.arange(256).clamp(max=len(palette) - 1)
        table.push(_picture(palette[entries].view(16, 16, 3), 0))
        table.push(None)
        self._graph = graph  # its filters do not keep it alive
        self._count = 0

    def __call__(self, rgb: Tensor) -> Tensor:
        """Return a frame, uint8 (3, H, W), in colours of the palette."""
        self._frames.push(_picture(rgb.permute(1, 2, 0), self._count))
        self._count += 1
        return torch.from_numpy(self._sink.pull().to_ndarray()).permute(2, 0, 1).contiguous()


def palette_of_all(frames: Iterable[Tensor], colors: int) -> Tensor:
    """Return a palette, uint8 (P <= colors, 3), for frames, uint8 (3, H, W), seen one by one."""
    graph = Graph()
    source: Any = None
    for count, rgb in enumerate(frames):
        if source is None:
            source = _source(graph, rgb.shape[2], rgb.shape[1])
            options = f"max_colors={colors}:reserve_transparent=0:stats_mode=full"
            find = graph.add("palettegen", options)
            source.link_to(find)
            sink = _rgb_sink(graph, find)
        source.push(_picture(rgb.permute(1, 2, 0), count))
    source.push(None)
    table: Tensor = torch.from_numpy(sink.pull().to_ndarray()).reshape(256, 3)
    distinct: Tensor = torch.unique(table[:colors], dim=0)
    return distinct


def _source(graph: Graph, width: int, height: int) -> Any:
    shape = VideoFormat("rgb24", width, height)
    return graph.add_buffer(width=width, height=height, format=shape, time_base=_TICK)


def _rgb_sink(graph: Graph, last: Any) -> Any:
    rgb, sink = graph.add("format", "pix_fmts=rgb24"), graph.add("buffersink")
    last.link_to(rgb)
    rgb.link_to(sink)
    graph.configure()
    return sink


def _picture(packed: Tensor, tick: int) -> av.VideoFrame:
    """A frame of FFmpeg from uint8 (H, W, 3)."""
    picture = av.VideoFrame.from_ndarray(packed.contiguous().numpy(), "rgb24")
    picture.pts, picture.time_base = tick, _TICK
    return picture
