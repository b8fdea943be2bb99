"""The one iterator over long clips: validation, evaluation and a user's file go through it.

    degraded   ──┬────────┬────────┬────────┬──     length frames a window
                 │context │ window │context │       the model sees all three,
    t_out      ──┴────────┼────────┼────────┴──     only the middle is kept

Frames wait as uint8 on the CPU and become float32 on the model's device, window by window, so
memory does not grow with the clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor

from unlossy.inference.tiling import restore_tiled
from unlossy.models.model import EnhancementModel
from unlossy.sample import Sample, to_float


@torch.inference_mode()
def restored_windows(
    model: EnhancementModel,
    sample: Sample,
    length: int = 8,
    *,
    budget: int = 2**20,
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[slice, Tensor]]:
    """Restore a whole clip window by window.

    Args:
        model: in evaluation mode.
        sample: one clip (batch 1), `degraded` uint8 on the CPU; `clean` and `target` are not read.
        length: degraded frames per window, context apart; fewer where frames are large.
        budget: degraded pixels to go through the model at once; a larger frame is tiled.
        dtype: precision of autocast.

    Yields:
        A slice of t_out, and the restored frames there, uint8 (T, 3, H, W) on the CPU. The slices
        follow each other and cover t_out.
    """
    t_in, t_out = sample["t_in"][0].contiguous(), sample["t_out"][0].contiguous()
    _, frames, _, height, width = sample["degraded"].shape
    length = max(1, min(length, budget // (height * width) - 2 * model.context))
    device = _device(model)
    for first in range(0, frames, length):
        stop = min(first + length, frames)
        seen = slice(max(0, first - model.context), min(frames, stop + model.context))
        kept = slice(
            0 if first == 0 else int(torch.searchsorted(t_out, t_in[first])),
            len(t_out) if stop == frames else int(torch.searchsorted(t_out, t_in[stop])),
        )
        if kept.start == kept.stop:
            continue
        # Asked for: every time inside what is seen, so that frame-by-frame models keep S == T.
        after = int(torch.searchsorted(t_out, t_in[seen.stop - 1], right=True))
        asked = slice(
            0 if seen.start == 0 else int(torch.searchsorted(t_out, t_in[seen.start])),
            len(t_out) if seen.stop == frames else max(kept.stop, after),
        )
        window = to_float(_cut(sample, seen, asked, device))
        restored = restore_tiled(model, window, budget, dtype)[0]
        inner = restored[kept.start - asked.start : kept.stop - asked.start]
        yield kept, inner.mul(255.0).round_().to(torch.uint8).cpu()


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


def _device(model: EnhancementModel) -> torch.device:
    """Where the model's weights are; a filter without any works on the CPU."""
    weight = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if weight is None else weight.device
