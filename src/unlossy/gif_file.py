"""Writing animated GIFs (GIF89a) whose decoded frames are exactly the indices and palettes given.

    header  screen  [global table]  [loop]  { control  descriptor  [local table]  LZW }*  trailer

Every frame is written whole, in the order and with the indices of the caller. The writers of Pillow
and FFmpeg do not promise that: they merge equal frames, crop to what changed, drop and reorder
palette entries. Only the LZW coder is borrowed, Pillow's, at the smallest code size that fits the
palette, where both of those writers always start at 9-bit codes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from unlossy.errors import UserError

Bytes = npt.NDArray[np.uint8]

KEEP, CLEAR = 1, 2  # disposal: leave the frame for the next one to be drawn over; wipe it first
_MAX_SIDE = 65535  # width and height are 16-bit fields


class Indexed(NamedTuple):
    """A frame of at most 256 colours."""

    pixels: Bytes  # (h, w), rows of the palette
    palette: Bytes  # (P, 3), 1 <= P <= 256
    delay: int  # 1/100 s; browsers and FFmpeg show 0 and 1 as 10
    hole: int | None = None  # the see-through index


def gif_parts(
    frames: Iterable[Indexed], *, shared: bool = False, loop: int | None = 0, disposal: int = KEEP
) -> Iterator[bytes]:
    """Yield the bytes of an animated GIF, one part for each frame, so that none need be held.

    Args:
        frames: all of one size.
        shared: write the palette of the first frame once, as the global table, and no other.
        loop: how often to repeat, 0 for ever; None to play once, without a loop extension.
        disposal: `KEEP` or `CLEAR`. Frames with transparent pixels want `CLEAR`.

    Raises:
        UserError: a frame is wider or higher than 65,535.
        ValueError: frames differ in size, or an index has no palette entry.
    """
    size = None
    for index, palette, delay, hole in frames:
        head = b""
        if size is None:
            size = height, width = index.shape
            head = _head(height, width, palette if shared else None, loop)
        if index.shape != size:
            raise ValueError(f"A frame of {index.shape} follows frames of {size}.")
        if index.max() >= len(palette):
            raise ValueError(f"Index {index.max()} has no entry in a palette of {len(palette)}.")
        yield head + _control(delay, hole, disposal) + _image(index, palette, local=not shared)
    yield b";"


def write_gif(
    frames: Iterable[Bytes],
    palettes: Sequence[Bytes],
    delays: Iterable[int],
    *,
    loop: int | None = 0,
    transparent: Iterable[int | None] | None = None,
    disposal: int = KEEP,
) -> bytes:
    """Return the bytes of an animated GIF.

    Args:
        frames: indices (h, w), one array per frame, all of one size; may be a generator.
        palettes: one (P, 3) per frame, 1 <= P <= 256, written as local tables; or a single one
            for all frames, written once as the global table.
        delays: how long each frame stays, in 1/100 s.
        loop: as `gif_parts` takes it.
        transparent: the see-through index of each frame, None where it has none.
        disposal: as `gif_parts` takes it.

    Raises:
        UserError, ValueError: as `gif_parts` does.
    """
    shared = len(palettes) == 1
    tables = repeat(palettes[0]) if shared else iter(palettes)
    holes = repeat(None) if transparent is None else transparent
    indexed = map(Indexed, frames, tables, delays, holes)
    return b"".join(gif_parts(indexed, shared=shared, loop=loop, disposal=disposal))


def _head(height: int, width: int, palette: Bytes | None, loop: int | None) -> bytes:
    if max(height, width) > _MAX_SIDE:
        raise UserError(
            f"A frame of {width}x{height} does not fit into a GIF; scale it to at most "
            f"{_MAX_SIDE} pixels a side, or write a video."
        )
    flags = 0x70 if palette is None else 0xF0 | _table_bits(palette) - 1
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, flags, 0, 0)
    if palette is not None:
        head += _table(palette)
    if loop is not None:
        head += b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", loop, 0)
    return head


def _control(delay: int, hole: int | None, disposal: int) -> bytes:
    flags = disposal << 2 | (hole is not None)
    return b"\x21\xf9\x04" + struct.pack("<BHBB", flags, delay, hole or 0, 0)


def _image(index: Bytes, palette: Bytes, local: bool) -> bytes:
    height, width = index.shape
    bits = _table_bits(palette)
    flags = 0x80 | bits - 1 if local else 0
    code_size = max(2, bits)  # the format's own minimum
    lzw = Image.fromarray(index).tobytes("gif", "L", code_size, 0)
    return b"".join(
        (
            b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, flags),
            _table(palette) if local else b"",
            bytes([code_size]),
            lzw,
            b"\x00",
        )
    )


def _table_bits(palette: Bytes) -> int:
    """A table holds a power of two of colours, 2 to 256."""
    return max(1, (len(palette) - 1).bit_length())


def _table(palette: Bytes) -> bytes:
    return palette.tobytes().ljust(3 << _table_bits(palette), b"\x00")
