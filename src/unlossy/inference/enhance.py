"""A user's own file in, the restored file out, at constant memory.

decode ──► frames as shown ──► timeline ──► windows ──► model ──► slots ──► encode
(a thread)  alpha, palettes     which t_out               alpha put back    (a thread)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

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

from unlossy.errors import UserError
from unlossy.inference.choosing import Precision, chosen, dtype_of, newest_checkpoint
from unlossy.inference.look import has_alpha, look_at
from unlossy.inference.outputs import (
    GIF_FPS,
    PLAIN,
    VIDEOS,
    Clip,
    GifStyle,
    check_target,
    notes,
    write,
)
from unlossy.inference.overlap import Check, ahead, behind
from unlossy.inference.side_by_side import comparing, comparison_of, side_by_side
from unlossy.inference.streaming import Result, Tally, restored_frames
from unlossy.inference.tiling import least_side
from unlossy.inference.timeline import FASTEST, Timeline, Timing
from unlossy.models.interpolator import Interpolator
from unlossy.models.model import EnhancementModel
from unlossy.video import Frame, Probe, probe, shown_delay, shown_frames

__all__ = ["enhance", "newest_checkpoint"]

AS_SHOWN = Timing()


def enhance(
    source: Path,
    target: Path,
    *,
    model: EnhancementModel | str | Path | None = None,
    run_root: Path = Path("runs"),
    device: str = "auto",
    precision: Precision = "auto",
    timing: Timing = AS_SHOWN,
    tile: int | None = None,
    compare: bool = False,
    style: GifStyle = PLAIN,
) -> Path:
    """Restore a GIF, video, image or folder of frames, with more frames where that is asked for.

    Frames, their times and delays, loop, alpha and sound stay as they are, but for what `timing`
    says. What cannot be kept in the chosen kind of file is said on stderr, or refused before any
    work.

    Args:
        source: `.gif`, an image, a video, or a folder or pattern (`frames/*.png`) of images.
        target: `.png` (one frame), `.gif`, a video, or without suffix a folder of PNGs.
        model: a model (used where it is), a checkpoint, or None for the newest fitting one.
        run_root: where `runs/NAME/TIME/checkpoints/best.ckpt` are looked for.
        device: `auto`, `cpu` or `cuda`, for a model that comes from a checkpoint.
        precision: of autocast; `auto` is bfloat16 on GPUs that have it, else float32.
        timing: how many frames and how slow; a model that interpolates doubles them unasked, where
            the kind of file can play as many.
        tile: side of the tiles, in pixels of the input; None leaves it to the model's budget.
        compare: also write the input left and the result right, beside `cat.webm` and `cat.mkv` a
            film of their kind, such as `cat.compare.webm`, and else `cat.compare.mp4`.
        style: palette and dither of a `.gif`.

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
    alpha = has_alpha(source, media) if look is None else look.alpha
    timeline = timing.timeline(media.rate, 1, even=media.even)
    interpolating = timeline.parts != 1
    _refuse_timing(source, media, target, timeline)
    check_target(source, target, media.frames, alpha)
    if compare:
        check_target(source, comparison_of(target), media.frames, False)
    if look is not None:
        console.print(f"{source}: {look}")
    network = chosen(
        model,
        source,
        look,
        interpolating=interpolating,
        run_root=run_root,
        device=device,
        console=console,
    )
    if timing == AS_SHOWN and isinstance(network, Interpolator) and media.frames > 1:
        most = GIF_FPS if target.suffix.lower() == ".gif" else FASTEST
        if 2 * media.rate <= most:
            timeline = timing.timeline(media.rate, 2)
            console.print(
                "note: two frames out for each one in; --factor or --fps choose otherwise"
            )
        else:
            console.print(
                f"note: no frames are added, as twice as many would be over {most} a second, the "
                "most that this kind of file plays; --fps chooses otherwise"
            )
    tile = _checked_tile(tile, network, console)
    clip = Clip(
        source=source,
        frames=_expected(timeline, media),
        width=media.width * network.scale,
        height=media.height * network.scale,
        rate=timeline.rate,
        time_base=timeline.clock(media.time_base),
        audio=media.audio if timeline.slow == 1 else None,
        loop=media.loop if media.pictures else 0,
        alpha=alpha,
        stored=media.pictures and timeline.untouched and target.suffix.lower() not in VIDEOS,
    )
    for note in notes(target, clip, style):
        console.print(f"note: {note}")
    if media.audio and clip.audio is None:
        console.print("note: the sound is left out, because the film's length changes")
    tally = Tally()
    with ExitStack() as stack:
        stack.enter_context(_evaluating(network))
        progress = stack.enter_context(_progress(console, clip.frames))
        comparison = stack.enter_context(comparing(target, clip)) if compare else None

        def written_frames(results: Iterator[Result]) -> Iterator[Frame]:
            """After the last one all is counted and the comparison whole, or no target appears."""
            made = 0
            for result in results:
                if comparison is not None:
                    comparison.add(side_by_side(result))
                yield result.after
                made += 1
                progress.advance(progress.tasks[0].id)
            span = tally.stop - tally.start
            expected = timeline.count(tally.frames, span, tally.stop - tally.last)
            if made != expected:
                raise RuntimeError(f"{made} of {expected} frames for {target}: please report this.")
            if comparison is not None:
                comparison.finish()

        def written_file(results: Iterator[Result], check: Check) -> int:
            return write(target, written_frames(results), clip, style, check)

        decoded = stack.enter_context(ahead(shown_frames(source)))
        shown = _as_shown(decoded) if media.pictures and not clip.stored else decoded
        results = restored_frames(
            network,
            timeline.plan(tally.counted(shown)),
            source,
            dtype=dtype_of(precision, network),
            tile=tile,
            tally=tally,
        )
        written = behind(written_file, results)
    if tally.cuts:
        console.print(f"note: scene cuts that are held, not morphed: {tally.cuts}")
    console.print(f"{target}: {written} frame{'s' if written != 1 else ''}")
    if compare:
        console.print(f"{comparison_of(target)}: before and after")
    return target


def _refuse_timing(source: Path, media: Probe, target: Path, timeline: Timeline) -> None:
    if timeline.parts != 1 and media.exact and media.frames == 1:
        raise UserError(
            f"{source} has one frame, and there is nothing between one frame and the next to make; "
            "--factor 1 restores its colours."
        )
    if target.suffix.lower() == ".gif" and not timeline.untouched and timeline.rate > GIF_FPS:
        raise UserError(
            f"{target}: a GIF plays {GIF_FPS} frames a second at most, and these would be "
            f"{float(timeline.rate):.4g}; write .mp4 or .webm, or ask for --fps {GIF_FPS}."
        )


def _expected(timeline: Timeline, media: Probe) -> int:
    return timeline.count(media.frames, media.frames / media.rate, 1 / media.rate)


def _as_shown(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Delays of pictures as browsers show them."""
    return (frame._replace(duration=shown_delay(frame.duration)) for frame in frames)


def _checked_tile(tile: int | None, model: EnhancementModel, console: Console) -> int | None:
    """Return a side that tiles of this model can have."""
    if tile is not None and tile < 1:
        raise UserError(f"--tile {tile} does not work; give the side of a tile in pixels.")
    least = least_side(model)
    if tile is None or tile >= least:
        return tile
    console.print(f"note: tiles of {least} pixels, the smallest for {type(model).__name__}")
    return least


@contextmanager
def _evaluating(model: EnhancementModel) -> Iterator[None]:
    """Evaluation mode, and afterwards the mode that the caller's model was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


class _Speed(ProgressColumn):
    """Frames per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.1f} fps")


def _progress(console: Console, frames: int) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    progress = Progress(*columns, console=console)
    progress.add_task("", total=frames)
    return progress
