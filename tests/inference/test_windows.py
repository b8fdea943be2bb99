from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from unlossy.inference.streaming import restored_frames
from unlossy.inference.timeline import Timeline
from unlossy.inference.windows import named_windows, restored_windows
from unlossy.models.basicvsr import BasicVSR
from unlossy.models.model import EnhancementModel
from unlossy.sample import Restored, Sample
from unlossy.video import Frame


class Halve(EnhancementModel):
    """Frame by frame, exact in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, batch: Sample) -> Restored:
        self.seen.append(batch["degraded"].shape[1])
        return Restored(estimate=batch["degraded"] / 2, extras={})


class Mean(EnhancementModel):
    """The average of 2 * reach + 1 frames; the ends are repeated."""

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.context = reach

    def forward(self, batch: Sample) -> Restored:
        frames = batch["degraded"]
        index = torch.arange(frames.shape[1])
        shifted = [
            frames[:, (index + step).clamp(0, len(index) - 1)]
            for step in range(-self.context, self.context + 1)
        ]
        return Restored(estimate=torch.stack(shifted).mean(0), extras={})


class Blend(EnhancementModel):
    """Linear interpolation at t_out."""

    context = 1

    def forward(self, batch: Sample) -> Restored:
        times, wanted = batch["t_in"][0], batch["t_out"][0]
        after = torch.searchsorted(times, wanted).clamp(1, len(times) - 1)
        share = ((wanted - times[after - 1]) / (times[after] - times[after - 1])).clamp(0, 1)
        share = share.view(1, -1, 1, 1, 1)
        frames = batch["degraded"]
        estimate = frames[:, after - 1] * (1 - share) + frames[:, after] * share
        return Restored(estimate=estimate, extras={})


class FirstColor(EnhancementModel):
    """Every frame becomes the first colour of its own palette."""

    needs = frozenset({"palette", "palette_size"})

    def forward(self, batch: Sample) -> Restored:
        color = batch["side"]["palette"][:, :, 0, :, None, None]
        return Restored(estimate=color.expand_as(batch["degraded"]), extras={})


class Stages(Mean):
    """The average, what is left of it, and a picture."""

    outputs = ("half", "rest")
    pictures = ("mask",)

    def restore_all(
        self, batch: Sample, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        mean = self.restore(batch)
        return {"half": mean / 2, "rest": mean, "mask": (mean > 0.5).float()}


def sample(frames: Tensor, t_in: Tensor | None = None, t_out: Tensor | None = None) -> Sample:
    times = torch.arange(len(frames), dtype=torch.float32) if t_in is None else t_in
    return Sample(
        name=["clip"],
        degraded=frames[None],
        t_in=times[None],
        t_out=(times if t_out is None else t_out)[None],
        side={},
        target={},
        bits=torch.zeros(1),
    )


def clip(frames: int, height: int = 6, width: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.randint(0, 256, (frames, 3, height, width), generator=generator).byte()


def restored(model: EnhancementModel, batch: Sample, **options: int) -> Tensor:
    parts, at = [], 0
    for where, frames in restored_windows(model, batch, **options):
        assert where.start == at
        assert frames.dtype == torch.uint8
        assert len(frames) == where.stop - where.start
        at = where.stop
        parts.append(frames)
    assert at == batch["t_out"].shape[1]
    return torch.cat(parts)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 7, 8, 100])
def test_window_length_does_not_change_the_result(length):
    frames = clip(7)
    expected = (frames / 255 / 2 * 255).round().byte()
    assert torch.equal(restored(Halve(), sample(frames), length=length), expected)


@pytest.mark.parametrize("length", [1, 2, 4, 9])
@pytest.mark.parametrize("reach", [1, 2])
def test_context_is_seen_and_only_the_centre_kept(length, reach):
    batch = sample(clip(9))
    whole = (Mean(reach)(Sample(**{**batch, "degraded": batch["degraded"] / 255})))["estimate"]
    expected = (whole[0] * 255).round().byte()
    assert torch.equal(restored(Mean(reach), batch, length=length), expected)


@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_frames_between_and_beyond_the_observed_ones(length):
    frames = torch.arange(0, 250, 50, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 2, 2)
    t_in = torch.tensor([1.0, 2.0, 4.0, 5.0, 9.0])
    t_out = torch.tensor([0.0, 1.0, 1.5, 2.0, 3.0, 4.5, 5.0, 6.0, 8.0, 9.0, 12.0])
    values = restored(Blend(), sample(frames, t_in, t_out), length=length)[:, 0, 0, 0]
    assert values.tolist() == [0, 0, 25, 50, 75, 125, 150, 162, 188, 200, 200]


@pytest.mark.parametrize("length", [1, 3])
def test_side_information_goes_with_its_frame(length):
    batch = sample(clip(5))
    batch["side"] = {
        "palette": (torch.arange(5.0) * 10 / 255).view(1, 5, 1, 1).expand(1, 5, 4, 3),
        "palette_size": torch.full((1, 5), 4),
    }
    values = restored(FirstColor(), batch, length=length)[:, 0, 0, 0]
    assert values.tolist() == [0, 10, 20, 30, 40]


def test_large_frames_come_fewer_at_a_time():
    model = Halve()
    list(restored_windows(model, sample(clip(8, 20, 10)), length=8, budget=600))
    assert model.seen == [3, 3, 2]


@pytest.mark.parametrize("budget", [2**20, 3000])
@pytest.mark.parametrize("length", [2, 9])
def test_every_named_clip_goes_through_the_same_windows(length, budget):
    model, batch = Stages(1), sample(clip(9, 40, 30))
    model.reach = 1
    whole = model(Sample(**{**batch, "degraded": batch["degraded"] / 255}))["estimate"][0]
    at, parts = 0, []
    for where, clips in named_windows(model, batch, length, budget=budget):
        assert where.start == at
        assert all(part.dtype == torch.uint8 for part in clips.values())
        at = where.stop
        parts.append(clips)
    found = {name: torch.cat([clips[name] for clips in parts]) for name in parts[0]}
    expected = {"half": whole / 2, "rest": whole, "mask": (whole > 0.5).float()}
    assert list(found) == list(expected)
    for name, frames in expected.items():
        wrong = found[name].int() - (frames * 255).round().int()
        assert wrong.abs().max() <= 1  # tiles are sums of weighted parts
        assert (wrong != 0).float().mean() < 0.01
    assert torch.equal(found["rest"], restored(model, batch, length=length, budget=budget))


def test_a_model_of_one_output_names_it_with_the_empty_string():
    ((where, clips),) = named_windows(Halve(), sample(clip(3)))
    assert where == slice(0, 3)
    assert torch.equal(clips[""], restored(Halve(), sample(clip(3))))


def test_length_and_budget_are_the_model_s_own_unless_given():
    model = Halve()
    model.window, model.budget = 3, 2 * 6 * 5
    batch = sample(clip(7))
    restored(model, batch)
    restored(model, batch, budget=1000)
    restored(model, batch, length=5, budget=1000)
    assert model.seen == [2, 2, 2, 1, 3, 3, 1, 5, 2]


@pytest.mark.parametrize("part", [range(0, 9), range(0, 4), range(2, 7), range(5, 9), range(4, 5)])
@pytest.mark.parametrize("length", [2, 9])
def test_part_of_a_clip_has_the_rest_for_context(part, length):
    batch, frames = sample(clip(9)), []
    for where, restored_part in restored_windows(Mean(2), batch, length, part=part):
        assert where.start == part.start + len(frames)
        frames += list(restored_part)
    whole = restored(Mean(2), batch, length=9)
    assert torch.equal(torch.stack(frames), whole[part.start : part.stop])


def test_a_long_context_means_small_tiles_rather_than_few_frames():
    """Whole frames would come 4 at a time between 16 of context: five times the work."""

    class Recurrent(Halve):
        window, context, reach, budget = 60, 8, 10, 20 * 240 * 240

        def forward(self, batch: Sample) -> Restored:
            pixels.append(batch["degraded"][0, :, 0].numel())
            return super().forward(batch)

    pixels: list[int] = []
    restored(Recurrent(), sample(clip(1, 240, 240).expand(90, -1, -1, -1)))
    assert max(pixels) <= Recurrent.budget
    assert sum(pixels) < 2.5 * 90 * 240 * 240


def test_margins_beyond_the_budget_leave_one_frame_at_a_time():
    model = Halve()
    restored(model, sample(clip(4, 300, 300)), budget=50 * 50)
    assert set(model.seen) == {1}


@pytest.mark.parametrize("frames", [1, 5, 61])
def test_a_recurrent_network_over_windows(frames):
    """The windows' seams: 8 frames of context leave nothing visible of what lies beyond."""
    torch.manual_seed(0)
    model = BasicVSR(4, 1, flow="zero").eval()
    nn.init.normal_(model.conv_last.weight, std=0.1)
    batch = sample(clip(frames, 8, 9))
    whole, windows = restored(model, batch, length=100), restored(model, batch, length=20)
    assert not torch.equal(whole, batch["degraded"][0])
    assert (whole.int() - windows.int()).abs().max() <= 1


def test_clean_frames_cannot_be_looked_at():
    class Cheat(Halve):
        def forward(self, batch: Sample) -> Restored:
            assert "clean" not in batch
            return super().forward(batch)

    batch = sample(clip(3))
    batch["clean"] = batch["degraded"]
    restored(Cheat(), batch)


def test_no_graph_is_kept():
    class Scale(Halve):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, batch: Sample) -> Restored:
            assert torch.is_inference_mode_enabled()
            return Restored(estimate=batch["degraded"] * self.weight, extras={})

    frames = clip(3)
    assert torch.equal(restored(Scale(), sample(frames)), frames)
    assert not torch.is_inference_mode_enabled()


def test_a_file_is_held_a_window_at_a_time():
    class Recurrent(Halve):
        window, context = 60, 8

    model, frames = Recurrent().eval(), clip(150)
    stream = (Frame(rgb, None, Fraction(n), Fraction(1)) for n, rgb in enumerate(frames))
    planned = Timeline(1, Fraction(1)).plan(stream)
    pictures = [result.after.rgb for result in restored_frames(model, planned, Path("a.mp4"))]
    assert torch.equal(torch.stack(pictures), restored(Halve(), sample(frames)))
    assert model.seen == [68, 76, 38]
