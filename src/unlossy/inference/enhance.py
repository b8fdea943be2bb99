"""A user's own file in, the restored file out, at constant memory.

decode ──► frames as shown ──► windows ──► model ──► alpha put back ──► encode
alpha apart         + palettes              times and delays as they were
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeRemainingColumn,
)
from rich.text import Text
from torch import Tensor
from torch.nn import functional

from unlossy import checkpoint
from unlossy.errors import UserError
from unlossy.inference.look import MOST_COLORS, look_at, palette_of, trained_colors, unlike
from unlossy.inference.outputs import Clip, check_target, notes, write
from unlossy.inference.windows import clip_generator, restored_windows
from unlossy.models.model import EnhancementModel
from unlossy.sample import Sample
from unlossy.video import Frame, probe, shown_delay, shown_frames

PALETTE = frozenset({"palette", "palette_size"})
TRAIN = "python train.py model=ccdnet loss=grad_gan"


def enhance(
    source: Path,
    target: Path,
    *,
    model: EnhancementModel | str | Path | None = None,
    run_root: Path = Path("runs"),
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
) -> Path:
    """Restore a GIF, video, image or folder of frames.

    Frames, their times and delays, loop, alpha and sound stay as they are. What cannot be kept in
    the chosen kind of file is said on stderr, or refused before any work.

    Args:
        source: `.gif`, an image, a video, or a folder of images.
        target: `.png` (one frame), `.gif`, `.mp4`, `.webm`, or without suffix a folder of PNGs.
        model: a model (used where it is), a checkpoint, or None for the newest fitting one.
        run_root: where `runs/NAME/TIME/checkpoints/best.ckpt` are looked for.
        device: `auto`, or a torch device for a model that comes from a checkpoint.
        precision: of autocast; `auto` is bfloat16 on GPUs that have it, else float32.

    Returns:
        `target`.

    Raises:
        UserError: unreadable input, unwritable output, or no model that fits. Nothing is written.
    """
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    source, target = Path(source), Path(target)
    media = probe(source)
    # A look at a video would decode it twice, and a decoded video has no palette.
    look = look_at(source, media) if media.pictures else None
    check_target(source, target, media.frames, look is not None and look.alpha)
    if look is not None:
        console.print(f"{source}: {look}")
    colors = look.colors if look is not None else None
    if model is None:
        model = newest_checkpoint(run_root, source, colors)
        console.print(f"model: {model}")
    if not isinstance(model, EnhancementModel):
        training = checkpoint.describe(model)["training"]
        if training.get("after") is not None:
            raise UserError(
                f"{model} restores what another stage has restored before; give the checkpoint of "
                "the model that was assembled from both."
            )
        if look is not None and (way := unlike(look, training)):
            console.print(f"warning: {source} {way}; expect less of the result")
        model = checkpoint.load(model).to(_device(device))
    if not model.restores:
        raise UserError(
            f"{type(model).__name__} restores nothing: another model takes what it has learnt; "
            "give that model's checkpoint."
        )
    if colors is None and (PALETTE & model.needs):
        raise UserError(_no_palette(source, type(model).__name__))
    if missing := model.needs - PALETTE:
        raise UserError(
            f"{type(model).__name__} needs {', '.join(sorted(missing))}, which {source} does not "
            "carry; give another checkpoint."
        )
    clip = Clip(
        source=source,
        frames=media.frames,
        width=media.width * model.scale,
        height=media.height * model.scale,
        rate=media.rate,
        time_base=media.time_base,
        audio=media.audio,
        loop=media.loop if media.pictures else 0,
        alpha=look is not None and look.alpha,
    )
    for note in notes(target, clip):
        console.print(f"note: {note}")
    dtype = _dtype(precision, model)
    with _evaluating(model), _progress(console, media.frames) as progress:
        shown = iter(progress.track(shown_frames(source), task_id=progress.tasks[0].id))
        restored = restored_frames(model, shown, source, dtype)
        if target.suffix.lower() in (".mp4", ".webm") and media.pictures:
            restored = (f._replace(duration=shown_delay(f.duration)) for f in restored)
        written = write(target, restored, clip)
    read = int(progress.tasks[0].completed)
    if written != read:
        raise RuntimeError(f"{written} of {read} frames reached {target}: please report this.")
    console.print(f"{target}: {written} frames")
    return target


def restored_frames(
    model: EnhancementModel,
    frames: Iterator[Frame],
    source: Path,
    dtype: torch.dtype = torch.float32,
) -> Iterator[Frame]:
    """Restore a stream of frames, holding one window of them and its context.

    Args:
        model: in evaluation mode, one frame out for each frame in.
        frames: as shown, all of one size.
        source: their file, for messages.
        dtype: precision of autocast.

    Yields:
        The frames with their colours restored and alpha scaled along; times untouched.

    Raises:
        UserError: the model needs a palette and a frame has none.
    """
    held: list[Frame] = []  # context before, frames to restore, context after
    first = 0  # of the frames to restore
    draws = clip_generator(source.name, 0)
    more = True
    while more:
        wanted = first + model.window + model.context - len(held)
        fresh = list(islice(frames, wanted))
        more = len(fresh) == wanted
        held += fresh
        stop = len(held) - model.context if more else len(held)
        if first < stop:
            sample = _sample(model, held, source)
            part = range(first, stop)
            windows = restored_windows(model, sample, dtype=dtype, part=part, generator=draws)
            pictures = chain.from_iterable(restored for _, restored in windows)
            for frame, rgb in zip(held[first:stop], pictures, strict=True):
                yield frame._replace(rgb=rgb, alpha=_scaled(frame.alpha, model.scale))
        held = held[max(0, stop - model.context) :]
        first = min(stop, model.context)


def _sample(model: EnhancementModel, frames: list[Frame], source: Path) -> Sample:
    """One clip of batch 1 from frames as shown."""
    pictures = [frame.rgb for frame in frames]
    side: dict[str, Tensor] = {}
    if PALETTE & model.needs:
        found = [p for p in map(palette_of, frames) if p is not None]
        if len(found) < len(frames):
            raise UserError(_no_palette(source, type(model).__name__))
        size = torch.tensor([len(colors) for colors, _ in found])
        palette = torch.zeros(1, len(found), int(size.max()), 3)
        for row, (colors, _) in zip(palette[0], found, strict=True):
            row[: len(colors)] = colors / 255.0
        pictures = [picture for _, picture in found]
        side = {"palette": palette, "palette_size": size[None]}
    times = torch.arange(len(frames), dtype=torch.float32)[None]
    return Sample(
        name=[source.name],
        degraded=torch.stack(pictures)[None],
        t_in=times,
        t_out=times,
        side=side,
        target={},
        bits=torch.zeros(1),
    )


def _scaled(alpha: Tensor | None, scale: int) -> Tensor | None:
    if alpha is None or scale == 1:
        return alpha
    scaled = functional.interpolate(alpha[None, None].float(), scale_factor=scale, mode="bilinear")
    return scaled[0, 0].round().byte()


def newest_checkpoint(run_root: Path, source: Path, colors: int | None) -> Path:
    """Return the newest best checkpoint whose training data is of the kind of the input.

    Args:
        run_root: holds `NAME/TIME/checkpoints/best.ckpt`.
        source: the input, for the message.
        colors: most colours in one of its frames; None where it has no palette.

    Raises:
        UserError: there is none.
    """
    has = PALETTE if colors is not None else frozenset()
    found = run_root.glob("*/*/checkpoints/best.ckpt")
    for path in sorted(found, key=lambda path: path.parts[-3], reverse=True):
        try:
            description = checkpoint.describe(path)
            restores = checkpoint.restores(description)
        except UserError:
            continue
        training: dict[str, Any] = description["training"]
        learned_gifs = trained_colors(training) is not None
        fits = set(training["needs"]) <= has and learned_gifs == (colors is not None)
        if restores and fits and training.get("after") is None:
            return path
    kind = "a GIF" if colors is not None else "a picture without a palette"
    raise UserError(
        f"no checkpoint under {run_root} fits {source}, which is {kind}; train one with {TRAIN}, "
        "or name one with --ckpt."
    )


def _no_palette(source: Path, model: str) -> str:
    return (
        f"{model} restores GIFs and needs their palette, but {source} has frames of more than "
        f"{MOST_COLORS} colours; give the GIF itself, or a checkpoint that needs no palette."
    )


@contextmanager
def _evaluating(model: EnhancementModel) -> Iterator[None]:
    """Evaluation mode, and afterwards the mode that the caller's model was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r} is not there; use auto, cpu or cuda.") from error


def _dtype(precision: str, model: EnhancementModel) -> torch.dtype:
    if precision == "auto":
        device = next(chain(model.parameters(), [torch.empty(0)])).device
        half = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if half else torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if precision not in known:
        raise UserError(f"precision {precision!r} is unknown; use auto, {', '.join(known)}.")
    return known[precision]


class _Speed(ProgressColumn):
    """Frames per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.1f} fps")


def _progress(console: Console, frames: int) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    progress = Progress(*columns, console=console)
    progress.add_task("", total=frames)
    return progress
