"""Writing animated GIFs (GIF89a) whose decoded frames are exactly the indices and palettes given.

    header  screen  [global table]  [loop]  { control  descriptor  [local table]  LZW }*  trailer

Every frame is written whole, in the order and with the indices of the caller. The writers of Pillow
and FFmpeg do not promise that: they merge equal frames, crop to what changed, drop and reorder
palette entries. Only the LZW coder is borrowed, Pillow's, at the smallest code size that fits the
palette, where both of those writers always start at 9-bit codes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import repeat

import numpy as np
import numpy.typing as npt
from PIL import Image

from unlossy.errors import UserError

Bytes = npt.NDArray[np.uint8]

KEEP, CLEAR = 1, 2  # disposal: leave the frame for the next one to be drawn over; wipe it first
_MAX_SIDE = 65535  # width and height are 16-bit fields


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
        delays: how long each frame stays, in 1/100 s. Browsers and FFmpeg show 0 and 1 as 10.
        loop: how often to repeat, 0 for ever; None to play once, without a loop extension.
        transparent: the see-through index of each frame, None where it has none.
        disposal: `KEEP` or `CLEAR`. Frames with transparent pixels want `CLEAR`.

    Raises:
        UserError: a frame is wider or higher than 65,535.
        ValueError: frames differ in size, or an index has no palette entry.
    """
    shared = len(palettes) == 1
    out = bytearray()
    height = width = 0
    tables = repeat(palettes[0]) if shared else iter(palettes)
    holes = repeat(None) if transparent is None else transparent
    for index, palette, delay, hole in zip(frames, tables, delays, holes, strict=False):
        if not out:
            height, width = index.shape
            out += _head(height, width, palettes[0] if shared else None, loop)
        if index.shape != (height, width):
            raise ValueError(f"A frame of {index.shape} follows frames of {(height, width)}.")
        if index.max() >= len(palette):
            raise ValueError(f"Index {index.max()} has no entry in a palette of {len(palette)}.")
        out += _control(delay, hole, disposal)
        out += _image(index, palette, local=not shared)
    return bytes(out + b";")


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
