"""Pictures: stills and animations as they are shown, alpha apart, and folders of frames."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError
from torch import Tensor

from unlossy.errors import UserError
from unlossy.video.frame import Frame, Probe, shown_delay
from unlossy.video.gif import gif_frames, is_gif, probe_gif

SUFFIXES = (".gif", ".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def probe_picture(path: Path) -> Probe:
    """Return what an image, animation or folder of images declares."""
    if path.is_dir():
        members = _members(path)
        return replace(probe_picture(members[0]), frames=len(members), rate=Fraction(25))
    if is_gif(path):
        return probe_gif(path)
    with _opened(path) as (image, count):
        width, height = ImageOps.exif_transpose(image).size if count == 1 else image.size
        rate, base = 1 / shown_delay(_delay(image)), Fraction(1, 1000)
        loop = image.info.get("loop")
        return Probe(count, True, width, height, rate, base, loop=loop, pictures=True)


def picture_frames(path: Path, size: tuple[int, int] | None) -> Iterator[Frame]:
    """Yield the composited frames of an image, an animation or a folder of equally sized images.

    Args:
        path: file or folder.
        size: (width, height) to average the area down to.

    Raises:
        UserError: damaged, truncated, or a folder whose images differ in size.
    """
    if path.is_dir():
        yield from _folder_frames(path, size)
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
        for page in ImageSequence.Iterator(image):
            page.load()  # a WebP knows its delay only now
            yield ImageOps.exif_transpose(page) if count == 1 else page, _delay(page)


def _folder_frames(folder: Path, size: tuple[int, int] | None) -> Iterator[Frame]:
    shape = None
    for index, path in enumerate(_members(folder)):
        rgb, alpha = next(picture_frames(path, size))[:2]
        if shape not in (None, rgb.shape):
            raise UserError(f"{path} has another size than the frames before it; crop it.")
        shape = rgb.shape
        yield Frame(rgb, alpha, Fraction(index, 25), Fraction(1, 25))


def _members(folder: Path) -> list[Path]:
    """Images of a folder in natural order: frame 10 after frame 9."""

    def natural(path: Path) -> list[tuple[int, str]]:
        return [(int(run or -1), text) for run, text in re.findall(r"(\d+)|(\D+)", path.name)]

    found = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
    members = sorted(found, key=natural)
    if not members:
        raise UserError(f"{folder} holds no images; put frames as .png or .jpg into it.")
    return members


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Image.Image, int]]:
    """Open an image file; yields it with its number of images."""
    try:
        with Image.open(path) as image:
            yield image, getattr(image, "n_frames", 1)
    except UnidentifiedImageError as error:
        kind = path.suffix[1:].upper()
        raise UserError(
            f"{path} is no {kind} file, whatever its name says; look into it."
        ) from error
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error) as error:
        kind = path.suffix[1:].upper()
        raise UserError(f"{path} is not a whole {kind} file; save it again ({error}).") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} declares too many pixels; crop it ({error}).") from error


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
