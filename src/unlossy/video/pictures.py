"""Pictures: stills and animations as they are shown, alpha apart; folders and patterns of frames.

frames/             all images of a folder
frames/cat_*.png    all that match        in natural order: frame 10 after frame 9

Such frames tell no times: they count as `RATE` = 25 a second that play for ever. `--fps 30` makes
frames between them; `--factor 1 --slow 25/30` plays the same ones at 30 a second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError
from torch import Tensor

from unlossy.errors import UserError
from unlossy.video.decoding import MOST_PIXELS
from unlossy.video.frame import Frame, Probe, shown_delay
from unlossy.video.gif import gif_frames, is_gif, probe_gif

RATE = Fraction(25)  # frames per second of a folder or pattern; FFmpeg's default too
SUFFIXES = (".gif", ".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def probe_picture(path: Path) -> Probe:
    """Return what an image, an animation, or a folder or pattern of images declares."""
    if not path.is_file():
        found = members(path)
        return replace(probe_picture(found[0]), frames=len(found), rate=RATE, loop=0)
    if is_gif(path):
        return probe_gif(path)
    with _opened(path) as (image, count):
        width, height = ImageOps.exif_transpose(image).size if count == 1 else image.size
        delays = [_delay(image)] if count == 1 else [delay for _, delay in _pages(path)]
        shown = [shown_delay(delay) for delay in delays]
        return Probe(
            frames=count,
            exact=True,
            width=width,
            height=height,
            rate=len(shown) / sum(shown, start=Fraction(0)),
            time_base=Fraction(1, 1000),
            loop=image.info.get("loop"),
            pictures=True,
            even=len(set(shown)) == 1,
        )


def picture_frames(path: Path, size: tuple[int, int] | None) -> Iterator[Frame]:
    """Yield the composited frames of an image, an animation, or a folder or pattern of images.

    Args:
        path: file, folder or pattern.
        size: (width, height) to average the area down to.

    Raises:
        UserError: damaged, truncated, or one of several images is an animation of its own.
    """
    if not path.is_file():
        yield from _series(path, size)
        return
    time = Fraction(0)
    for page, delay in _gif_pages(path) if is_gif(path) else _pages(path):
        rgb, alpha = _planes(page, size)
        yield Frame(rgb, alpha, time, delay)
        time += shown_delay(delay)


def _gif_pages(path: Path) -> Iterator[tuple[Image.Image, Fraction]]:
    for rgba, delay in gif_frames(path):
        yield Image.fromarray(rgba), delay


def _pages(path: Path) -> Iterator[tuple[Image.Image, Fraction]]:
    with _opened(path) as (image, count):
        for page in islice(ImageSequence.Iterator(image), count):
            page.load()  # a WebP knows its delay only now
            yield ImageOps.exif_transpose(page) if count == 1 else page, _delay(page)


def _series(path: Path, size: tuple[int, int] | None) -> Iterator[Frame]:
    for index, member in enumerate(members(path)):
        pages = picture_frames(member, size)
        rgb, alpha = next(pages)[:2]
        if next(pages, None) is not None:
            raise UserError(f"{member} moves by itself; name it alone, or keep stills in {path}.")
        yield Frame(rgb, alpha, index / RATE, 1 / RATE)


def members(path: Path) -> list[Path]:
    """Return the images of a folder, or that match a pattern, in natural order.

    Raises:
        UserError: there are none.
    """

    def natural(path: Path) -> list[tuple[int, str]]:
        runs = re.findall(r"(\d+)|(\D+)", str(path))
        return [(int(run or -1), text) for run, text in runs]

    try:
        below = path.iterdir() if path.is_dir() else Path(path.anchor).glob(_relative(path))
        found = [p for p in below if p.suffix.lower() in SUFFIXES and p.name[0] != "."]
    except ValueError as error:
        raise UserError(f"{path} is no pattern of files; write one such as 'a/*.png'.") from error
    if not (named := sorted(found, key=natural)):
        raise UserError(f"{path} holds no images; give a folder or pattern of .png or .jpg frames.")
    return named


def is_pattern(path: Path) -> bool:
    """Return whether a name that is no file's stands for several."""
    return any(sign in str(path) for sign in "*?[") and not path.exists()


def _relative(path: Path) -> str:
    return str(path.relative_to(path.anchor)) if path.anchor else str(path)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Image.Image, int]]:
    """Open an image file; yields it with its number of images."""
    try:
        with Image.open(path) as image:
            # A phone's JPEG may hold a depth map as second picture.
            count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            if count > 1 and image.width * image.height > MOST_PIXELS:
                size = f"{image.width}x{image.height}"
                raise UserError(f"{path} declares {count} frames of {size} pixels; scale it down.")
            yield image, count
    except UnidentifiedImageError as error:
        kind = path.suffix[1:].upper()
        raise UserError(
            f"{path} is no {kind} file, whatever its name says; look into it."
        ) from error
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} declares too many pixels; crop it ({error}).") from error
    except Exception as error:  # of damage, Pillow's readers raise nearly any
        kind = path.suffix[1:].upper()
        raise UserError(f"{path} is not a whole {kind} file; save it again ({error}).") from error


def _delay(image: Image.Image) -> Fraction:
    """Stored delay of the current frame in seconds."""
    return Fraction(image.info.get("duration", 0)).limit_denominator(1000) / 1000


def _planes(image: Image.Image, size: tuple[int, int] | None) -> tuple[Tensor, Tensor | None]:
    """Colours (3, H, W) and, unless all are opaque, alpha (H, W) of a picture."""
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if size is not None and size != image.size:
        image = image.resize(size, Image.Resampling.BOX)
    planes = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
    opaque = len(planes) == 3 or bool((planes[3] == 255).all())
    return planes[:3].contiguous(), None if opaque else planes[3].clone()
