"""Decoding with PyAV: frames counted one by one, upright, in RGB, and alpha where there is any.

Time stamps are taken as they come where each is later than the one before. A missing or repeated
one, or one that goes back, counts as a step of the mean rate: no frame is dropped or doubled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import torch
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from torch import Tensor

from unlossy.errors import UserError
from unlossy.video.frame import Frame, Probe

SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".y4m")

# Without these flags swscale's bytes depend on the SIMD paths of the processor.
EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT
UNTAGGED = 2  # AVCOL_SPC_UNSPECIFIED
MOST_PIXELS = 2**26  # of a frame, twice 8K: what a damaged header declares is not allocated
# FFmpeg's own decoders leave out the alpha of a WebM, which lies beside the picture.
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def probe_video(path: Path) -> Probe:
    """Return what a video declares."""
    with opened(path) as (container, stream):
        rate = _rate(stream)
        frames = stream.frames or round(Fraction(container.duration or 0, av.time_base) * rate)
        width, height, alpha = stream.width, stream.height, False
        for frame in islice(_pictures(container, stream), 1):
            width, height, alpha = frame.width, frame.height, _has_alpha(frame)
            if frame.rotation % 180:
                width, height = height, width
        return Probe(
            frames=max(frames, 1),
            exact=bool(stream.frames),
            width=width,
            height=height,
            rate=rate,
            time_base=stream.time_base,
            audio=_sound(container),
            alpha=alpha,
            # The clock of all time stamps; WebM and MKV tell the mean here as well.
            even=not stream.base_rate or abs(stream.base_rate / rate - 1) < Fraction(1, 10_000),
        )


def _rate(stream: Any) -> Fraction:
    """Mean frames per second; 25 where the file tells none."""
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def _sound(container: Any) -> str | None:
    """Codec of the first sound track."""
    if not container.streams.audio:
        return None
    context = container.streams.audio[0].codec_context
    return "unknown" if context is None else str(context.codec.canonical_name)


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a video; yields the container and its first video stream, set to decode on all cores."""
    try:
        limit = {"max_pixels": str(MOST_PIXELS)}
        # Tags in Latin-1 are no reason to refuse a file.
        with av.open(str(path), options=limit, metadata_errors="replace") as container:
            if not container.streams.video:
                raise UserError(f"{path} has no video stream; give a file with pictures in it.")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise UserError(f"{path} is coded in a way I cannot decode; convert it to H.264.")
            if not 0 < stream.width * stream.height <= MOST_PIXELS:
                raise UserError(
                    f"{path} declares {stream.width}x{stream.height} pixels, or more than "
                    f"{MOST_PIXELS}; scale it down, or copy it again if it should be smaller."
                )
            stream.codec_context.options = limit
            stream.thread_type = "AUTO"
            ends = [entry.pos + entry.size for entry in stream.index_entries]
            declared = max(_declared_size(path), *ends, 0)
            if declared > path.stat().st_size:
                raise UserError(
                    f"{path} is truncated: it declares {declared} bytes and has "
                    f"{path.stat().st_size}; copy or download it again."
                )
            yield container, stream
    except av.FFmpegError as error:
        raise UserError(
            f"{path} is not a whole video; copy or download it again ({error.strerror})."
        ) from error


def _declared_size(path: Path) -> int:
    """Bytes that a WebM, MKV or AVI declares, or 0: FFmpeg reads a cut one without a word."""
    with path.open("rb") as file:
        magic = file.read(4)
        if magic == b"RIFF":
            riff = int.from_bytes(file.read(4), "little")
            return 0 if riff == 2**32 - 1 else riff + 8  # all ones: still being written
        if magic != b"\x1a\x45\xdf\xa3":
            return 0
        file.seek(_vint(file) or 0, 1)
        if file.read(4) != b"\x18\x53\x80\x67":
            return 0
        size = _vint(file)
        return 0 if size is None else file.tell() + size


def _vint(file: BinaryIO) -> int | None:
    """An EBML size: leading zeros tell its length, all ones that it is unknown."""
    first = int.from_bytes(file.read(1))
    length = 9 - first.bit_length()
    value = int.from_bytes(bytes([first]) + file.read(length - 1))
    mask = (1 << 7 * length) - 1
    return None if value & mask == mask else value & mask


def decoded(path: Path, start: int, size: tuple[int, int] | None, every: int) -> Iterator[Frame]:
    """Yield every `every`-th frame from `start`, averaged down to `size` = (width, height)."""
    reformatter = VideoReformatter()
    with opened(path) as (container, stream):
        step = 1 / _rate(stream)
        origin = origin_of(container)
        last = -step
        waiting: Frame | None = None  # until the next time stamp tells how long it stays
        for index, frame in enumerate(_pictures(container, stream)):
            if frame.is_corrupt:
                raise UserError(f"{path} is damaged at frame {index}; copy or download it again.")
            time = last if frame.pts is None else frame.pts * frame.time_base - origin
            last = time if time >= 0 and time > last else last + step
            if waiting is not None:
                yield waiting._replace(duration=last - waiting.time)
                waiting = None
            if index >= start and (index - start) % every == 0:
                waiting = Frame(*_planes(frame, reformatter, size), last, step)
        if waiting is not None:
            left = _end(container, stream) - waiting.time
            yield waiting._replace(duration=left if left > 0 else waiting.duration)


def _pictures(container: Any, stream: Any) -> Iterator[Any]:
    """Decode all frames, with their alpha if there is any."""
    name = ALPHA_DECODERS.get(stream.codec_context.name)
    if stream.metadata.get("alpha_mode") != "1" or name not in av.codec.codecs_available:
        yield from container.decode(stream)
        return
    decoder = av.CodecContext.create(name, "r")
    for packet in container.demux(stream):
        yield from decoder.decode(packet)


def _has_alpha(frame: Any) -> bool:
    components = frame.format.components
    return len(components) in (2, 4) and bool(components[-1].is_alpha)


def _end(container: Any, stream: Any) -> Fraction:
    """When the last frame goes, in seconds from the start of the file; 0 where nothing tells."""
    if stream.duration:
        start = (stream.start_time or 0) * stream.time_base
        return Fraction(start + stream.duration * stream.time_base - origin_of(container))
    alone = len(container.streams) == 1 and container.duration
    return Fraction(container.duration, av.time_base) if alone else Fraction(0)


def _planes(
    frame: Any, reformatter: VideoReformatter, size: tuple[int, int] | None
) -> tuple[Tensor, Tensor | None]:
    """Colours and, unless all pixels are opaque, alpha of a decoded frame, turned upright."""
    turns = round(frame.rotation / 90) % 4
    width, height = size or (None, None)
    if turns % 2:
        width, height = height, width
    packed = reformatter.reformat(
        frame,
        width=width,
        height=height,
        format="rgba" if _has_alpha(frame) else "rgb24",
        src_colorspace=matrix(frame.width, frame.height) if frame.colorspace == UNTAGGED else None,
        interpolation=(Interpolation.AREA if size else Interpolation.BICUBIC) | EXACT,
    ).to_ndarray()
    planes = torch.from_numpy(np.rot90(packed, turns).transpose(2, 0, 1).copy())
    opaque = len(planes) == 3 or bool((planes[3] == 255).all())
    return planes[:3], None if opaque else planes[3].clone()


def matrix(width: int, height: int) -> Colorspace:
    """The YUV matrix that players assume for an untagged picture of this size."""
    return Colorspace.ITU709 if height >= 720 or width >= 1280 else Colorspace.ITU601


def origin_of(container: Any) -> Fraction:
    """Time stamp, in seconds, at which the earliest stream starts."""
    starts = [s.start_time * s.time_base for s in container.streams if s.start_time is not None]
    return min(starts, default=Fraction(0))
