"""Frames to a user's file: PNG, a folder of PNGs, GIF, or a video, whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from PIL import Image

from unlossy.errors import UserError
from unlossy.gif_file import CLEAR, KEEP, gif_parts
from unlossy.inference.gif_colors import Delayed, GifStyle, reduced
from unlossy.inference.overlap import Check
from unlossy.video import Frame, VideoWriter, copies_audio, holds_alpha, members, replacing
from unlossy.video.writing import SUFFIXES as VIDEOS

__all__ = ["VIDEOS", "Clip", "GifStyle", "check_target", "notes", "write"]

PLAIN = GifStyle()
GIF_FPS = 50  # frames per second: browsers take delays under 20 ms for 100 ms
LONGEST = 65535  # 1/100 s, of a frame in a GIF
KINDS = f".png, .gif, {', '.join(VIDEOS)}, or a name without suffix for a folder of PNG frames"


@dataclass(frozen=True)
class Clip:
    """What an output needs to know beside the frames.

    Attributes:
        source: the input: a file, whose sound is copied, or a folder or pattern of images.
        frames: how many there will be.
        width: columns.
        height: rows.
        rate: frames per second.
        time_base: seconds per tick of the input's clock.
        audio: codec of the input's sound.
        loop: repeats of an animation, 0 for ever.
        alpha: whether any frame has transparent pixels.
        stored: whether durations are those that a GIF stores, and are to be stored again. Others
            are never less than 20 ms in a GIF, because browsers would take that for 100 ms.
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
    stored: bool = False


def check_target(source: Path, target: Path, frames: int, alpha: bool) -> None:
    """Refuse, before any work, an output that could not be written.

    Raises:
        UserError: the same file, no such folder, no right to write, or a kind that cannot hold it.
    """
    suffix = target.suffix.lower()
    if suffix not in ("", ".png", ".gif", *VIDEOS):
        raise UserError(f"{target}: I cannot write {suffix}; choose {KINDS}.")
    # Hard and symbolic links included.
    if target.exists() and any(target.samefile(read) for read in _read_from(source)):
        raise UserError(f"{target} is the input itself; choose another name for the output.")
    if not target.parent.is_dir():
        raise UserError(f"The folder {target.parent} does not exist; make it first.")
    if suffix and target.is_dir():
        raise UserError(f"{target} is a folder; name a file in it.")
    if not suffix and target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UserError(f"{target} exists and is no empty folder; name a new one for the frames.")
    if suffix == ".png" and frames > 1:
        raise _too_many(source, str(frames))
    if alpha and not holds_alpha(target):
        raise UserError(
            f"{source} has transparent pixels, which {suffix[1:].upper()} cannot hold; write "
            ".webm, .gif or PNG."
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


def notes(target: Path, clip: Clip, style: GifStyle = PLAIN) -> Iterator[str]:
    """Yield what is lost on the way into the chosen kind of file, a sentence each."""
    suffix = target.suffix.lower()
    if suffix == ".gif":
        scope = "a frame" if style.palette == "frame" else "for all frames"
        yield f"this GIF holds at most {style.colors} colours {scope}; restored ones are reduced"
        if clip.rate > GIF_FPS:
            rate = f"{float(clip.rate):.5g}"
            yield f"a GIF plays {GIF_FPS} frames a second at most; {rate} are slowed down"
    if suffix in (".mp4", ".mkv") and (clip.width % 2 or clip.height % 2):
        yield f"{suffix[1:].upper()} holds even sizes only, so the last row or column is repeated"
    if clip.audio is not None and not (suffix and copies_audio(clip.audio, target)):
        yield f"{suffix or 'a folder of frames'} cannot hold the {clip.audio} sound; it is left out"


def _too_many(source: Path, frames: str) -> UserError:
    return UserError(
        f"{source} has {frames} frames and a PNG holds one; write .gif, {', '.join(VIDEOS)}, "
        "or a name without suffix for a folder of PNG frames."
    )


def _read_from(source: Path) -> list[Path]:
    """The files, and the folder, that make up an input."""
    if source.is_file():
        return [source]
    return [*members(source), *([source] if source.is_dir() else [])]


def _never() -> None:
    """The check of who is never interrupted."""


def write(
    target: Path,
    frames: Iterator[Frame],
    clip: Clip,
    style: GifStyle = PLAIN,
    check: Check = _never,
) -> int:
    """Write all frames to a file or folder of the kind that `target` names; return their number.

    Args:
        target: what to write.
        frames: at least one, all of one size.
        clip: what to know beside them.
        style: of the colours, for a GIF.
        check: called now and then, and last before the output gets its name; may raise.

    Raises:
        UserError: the disk refuses, or a second frame comes for a PNG. Nothing is left of the
            output then, nor where `frames` or `check` raises.
    """
    suffix = target.suffix.lower()
    try:
        if suffix == ".gif":
            return _write_gif(target, frames, clip, style, check)
        if suffix == ".png":
            return _write_png(target, frames, clip, check)
        write_all = _write_video if suffix else _write_folder
        return write_all(target, frames, clip, check)
    except OSError as error:
        raise UserError(
            f"cannot write {target} ({error.strerror or error}); choose a place with room that can "
            "be written to."
        ) from error


def _write_video(target: Path, frames: Iterator[Frame], clip: Clip, check: Check) -> int:
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
        writer.finish()  # the encoder may take seconds for what it still holds
        check()
    return written


def _write_png(target: Path, frames: Iterator[Frame], clip: Clip, check: Check) -> int:
    with replacing(target) as temporary:
        _image(next(frames)).save(temporary, format="PNG")
        if next(frames, None) is not None:  # a video may not tell how many it has
            raise _too_many(clip.source, "several")
        check()
    return 1


def _write_folder(target: Path, frames: Iterator[Frame], clip: Clip, check: Check) -> int:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    digits = max(5, len(str(clip.frames)))
    try:
        temporary.mkdir()
        for written, frame in enumerate(frames, 1):
            _image(frame).save(temporary / f"frame_{written:0{digits}d}.png")
        check()
        temporary.replace(target)
        return written
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_gif(
    target: Path, frames: Iterator[Frame], clip: Clip, style: GifStyle, check: Check
) -> int:
    written = 0
    one, disposal = style.palette == "global", CLEAR if clip.alpha else KEEP
    shortest = 0 if clip.stored and clip.rate <= GIF_FPS else 2
    with replacing(target) as temporary, temporary.open("wb") as file:
        indexed = reduced(_delayed(frames, shortest), style, clip.alpha, target.parent)
        for part in gif_parts(indexed, shared=one, loop=clip.loop, disposal=disposal):
            file.write(part)
            written += 1
            check()  # all frames may have come before the first part, for a palette of all
    return written - 1  # the last part is the trailer


def _delayed(frames: Iterator[Frame], shortest: int) -> Iterator[Delayed]:
    """Round durations to 1/100 s so that their sum is kept."""
    stop, told = Fraction(0), 0
    for frame in frames:
        stop += frame.duration
        wanted = round(stop * 100)
        delay = min(max(shortest, wanted - told), LONGEST)
        told = wanted if delay == LONGEST else told + delay  # what is cut off is not caught up
        yield frame, delay


def _image(frame: Frame) -> Image.Image:
    """As RGB, or RGBA where pixels are transparent."""
    image = Image.fromarray(frame.rgb.permute(1, 2, 0).contiguous().numpy())
    if frame.alpha is not None:
        image.putalpha(Image.fromarray(frame.alpha.numpy()))
    return image
