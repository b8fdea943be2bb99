"""Frames to a user's file: PNG, a folder of PNGs, GIF, MP4 or WebM, whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from unlossy.errors import UserError
from unlossy.gif_file import CLEAR, KEEP, write_gif
from unlossy.video import Frame, VideoWriter, copies_audio, filter_frames, replacing

_REDUCE = (
    "split[a][b];[a]palettegen=max_colors={}:reserve_transparent=0:stats_mode=single[p];"
    "[b][p]paletteuse=new=1:dither=none"
)
Bytes = npt.NDArray[np.uint8]
LONGEST = 65535  # 1/100 s, of a frame in a GIF
KINDS = ".png, .gif, .mp4, .webm, or a name without suffix for a folder of PNG frames"


@dataclass(frozen=True)
class Clip:
    """What an output needs to know beside the frames.

    Attributes:
        source: the input file, whose sound is copied.
        frames: how many there will be.
        width: columns.
        height: rows.
        rate: frames per second.
        time_base: seconds per tick of the input's clock.
        audio: codec of the input's sound.
        loop: repeats of an animation, 0 for ever.
        alpha: whether any frame has transparent pixels.
    """

    source: Path
    frames: int
    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    audio: str | None
    loop: int | None
    alpha: bool


def check_target(source: Path, target: Path, frames: int, alpha: bool) -> None:
    """Refuse, before any work, an output that could not be written.

    Raises:
        UserError: the same file, no such folder, no right to write, or a kind that cannot hold it.
    """
    suffix = target.suffix.lower()
    if suffix not in ("", ".png", ".gif", ".mp4", ".webm"):
        raise UserError(f"{target}: I cannot write {suffix}; choose {KINDS}.")
    if target.exists() and target.samefile(source):
        raise UserError(f"{target} is the input itself; choose another name for the output.")
    if not target.parent.is_dir():
        raise UserError(f"The folder {target.parent} does not exist; make it first.")
    if suffix and target.is_dir():
        raise UserError(f"{target} is a folder; name a file in it.")
    if not suffix and target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UserError(f"{target} exists and is no empty folder; name a new one for the frames.")
    if suffix == ".png" and frames > 1:
        raise UserError(
            f"{source} has {frames} frames and a PNG holds one; write .gif, .mp4, .webm, or a "
            "name without suffix for a folder of PNG frames."
        )
    if suffix == ".mp4" and alpha:
        raise UserError(
            f"{source} has transparent pixels, which MP4 cannot hold; write .webm, .gif or PNG."
        )
    try:
        if target.is_file() and not os.access(target, os.W_OK):
            raise PermissionError(13, "Permission denied")
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise UserError(
            f"cannot write {target} ({error.strerror}); choose a place that can be written to."
        ) from error


def notes(target: Path, clip: Clip) -> Iterator[str]:
    """Yield what is lost on the way into the chosen kind of file, a sentence each."""
    suffix = target.suffix.lower()
    if suffix == ".gif":
        yield "a GIF holds 256 colours a frame, so the restored ones are reduced again"
        if clip.source.suffix.lower() != ".gif" and clip.rate > 50:
            yield f"a GIF plays 50 frames a second at most; {float(clip.rate):.5g} are slowed down"
    if suffix == ".mp4" and (clip.width % 2 or clip.height % 2):
        yield "MP4 holds even sizes only, so the last row or column is repeated"
    if clip.audio is not None and not (suffix and copies_audio(clip.audio, target)):
        yield f"{suffix or 'a folder of frames'} cannot hold the {clip.audio} sound; it is left out"


def write(target: Path, frames: Iterator[Frame], clip: Clip) -> int:
    """Write all frames to a file or folder of the kind that `target` names; return their number.

    Raises:
        UserError: the disk refuses. Nothing is left of the output then, nor after Ctrl-C.
    """
    writers: dict[str, Callable[[Path, Iterator[Frame], Clip], int]] = {
        "": _write_folder,
        ".png": _write_png,
        ".gif": _write_gif,
    }
    try:
        return writers.get(target.suffix.lower(), _write_video)(target, frames, clip)
    except OSError as error:
        raise UserError(
            f"cannot write {target} ({error.strerror}); choose a place with room that can be "
            "written to."
        ) from error


def _write_video(target: Path, frames: Iterator[Frame], clip: Clip) -> int:
    written = 0
    audio = clip.source if clip.audio and copies_audio(clip.audio, target) else None
    with VideoWriter(
        target,
        clip.width,
        clip.height,
        clip.rate,
        time_base=clip.time_base,
        audio=audio,
        alpha=clip.alpha,
    ) as writer:
        for frame in frames:
            writer.add(frame)
            written += 1
    return written


def _write_png(target: Path, frames: Iterator[Frame], clip: Clip) -> int:
    with replacing(target) as temporary:
        _image(next(frames)).save(temporary, format="PNG")
    return 1 + sum(1 for _ in frames)


def _write_folder(target: Path, frames: Iterator[Frame], clip: Clip) -> int:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    digits = max(5, len(str(clip.frames)))
    try:
        temporary.mkdir()
        for written, frame in enumerate(frames, 1):
            _image(frame).save(temporary / f"frame_{written:0{digits}d}.png")
        temporary.replace(target)
        return written
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_gif(target: Path, frames: Iterator[Frame], clip: Clip) -> int:
    disposal = CLEAR if clip.alpha else KEEP
    shortest = 0 if clip.source.suffix.lower() == ".gif" else 2  # browsers slow shorter ones down
    written, clock = 0, Fraction(0)
    with replacing(target) as temporary, temporary.open("wb") as file:
        for written, frame in enumerate(frames, 1):
            stop = clock + frame.duration
            delay = min(max(shortest, round(stop * 100) - round(clock * 100)), LONGEST)
            index, palette, hole = indexed(frame)
            # Two palettes for one frame: a table of its own, none for the whole file.
            alone = write_gif(
                [index],
                [palette, palette],
                [delay],
                loop=clip.loop if written == 1 else None,
                transparent=[hole],
                disposal=disposal,
            )
            # Between the 13 bytes of a head without loop and the trailer lies just the frame, so
            # that the file grows on the disk and not in memory.
            file.write(alone[0 if written == 1 else 13 : -1])
            clock = stop
        file.write(b";")
    return written


def indexed(frame: Frame) -> tuple[Bytes, Bytes, int | None]:
    """Reduce a frame to 256 colours, 255 where pixels are transparent.

    Returns:
        Indices (H, W), palette (P, 3), and the index of see-through pixels or None. A frame that
        has no more colours than that keeps them exactly.
    """
    room = 256 if frame.alpha is None else 255
    packed, inverse = np.unique(_packed(frame.rgb), return_inverse=True)
    if len(packed) > room:
        # Up to 5 dB better than Pillow's median cut in the same time, on six real frames.
        reduced = filter_frames(frame.rgb[None], _REDUCE.format(room))[0]
        packed, inverse = np.unique(_packed(reduced), return_inverse=True)
    colors = np.stack((packed >> 16, packed >> 8 & 255, packed & 255), 1).astype(np.uint8)
    index = inverse.reshape(frame.rgb.shape[1:]).astype(np.uint8)
    if frame.alpha is None:
        return index, colors, None
    hole = len(colors)
    index[frame.alpha.numpy() < 128] = hole
    return index, np.concatenate((colors, np.zeros((1, 3), np.uint8))), hole


def _packed(rgb: Tensor) -> npt.NDArray[np.int32]:
    red, green, blue = rgb.numpy().astype(np.int32)
    packed: npt.NDArray[np.int32] = red << 16 | green << 8 | blue
    return packed


def _image(frame: Frame) -> Image.Image:
    """As RGB, or RGBA where pixels are transparent."""
    image = Image.fromarray(frame.rgb.permute(1, 2, 0).contiguous().numpy())
    if frame.alpha is not None:
        image.putalpha(Image.fromarray(frame.alpha.numpy()))
    return image
