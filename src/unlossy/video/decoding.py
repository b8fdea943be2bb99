"""Decoding with PyAV: frames counted one by one, upright, in RGB."""

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


def probe_video(path: Path) -> Probe:
    """Return what a video declares."""
    with opened(path) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        frames = stream.frames or round(Fraction(container.duration or 0, av.time_base) * rate)
        width, height = stream.width, stream.height
        for frame in islice(container.decode(stream), 1):
            if frame.rotation % 180:
                width, height = height, width
        sound = next(iter(container.streams.audio), None)
        audio = sound.codec_context.codec.canonical_name if sound else None
        return Probe(frames, bool(stream.frames), width, height, rate, stream.time_base, audio)


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a video; yields the container and its first video stream, set to decode on all cores."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path} has no video stream; give a file with pictures in it.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            ends = [entry.pos + entry.size for entry in stream.index_entries]
            declared = max(_matroska_size(path), *ends, 0)
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


def _matroska_size(path: Path) -> int:
    """Bytes that a WebM or MKV file declares, or 0: FFmpeg reads a cut one without a word."""
    with path.open("rb") as file:
        if file.read(4) != b"\x1a\x45\xdf\xa3":
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
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        origin = origin_of(container)
        waiting: Frame | None = None  # until the next time stamp tells how long it stays
        for index, frame in enumerate(container.decode(stream)):
            if frame.is_corrupt:
                raise UserError(f"{path} is damaged at frame {index}; copy or download it again.")
            time = index / rate if frame.pts is None else frame.pts * frame.time_base - origin
            if waiting is not None:
                yield waiting._replace(duration=time - waiting.time)
                waiting = None
            if index >= start and (index - start) % every == 0:
                waiting = Frame(_rgb(frame, reformatter, size), None, time, 1 / rate)
        if waiting is not None:
            last = _end(container, stream) - waiting.time
            yield waiting._replace(duration=last if last > 0 else waiting.duration)


def _end(container: Any, stream: Any) -> Fraction:
    """When the last frame goes, in seconds from the start of the file; 0 where nothing tells."""
    if stream.duration:
        start = (stream.start_time or 0) * stream.time_base
        return Fraction(start + stream.duration * stream.time_base - origin_of(container))
    alone = len(container.streams) == 1 and container.duration
    return Fraction(container.duration, av.time_base) if alone else Fraction(0)


def _rgb(frame: Any, reformatter: VideoReformatter, size: tuple[int, int] | None) -> Tensor:
    """Colours of a decoded frame, turned upright."""
    turns = round(frame.rotation / 90) % 4
    width, height = size or (None, None)
    if turns % 2:
        width, height = height, width
    rgb = reformatter.reformat(
        frame,
        width=width,
        height=height,
        format="rgb24",
        src_colorspace=matrix(frame.width, frame.height) if frame.colorspace == UNTAGGED else None,
        interpolation=(Interpolation.AREA if size else Interpolation.BICUBIC) | EXACT,
    ).to_ndarray()
    return torch.from_numpy(np.rot90(rgb, turns).transpose(2, 0, 1).copy())


def matrix(width: int, height: int) -> Colorspace:
    """The YUV matrix that players assume for an untagged picture of this size."""
    return Colorspace.ITU709 if height >= 720 or width >= 1280 else Colorspace.ITU601


def origin_of(container: Any) -> Fraction:
    """Time stamp, in seconds, at which the earliest stream starts."""
    starts = [s.start_time * s.time_base for s in container.streams if s.start_time is not None]
    return min(starts, default=Fraction(0))
