"""Containers: every frame of a file, in order, counted, with its exact time; frames to a file.

    probe ── what a file declares              filter_frames ── an FFmpeg filter graph
    shown_frames ── rgb, alpha, time           VideoWriter ── MP4 and WebM, audio copied

The only module that imports PyAV; GIFs, images and folders of them come from `pictures.py`. Frames
are uint8 RGB tensors (3, H, W); times are Fractions of a second, because float rates drift.

Colours of untagged video: players take BT.709 for HD and BT.601 below, and so do we, both ways.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from torch import Tensor
from torch.nn import functional

from unlossy import pictures
from unlossy.errors import UserError
from unlossy.pictures import Frame, Probe

SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".y4m")

# Without these flags swscale's bytes depend on the SIMD paths of the processor.
_EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT
_UNTAGGED = 2  # AVCOL_SPC_UNSPECIFIED
_SMALLEST = 32  # gblur of FFmpeg 8.0 corrupts the heap on a 1x1 frame; filters see at least this

Pad = tuple[Any, int]  # a filter and the number of its input or output


def probe(path: str | Path) -> Probe:
    """Return what a video, GIF, image or folder of images declares; decodes one frame at most.

    Raises:
        UserError: the file is missing, empty, truncated, or not what its suffix says.
    """
    path = _existing(path)
    if _is_picture(path):
        return pictures.probe_picture(path)
    with _opened(path) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        frames = stream.frames or round(Fraction(container.duration or 0, av.time_base) * rate)
        width, height = stream.width, stream.height
        for frame in islice(container.decode(stream), 1):
            if frame.rotation % 180:
                width, height = height, width
        audio = bool(container.streams.audio)
        return Probe(frames, bool(stream.frames), width, height, rate, stream.time_base, audio)


def shown_frames(
    path: str | Path,
    start: int = 0,
    count: int | None = None,
    size: tuple[int, int] | None = None,
    every: int = 1,
) -> Iterator[Frame]:
    """Yield frames `start, start + every, ...` of a video, GIF, image or folder of images.

    Frames are counted by decoding, never by time stamps, so the cost grows with `start`: read a
    film in one pass.

    Args:
        path: what to read.
        start: index of the first frame.
        count: frames to yield, None for all.
        size: (width, height) to average the area down to.
        every: step in frames.

    Raises:
        UserError: unreadable, truncated, or without the frames asked for.
    """
    path = _existing(path)
    frames: Iterator[Frame]
    if _is_picture(path):
        frames = islice(pictures.picture_frames(path, size), start, None, every)
    else:
        frames = _decoded(path, start, size, every)
    found = 0
    for frame in islice(frames, count):
        found += 1
        yield frame
    if found < (1 if count is None else count):
        raise UserError(
            f"{path} is too short: {count or 1} frames from frame {start} wanted, {found} there."
        )


def iter_frames(
    path: str | Path,
    start: int = 0,
    count: int | None = None,
    size: tuple[int, int] | None = None,
    every: int = 1,
) -> Iterator[Tensor]:
    """Yield the pictures, uint8 (3, H, W), of `shown_frames`."""
    for frame in shown_frames(path, start, count, size, every):
        yield frame.rgb


def read_frames(
    path: str | Path,
    start: int = 0,
    count: int | None = None,
    size: tuple[int, int] | None = None,
    every: int = 1,
) -> Tensor:
    """Return the pictures of `shown_frames` as one uint8 tensor (T, 3, H, W)."""
    return torch.stack(list(iter_frames(path, start, count, size, every)))


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist; check the path.")
    if path.is_file():
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty (0 bytes); copy or download it again.")
        if path.suffix.lower() not in pictures.SUFFIXES + SUFFIXES:
            known = " ".join(pictures.SUFFIXES + SUFFIXES)
            raise UserError(f"{path} is of a kind I cannot read; convert it to one of {known}.")
    return path


def _is_picture(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() in pictures.SUFFIXES


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a video; yields the container and its first video stream, set to decode on all cores."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path} has no video stream; give a file with pictures in it.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            ends = [entry.pos + entry.size for entry in stream.index_entries]
            if max(ends, default=0) > path.stat().st_size:
                raise UserError(
                    f"{path} is truncated: its index reaches to byte {max(ends)}, the file to "
                    f"{path.stat().st_size}; copy or download it again."
                )
            yield container, stream
    except av.FFmpegError as error:
        raise UserError(
            f"{path} is not a whole video; copy or download it again ({error.strerror})."
        ) from error


def _decoded(path: Path, start: int, size: tuple[int, int] | None, every: int) -> Iterator[Frame]:
    reformatter = VideoReformatter()
    with _opened(path) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        origin = _origin(container)
        for index, frame in enumerate(container.decode(stream)):
            if frame.is_corrupt:
                raise UserError(f"{path} is damaged at frame {index}; copy or download it again.")
            if index < start or (index - start) % every:
                continue
            turns = round(frame.rotation / 90) % 4
            width, height = size or (None, None)
            if turns % 2:
                width, height = height, width
            rgb = reformatter.reformat(
                frame,
                width=width,
                height=height,
                format="rgb24",
                src_colorspace=_matrix(frame) if frame.colorspace == _UNTAGGED else None,
                interpolation=(Interpolation.AREA if size else Interpolation.BICUBIC) | _EXACT,
            ).to_ndarray()
            picture = torch.from_numpy(np.rot90(rgb, turns).transpose(2, 0, 1).copy())
            time = index / rate if frame.pts is None else frame.pts * frame.time_base - origin
            duration = frame.duration * frame.time_base if frame.duration else 1 / rate
            yield Frame(picture, None, time, duration)


def _matrix(frame: Any) -> Colorspace:
    """The YUV matrix that players assume for an untagged picture of this size."""
    hd = frame.height >= 720 or frame.width >= 1280
    return Colorspace.ITU709 if hd else Colorspace.ITU601


def _origin(container: Any) -> Fraction:
    """Time stamp, in seconds, at which the earliest stream starts."""
    starts = [s.start_time * s.time_base for s in container.streams if s.start_time is not None]
    return min(starts, default=Fraction(0))


def filter_frames(frames: Tensor, graph: str, rate: Fraction = Fraction(25)) -> Tensor:
    """Pass frames through an FFmpeg filter graph.

    Args:
        frames: uint8 (T, 3, H, W).
        graph: FFmpeg's syntax with one open input and one open output, for example `gblur=sigma=1`
            or `split[a][b];[a]palettegen=max_colors=32[p];[b][p]paletteuse`.
        rate: frames per second, for filters that look at time.

    Returns:
        uint8 (T, 3, H', W'): the filter may change the size, not the number of frames.

    Raises:
        UserError: FFmpeg refuses the graph or the size, or the number of frames changes.
    """
    count, _, height, width = frames.shape
    bottom, right = max(0, _SMALLEST - height), max(0, _SMALLEST - width)
    if bottom or right:
        padded = functional.pad(frames.float(), (0, right, 0, bottom), mode="replicate").byte()
        filtered_padded = filter_frames(padded, graph, rate)
        if filtered_padded.shape != padded.shape:
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
            f"the filter {graph!r} turns {count} frames into {len(filtered)}; "
            "use one that keeps their number."
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
