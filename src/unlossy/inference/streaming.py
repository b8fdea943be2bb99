"""A stream of frames through a model, at constant memory: one window and its context are held.

    planned frames ──► held: context │ window │ context ──► windows, tiles ──► one frame per slot
                             (kept)    (restored)  (read ahead)

A frame in may give any number of frames out (`timeline.py`). The palette of a GIF and the cuts
between scenes are read off whole frames here, and handed to the model as side information.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, groupby, islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from unlossy.errors import UserError
from unlossy.inference.look import MOST_COLORS, palette_of
from unlossy.inference.timeline import Planned, Slot
from unlossy.inference.windows import clip_generator, restored_windows
from unlossy.models.interpolator import Interpolator, other_scene
from unlossy.models.model import EnhancementModel
from unlossy.sample import Sample
from unlossy.video import Frame

PALETTE = frozenset({"palette", "palette_size"})


class Result(NamedTuple):
    """An output frame beside the input frame that the medium showed at that time."""

    before: Frame
    after: Frame


@dataclass
class Tally:
    """What a stream turned out to hold, counted as it goes by.

    Attributes:
        frames: how many were read.
        start: when the first one is shown, in seconds.
        last: when the last one is.
        stop: when it goes.
        cuts: scene cuts between which a model that interpolates held the nearer frame.
    """

    frames: int = 0
    start: Fraction = Fraction(0)
    last: Fraction = Fraction(0)
    stop: Fraction = Fraction(0)
    cuts: int = 0

    def counted(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the frames."""
        for frame in frames:
            self.start = self.start if self.frames else frame.time
            self.last, self.stop = frame.time, frame.time + frame.duration
            self.frames += 1
            yield frame


class _Held(NamedTuple):
    frame: Frame
    slots: list[Slot]
    cut: bool  # a scene begins here


def restored_frames(
    model: EnhancementModel,
    planned: Iterator[Planned],
    source: Path,
    *,
    dtype: torch.dtype = torch.float32,
    tile: int | None = None,
    tally: Tally | None = None,
) -> Iterator[Result]:
    """Restore a stream of frames, holding one window of them and its context.

    Args:
        model: in evaluation mode; one that does not interpolate takes one slot per frame, at 0.
        planned: frames as shown, all of one size, and the output frames that they give.
        source: their file, for messages.
        dtype: precision of autocast.
        tile: side of the tiles, in pixels of the input; None leaves it to the model's budget.
        tally: where cuts are counted.

    Yields:
        One result per slot, in their order. Alpha is scaled along, and blended between frames.

    Raises:
        UserError: the model needs a palette and a frame has none.
    """
    held: list[_Held] = []  # context before, frames to restore, context after
    arriving = _surveyed(model, planned, Tally() if tally is None else tally)
    first = 0  # of the frames to restore
    draws = clip_generator(source.name, 0)
    more = True
    while more:
        wanted = first + model.window + model.context - len(held)
        fresh = list(islice(arriving, wanted))
        more = len(fresh) == wanted
        held += fresh
        stop = len(held) - model.context if more else len(held)
        if first < stop:
            part, sample = range(first, stop), _sample(model, held, source)
            windows = restored_windows(
                model, sample, dtype=dtype, part=part, tile=tile, generator=draws
            )
            yield from _results(model.scale, held, part, windows)
        held = held[max(0, stop - model.context) :]
        first = min(stop, model.context)


def _results(
    scale: int, held: list[_Held], part: range, windows: Iterator[tuple[slice, Tensor]]
) -> Iterator[Result]:
    """Hand the restored pictures, one for each time asked for, to the slots of the frames."""
    pictures = chain.from_iterable(restored for _, restored in windows)
    for k in part:
        before = held[k].frame
        for at, slots in groupby(held[k].slots, key=lambda slot: slot.at):
            after = held[k + 1].frame if at else before
            rgb, alpha = next(pictures), _scaled(_blended(before, after, at), scale)
            for slot in slots:
                yield Result(before, Frame(rgb, alpha, slot.time, slot.duration))


def _surveyed(model: EnhancementModel, planned: Iterator[Planned], tally: Tally) -> Iterator[_Held]:
    """Mark the frames that begin a scene, where that means something to the model."""
    limit = model.cut if isinstance(model, Interpolator) else None
    before: Tensor | None = None
    between = False
    for frame, slots in planned:
        cut = False
        if limit is not None:
            picture = frame.rgb[None, None].float() / 255
            cut = before is not None and bool(other_scene(before, picture, limit))
            before = picture
        tally.cuts += cut and between
        between = any(slot.at for slot in slots)
        yield _Held(frame, slots, cut)


def _sample(model: EnhancementModel, held: list[_Held], source: Path) -> Sample:
    """One clip of batch 1 from frames as shown."""
    frames = [each.frame for each in held]
    pictures = [frame.rgb for frame in frames]
    side: dict[str, Tensor] = {}
    if PALETTE & model.needs:
        found = [p for p in map(palette_of, frames) if p is not None]
        if len(found) < len(frames):
            raise UserError(no_palette(source, type(model).__name__))
        size = torch.tensor([len(colors) for colors, _ in found])
        palette = torch.zeros(1, len(found), int(size.max()), 3)
        for row, (colors, _) in zip(palette[0], found, strict=True):
            row[: len(colors)] = colors / 255.0
        pictures = [picture for _, picture in found]
        side = {"palette": palette, "palette_size": size[None]}
    times = torch.arange(len(frames), dtype=torch.float32)[None]
    wanted = times
    if model.interpolates:
        distinct = {k + slot.at for k, each in enumerate(held) for slot in each.slots}
        wanted = torch.tensor([[float(time) for time in sorted(distinct)]])
    if isinstance(model, Interpolator) and model.cut is not None:
        side["cut"] = torch.tensor([[each.cut for each in held]])
    return Sample(
        name=[source.name],
        degraded=torch.stack(pictures)[None],
        t_in=times,
        t_out=wanted,
        side=side,
        target={},
        bits=torch.zeros(1),
    )


def no_palette(source: Path, model: str) -> str:
    """Return the sentence about an input without the palette that a model needs."""
    itself = "" if source.suffix.lower() == ".gif" else "give the GIF itself, or "
    return (
        f"{model} restores GIFs and needs their palette, but {source} has frames of more than "
        f"{MOST_COLORS} colours; {itself}use a checkpoint that needs no palette."
    )


def _blended(before: Frame, after: Frame, at: Fraction) -> Tensor | None:
    """Alpha (H, W) on the way from one frame to the next; None where both are opaque."""
    if not at or (before.alpha is None and after.alpha is None):
        return before.alpha
    first, last = (
        torch.full(frame.rgb.shape[1:], 255.0) if frame.alpha is None else frame.alpha.float()
        for frame in (before, after)
    )
    return torch.lerp(first, last, float(at)).round().byte()


def _scaled(alpha: Tensor | None, scale: int) -> Tensor | None:
    if alpha is None or scale == 1:
        return alpha
    scaled = functional.interpolate(alpha[None, None].float(), scale_factor=scale, mode="bilinear")
    return scaled[0, 0].round().byte()
