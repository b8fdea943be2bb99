"""One clip, one model, one row: the measurement that validation, `train.py` and `eval.py` share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unlossy.inference.windows import restored_windows
from unlossy.metrics.fid import SetScores
from unlossy.metrics.suite import VideoScores
from unlossy.models.model import EnhancementModel
from unlossy.report.pictures import strip
from unlossy.sample import Sample

Row = dict[str, Any]


def score_clip(
    model: EnhancementModel,
    sample: Sample,
    scores: VideoScores,
    look: Callable[[Tensor, Tensor], None],
    device: torch.device,
) -> Row:
    """Restore one whole clip (batch 1, frames waiting as uint8) and return its row of metrics.

    Args:
        model: in any mode, on any device; left as it was.
        sample: with its clean frames.
        scores: the metric suite.
        look: called with each window of restored and clean frames, uint8 (T, 3, H, W).
        device: where the metrics are computed.

    Returns:
        The columns of the metrics, and `clip`, `bits`, `bpp`, `seconds_per_frame` (of the
        restoration alone).
    """
    if "clean" not in sample:
        raise ValueError("score_clip needs sample['clean']; a user's own file has none.")
    clean, degraded = sample["clean"][0], sample["degraded"][0]
    observed = clean.shape == degraded.shape
    clip, seconds, bits = scores.start(device), 0.0, float(sample["bits"][0])
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
        look(frames, clean[where])
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
    sets: SetScores,
    strips: Strips,
    device: torch.device,
) -> Iterator[Row]:
    """Yield one row per (clip, model), reading every clip once.

    Args:
        models: name in the table -> model.
        samples: whole clips of batch 1.
        scores: the metric suite.
        sets: gathers all frames of each model, for distances between sets.
        strips: draws some of the clips.
        device: where the metrics are computed.
    """
    for number, sample in enumerate(samples):
        first_frames: dict[str, Tensor] = {}
        for name, model in models.items():
            look = partial(_look, name, sets, first_frames)
            yield {"model": name, **score_clip(model, sample, scores, look, device)}
        strips.draw(number, sample, first_frames)


def _look(
    name: str, sets: SetScores, first_frames: dict[str, Tensor], restored: Tensor, clean: Tensor
) -> None:
    sets.add(name, restored, clean)
    first_frames.setdefault(name, restored[0])


@dataclass(frozen=True)
class Strips:
    """Draws the first frame of every n-th clip, as each model restored it, beside the clean one.

    Args:
        folder: where `<clip>.png` goes.
        models: whose frames to show, in order.
        every: n.
    """

    folder: Path
    models: Sequence[str]
    every: int

    def draw(self, number: int, sample: Sample, frames: Mapping[str, Tensor]) -> None:
        """Draw clip `number` of an evaluation if it is its turn; frames are uint8 (3, H, W)."""
        if number % self.every == 0 and "clean" in sample:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{sample['name'][0].replace('/', '_')}.png"
            strip({name: frames[name] for name in self.models}, sample["clean"][0, 0], path)
