"""Frames of many colours to GIF frames of at most 256, with one palette each or one for all.

    frame    each frame's own palette: the most colours, but flat areas may flicker
    global   one palette for the file: smaller and still; frames wait on the disk until it is known

Frames that have no more colours than the palette may hold keep them exactly. Else FFmpeg finds the
palette: the best that a library has. On six frames of three real clips at 64 and 256 colours it is
0 to 2 dB above Pillow's median cut (with 16 steps of k-means between -1.6 and 2.6 dB), and 0.6 to
2 dB below the variance-minimising palettes of our degradations.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unlossy.errors import UserError
from unlossy.gif_file import Indexed
from unlossy.video import Dither, Frame, PaletteUse, palette_of_all

Packed = npt.NDArray[np.int32]  # 0xRRGGBB
Delayed = tuple[Frame, int]  # a frame and its delay in 1/100 s


@dataclass(frozen=True)
class GifStyle:
    """How the colours of a GIF are chosen.

    Args:
        palette: one for each `frame`, or one `global` one.
        colors: palette entries, 2 to 256; one of them is for see-through pixels, if there are any.
        dither: `bayer` stands still from frame to frame, `floyd_steinberg` does not.

    Raises:
        UserError: an argument is out of its range.
    """

    palette: Literal["frame", "global"] = "frame"
    colors: int = 256
    dither: Dither = "none"

    def __post_init__(self) -> None:
        if self.palette not in ("frame", "global"):
            raise UserError(f"palette {self.palette!r} of a GIF is unknown; use frame or global.")
        if not 2 <= self.colors <= 256:
            raise UserError(f"a GIF has 2 to 256 colours, not {self.colors}; choose such a number.")
        if self.dither not in get_args(Dither):
            known = ", ".join(get_args(Dither))
            raise UserError(f"dither {self.dither!r} of a GIF is unknown; use one of {known}.")


def reduced(
    frames: Iterable[Delayed], style: GifStyle, alpha: bool, scratch: Path
) -> Iterator[Indexed]:
    """Reduce frames to the colours of a GIF.

    Args:
        frames: with their delays.
        style: how.
        alpha: whether any frame has transparent pixels.
        scratch: a folder, where the frames wait for a `global` palette at their full size.
    """
    if style.palette == "global":
        yield from _with_one_palette(frames, style, alpha, scratch)
        return
    for frame, delay in frames:
        rgb, room = _filled(frame), style.colors - (frame.alpha is not None)
        colors = np.unique(_packed(rgb))
        if len(colors) > room:
            rgb = PaletteUse(palette_of_all([rgb], room), rgb, style.dither)(rgb)
            colors = np.unique(_packed(rgb))
        yield _indexed(rgb, frame.alpha, delay, colors)


def _with_one_palette(
    frames: Iterable[Delayed], style: GifStyle, alpha: bool, scratch: Path
) -> Iterator[Indexed]:
    room = style.colors - alpha
    delays, colors = array("H"), np.empty(0, np.int32)
    with tempfile.TemporaryFile(dir=scratch) as file:

        def waiting() -> Iterator[Tensor]:
            nonlocal colors
            for frame, delay in frames:
                rgb = _filled(frame)
                if len(colors) <= room:
                    colors = np.union1d(colors, _packed(rgb))
                delays.append(delay)
                np.save(file, rgb.numpy())
                np.save(file, np.empty(0) if frame.alpha is None else frame.alpha.numpy())
                yield rgb

        found = palette_of_all(waiting(), room)
        use: PaletteUse | None = None
        file.seek(0)
        for delay in delays:
            rgb, mask = (torch.from_numpy(np.load(file)) for _ in range(2))
            if len(colors) > room:
                use = PaletteUse(found, rgb, style.dither)
                colors = np.unique(_packed(found.T[:, :, None]))
            if use is not None:
                rgb = use(rgb)
            yield _indexed(rgb, mask if len(mask) else None, delay, colors, alpha)


def _indexed(
    rgb: Tensor, alpha: Tensor | None, delay: int, colors: Packed, holed: bool = False
) -> Indexed:
    """A frame by the numbers of its colours in an increasing list, the last one see-through."""
    index = np.searchsorted(colors, _packed(rgb)).astype(np.uint8)
    palette = np.stack((colors >> 16, colors >> 8 & 255, colors & 255), 1).astype(np.uint8)
    if alpha is not None or holed:
        palette = np.concatenate((palette, np.zeros((1, 3), np.uint8)))
    if alpha is None:
        return Indexed(index, palette, delay)
    index[alpha.numpy() < 128] = len(colors)
    return Indexed(index, palette, delay, len(colors))


def _filled(frame: Frame) -> Tensor:
    """Colours with one that is seen in place of those that are not."""
    if frame.alpha is None:
        return frame.rgb
    seen = frame.alpha >= 128
    visible = frame.rgb[:, seen]
    filler = visible[:, :1, None] if visible.shape[1] else torch.zeros(3, 1, 1, dtype=torch.uint8)
    return torch.where(seen, frame.rgb, filler)


def _packed(rgb: Tensor) -> Packed:
    red, green, blue = rgb.numpy().astype(np.int32)
    packed: Packed = red << 16 | green << 8 | blue
    return packed
