"""Reading GIFs the way browsers show them.

    canvas, empty ──► draw image k where it is not see-through ──► frame k ──► dispose
                           0, 1: leave it    2: empty its rectangle    3: as it was before

Pillow and FFmpeg composite too, but fill what is disposed of with a background colour that browsers
ignore, and Pillow takes a file that is cut between two blocks as whole. Only the LZW decoder is
Pillow's. GIF89a specification; browsers' reading of disposal where it leaves a choice.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from unlossy.errors import UserError
from unlossy.video.frame import Probe, shown_delay

MOST_PIXELS = 2**27  # of a canvas or an image on it: 134 million, half a gigabyte as RGBA
# A damaged header must not cost memory: what has more pixels than that must be able to fill them.
# An LZW code of 12 bits stands for at most 4096 pixels, so that a byte gives 2731.
UNPROVEN, PER_BYTE = 2**20, 2731
EMPTY, RESTORE = 2, 3  # ways of disposal

Colors = npt.NDArray[np.uint32]  # 0xAABBGGRR, so that its bytes are RGBA


class Piece(NamedTuple):
    """One image of a GIF, which may cover a part of the canvas; offsets are into the file."""

    left: int
    top: int
    width: int
    height: int
    interlaced: bool
    table: tuple[int, int]  # offset and number of colours
    data: tuple[int, int]  # offset and end of the LZW blocks, code size first
    disposal: int
    hole: int | None  # the see-through index
    delay: int  # 1/100 s


class Gif(NamedTuple):
    """The structure of a GIF."""

    width: int
    height: int
    loop: int | None
    pieces: list[Piece]


def is_gif(path: Path) -> bool:
    """Return whether a file starts like a GIF, whatever its name."""
    with path.open("rb") as file:
        return file.read(6) in (b"GIF87a", b"GIF89a")


def probe_gif(path: Path) -> Probe:
    """Return what a GIF declares."""
    with _mapped(path) as data:
        gif = _parsed(path, data)
    delays = [shown_delay(Fraction(piece.delay, 100)) for piece in gif.pieces]
    seconds = sum(delays, start=Fraction(0))
    return Probe(
        frames=len(gif.pieces),
        exact=True,
        width=gif.width,
        height=gif.height,
        rate=len(gif.pieces) / seconds,
        time_base=Fraction(1, 100),
        loop=gif.loop,
        pictures=True,
        even=len(set(delays)) == 1,
    )


def gif_frames(path: Path) -> Iterator[tuple[npt.NDArray[np.uint8], Fraction]]:
    """Yield every frame as shown, RGBA (H, W, 4), and its delay as stored, in seconds.

    Raises:
        UserError: damaged or truncated.
    """
    with _mapped(path) as data:
        gif = _parsed(path, data)
        canvas = np.zeros((gif.height, gif.width), np.uint32)
        for number, piece in enumerate(gif.pieces):
            before = canvas.copy() if piece.disposal == RESTORE else canvas
            # A rectangle may reach beyond the canvas; what lies outside is not shown.
            where = np.s_[
                piece.top : piece.top + piece.height, piece.left : piece.left + piece.width
            ]
            area = canvas[where]
            index = _indices(path, data, piece, number)[: area.shape[0], : area.shape[1]]
            drawn = _table(data, piece)[index]
            np.copyto(area, drawn, where=True if piece.hole is None else index != piece.hole)
            yield canvas.copy().view(np.uint8).reshape(*canvas.shape, 4), Fraction(piece.delay, 100)
            if piece.disposal == EMPTY:
                area[:] = 0
            canvas = before


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _parsed(path: Path, data: mmap.mmap) -> Gif:
    """Walk the blocks from the header to the trailer."""
    pieces: list[Piece] = []
    try:
        width, height, flags = struct.unpack_from("<HHB", data, 6)
        shared, at = _table_at(13, flags)
        most = min(max(len(data) * PER_BYTE, UNPROVEN), MOST_PIXELS)
        if not 0 < width * height <= most:
            raise UserError(
                f"{path} declares {width}x{height} pixels, where its {len(data)} bytes hold at "
                f"most {most}; save it again, or smaller."
            )
        loop: int | None = None
        disposal, hole, delay = 0, None, 0
        while data[at] != 0x3B:
            if data[at] == 0x21:
                if data[at + 1] == 0xF9:  # graphic control
                    bits, delay, index = struct.unpack_from("<BHB", data, at + 3)
                    disposal, hole = bits >> 2 & 7, index if bits & 1 else None
                elif data[at + 3 : at + 11] in (b"NETSCAPE", b"ANIMEXTS") and data[at + 15] == 1:
                    (loop,) = struct.unpack_from("<H", data, at + 16)
                at = _after_blocks(data, at + 2)
            elif data[at] == 0x2C:
                left, top, wide, high, flags = struct.unpack_from("<HHHHB", data, at + 1)
                table, start = _table_at(at + 10, flags)
                if wide * high > most:
                    image = f"{path}, image {len(pieces)},"
                    raise UserError(f"{image} declares {wide}x{high} pixels; save it again.")
                table = table if table[1] else shared
                at = _after_blocks(data, start + 1)
                if table[1] == 0:
                    raise UserError(f"{path} is damaged: image {len(pieces)} has no colours.")
                interlaced, extent = bool(flags & 0x40), (start, at)
                pieces.append(
                    Piece(left, top, wide, high, interlaced, table, extent, disposal, hole, delay)
                )
                disposal, hole, delay = 0, None, 0
            else:
                raise UserError(f"{path} is a damaged GIF (byte {at}); save it again.")
    except (IndexError, struct.error):
        raise UserError(
            f"{path} is truncated: it ends in image {len(pieces)}; copy or download it again."
        ) from None
    if not pieces:
        raise UserError(f"{path} is a GIF without any image; save it again.")
    return Gif(width, height, loop, pieces)


def _table_at(at: int, flags: int) -> tuple[tuple[int, int], int]:
    """The colour table that the flags announce, (offset, colours), and where it ends."""
    count = 2 << (flags & 7) if flags & 0x80 else 0
    return (at, count), at + 3 * count


def _after_blocks(data: mmap.mmap, at: int) -> int:
    """Where a chain of length-prefixed blocks ends."""
    while data[at]:
        at += 1 + data[at]
    return at + 1


def _table(data: mmap.mmap, piece: Piece) -> Colors:
    """All 256 colours, opaque; those beyond the table are black."""
    offset, count = piece.table
    colors = np.zeros((256, 4), np.uint8)
    colors[:, 3] = 255
    raw = np.frombuffer(data[offset : offset + 3 * count], np.uint8)
    colors[:count, :3] = raw.reshape(count, 3)
    return colors.view(np.uint32)[:, 0]


def _indices(path: Path, data: mmap.mmap, piece: Piece, number: int) -> npt.NDArray[np.uint8]:
    start, stop = piece.data
    size = (piece.width, piece.height)
    if 0 in size:
        return np.zeros((piece.height, piece.width), np.uint8)
    try:
        coded = data[start + 1 : stop]
        image = Image.frombytes("P", size, coded, "gif", data[start], piece.interlaced, -1)
    except (ValueError, OSError, SyntaxError) as error:
        raise UserError(
            f"{path} is damaged in image {number}; copy or download it again ({error})."
        ) from error
    return np.asarray(image)
