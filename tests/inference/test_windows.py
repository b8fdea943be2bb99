from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unlossy.inference.windows import restored_windows
from unlossy.models.model import EnhancementModel
from unlossy.sample import Restored, Sample


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
