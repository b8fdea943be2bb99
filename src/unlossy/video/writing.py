"""Writing MP4 and WebM: exact times, sound copied, and a name only once the file is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import torch
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from torch import Tensor
from torch.nn import functional

from unlossy.errors import UserError
from unlossy.video.decoding import EXACT, matrix, origin_of
from unlossy.video.frame import Frame

SUFFIXES = (".mp4", ".webm")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` to write to; it takes the place of `path` if all goes well.

    Whatever happens before (an error, Ctrl-C), `path` keeps what it held and nothing else is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class VideoWriter:
    """Writes frames with exact times to MP4 (H.264) or WebM (VP9); use it in a `with` block.

    The file appears under its name when the block ends well, and not at all otherwise. H.264 in
    4:2:0 knows even sizes only: MP4 repeats the last row or column of an odd one.

    Args:
        path: ends in `.mp4` or `.webm`.
        width: columns.
        height: rows.
        rate: frames per second, a hint for the encoder; times are those of the frames.
        time_base: seconds per tick of the clock that times are rounded to; WebM's is 1/1000.
        audio: a file whose first sound track is copied, packet by packet.
        alpha: keep transparency (WebM only).

    Raises:
        UserError: another suffix, alpha in MP4, or the disk refuses.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        rate: Fraction,
        *,
        time_base: Fraction = Fraction(1, 90_000),
        audio: Path | None = None,
        alpha: bool = False,
    ) -> None:
        self.path = Path(path)
        self._mp4 = self.path.suffix.lower() == ".mp4"
        if self.path.suffix.lower() not in SUFFIXES:
            raise UserError(f"{path}: videos are written as .mp4 or .webm; choose one of these.")
        if alpha and self._mp4:
            raise UserError(f"{path}: MP4 cannot hold transparency; write .webm, .gif or .png.")
        self._padding = (width % 2, height % 2) if self._mp4 else (0, 0)
        self._size = (width + self._padding[0], height + self._padding[1])
        self._rate, self._clock, self._audio = rate, time_base, audio
        self._format = "yuva420p" if alpha else "yuv420p"
        self._matrix = matrix(*self._size)
        self._durations: dict[int, int] = {}

    def __enter__(self) -> Self:
        """Open the file under a temporary name."""
        with self._telling(), ExitStack() as stack:
            temporary = stack.enter_context(replacing(self.path))
            self._container: Any = stack.enter_context(
                av.open(str(temporary), "w", format="mp4" if self._mp4 else "webm")
            )
            self._stream = self._video_stream()
            self._sound = self._sound_packets(stack)
            self._open = stack.pop_all()
        return self

    def _video_stream(self) -> Any:
        codec = "libx264" if self._mp4 else "libvpx-vp9"
        stream = self._container.add_stream(codec, rate=self._rate)
        stream.width, stream.height = self._size
        stream.pix_fmt = self._format
        # Visually lossless. VP9's default speed takes ten times as long for 2 % of the size.
        stream.options = {"crf": "16"} | ({} if self._mp4 else {"b": "0", "cpu-used": "4"})
        context = stream.codec_context
        context.time_base = stream.time_base = self._clock
        tag = 1 if self._matrix == Colorspace.ITU709 else 6  # AVCOL_*_BT709, AVCOL_*_SMPTE170M
        context.colorspace = context.color_primaries = context.color_trc = tag
        context.color_range = ColorRange.MPEG
        return stream

    def _sound_packets(self, stack: ExitStack) -> Iterator[Any]:
        """Add the sound track to the file; return its packets, to be muxed as the video goes on."""
        if self._audio is None:
            return iter(())
        source: Any = stack.enter_context(av.open(str(self._audio)))
        track = source.streams.audio[0]
        copy = self._container.add_stream_from_template(track)
        shift = round(origin_of(source) / track.time_base)

        def packets() -> Iterator[Any]:
            for packet in source.demux(track):
                if packet.dts is not None:  # the last one, which only flushes, has none
                    packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                    packet.stream = copy
                    yield packet

        return packets()

    def add(self, frame: Frame) -> None:
        """Write the next frame; its time must be later than that of the one before."""
        start, stop = (round(t / self._clock) for t in (frame.time, frame.time + frame.duration))
        picture = self._picture(frame)
        picture.pts, picture.time_base = start, self._clock
        self._durations[start] = max(stop - start, 1)
        with self._telling():
            self._mux(picture)
            for packet in self._sound:
                self._container.mux(packet)
                if packet.pts * packet.time_base > frame.time:
                    break

    def _picture(self, frame: Frame) -> Any:
        planes = frame.rgb
        if self._format == "yuva420p":
            opaque = planes.new_full((1, *planes.shape[1:]), 255)
            planes = torch.cat((planes, opaque if frame.alpha is None else frame.alpha[None]))
        packed = _padded(planes, *self._padding).permute(1, 2, 0).contiguous().numpy()
        return av.VideoFrame.from_ndarray(packed, "rgb24" if len(planes) == 3 else "rgba").reformat(
            format=self._format,
            dst_colorspace=self._matrix,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INP | EXACT,
        )

    def _mux(self, picture: Any) -> None:
        for packet in self._stream.encode(picture):
            # Encoders guess durations from the rate: the last frame would stay too long or short.
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            self._container.mux(packet)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file and give it its name, or remove it."""
        if error is not None:
            self._open.__exit__(kind, error, trace)
            return
        with self._telling(), self._open:
            self._mux(None)
            for packet in self._sound:
                self._container.mux(packet)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            reason = error.strerror or error
            raise UserError(
                f"cannot write {self.path} ({reason}); choose a place that can be written to."
            ) from error


def copies_audio(codec: str, path: Path) -> bool:
    """Return whether the container that `path` names can hold sound of this codec as it is."""
    formats = {".mp4": ("aac", "mp3", "ac3", "eac3", "opus", "flac", "alac", "mp2")}
    return codec in formats.get(path.suffix.lower(), ("opus", "vorbis"))


def _padded(planes: Tensor, right: int, bottom: int) -> Tensor:
    """Repeat the last column and row of (C, H, W)."""
    if not (right or bottom):
        return planes
    return functional.pad(planes[None].float(), (0, right, 0, bottom), mode="replicate")[0].byte()
