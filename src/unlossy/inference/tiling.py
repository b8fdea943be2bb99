"""Large frames in overlapping tiles, so that memory follows the tile and not the frame.

    weight of a tile along one axis, for an edge inside the frame:

        1            ┌─────────         `model.reach` pixels next to the edge are thrown away: there
                   ╱                    the network saw its own padding instead of the picture;
        0  ───────                       RAMP pixels fade into the neighbour, whose weights are
            reach RAMP                  the complement, so seams of a wider network do not show

A tile starts at a multiple of `model.multiple`, or strided layers would sample another phase. The
result equals the untiled one where the network sees no further than its `reach`. What a tile alone
would decide otherwise, whether a scene is cut, is decided before on the whole frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf, isqrt
from typing import NamedTuple

import torch
from torch import Tensor

from unlossy.models.model import EnhancementModel
from unlossy.sample import Sample

RAMP = 16  # degraded pixels, rounded up to the model's multiple

Restore = Callable[[Sample], dict[str, Tensor]]  # clips (B, T, 3, H, W) in [0, 1] by name


class Tile(NamedTuple):
    """One axis of a tile: degraded pixels `start..stop` and their weights."""

    start: int
    stop: int
    weight: Tensor  # (stop - start,)


def restore_tiled(
    model: EnhancementModel,
    batch: Sample,
    budget: int = 2**20,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Restore a batch on its own device, in tiles where it has more than `budget` pixels.

    Args:
        model: in evaluation mode.
        batch: float frames; side information must not depend on the place in the frame.
        budget: degraded pixels, over all frames of the batch, that go through the model at once;
            more where a tile of that size would be mostly margin.
        dtype: precision of autocast; a tile whose result is not finite is redone in float32.

    Returns:
        (B, T, 3, H, W) in [0, 1], float32.
    """
    return tiled(lambda part: {"": model.restore(part)}, model, batch, budget, dtype)[""]


def tiled(
    restore: Restore,
    model: EnhancementModel,
    batch: Sample,
    budget: int,
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """Do what `restore_tiled` does with any method of the model that returns clips by name."""
    batch_size, frames, _, height, width = batch["degraded"].shape
    pixels = budget // (batch_size * frames)
    if height * width <= pixels:
        return _restored(restore, batch, dtype)
    batch = model.surveyed(batch)
    rows, columns = (
        list(tiles(length, isqrt(pixels), model.reach, model.multiple, model.scale))
        for length in (height, width)
    )
    whole: dict[str, Tensor] = {}
    for row in rows:
        for column in columns:
            cut = batch["degraded"][..., row.start : row.stop, column.start : column.stop]
            parts = _restored(restore, Sample(**{**batch, "degraded": cut}), dtype)
            weight = row.weight[:, None] * column.weight
            top, left = row.start * model.scale, column.start * model.scale
            for name, part in parts.items():
                if name not in whole:
                    size = (height * model.scale, width * model.scale)
                    whole[name] = part.new_zeros(*part.shape[:3], *size)
                bottom, right = top + part.shape[-2], left + part.shape[-1]
                whole[name][..., top:bottom, left:right] += part * weight.to(part)
    return whole


def overhead(height: int, width: int, pixels: int, reach: int, multiple: int = 1) -> float:
    """Return how many pixels are computed for each one of the frame, in tiles of `pixels`.

    1 where the frame is no larger than that, infinity where margins leave no room for such tiles.
    """
    if height * width <= pixels:
        return 1.0
    rows, columns = (
        [stop - start for start, stop in _spans(length, isqrt(pixels), *_margins(reach, multiple))]
        for length in (height, width)
    )
    if max(rows) * max(columns) > pixels:
        return inf
    return sum(rows) * sum(columns) / (height * width)


def least_side(model: EnhancementModel) -> int:
    """Return the side of the smallest tile: half of it is margins and ramps."""
    margin, ramp = _margins(model.reach, model.multiple)
    return 2 * (2 * margin + ramp)


def tiles(length: int, side: int, reach: int, multiple: int = 1, scale: int = 1) -> Iterator[Tile]:
    """Cover `length` pixels with tiles of about `side`; weights, per output pixel, sum to 1."""
    margin, ramp = _margins(reach, multiple)
    fade = (torch.arange(ramp * scale) + 0.5) / (ramp * scale)
    edge = torch.cat((torch.zeros(margin * scale), fade))
    for start, stop in _spans(length, side // multiple * multiple, margin, ramp):
        weight = torch.ones((stop - start) * scale)
        if start > 0:
            weight[: len(edge)] = edge
        if stop < length:
            weight[-len(edge) :] = edge.flip(0)
        yield Tile(start, stop, weight)


def _margins(reach: int, multiple: int) -> tuple[int, int]:
    """Return the widths of margin and ramp, rounded up to the multiple."""
    margin, ramp = (-(-size // multiple) * multiple for size in (reach, RAMP))
    return margin, ramp


def _spans(length: int, side: int, margin: int, ramp: int) -> Iterator[tuple[int, int]]:
    """Yield where the tiles of one axis start and stop."""
    overlap = 2 * margin + ramp
    stride = max(side - overlap, overlap)
    for start in range(0, max(length - overlap, 1), stride):
        yield start, min(start + stride + overlap, length)


def _restored(restore: Restore, batch: Sample, dtype: torch.dtype) -> dict[str, Tensor]:
    device = batch["degraded"].device.type
    with torch.autocast(device, dtype, enabled=dtype != torch.float32):
        restored = {name: clip.float() for name, clip in restore(batch).items()}
    if dtype != torch.float32 and not all(clip.isfinite().all() for clip in restored.values()):
        return _restored(restore, batch, torch.float32)
    return restored
