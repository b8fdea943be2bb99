"""Large frames in overlapping tiles, so that memory follows the tile and not the frame.

    weight of a tile along one axis, for an edge inside the frame:

        1            ┌─────────         `model.reach` pixels next to the edge are thrown away: there
                   ╱                    the network saw its own padding instead of the picture;
        0  ───────                       RAMP pixels fade into the neighbour, whose weights are
            reach RAMP                  the complement, so seams of a wider network do not show

A tile starts at a multiple of `model.multiple`, or strided layers would sample another phase. The
result equals the untiled one where the network sees no further than its `reach`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import NamedTuple

import torch
from torch import Tensor

from unlossy.models.model import EnhancementModel
from unlossy.sample import Sample

RAMP = 16  # degraded pixels, rounded up to the model's multiple


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
    batch_size, frames, _, height, width = batch["degraded"].shape
    if batch_size * frames * height * width <= budget:
        return _restored(model, batch, dtype)
    side = isqrt(budget // (batch_size * frames))
    rows = list(tiles(height, side, model.reach, model.multiple, model.scale))
    columns = list(tiles(width, side, model.reach, model.multiple, model.scale))
    result = torch.empty(0)
    for row in rows:
        for column in columns:
            cut = batch["degraded"][..., row.start : row.stop, column.start : column.stop]
            part = _restored(model, Sample(**{**batch, "degraded": cut}), dtype)
            if not result.numel():
                size = (height * model.scale, width * model.scale)
                result = part.new_zeros(*part.shape[:3], *size)
            weight = (row.weight[:, None] * column.weight).to(part)
            top, left = row.start * model.scale, column.start * model.scale
            bottom, right = top + part.shape[-2], left + part.shape[-1]
            result[..., top:bottom, left:right] += part * weight
    return result


def tiles(length: int, side: int, reach: int, multiple: int = 1, scale: int = 1) -> Iterator[Tile]:
    """Cover `length` pixels with tiles of about `side`; weights, per output pixel, sum to 1."""
    margin, ramp = (-(-size // multiple) * multiple for size in (reach, RAMP))
    overlap = 2 * margin + ramp
    stride = max(side // multiple * multiple - overlap, overlap)
    fade = (torch.arange(ramp * scale) + 0.5) / (ramp * scale)
    edge = torch.cat((torch.zeros(margin * scale), fade))
    for start in range(0, max(length - overlap, 1), stride):
        stop = min(start + stride + overlap, length)
        weight = torch.ones((stop - start) * scale)
        if start > 0:
            weight[: len(edge)] = edge
        if stop < length:
            weight[-len(edge) :] = edge.flip(0)
        yield Tile(start, stop, weight)


def _restored(model: EnhancementModel, batch: Sample, dtype: torch.dtype) -> Tensor:
    device = batch["degraded"].device.type
    with torch.autocast(device, dtype, enabled=dtype != torch.float32):
        restored = model.restore(batch).float()
    if dtype != torch.float32 and not restored.isfinite().all():
        return _restored(model, batch, torch.float32)
    return restored
