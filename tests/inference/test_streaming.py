"""A stream against the same clip at once: what is held, asked for, made and handed out."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction as F
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unlossy.inference.streaming import Result, Tally, restored_frames
from unlossy.inference.timeline import Timeline
from unlossy.models.baselines import Identity
from unlossy.models.interpolation_baselines import FrameAverage, Minterpolate
from unlossy.models.interpolator import Interpolator
from unlossy.models.model import EnhancementModel
from unlossy.sample import Restored, Sample
from unlossy.video import Frame


class Mean(EnhancementModel):
    """The average over 2 * context + 1 frames; the ends are repeated."""

    def __init__(self, context: int) -> None:
        super().__init__()
        self.context = context

    def forward(self, batch: Sample) -> Restored:
        assert torch.equal(batch["t_in"], batch["t_out"])
        frames, at = batch["degraded"], torch.arange(batch["degraded"].shape[1])
        near = range(-self.context, self.context + 1)
        shifted = [frames[:, (at + k).clamp(0, len(at) - 1)] for k in near]
        return Restored(estimate=torch.stack(shifted).mean(0), extras={})


class Fade(Interpolator):
    """A fade that says how it was asked."""

    cut = None

    def __init__(self, window: int = 4) -> None:
        super().__init__()
        self.window = window
        self.asked: list[int] = []

    def between(
        self, first: Tensor, last: Tensor, times: Sequence[float]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        self.asked.append(len(times))
        share = first.new_tensor(times).view(-1, 1, 1, 1)
        return torch.lerp(first[:, None], last[:, None], share), {}


class Seconds(Fade):
    """Also looks at a frame before and after the pair."""

    context = 2


def noise(count: int, size: tuple[int, int] = (4, 5)) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, *size), generator=generator).byte()


def frames(pictures: Tensor, durations: Sequence[F] | None = None) -> list[Frame]:
    found, time = [], F(0)
    for k, rgb in enumerate(pictures):
        duration = durations[k] if durations else F(1, 25)
        found.append(Frame(rgb, None, time, duration))
        time += duration
    return found


def stream(model: EnhancementModel, timeline: Timeline, shown: Sequence[Frame]) -> list[Result]:
    return list(restored_frames(model.eval(), timeline.plan(iter(shown)), Path("a")))


def faded(pictures: Tensor, places: Sequence[F]) -> Tensor:
    """Linear interpolation, written once more."""
    clip = torch.cat((pictures, pictures[-1:])).double()
    made = [clip[int(p)] * float(1 - p % 1) + clip[int(p) + 1] * float(p % 1) for p in places]
    return torch.stack(made)


@pytest.mark.parametrize("context", [0, 1, 3])
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 11, 16, 17, 30])
def test_a_stream_is_restored_like_a_whole_clip(context, count):
    pictures, taken = noise(count), []

    def arriving():
        for k, rgb in enumerate(pictures):
            taken.append(k)
            yield Frame(rgb, None, F(k), F(1))

    at = torch.arange(count)
    near = [pictures[(at + k).clamp(0, count - 1)] / 255 for k in range(-context, context + 1)]
    expected = (torch.stack(near).mean(0) * 255).round().byte()
    restored = []
    planned = Timeline(1, F(1)).plan(arriving())
    for before, after in restored_frames(Mean(context).eval(), planned, Path("a")):
        assert torch.equal(before.rgb, pictures[len(restored)])
        restored.append(after)
        assert len(taken) - len(restored) <= 8 + 2 * context  # constant memory
    assert torch.equal(torch.stack([frame.rgb for frame in restored]), expected)
    assert [frame.time for frame in restored] == list(range(count))


@pytest.mark.parametrize("model", [Fade(1), Fade(4), Fade(30), Seconds(4)])
@pytest.mark.parametrize("count", [1, 2, 4, 5, 6, 9, 17])
@pytest.mark.parametrize("parts", [2, 5])
def test_frames_between_do_not_know_of_windows(model, count, parts):
    pictures = noise(count)
    results = stream(model, Timeline(parts, F(25 * parts)), frames(pictures))
    places = [min(F(k, parts), F(count - 1)) for k in range(count * parts)]
    found = torch.stack([result.after.rgb for result in results]).double()
    assert (found - faded(pictures, places)).abs().max() <= 0.5001
    assert [result.after.time for result in results] == [
        F(k, 25 * parts) for k in range(count * parts)
    ]
    held = [result.before.rgb for result in results]
    assert torch.equal(torch.stack(held), pictures.repeat_interleave(parts, 0))


def test_a_grid_through_uneven_delays():
    pictures = noise(7)
    delays = [F(d, 100) for d in (3, 50, 2, 7, 7, 20, 11)]
    timeline = Timeline(None, F(60))
    results = stream(Fade(), timeline, frames(pictures, delays))
    assert len(results) == timeline.count(7, sum(delays), delays[-1]) == 60
    shown = frames(pictures, delays)
    places = [
        i + slot.at for i, (_, each) in enumerate(timeline.plan(iter(shown))) for slot in each
    ]
    found = torch.stack([result.after.rgb for result in results]).double()
    assert (found - faded(pictures, places)).abs().max() <= 0.5001


def test_a_rate_below_the_input_s_leaves_frames_out():
    pictures = noise(20)
    results = stream(Fade(), Timeline(None, F(5)), frames(pictures))
    assert torch.equal(torch.stack([result.after.rgb for result in results]), pictures[::5])


def test_a_long_delay_costs_no_more_memory_than_a_short_one():
    """Ten seconds between two frames: 600 frames, made sixteen at a time; the last 60 repeat."""
    model, pictures = Fade(), noise(3)
    shown = frames(pictures, [F(10), F(1, 60), F(1)])
    results = stream(model, Timeline(None, F(60)), shown)
    assert len(results) == 600 + 1 + 60
    assert max(model.asked) <= 16
    assert sum(model.asked) < 600
    assert len({id(result.after.rgb) for result in results[-60:]}) == 1
    means = torch.stack([result.after.rgb.double() for result in results[:600]])
    expected = torch.lerp(pictures[0].double(), pictures[1].double(), 0.5)
    assert (means[300] - expected).abs().max() <= 0.5001


def test_flows_are_estimated_once_for_all_times_of_a_pair():
    model = Fade()
    stream(model, Timeline(8, F(200)), frames(noise(13)))
    assert model.asked == [7] * 12


def test_the_identity_holds_the_nearer_frame():
    pictures = noise(5)
    results = stream(Identity(), Timeline(4, F(100)), frames(pictures))
    nearest = [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4]
    assert torch.equal(torch.stack([r.after.rgb for r in results]), pictures[nearest])
    untouched = stream(Identity(), Timeline(1, F(25)), frames(pictures))
    assert torch.equal(torch.stack([r.after.rgb for r in untouched]), pictures)


def test_cuts_are_counted_once_and_held():
    pictures = torch.zeros(12, 3, 60, 100, dtype=torch.uint8)
    pictures[3:9] = 200
    for k in range(12):
        pictures[k, :, :, k : k + 5] += 20
    model, tally = FrameAverage().eval(), Tally()
    model.cut = 25.0
    planned = Timeline(4, F(100)).plan(tally.counted(iter(frames(pictures))))
    results = list(restored_frames(model, planned, Path("a"), tally=tally))
    assert tally.cuts == 2
    assert (tally.frames, tally.start, tally.last, tally.stop) == (12, 0, F(11, 25), F(12, 25))
    for cut in (3, 9):
        made = [result.after.rgb for result in results[4 * cut - 3 : 4 * cut]]
        held = pictures[[cut - 1, cut - 1, cut]]
        assert torch.equal(torch.stack(made), held)
    assert not torch.equal(results[1].after.rgb, pictures[0])  # elsewhere it fades


def test_nothing_is_held_where_nothing_is_between():
    pictures = torch.zeros(2, 3, 60, 100, dtype=torch.uint8)
    pictures[1] = 200
    model, tally = FrameAverage().eval(), Tally()
    model.cut = 25.0
    list(restored_frames(model, Timeline(1, F(25)).plan(iter(frames(pictures))), Path("a"),
                         tally=tally))  # fmt: skip
    assert tally.cuts == 0


def test_alpha_moves_from_frame_to_frame():
    pictures = noise(3)
    alphas = [None, torch.zeros(4, 5).byte(), torch.full((4, 5), 100).byte()]
    shown = [
        frame._replace(alpha=alpha) for frame, alpha in zip(frames(pictures), alphas, strict=True)
    ]
    found = [r.after.alpha for r in stream(Fade(), Timeline(2, F(50)), shown)]
    assert found[0] is None
    assert [int(alpha[0, 0]) for alpha in found[1:]] == [128, 0, 50, 100, 100]
    assert found[1].shape == (4, 5)


def test_minterpolate_takes_a_stream():
    y, x = torch.meshgrid(torch.arange(48), torch.arange(64), indexing="ij")
    pictures = torch.stack([
        (127 + 80 * torch.sin((x - 4 * t) / 5) * torch.cos(y / 6)).byte().expand(3, -1, -1)
        for t in range(11)
    ])  # fmt: skip
    model = Minterpolate().eval()
    results = stream(model, Timeline(2, F(50)), frames(pictures))
    found = torch.stack([result.after.rgb for result in results])
    assert torch.equal(found[::2], pictures)
    assert torch.equal(found[-1], pictures[-1])
    times = torch.arange(11.0)[None]
    whole = model.restore(
        Sample(
            name=["a"], degraded=pictures[None] / 255, t_in=times,
            t_out=torch.arange(22.0)[None] / 2, side={}, target={}, bits=torch.zeros(1),
        )
    )  # fmt: skip
    assert torch.equal(found, whole[0].mul(255).round().byte())
    moved = found[1:-1:2].double()
    fade = (pictures[1:].double() + pictures[:-1].double()) / 2
    truth = torch.stack([
        (127 + 80 * torch.sin((x - 4 * t - 2) / 5) * torch.cos(y / 6)).expand(3, -1, -1)
        for t in range(10)
    ])  # fmt: skip
    inner = (..., slice(8, -8), slice(8, -8))
    errors = [(clip - truth)[inner].square().mean(dim=(1, 2, 3)) for clip in (moved, fade)]
    assert (errors[0] < errors[1] / 2).all()
