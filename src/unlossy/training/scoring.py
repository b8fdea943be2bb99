"""One clip, one model: the measurement that validation, `train.py` and `eval.py` share.

A model of several outputs gets a row for each, named `model:output` (`astf:s`, `astf:e1`, ...), any
other one row of its own name. What a model says of its own distribution,
`nll` (the code length of the clean clip under it), stands in the row of its last output.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unlossy.inference.windows import clip_generator, code_lengths, named_windows
from unlossy.metrics.fid import SetScores
from unlossy.metrics.reference import Reference
from unlossy.metrics.stills import diversity
from unlossy.metrics.suite import VideoScores
from unlossy.models.model import EnhancementModel
from unlossy.report.pictures import strip
from unlossy.report.saved_frames import CLEAN, SavedFrames
from unlossy.sample import Sample
from unlossy.training.gallery import Gallery, Views

Row = dict[str, Any]
Look = Callable[[slice, Mapping[str, Tensor]], None]


def outputs_of(model: EnhancementModel) -> tuple[str, ...]:
    """Return the names of the clips that are scored: "" alone for a model of one."""
    return model.outputs or ("",)


def label(name: str, output: str) -> str:
    """Return what an output, or a picture, of the model `name` is called in tables."""
    return f"{name}:{output}" if output else name


def truth_of(scores: VideoScores, sample: Sample, device: torch.device | str) -> Reference:
    """Return the clean side of a whole clip (batch 1), which knows what the medium kept and when.

    Args:
        scores: the metric suite.
        sample: with its clean frames; each degraded one has the time of a clean one.
        device: where it is computed.
    """
    kept = torch.searchsorted(sample["t_out"][0].contiguous(), sample["t_in"][0].contiguous())
    return scores.reference(sample["clean"][0], sample["degraded"][0], device, kept.tolist())


def shown_frame(sample: Sample) -> int:
    """Return which wanted frame of a whole clip stands for it in pictures.

    The first; where the medium dropped frames, the middle one of the first that it dropped.
    """
    t_in, t_out = sample["t_in"][0], sample["t_out"][0]
    between = (t_out < t_in[1]).sum() if len(t_in) > 1 else 1
    return int(between) // 2


def score_clip(
    model: EnhancementModel,
    sample: Sample,
    truth: Reference,
    scores: VideoScores,
    look: Look,
    seed: int = 0,
) -> dict[str, Row]:
    """Restore one whole clip (batch 1, frames waiting as uint8) and return its rows of metrics.

    Args:
        model: in any mode, on any device; left as it was.
        sample: with its clean frames.
        truth: `truth_of` the sample.
        scores: the metric suite.
        look: called with each window: a slice of the clip, and all that the model makes of it by
            name, uint8 (T, 3, H, W).
        seed: of what the model draws.

    Returns:
        For each of `outputs_of(model)` the columns of the metrics, and `clip`, `bits`, `bpp`,
        `seconds_per_frame` (of the restoration alone, all outputs together).
    """
    clips = {output: scores.start(truth) for output in outputs_of(model)}
    seconds, was_training = 0.0, model.training
    model.eval()
    draws = clip_generator(sample["name"][0], seed)
    untouched, first_draw = draws.get_state(), []
    windows = named_windows(model, sample, generator=draws)
    while True:
        start = time.perf_counter()
        if (item := next(windows, None)) is None:
            break
        seconds += time.perf_counter() - start
        where, made = item
        for output, clip in clips.items():
            clip.add(made[output])
        look(where, made)
        if scores.samples > 1:
            first_draw.append(made)
    own: dict[str, Row] = {output: {} for output in clips}
    if scores.samples > 1 and not torch.equal(draws.get_state(), untouched):
        for output, value in _diversity(model, sample, first_draw, scores.samples, draws).items():
            own[output]["diversity"] = value
    own[outputs_of(model)[-1]] |= mean_code_lengths(model, sample)
    model.train(was_training)
    frames, _, height, width = sample["clean"][0].shape
    bits = float(sample["bits"][0])
    return {
        output: {
            "clip": sample["name"][0],
            **clip.row(),
            **own[output],
            "bits": int(bits),
            "bpp": bits / (frames * height * width),
            "seconds_per_frame": seconds / frames,
        }
        for output, clip in clips.items()
    }


def mean_code_lengths(model: EnhancementModel, sample: Sample) -> dict[str, float]:
    """Return the means of `code_lengths` over the clip; none for a model without a likelihood."""
    return {name: float(each.mean()) for name, each in code_lengths(model, sample).items()}


def _diversity(
    model: EnhancementModel,
    sample: Sample,
    first_draw: Sequence[Mapping[str, Tensor]],
    samples: int,
    draws: torch.Generator,
) -> dict[str, float]:
    """Draw the clip again until there are `samples` of it; `draws` goes on where it is."""
    every: dict[str, list[Tensor]] = {output: [] for output in outputs_of(model)}
    for number in range(samples):
        again = (made for _, made in named_windows(model, sample, generator=draws))
        windows = list(again) if number else first_draw
        for output, drawn in every.items():
            drawn.append(torch.cat([made[output] for made in windows]))
    return {output: diversity(drawn) for output, drawn in every.items()}


def score(
    models: Mapping[str, EnhancementModel],
    samples: Iterable[Sample],
    scores: VideoScores,
    sets: SetScores,
    strips: Strips,
    saved: SavedFrames | None,
    device: torch.device,
    seed: int = 0,
    gallery: Gallery | None = None,
) -> Iterator[tuple[str, Row]]:
    """Yield (model, row) for every clip, model and output, reading every clip once.

    Args:
        models: name in the table -> model.
        samples: whole clips of batch 1, with their clean frames.
        scores: the metric suite.
        sets: gathers all frames of each output, for distances between sets.
        strips: draws some of the clips.
        saved: keeps every frame that is scored, and the clean ones; None keeps nothing.
        device: where the metrics are computed.
        seed: of what the models draw.
        gallery: keeps pictures of some clips; None keeps none.
    """
    for number, sample in enumerate(samples):
        truth = truth_of(scores, sample, device)
        if saved is not None:
            saved.write(CLEAN, sample["name"][0], 0, sample["clean"][0])
        shown: dict[str, Tensor] = {}
        views = gallery.views(sample, truth.kept) if gallery is not None else None
        for name, model in models.items():
            look = partial(_look, name, model, sample, truth, sets, saved, shown, views)
            for output, row in score_clip(model, sample, truth, scores, look, seed).items():
                yield name, {"model": label(name, output), **row}
        strips.draw(number, sample, shown)
        if gallery is not None and views is not None:
            gallery.add(sample, views)


def _look(
    name: str,
    model: EnhancementModel,
    sample: Sample,
    truth: Reference,
    sets: SetScores,
    saved: SavedFrames | None,
    shown: dict[str, Tensor],
    views: Views | None,
    where: slice,
    made: Mapping[str, Tensor],
) -> None:
    # Among every n-th frame that sets look at there may be none but kept ones.
    observed = truth.exact[where] if truth.gaps else [False] * (where.stop - where.start)
    scored = [t for t, skip in enumerate(observed) if not skip]
    of_clip = shown_frame(sample)
    for output, frames in made.items():
        if views is not None:
            views.add(label(name, output), where.start, frames)
        if output in outputs_of(model):
            sets.add(label(name, output), frames[scored], sample["clean"][0, where][scored])
            if saved is not None:
                saved.write(label(name, output), sample["name"][0], where.start, frames)
        if of_clip in range(where.start, where.stop):
            shown[label(name, output)] = frames[of_clip - where.start]


@dataclass(frozen=True)
class Strips:
    """Draws a frame of every n-th clip, as each model restored it, beside the clean one.

    Args:
        folder: where `<clip>.png` goes.
        shown: labels of the outputs to show, in order.
        pictures: labels of what is drawn beside them without being compared, such as a mask.
        every: n.
        rank: of the process that scores clips `rank`, `rank + world`, ...
        world: of how many.
    """

    folder: Path
    shown: Sequence[str]
    pictures: Sequence[str]
    every: int
    rank: int = 0
    world: int = 1

    def draw(self, number: int, sample: Sample, frames: Mapping[str, Tensor]) -> None:
        """Draw this process's clip `number` if it is its turn; frames are uint8 (3, H, W)."""
        if (number * self.world + self.rank) % self.every == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{sample['name'][0].replace('/', '_')}.png"
            shown, pictures = (
                {key: frames[key] for key in keys} for keys in (self.shown, self.pictures)
            )
            strip(shown, sample["clean"][0, shown_frame(sample)], path, pictures)
