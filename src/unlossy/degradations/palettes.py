"""Palettes: from the pixels of a picture to at most 256 colours, and from them back to indices.

    kmeans      variance-minimising: the boxes of `wu`, then 8 Lloyd steps
    wu          boxes of the 5-bit colour cube, cut where the squared error falls most;
                X. Wu, "Efficient statistical computations for optimal color quantization",
                Graphics Gems II, 1991
    median_cut  P. Heckbert 1982, by Pillow
    octree      M. Gervautz and W. Purgathofer 1988, by Pillow (its fast variant)

The published GIF benchmark was made by MATLAB's `rgb2ind`, a closed minimum-variance quantiser, and
`kmeans` is its nearest open stand-in. It works on the occupied cells of a 32 x 32 x 32 histogram,
each at the true mean of its pixels: thousands of points for a picture of a hundred thousand.

Whatever finds the palette, pixels are mapped to it exactly (`nearest`): squared Euclidean distance
in integer RGB, ties to the lowest index.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

_LEVELS = 32  # per channel of the histogram
_GLANCE = 16  # every 16th pixel tells nearly every picture of many colours from one of few
_BLOCK = 1 << 20  # pixels looked at together, to bound memory
_BITS = 6  # of a row number: what float32 has left beside 195,075 = 3 * 255^2
_GROUP = 1 << _BITS
# Distances held at once. They stay in the L2 cache, and four products each stay below the size at
# which OpenBLAS starts threads, which spin against the other processes of a loaded machine.
_DISTANCES = 1 << 16


class Histogram(NamedTuple):
    """The occupied cells of the 32 x 32 x 32 colour cube."""

    level: npt.NDArray[np.int64]  # (3, M) where each lies, 0..31 per channel
    moments: Floats  # (M, 4) its pixels, and the sums of their red, green and blue; exact


def histogram(pixels: Bytes) -> Histogram:
    """Count pixels (N, 3) in cells of 8 x 8 x 8 colours."""
    level = (pixels >> 3).astype(np.int64)
    code = (level[:, 0] * _LEVELS + level[:, 1]) * _LEVELS + level[:, 2]
    count = np.bincount(code, minlength=_LEVELS**3)
    cell = np.flatnonzero(count)
    sums = [np.bincount(code, pixels[:, c], _LEVELS**3)[cell] for c in range(3)]
    occupied = np.stack(np.unravel_index(cell, (_LEVELS,) * 3))
    return Histogram(occupied, np.column_stack((count[cell], *sums)))


def kmeans(pixels: Bytes, colors: int, steps: int = 8) -> Bytes:
    """Refine the palette of `wu` by Lloyd's algorithm; (N, 3) to (P <= colors, 3)."""
    bins = histogram(pixels)
    points = bins.moments[:, 1:] / bins.moments[:, :1]
    centers = _boxes(bins, colors)
    for _ in range(steps):
        double, norms = -2.0 * centers.T, (centers**2).sum(axis=1)
        rows = range(0, len(points), _DISTANCES // len(centers))
        parts = [points[r : r + rows.step] @ double + norms for r in rows]
        owner = np.concatenate([part.argmin(axis=1) for part in parts])
        centers = _means(bins, owner, len(centers))
    return _rounded(centers)


def wu(pixels: Bytes, colors: int) -> Bytes:
    """Return the means of boxes of the colour cube; (N, 3) to (P <= colors, 3)."""
    return _rounded(_boxes(histogram(pixels), colors))


def _boxes(bins: Histogram, colors: int) -> Floats:
    """Cut the cube into boxes across the axes, where it lowers the summed squared error most.

    Wu cuts one box at a time, of largest variance. Here the better half of all boxes is cut at
    once, by gain: a third of the time at 32 colours, and within 0.01 dB after Lloyd's steps.
    """
    cells = np.arange(bins.level.shape[1])
    box = np.zeros(len(cells), np.int64)
    count = 1
    while count < colors:
        slices = np.empty((3, count, _LEVELS, 4))  # moments per axis, box and level
        for axis in range(3):
            at = box * _LEVELS + bins.level[axis]
            for m in range(4):
                flat = np.bincount(at, bins.moments[:, m], count * _LEVELS)
                slices[axis, :, :, m] = flat.reshape(count, _LEVELS)
        below = slices.cumsum(axis=2)
        whole = below[:, :, -1:]
        gain = _energy(below) + _energy(whole - below) - _energy(whole)  # (3, count, levels)
        gain = gain.swapaxes(0, 1).reshape(count, -1)
        cut = gain.argmax(axis=1)
        best = gain.max(axis=1)
        chosen = np.argsort(-best)[: min(colors - count, max(1, count // 2))]
        chosen = chosen[best[chosen] > 0]
        if not len(chosen):
            break
        upper = np.full(count, -1)  # the new box above each cut
        upper[chosen] = count + np.arange(len(chosen))
        axis, level = np.divmod(cut, _LEVELS)
        moved = (upper[box] >= 0) & (bins.level[axis[box], cells] > level[box])
        box[moved] = upper[box[moved]]
        count += len(chosen)
    return _means(bins, box, count)


def _energy(moments: Floats) -> Floats:
    """Return |sum|^2 / pixels of (..., 4): a set's squared error is its squares less this."""
    squares: Floats = np.square(moments[..., 1:]).sum(axis=-1)
    return squares / np.maximum(moments[..., 0], 1.0)


def _means(bins: Histogram, owner: npt.NDArray[np.int64], count: int) -> Floats:
    """Average the cells of each owner; owners of none are dropped."""
    sums = np.stack([np.bincount(owner, m, count) for m in bins.moments.T], axis=1)
    sums = sums[sums[:, 0] > 0]
    return sums[:, 1:] / sums[:, :1]


def _rounded(centers: Floats) -> Bytes:
    return distinct(np.rint(centers).astype(np.uint8))


def octree(pixels: Bytes, colors: int) -> Bytes:
    """Pillow's fast octree."""
    return _pillow(pixels, colors, Image.Quantize.FASTOCTREE)


def median_cut(pixels: Bytes, colors: int) -> Bytes:
    """Pillow's median cut."""
    return _pillow(pixels, colors, Image.Quantize.MEDIANCUT)


def _pillow(pixels: Bytes, colors: int, method: Image.Quantize) -> Bytes:
    found = Image.fromarray(pixels[None]).quantize(colors, method, dither=Image.Dither.NONE)
    flat = found.getpalette() or []
    return distinct(np.array(flat, np.uint8).reshape(-1, 3)[:colors])


def distinct(pixels: Bytes) -> Bytes:
    """Return the different colours of pixels (N, 3), in increasing order."""
    value = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    return unpack(np.unique(value))


def few(pixels: Bytes, limit: int) -> Bytes | None:
    """Return the colours of pixels (N, 3) if there are at most `limit` of them."""
    if len(distinct(pixels[::_GLANCE])) > limit:
        return None
    seen = pixels[:0]
    for start in range(0, len(pixels), _BLOCK):
        seen = distinct(np.concatenate((seen, pixels[start : start + _BLOCK])))
        if len(seen) > limit:
            return None
    return seen


def unpack(value: npt.NDArray[np.uint32]) -> Bytes:
    """Split 0xRRGGBB numbers (N,) into colours (N, 3)."""
    return np.stack([value >> 16, value >> 8, value], axis=1).astype(np.uint8)


def nearest(pixels: Bytes, palette: Bytes) -> Bytes:
    """Map pixels (..., 3) to the index (...) of the closest row of palette (P, 3).

    Ties go to the lowest index. The search is a matrix product and a minimum; an argmin of floats
    takes four times as long. For that a row's number j rides in the low bits of its score,

        key(x, j) = 64 (|c_j|^2 - 2 x.c_j) + j

    and every partial sum of it is an integer that float32 holds exactly. More than 64 rows are
    searched in groups.
    """
    groups = -(-len(palette) // _GROUP)
    width = -(-len(palette) // groups)
    # A repeated last row ties with that row and loses.
    centers = np.pad(palette, ((0, groups * width - len(palette)), (0, 0)), mode="edge")
    scores = np.empty((groups * width, 4), np.float32)
    scores[:, :3] = centers * np.float32(-2 * _GROUP)
    scores[:, 3] = _GROUP * np.square(centers, dtype=np.int32).sum(axis=1)
    scores[:, 3] += np.arange(groups * width) % width
    flat = pixels.reshape(-1, 3)
    index = np.empty(len(flat), np.uint8)
    points = np.ones((4, _DISTANCES // len(scores)), np.float32)
    for start in range(0, len(flat), points.shape[1]):
        part = flat[start : start + points.shape[1]]
        points[:3, : len(part)] = part.T
        keys = scores @ points[:, : len(part)]
        least = keys.reshape(groups, width, -1).min(axis=1).astype(np.int32)  # (groups, n)
        row = least & (_GROUP - 1)
        group = (least >> _BITS).argmin(axis=0) if groups > 1 else np.intp(0)
        index[start : start + len(part)] = group * width + row[group, np.arange(len(part))]
    return index.reshape(pixels.shape[:-1])
