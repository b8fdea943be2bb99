"""One clip, one model, one row: the measurement that validation, `train.py` and `eval.py` share."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from unlossy.inference.windows import restored_windows
from unlossy.metrics.suite import VideoScores
from unlossy.models.model import EnhancementModel
from unlossy.sample import Sample

Row = dict[str, Any]


def score_clip(
    model: EnhancementModel,
    sample: Sample,
    scores: VideoScores,
    keep: list[Tensor] | None = None,
) -> Row:
    """Restore one whole clip (batch 1, frames waiting as uint8) and return its row of metrics.

    `seconds_per_frame` counts the restoration alone. Restored frames are appended to `keep`, where
    given, as uint8 (T, 3, H, W) windows.
    """
    if "clean" not in sample:
        raise ValueError("score_clip needs sample['clean']; a user's own file has none.")
    clean, degraded = sample["clean"][0], sample["degraded"][0]
    observed = clean.shape == degraded.shape
    clip, seconds, bits = scores.start(), 0.0, float(sample["bits"][0])
    was_training = model.training
    model.eval()
    windows = restored_windows(model, sample)
    while True:
        start = time.perf_counter()
        if (item := next(windows, None)) is None:
            break
        seconds += time.perf_counter() - start
        where, frames = item
        clip.add(frames, clean[where], degraded[where] if observed else None)
        if keep is not None:
            keep.append(frames)
    model.train(was_training)
    frames_out, _, height, width = clean.shape
    return {
        "clip": sample["name"][0],
        **clip.row(),
        "bits": int(bits),
        "bpp": bits / (frames_out * height * width),
        "seconds_per_frame": seconds / frames_out,
    }


def score(
    models: Mapping[str, EnhancementModel],
    samples: Iterable[Sample],
    scores: VideoScores,
    labels: Mapping[str, Any],
) -> Iterator[Row]:
    """Yield one row per (clip, model), reading every clip once.

    Args:
        models: name in the table -> model.
        samples: whole clips of batch 1.
        scores: the metric suite.
        labels: columns that are the same in every row (degradation, seed, ...).
    """
    for sample in samples:
        for name, model in models.items():
            with torch.inference_mode():
                yield {"model": name, **labels, **score_clip(model, sample, scores)}
