"""Video codecs in memory: frames to the bytes of a bare stream and back, with QP and frame types.

    RGB ──► YUV ──encoder──► stream ──decoder──► YUV ──► RGB
     └────► YUV ───────────────────────────────► YUV ──► RGB     what 4:2:0 alone does

The stream has no container, or the least that makes it playable: Annex B for H.264 and HEVC, OBUs
for AV1, and IVF (32 bytes, and 12 per frame) for VP9, whose packets carry no length of their own.
Encoders run in one thread: the bytes are the same every time.

Untagged YUV has the matrix of `decoding.matrix`, as in files, so a player shows the same colours.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from itertools import chain
from typing import Any, NamedTuple

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from torch import Tensor

from unlossy.errors import UserError
from unlossy.video.decoding import EXACT, matrix

RATE = 25  # frames per second: no tensor tells, and bits per second must become bits per frame
SMALLEST = 16  # rows and columns; x265 refuses less
LAMBDA = 118  # FF_QP2LAMBDA: encoders tell a QP in these units


@dataclass(frozen=True)
class Coding:
    """How a clip is coded.

    Args:
        encoder: FFmpeg's name of it, for example `libx265`.
        container: FFmpeg's name of the stream's format: `hevc`, `h264`, `obu`, `ivf`.
        options: of the encoder, in its own words.
        pixels: `yuv420p`, or `yuv444p` where the encoder knows it.

    Raises:
        UserError: this PyAV has no such encoder.
    """

    encoder: str
    container: str
    options: Mapping[str, str]
    pixels: str = "yuv420p"

    def __post_init__(self) -> None:
        if self.encoder not in av.codec.codecs_available:
            raise UserError(
                f"this PyAV ({av.__version__}) was built without the encoder {self.encoder}; "
                "install its wheel (pip install --only-binary av av) or choose another degradation."
            )


class Coded(NamedTuple):
    """A coded clip."""

    stream: bytes
    qp: Tensor  # (T,) float32 in display order, nan where the encoder tells none; libvpx tells crf


class Decoded(NamedTuple):
    """A decoded clip, in display order."""

    frames: Tensor  # uint8 (T, 3, H, W)
    qp: Tensor  # (T,) float32, as the decoder tells it (H.264, VP9); nan where it does not
    frame_type: Tensor  # (T,) uint8: 1 = I, 2 = P, 3 = B


def encode(frames: Tensor, coding: Coding) -> Coded:
    """Code a clip.

    Args:
        frames: uint8 (T, 3, H, W). The last row and column are repeated up to even numbers, and to
            at least `SMALLEST`.
        coding: encoder and options.

    Raises:
        UserError: the encoder refuses the options or the size.
    """
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 tells its settings on stderr otherwise
    height, width = _padded(frames[:1]).shape[-2:]
    buffer = BytesIO()
    qp = torch.full((len(frames),), torch.nan)
    try:
        with av.open(buffer, "w", format=coding.container) as container:
            stream: Any = container.add_stream(
                coding.encoder, rate=RATE, options={**coding.options}
            )
            stream.width, stream.height, stream.pix_fmt = width, height, coding.pixels
            stream.codec_context.time_base = Fraction(1, RATE)
            stream.codec_context.thread_count = 1
            for picture in chain(_yuv(frames, coding.pixels), [None]):
                for packet in stream.encode(picture):
                    for told in packet.iter_sidedata():
                        if told.data_type == "quality_stats":
                            qp[packet.pts] = struct.unpack_from("i", bytes(told))[0] / LAMBDA
                    container.mux(packet)
    except av.FFmpegError as error:
        options = " ".join(f"{key}={value}" for key, value in coding.options.items())
        raise UserError(
            f"{coding.encoder} refuses {width}x{height} frames in {coding.pixels} with {options} "
            f"({error.strerror}); use other options or another frame size."
        ) from error
    return Coded(buffer.getvalue(), qp)


def decode(stream: bytes, container: str, shape: tuple[int, int, int]) -> Decoded:
    """Decode what `encode` made of frames of that shape, (T, H, W).

    Raises:
        UserError: the stream is damaged, or this PyAV lacks the decoder.
    """
    count, height, width = shape
    frames = torch.empty((count, 3, height, width), dtype=torch.uint8)
    qp: list[float] = []
    types: list[int] = []
    try:
        with av.open(BytesIO(stream), format=container) as opened:
            track: Any = opened.streams.video[0]
            if track.codec_context is None:
                raise UserError(
                    f"this PyAV ({av.__version__}) has no decoder for the {container} stream of "
                    f"{len(stream)} bytes; install its wheel (pip install --only-binary av av)."
                )
            track.codec_context.options = {"export_side_data": "venc_params"}
            track.codec_context.thread_count = 1
            reformatter = VideoReformatter()
            for picture in opened.decode(track):
                if len(qp) < count:
                    frames[len(qp)] = _rgb(picture, reformatter)[:, :height, :width]
                qp.append(_told_qp(picture))
                types.append(int(picture.pict_type))
    except av.FFmpegError as error:
        raise UserError(
            f"the {container} stream of {len(stream)} bytes cannot be decoded ({error.strerror}); "
            "code the clip again."
        ) from error
    if len(qp) != count:
        raise UserError(
            f"the {container} stream of {len(stream)} bytes holds {len(qp)} frames, not "
            f"{count}; code the clip again."
        )
    return Decoded(frames, torch.tensor(qp), torch.tensor(types, dtype=torch.uint8))


def through_yuv420p(frames: Tensor) -> Tensor:
    """Return a clip, uint8 (T, 3, H, W), as 4:2:0 video holds it without any coding."""
    height, width = frames.shape[-2:]
    reformatter = VideoReformatter()
    result = torch.empty_like(frames)
    for shown, picture in zip(result, _yuv(frames, "yuv420p"), strict=True):
        shown[:] = _rgb(picture, reformatter)[:, :height, :width]
    return result


def _padded(frames: Tensor) -> Tensor:
    """Repeat the last row and column of (T, 3, H, W)."""
    height, width = (max(SMALLEST, size + size % 2) for size in frames.shape[-2:])
    if (height, width) == frames.shape[-2:]:
        return frames
    rows = torch.arange(height).clamp(max=frames.shape[-2] - 1)
    columns = torch.arange(width).clamp(max=frames.shape[-1] - 1)
    return frames[:, :, rows][..., columns]


def _yuv(frames: Tensor, pixels: str) -> Iterator[Any]:
    """Yield the frames of a clip as an encoder takes them."""
    reformatter = VideoReformatter()
    for index, frame in enumerate(frames):
        packed = _padded(frame[None])[0].permute(1, 2, 0).contiguous().numpy()
        picture = reformatter.reformat(
            av.VideoFrame.from_ndarray(packed, "rgb24"),
            format=pixels,
            dst_colorspace=matrix(packed.shape[1], packed.shape[0]),
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INP | EXACT,
            threads=1,
        )
        picture.pts, picture.time_base = index, Fraction(1, RATE)
        yield picture


def _rgb(picture: Any, reformatter: VideoReformatter) -> Tensor:
    # Decoders of H.264 and HEVC mark chroma as sited left, where `_yuv` does not put it; swscale
    # would shift it. A copy has no mark.
    untagged = av.VideoFrame.from_ndarray(picture.to_ndarray(), picture.format.name)
    # Each frame's own reformatter starts threads, which a forked worker that collects it waits for.
    packed = reformatter.reformat(
        untagged,
        format="rgb24",
        src_colorspace=matrix(picture.width, picture.height),
        src_color_range=ColorRange.MPEG,
        interpolation=Interpolation.BICUBIC | EXACT,
        threads=1,
    ).to_ndarray()
    return torch.from_numpy(packed).permute(2, 0, 1)


def _told_qp(picture: Any) -> float:
    """QP from AVVideoEncParams: the frame's own, plus the mean of the blocks' differences to it."""
    for told in picture.side_data:
        if told.type.name == "VIDEO_ENC_PARAMS":
            data = bytes(told)
            blocks, start, size, _, qp = struct.unpack_from("@INNii", data)
            if not blocks:
                return float(qp)
            fields = np.frombuffer(data, np.int32, blocks * size // 4, start)  # x y w h delta_qp
            return float(qp + fields.reshape(blocks, -1)[:, 4].mean())
    return float("nan")
