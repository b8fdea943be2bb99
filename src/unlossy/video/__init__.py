"""Containers: every frame of a file, in order, counted, with its exact time; frames to a file.

    probe ── what a file declares              filter_frames ── an FFmpeg filter graph
    palette_of_all ── at most 256 colours      PaletteUse ── a frame in these colours
    shown_frames ── rgb, alpha, time           VideoWriter ── MP4, WebM, MKV, audio copied
                                               encode, decode ── codecs, in memory

The only package that imports PyAV; GIFs, images and folders of them go through Pillow. Frames are
uint8 RGB tensors (3, H, W); times are Fractions of a second, because float rates drift.

Colours of untagged video: players take BT.709 for HD and BT.601 below, and so do we, both ways.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from unlossy.errors import UserError
from unlossy.video import decoding, pictures
from unlossy.video.coding import Coded, Coding, Decoded, decode, encode, through_yuv420p
from unlossy.video.filters import filter_frames
from unlossy.video.frame import Frame, Probe, shown_delay
from unlossy.video.palettes import Dither, PaletteUse, palette_of_all
from unlossy.video.pictures import members
from unlossy.video.writing import VideoWriter, copies_audio, holds_alpha, replacing

SUFFIXES = pictures.SUFFIXES + decoding.SUFFIXES

__all__ = [
    "SUFFIXES",
    "Coded",
    "Coding",
    "Decoded",
    "Dither",
    "Frame",
    "PaletteUse",
    "Probe",
    "VideoWriter",
    "copies_audio",
    "decode",
    "encode",
    "filter_frames",
    "holds_alpha",
    "iter_frames",
    "members",
    "palette_of_all",
    "probe",
    "read_frames",
    "replacing",
    "shown_delay",
    "shown_frames",
    "through_yuv420p",
]


def probe(path: str | Path) -> Probe:
    """Return what a video, GIF, image, or folder or pattern of images declares.

    Decodes one frame at most; of an animated WebP or PNG all, because their delays lie among them.

    Raises:
        UserError: the file is missing, unreadable, empty, truncated, or not what its suffix says.
    """
    with _readable(path) as path:
        if _is_picture(path):
            return pictures.probe_picture(path)
        return decoding.probe_video(path)


def shown_frames(
    path: str | Path,
    start: int = 0,
    count: int | None = None,
    size: tuple[int, int] | None = None,
    every: int = 1,
) -> Iterator[Frame]:
    """Yield frames `start, start + every, ...` of a video, GIF, image, or folder of images.

    A pattern such as `frames/*.png` stands for what matches it, in natural order. Frames are
    counted by decoding, never by time stamps, so the cost grows with `start`: read a film in one
    pass.

    Args:
        path: what to read.
        start: index of the first frame.
        count: frames to yield, None for all.
        size: (width, height) to average the area down to.
        every: step in frames.

    Raises:
        UserError: unreadable, truncated, of frames that differ in size, or without those asked for.
    """
    found = 0
    shape = None
    with _readable(path) as path:
        frames: Iterator[Frame]
        if _is_picture(path):
            frames = islice(pictures.picture_frames(path, size), start, None, every)
        else:
            frames = decoding.decoded(path, start, size, every)
        for frame in islice(frames, count):
            if shape not in (None, frame.rgb.shape):
                sizes = " and ".join(f"{s[2]}x{s[1]}" for s in (shape, frame.rgb.shape) if s)
                raise UserError(
                    f"{path} has frames of another size from frame {start + found * every} on "
                    f"({sizes}); crop or scale them to one size."
                )
            shape = frame.rgb.shape
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


@contextmanager
def _readable(path: str | Path) -> Iterator[Path]:
    """Yield the path of a file or folder that can be read; while it is, errors are sentences."""
    try:
        path = Path(path)
        if not pictures.is_pattern(path):
            path = _existing(path)
        if path.is_file():
            path.open("rb").close()  # or FFmpeg would call it no video
        yield path
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its rights.") from error


def _existing(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path} does not exist; check the path.")
    if path.is_file():
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty (0 bytes); copy or download it again.")
        if path.suffix.lower() not in SUFFIXES:
            known = " ".join(SUFFIXES)
            raise UserError(f"{path} is of a kind I cannot read; convert it to one of {known}.")
    return path


def _is_picture(path: Path) -> bool:
    return not path.is_file() or path.suffix.lower() in pictures.SUFFIXES
