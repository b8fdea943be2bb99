"""When output frames are shown, and what of the input they show: in exact fractions.

    input     s_0        s_1             s_2    s_3         a frame is shown from s_i to s_(i+1)
               ├──────────┼───────────────┼──────┤
    factor 2   x    x     x       x       x   x             every frame's time in equal parts
    fps        x   x   x   x   x   x   x   x   x            an even grid, whatever the input's

    t(x) = i + (x - s_i) / (s_(i+1) - s_i),  and t(x) = i while the last frame is shown

Time stamps never become floats: at 30000/1001 frames a second these drift. Delays of GIFs and
variable frame rates go through as they are. With `factor` there are exactly that many frames out
for each one in, the last one's all alike; on an even grid the length is kept within one output
frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, lcm
from typing import NamedTuple

from unlossy.errors import UserError
from unlossy.video import Frame

FASTEST = 1000  # frames per second: WebM and MKV count milliseconds
LONGEST = 50_000  # output frames of one input frame: a GIF's longest delay at 60 a second is 39,321
# Seconds of the input; on an even grid, so near to an input frame is that frame, because two stamps
# on a clock of milliseconds jitter as much. No share of the gap: a long one would stand still.
SNAP = Fraction(1, 1000)
CLOCK, FINEST = 90_000, 10**6  # ticks per second of an even grid's clock, at least and at most


class Slot(NamedTuple):
    """One output frame."""

    at: Fraction  # 0: the input frame itself, above and below 1: how far on the way to the next
    time: Fraction  # seconds
    duration: Fraction


Planned = tuple[Frame, list[Slot]]


@dataclass(frozen=True)
class Timeline:
    """Which output frames an input frame gives.

    Attributes:
        parts: output frames for each input frame; None for an even grid.
        rate: mean output frames per second.
        slow: how much longer the output takes.
    """

    parts: int | None
    rate: Fraction
    slow: Fraction = Fraction(1)

    @property
    def untouched(self) -> bool:
        """Whether every frame keeps its time and duration."""
        return self.parts == 1 and self.slow == 1

    def plan(self, frames: Iterator[Frame]) -> Iterator[Planned]:
        """Yield every input frame with the output frames that show it or what follows it.

        Args:
            frames: with the durations as shown, one more of which is read than yielded.

        Raises:
            UserError: on an even grid, a frame would give more than `LONGEST`, or time runs back.
        """
        if self.untouched:
            yield from ((f, [Slot(Fraction(0), f.time, f.duration)]) for f in frames)
            return
        grid: Fraction | None = None  # its next point
        early: list[Slot] = []  # so near to the next frame that they show it
        for index, (frame, after) in enumerate(_with_next(frames)):
            start = frame.time * self.slow
            stop = (frame.time + frame.duration if after is None else after.time) * self.slow
            if self.parts is not None:
                yield frame, _parts(start, stop, self.parts, after is None)
                continue
            grid = start if grid is None else grid
            slots = self._on_grid(index, grid, start, stop, after is None)
            grid += len(slots) / self.rate
            shown = early + [slot for slot in slots if slot.at < 1]
            early = [slot._replace(at=Fraction(0)) for slot in slots if slot.at == 1]
            yield frame, shown

    def _on_grid(
        self, index: int, grid: Fraction, start: Fraction, stop: Fraction, last: bool
    ) -> list[Slot]:
        """Return what starts before `stop`; of the last frame what it fills at least half."""
        if stop < start:
            raise UserError(
                f"frame {index + 1} is stamped earlier than the one before it, which leaves no "
                "place for frames between; --factor takes the frames as they come."
            )
        left = (stop - grid) * self.rate
        count = max(floor(left + Fraction(1, 2)) if last else ceil(left), int(last and index == 0))
        if count > LONGEST:
            raise UserError(
                f"frame {index} stays for {float(stop - start):.0f} seconds, which would be "
                f"{count} frames; lower --fps, or mend the time stamps if that is not meant."
            )
        times = [grid + k / self.rate for k in range(count)]
        near = min(SNAP * self.slow, 1 / (4 * self.rate))
        return [
            Slot(Fraction(0) if last else _at(time, start, stop, near), time, 1 / self.rate)
            for time in times
        ]

    def count(self, frames: int, seconds: Fraction, last: Fraction) -> int:
        """Return how many frames `plan` gives, in closed form.

        Args:
            frames: of the input.
            seconds: for which the input is shown.
            last: for which its last frame is.
        """
        if self.parts is not None:
            return self.parts * frames
        shown, earlier = (span * self.slow * self.rate for span in (seconds, seconds - last))
        return max(1, ceil(earlier), floor(shown + Fraction(1, 2)))

    def clock(self, time_base: Fraction) -> Fraction:
        """Return seconds per tick of a clock for the output.

        Args:
            time_base: the input's, which stays where nothing is moved.
        """
        if self.untouched:
            return time_base
        if self.parts is not None:
            return time_base * self.slow / self.parts
        ticks = lcm(self.rate.numerator, time_base.denominator)
        if ticks > FINEST:  # then a film that does not start at 0 is moved by half a tick at most
            ticks = self.rate.numerator
        return Fraction(1, ticks * ceil(CLOCK / ticks))


@dataclass(frozen=True)
class Timing:
    """What a user asks for: frames per input frame, or per second, and slow motion.

    Args:
        factor: output frames for each input frame; None leaves it to the model.
        fps: output frames per second instead.
        slow: how many times as long the output takes.

    Raises:
        UserError: both of the first, or one that is no positive number.
    """

    factor: Fraction | None = None
    fps: Fraction | None = None
    slow: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        if self.factor is not None and self.fps is not None:
            raise UserError("--factor and --fps both say how many frames to make; give one.")
        for name in ("factor", "fps", "slow"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UserError(f"--{name} {value} does not work; give a number above 0.")

    def timeline(self, rate: Fraction, factor: int, *, even: bool = True) -> Timeline:
        """Return when output frames are shown.

        Args:
            rate: of the input, mean frames per second.
            factor: what to take where nothing is asked for.
            even: whether the input shows all its frames equally long, so that asking for `rate`
                changes nothing.

        Raises:
            UserError: more frames a second than a file can tell apart.
        """
        wanted = Fraction(factor) * self.slow if self.factor is None else self.factor
        fps = wanted * rate / self.slow if self.fps is None else self.fps
        if fps > max(Fraction(FASTEST), rate):  # damaged files claim any rate, and may keep it
            raise UserError(
                f"{float(fps):.6g} frames a second are more than a video can hold; ask for at "
                f"most {FASTEST}."
            )
        same = even and abs(fps / rate - 1) < Fraction(1, 10_000)
        if self.fps is not None and same and self.slow == 1:
            return Timeline(1, rate)
        on_grid = self.fps is not None or wanted.denominator > 1
        return Timeline(None if on_grid else int(wanted), fps, self.slow)


def exactly(text: str) -> Fraction:
    """Return a number that a user writes: `60`, `23.976`, `30000/1001`.

    The rates of television, which are written with three digits, are what they stand for: 23.976 is
    24000/1001.

    Raises:
        UserError: it is none.
    """
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"{text!r} is no number; write 60, 59.94 or 60000/1001.") from error
    whole = round(value * 1001 / 1000)
    television = Fraction(whole * 1000, 1001)
    near = abs(value - television) < Fraction(1, 200) and value.denominator > 1
    return television if near and whole in (24, 30, 48, 60, 120) else value


def _parts(start: Fraction, stop: Fraction, parts: int, last: bool) -> list[Slot]:
    step = (stop - start) / parts
    return [
        Slot(Fraction(0) if last else Fraction(part, parts), start + part * step, step)
        for part in range(parts)
    ]


def _at(time: Fraction, start: Fraction, stop: Fraction, near: Fraction) -> Fraction:
    """Return the share of the way from `start` to `stop`; of what is `near` an end, 0 or 1."""
    at = (time - start) / (stop - start)
    return Fraction(round(at)) if min(time - start, stop - time) <= near else at


def _with_next(frames: Iterator[Frame]) -> Iterator[tuple[Frame, Frame | None]]:
    before: Frame | None = None
    for frame in frames:
        if before is not None:
            yield before, frame
        before = frame
    if before is not None:
        yield before, None
