"""The one iterator over long clips: validation, evaluation and a user's file go through it.

    degraded   ──┬────────┬────────┬────────┬──     length frames a window
                 │context │ window │context │       the model sees all three,
    t_out      ──┴────────┼────────┼────────┴──     only the middle is kept

Frames wait as uint8 on the CPU and become float32 on the model's device, window by window, so
memory does not grow with the clip. Where a window does not fit the budget, it is cut into fewer
frames, into tiles, or both: whichever has the model look at the fewest pixels twice. A recurrent
model with a long context takes small tiles of many frames, one without context whole frames. A
model that interpolates is asked for a few frames at a time, however many are wanted between two.

A model that draws does so from one generator per clip, seeded by (seed, name of the clip), which
every window goes on with: the order of clips changes nothing, nor does the length of the windows
where the model draws frame by frame. The tiles of a large frame go on with it too, one after the
other, so that there the draws do depend on how the clip was cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from itertools import chain
from math import inf

import torch
from torch import Tensor

from unlossy.inference.tiling import Restore, overhead, tiled
from unlossy.models.model import EnhancementModel
from unlossy.sample import Sample, to_float

MADE = 16  # frames that an interpolating model makes at once
MADE_PIXELS = 2**24  # that they may have together: 200 MB as floats


def clip_generator(name: str, seed: int) -> torch.Generator:
    """Return what a model draws from on one clip: the same one everywhere and ever after."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))


def restored_windows(
    model: EnhancementModel,
    sample: Sample,
    length: int | None = None,
    *,
    budget: int | None = None,
    dtype: torch.dtype = torch.float32,
    part: range | None = None,
    tile: int | None = None,
    seed: int = 0,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """Restore a whole clip window by window.

    Args:
        model: in evaluation mode.
        sample: one clip (batch 1), `degraded` uint8 on the CPU; `clean` and `target` are not read.
        length: degraded frames per window, context apart, None for the model's own; fewer where
            frames are large.
        budget: degraded pixels to go through the model at once, None for the model's own.
        dtype: precision of autocast.
        part: degraded frames to restore, the others being their context; None is all.
        tile: side of the tiles in degraded pixels, in place of what the budget would allow.
        seed: of the model's draws, together with the clip's name.
        generator: one to go on drawing from instead, where a clip comes in parts or is drawn again.

    Yields:
        A slice of t_out, and the restored frames there, uint8 (T, 3, H, W) on the CPU. The slices
        follow each other and cover t_out, or what of it lies in `part`.
    """
    draws = _draws(sample, seed, generator)

    def restore(window: Sample) -> dict[str, Tensor]:
        return {"": model.restore(window, generator=draws)}

    for where, clips in _windows(restore, model, sample, length, budget, dtype, part, tile):
        yield where, clips[""]


def named_windows(
    model: EnhancementModel,
    sample: Sample,
    length: int | None = None,
    *,
    budget: int | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """Do what `restored_windows` does with every clip of the model's `restore_all`, by name."""
    restore = partial(model.restore_all, generator=_draws(sample, seed, generator))
    yield from _windows(restore, model, sample, length, budget, dtype, None)


@torch.inference_mode()
def code_lengths(model: EnhancementModel, sample: Sample) -> dict[str, Tensor]:
    """Return the code length of every clean frame, (T,), under each distribution of the model.

    Args:
        model: in evaluation mode, restoring frame by frame; one without a likelihood has none.
        sample: one clip (batch 1) with its clean frames, uint8 on the CPU.

    Returns:
        What `model.bits` measures by name, in bits per sub-pixel, on the CPU.
    """
    frames, device = sample["clean"].shape[1], device_of(model)
    parts: list[dict[str, Tensor]] = []
    for first in range(0, frames, model.window):
        seen = slice(first, first + model.window)
        window = _cut(sample, seen, seen, device)
        window["clean"] = sample["clean"][:, seen].to(device)
        parts.append(model.bits(to_float(window)))
        if not parts[-1]:
            return {}
    return {name: torch.cat([part[name][0].cpu() for part in parts]) for name in parts[0]}


def _draws(sample: Sample, seed: int, generator: torch.Generator | None) -> torch.Generator:
    return clip_generator(sample["name"][0], seed) if generator is None else generator


@torch.inference_mode()
def _windows(
    restore: Restore,
    model: EnhancementModel,
    sample: Sample,
    length: int | None,
    budget: int | None,
    dtype: torch.dtype,
    part: range | None = None,
    tile: int | None = None,
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    _, frames, _, height, width = sample["degraded"].shape
    part = range(frames) if part is None else part
    budget = model.budget if budget is None else budget
    length = min(model.window if length is None else length, len(part))
    if tile is None:
        length = _fitting(model, length, budget, frames, (height, width))
    else:
        length = max(1, min(length, budget // tile**2 - 2 * model.context))
    device = device_of(model)
    for seen, asked, kept in _spans(model, sample, part, length):
        pixels = budget if tile is None else tile**2 * (seen.stop - seen.start)
        inner = slice(kept.start - asked.start, kept.stop - asked.start)
        # In one expression: a name would keep this window's floats while the next one is restored.
        yield (
            kept,
            {
                name: _bytes(clip[0, inner])
                for name, clip in tiled(
                    restore, model, to_float(_cut(sample, seen, asked, device)), pixels, dtype
                ).items()
            },
        )


def _spans(
    model: EnhancementModel, sample: Sample, part: range, length: int
) -> Iterator[tuple[slice, slice, slice]]:
    """Yield per window the degraded frames seen, and of t_out what is asked for and what is kept.

    A frame-by-frame model is asked for every time inside what is seen, so that S == T; one that
    interpolates just for what is kept, in at most `MADE` frames: of few pairs, or of a part of one.
    Its context is counted from a pair, whose first frame is the window's.
    """
    t_in, t_out = sample["t_in"][0].contiguous(), sample["t_out"][0].contiguous()
    _, frames, _, height, width = sample["degraded"].shape
    most = max(1, min(MADE, MADE_PIXELS // (height * width * model.scale**2)))

    def up_to(index: int) -> int:
        """Of t_out, how many lie before degraded frame `index`; none precedes the first one."""
        ends = {0: 0, frames: len(t_out)}
        return ends[index] if index in ends else int(torch.searchsorted(t_out, t_in[index]))

    first = part.start
    while first < part.stop:
        stop = min(first + length, part.stop)
        while model.interpolates and stop > first + 1 and up_to(stop) - up_to(first) > most:
            stop -= 1
        before = model.context - 1 if model.interpolates else model.context
        seen = slice(max(0, first - before), min(frames, stop + model.context))
        kept = slice(up_to(first), up_to(stop))
        if model.interpolates:
            for start in range(kept.start, kept.stop, most):
                some = slice(start, min(start + most, kept.stop))
                yield seen, some, some
        elif kept.start < kept.stop:
            after = int(torch.searchsorted(t_out, t_in[seen.stop - 1], right=True))
            last = len(t_out) if seen.stop == frames else max(kept.stop, after)
            yield seen, slice(up_to(seen.start), last), kept
        first = stop


def _fitting(
    model: EnhancementModel, longest: int, budget: int, frames: int, size: tuple[int, int]
) -> int:
    """Return the frames per window with the fewest pixels computed for each frame kept."""
    costs = {}
    for length in range(longest, 0, -1):
        seen = min(frames, length + 2 * model.context)
        area = overhead(*size, budget // seen, model.reach, model.multiple)
        costs[length] = seen * area / length
    best = min(costs, key=costs.__getitem__, default=1)  # of equals the longest
    return best if costs and costs[best] < inf else 1


def _bytes(clip: Tensor) -> Tensor:
    return clip.mul(255.0).round_().to(torch.uint8).cpu()


def _cut(sample: Sample, seen: slice, asked: slice, device: torch.device) -> Sample:
    """Move a window of the sample to the device, still as uint8."""
    frames = sample["degraded"].shape[1]
    side = {
        key: (value[:, seen] if value.ndim > 1 and value.shape[1] == frames else value).to(device)
        for key, value in sample["side"].items()
    }
    return Sample(
        name=sample["name"],
        degraded=sample["degraded"][:, seen].to(device),
        t_in=sample["t_in"][:, seen].to(device),
        t_out=sample["t_out"][:, asked].to(device),
        side=side,
        target={},
        bits=sample["bits"].to(device),
    )


def device_of(model: EnhancementModel) -> torch.device:
    """Return where the model's weights are; a filter without any works on the CPU."""
    weight = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if weight is None else weight.device
