"""Writing MP4, WebM and MKV: exact times, sound copied, a name only once the file is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import av
import torch
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.reformatter import ColorRange, Colorspace
from torch import Tensor
from torch.nn import functional

from unlossy.errors import UserError
from unlossy.video.decoding import matrix, origin_of
from unlossy.video.frame import Frame


class _Kind(NamedTuple):
    """A container, as FFmpeg names it, and what we put into it."""

    format: str
    codec: str
    options: dict[str, str]
    sounds: tuple[str, ...]  # that it can hold as they are


# Visually lossless. VP9's default speed takes ten times as long for 2 % of the size.
# No B-frames: MP4 tells its length in steps of decoding, wrong with them and uneven delays.
_H264 = ("libx264", {"crf": "16", "bf": "0"})
_VP9 = ("libvpx-vp9", {"crf": "16", "b": "0", "cpu-used": "4"})
_MPEG = ("aac", "mp3", "ac3", "eac3", "opus", "flac", "alac", "mp2")
_KINDS = {
    ".mp4": _Kind("mp4", *_H264, _MPEG),
    ".webm": _Kind("webm", *_VP9, ("opus", "vorbis")),
    ".mkv": _Kind("matroska", *_H264, (*_MPEG, "vorbis", "dts", "pcm_s16le", "pcm_s24le")),
}
SUFFIXES = tuple(_KINDS)
FINEST = 10**6  # ticks per second; beyond, the clocks of files overflow
LONGEST_SIDE = 16384  # x264's own limit


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
    """Writes frames to MP4 or MKV (H.264) or WebM (VP9); use it in a `with` block.

    The file appears under its name when the block ends well, and not at all otherwise. H.264 in
    4:2:0 knows even sizes only: the last row or column of an odd one is repeated.

    Args:
        path: ends in `.mp4`, `.mkv` or `.webm`.
        width: columns.
        height: rows.
        rate: frames per second, a hint for the encoder; times are those of the frames.
        time_base: seconds per tick of the clock that times are rounded to, 1/90000 where it has
            more than `FINEST` ticks a second; that of WebM and MKV is 1/1000 in any case.
        audio: a file whose first sound track is copied, packet by packet.
        alpha: keep transparency (WebM only).

    Raises:
        UserError: another suffix, alpha in H.264, a size that the encoder refuses, or the disk.
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
        suffix = self.path.suffix.lower()
        if suffix not in SUFFIXES:
            raise UserError(f"{path}: videos are written as {' '.join(SUFFIXES)}; choose one.")
        self._kind = _KINDS[suffix]
        if alpha and not holds_alpha(self.path):
            kind = suffix[1:].upper()
            raise UserError(f"{path}: {kind} cannot hold transparency; write .webm, .gif or .png.")
        even = self._kind.codec == "libx264"
        self._padding = (width % 2, height % 2) if even else (0, 0)
        self._size = (width + self._padding[0], height + self._padding[1])
        if even and max(self._size) > LONGEST_SIDE:
            raise UserError(
                f"{path}: H.264 holds at most {LONGEST_SIDE} pixels a side, not {width}x{height}; "
                "write .webm, .gif, or a folder of frames."
            )
        self._rate, self._audio = rate, audio
        self._clock = time_base if time_base.denominator <= FINEST else Fraction(1, 90_000)
        self._last = -1  # tick of the frame before
        self._finished = False
        self._format = "yuva420p" if alpha else "yuv420p"
        self._matrix = matrix(*self._size)
        self._durations: dict[int, int] = {}

    def __enter__(self) -> Self:
        """Open the file under a temporary name."""
        with self._telling(), ExitStack() as stack:
            temporary = stack.enter_context(replacing(self.path))
            self._container: Any = stack.enter_context(
                av.open(str(temporary), "w", format=self._kind.format)
            )
            self._stream = self._video_stream()
            self._converter = self._to_yuv()
            self._sound = self._sound_packets(stack)
            self._open = stack.pop_all()
        return self

    def _video_stream(self) -> Any:
        # A hint; a damaged file may declare what does not fit into the encoder's 32 bits.
        rate = self._rate.limit_denominator(FINEST) if self._rate < FINEST else FINEST
        stream = self._container.add_stream(self._kind.codec, rate=rate)
        stream.width, stream.height = self._size
        stream.pix_fmt = self._format
        stream.options = self._kind.options
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
        source: Any = stack.enter_context(av.open(str(self._audio), metadata_errors="replace"))
        track = source.streams.audio[0]
        copy = self._container.add_stream_from_template(track)
        shift = round(origin_of(source) / track.time_base)

        def packets() -> Iterator[Any]:
            try:
                for packet in source.demux(track):
                    if packet.dts is not None:  # the last one, which only flushes, has none
                        pts = packet.dts if packet.pts is None else packet.pts
                        packet.pts, packet.dts = pts - shift, packet.dts - shift
                        packet.stream = copy
                        yield packet
            except av.FFmpegError as error:
                raise UserError(
                    f"the sound of {self._audio} is damaged ({error.strerror}); copy or download "
                    "the file again."
                ) from error

        return packets()

    def add(self, frame: Frame) -> None:
        """Write the next frame, at the tick nearest to its time that no frame has yet."""
        start, stop = (round(t / self._clock) for t in (frame.time, frame.time + frame.duration))
        self._last = start = max(start, self._last + 1)
        picture = self._picture(frame, start)
        self._durations[start] = max(stop - start, 1)
        with self._telling():
            self._mux(picture)
            for packet in self._sound:
                self._container.mux(packet)
                if packet.pts * packet.time_base > frame.time:
                    break

    def _picture(self, frame: Frame, start: int) -> Any:
        planes = frame.rgb
        if self._format == "yuva420p":
            opaque = planes.new_full((1, *planes.shape[1:]), 255)
            planes = torch.cat((planes, opaque if frame.alpha is None else frame.alpha[None]))
        packed = _padded(planes, *self._padding).permute(1, 2, 0).contiguous().numpy()
        picture = av.VideoFrame.from_ndarray(packed, "rgb24" if len(planes) == 3 else "rgba")
        picture.pts, picture.time_base = start, self._clock
        self._converter.vpush(picture)
        return self._converter.vpull()

    def _to_yuv(self) -> Graph:
        """RGB to what the encoder takes."""
        graph = Graph()
        name = "rgb24" if self._format == "yuv420p" else "rgba"
        width, height = self._size
        shape: Any = VideoFormat(name, width, height)
        clock = self._clock
        source = graph.add_buffer(width=width, height=height, format=shape, time_base=clock)
        tag = "bt709" if self._matrix == Colorspace.ITU709 else "smpte170m"
        # Decoders of H.264 take the chroma samples to lie left, swscale puts them in the middle of
        # two pixels: colours came back half a pixel to the right. VP9 does not say; nor do we.
        sited = "out_chroma_loc=left:" if self._kind.codec == "libx264" else ""
        exact = "bicubic+full_chroma_inp+full_chroma_int+accurate_rnd+bitexact"
        scale = graph.add("scale", f"{sited}out_color_matrix={tag}:out_range=tv:flags={exact}")
        form = graph.add("format", f"pix_fmts={self._format}")
        graph.link_nodes(source, scale, form, graph.add("buffersink")).configure()
        return graph

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
            self.finish()

    def finish(self) -> None:
        """Write the rest, as the end of the block does, which then only gives the name."""
        if self._finished:
            return
        self._finished = True
        with self._telling():
            self._mux(None)
            for packet in self._sound:
                self._container.mux(packet)
            self._container.close()

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
    """Return whether the file that `path` names can hold sound of this codec as it is."""
    kind = _KINDS.get(path.suffix.lower())
    return kind is not None and codec in kind.sounds


def holds_alpha(path: Path) -> bool:
    """Return whether the file that `path` names can hold transparent pixels."""
    kind = _KINDS.get(path.suffix.lower())
    return kind is None or kind.codec == "libvpx-vp9"


def _padded(planes: Tensor, right: int, bottom: int) -> Tensor:
    """Repeat the last column and row of (C, H, W)."""
    if not (right or bottom):
        return planes
    return functional.pad(planes[None].float(), (0, right, 0, bottom), mode="replicate")[0].byte()
