"""Floyd-Steinberg error diffusion, many frames at once.

    pixel (y, x) passes on its error:          . * 7
                                               3 5 1    (sixteenths)

R. Floyd, L. Steinberg, "An adaptive algorithm for spatial greyscale", Proc. SID 17(2), 1976. Raster
order, every row from left to right. The sum of a pixel and what reached it is clamped to 0..255
before the closest colour is looked up, and the error is taken from the clamped value.

A pixel only waits for its left neighbour and for three above it. So all pixels of a slanted line
x + 2 y = d, in all frames, are independent, and a clip takes w + 2 h steps of numpy:

    d = x + 2y      0 1 2 3 4        (y, x) needs lines d - 1 (left, above right),
                    2 3 4 5 6                           d - 2 (above), d - 3 (above left)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unlossy.degradations.palettes import Bytes

_BATCH = 16  # frames diffused together: enough to amortise numpy's calls, 30 MB at 320x180


def floyd_steinberg(frames: Bytes, tables: Sequence[Bytes]) -> Bytes:
    """Dither frames (S, h, w, 3) to one palette (P, 3) each; returns indices (S, h, w)."""
    parts = [
        _diffuse(frames[s : s + _BATCH], tables[s : s + _BATCH])
        for s in range(0, len(frames), _BATCH)
    ]
    return np.concatenate(parts)


def _diffuse(frames: Bytes, tables: Sequence[Bytes]) -> Bytes:
    count, height, width = frames.shape[:3]
    size = max(len(table) for table in tables)
    centers = np.zeros((count, size, 3))
    norms = np.full((count, 1, size), np.inf)  # padding is infinitely far
    for s, table in enumerate(tables):
        centers[s, : len(table)] = table
        norms[s, 0, : len(table)] = (centers[s, : len(table)] ** 2).sum(axis=1)
    double = -2.0 * centers.transpose(0, 2, 1)

    flat = frames.reshape(count, height * width, 3)
    index = np.empty((count, height * width), np.uint8)
    each = np.arange(count)[:, None]
    # Errors of the last three lines by row; row 0 stands above the picture.
    line = np.zeros((count, height + 1, 3))
    before, two_before, three_before = line, line, line
    for d in range(width + 2 * (height - 1)):
        low, high = max(0, (d - width + 2) // 2), min(height - 1, d // 2) + 1
        rows = slice(low + 1, high + 1)
        above = slice(low, high)
        at = np.arange(low, high) * (width - 2) + d  # y * width + x
        # The order in which a raster scan would have added them: floats then agree to the last bit.
        value = flat[:, at] + three_before[:, above] * (1 / 16)
        value += two_before[:, above] * (5 / 16)
        value += before[:, above] * (3 / 16)
        value += before[:, rows] * (7 / 16)
        np.clip(value, 0.0, 255.0, out=value)
        distance = value @ double
        distance += norms
        chosen = distance.argmin(axis=2)
        index[:, at] = chosen
        error = np.zeros_like(line)
        error[:, rows] = value - centers[each, chosen]
        before, two_before, three_before = error, before, two_before
    return index.reshape(count, height, width)
