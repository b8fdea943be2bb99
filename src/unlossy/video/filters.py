"""FFmpeg's filters on tensors: classical baselines and FFmpeg's own GIF encoder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import torch
from av.filter import Graph
from av.video.format import VideoFormat
from torch import Tensor
from torch.nn import functional

from unlossy.errors import UserError

# gblur of FFmpeg 8.0 corrupts the heap on a 1x1 frame: filters see frames of at least this size.
SMALLEST = 32

Pad = tuple[Any, int]  # a filter and the number of its input or output


def filter_frames(
    frames: Tensor, graph: str, rate: Fraction = Fraction(25), count: int | None = None
) -> Tensor:
    """Pass frames through an FFmpeg filter graph.

    Args:
        frames: uint8 (T, 3, H, W).
        graph: FFmpeg's syntax with one open input and one open output, for example `gblur=sigma=1`
            or `split[a][b];[a]palettegen=max_colors=32[p];[b][p]paletteuse`.
        rate: frames per second, for filters that look at time.
        count: how many frames must come out; None: as many as go in.

    Returns:
        uint8 (count, 3, H', W'): the filter may change the size.

    Raises:
        UserError: FFmpeg refuses the graph or the size, or another number of frames comes out.
    """
    count = len(frames) if count is None else count
    height, width = frames.shape[-2:]
    bottom, right = max(0, SMALLEST - height), max(0, SMALLEST - width)
    if bottom or right:
        padded = functional.pad(frames.float(), (0, right, 0, bottom), mode="replicate").byte()
        filtered_padded = filter_frames(padded, graph, rate, count)
        if filtered_padded.shape[1:] != padded.shape[1:]:
            raise UserError(
                f"the filter {graph!r} cannot resize {width}x{height} frames; enlarge them."
            )
        return filtered_padded[..., :height, :width].clone()
    filtered: list[Tensor] = []
    try:
        nodes = _build(graph, width, height, rate)
        for index, packed in enumerate(frames.permute(0, 2, 3, 1).contiguous().numpy()):
            frame = av.VideoFrame.from_ndarray(packed, format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            nodes.vpush(frame)
            filtered.extend(_pulled(nodes))
        nodes.vpush(None)
        filtered.extend(_pulled(nodes))
    except (av.FFmpegError, ValueError) as error:
        raise UserError(
            f"FFmpeg refuses the filter {graph!r} on {width}x{height} frames ({error}); "
            "check its name and options."
        ) from error
    if len(filtered) != count:
        raise UserError(
            f"the filter {graph!r} turns {len(frames)} frames into {len(filtered)}; "
            f"use one that makes {count} of them."
        )
    return torch.stack(filtered)


def _pulled(graph: Graph) -> Iterator[Tensor]:
    while True:
        try:
            frame = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        yield torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1).contiguous()


# [in labels] name = options [out labels], then , or ; as in avfilter_graph_parse.
_STEP = re.compile(
    r"\s*((?:\[\w+\]\s*)*)(\w+)(?:=((?:\\.|'[^']*'|[^\\'\[\],;])*))?\s*((?:\[\w+\]\s*)*)([,;]|$)"
)


def _build(description: str, width: int, height: int, rate: Fraction) -> Graph:
    """Parse FFmpeg's graph syntax: PyAV exposes filters and links, not `avfilter_graph_parse`."""
    graph = Graph()
    sources: dict[str, Pad] = {}
    sinks: dict[str, Pad] = {}
    open_inputs: list[Pad] = []
    open_outputs: list[Pad] = []
    flowing: list[Pad] = []
    at = 0
    while at < len(description):
        step = _STEP.match(description, at)
        if step is None:
            raise ValueError(f"cannot read {description[at:]!r}")
        heads, name, options, tails, end = step.groups(default="")
        at = step.end()
        node: Any = graph.add(name, re.sub(r"\\(.)|'([^']*)'", r"\1\2", options) or None)
        # Labels take the first pads, what flows along the chain the next ones, the rest stay open.
        inputs = [(node, pad) for pad in range(len(node.inputs))]
        for label in re.findall(r"\w+", heads):
            sinks[label] = inputs.pop(0)
        for (origin, pad), (_, target) in zip(flowing, inputs, strict=False):
            origin.link_to(node, pad, target)
        open_inputs += inputs[len(flowing) :]
        flowing = [(node, pad) for pad in range(len(node.outputs))]
        for label in re.findall(r"\w+", tails):
            sources[label] = flowing.pop(0)
        if end != ",":
            open_outputs += flowing
            flowing = []
    for label in sources.keys() & sinks.keys():
        (origin, pad), (node, target) = sources.pop(label), sinks.pop(label)
        origin.link_to(node, pad, target)
    open_inputs += sinks.values()
    open_outputs += sources.values()
    if len(open_inputs) != 1 or len(open_outputs) != 1:
        raise ValueError(f"{len(open_inputs)} open inputs and {len(open_outputs)} outputs, not 1")
    rgb24 = VideoFormat("rgb24", width, height)
    buffer: Any = graph.add_buffer(width=width, height=height, format=rgb24, time_base=1 / rate)
    buffer.link_to(open_inputs[0][0], 0, open_inputs[0][1])
    rgb = graph.add("format", "pix_fmts=rgb24")
    open_outputs[0][0].link_to(rgb, open_outputs[0][1], 0)
    rgb.link_to(graph.add("buffersink"))
    graph.configure()
    return graph
