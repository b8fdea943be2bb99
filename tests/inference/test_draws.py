"""What a model draws is a function of the seed and the clip's name, and of nothing else."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unlossy.inference.streaming import restored_frames
from unlossy.inference.timeline import Timeline
from unlossy.inference.windows import clip_generator, code_lengths, named_windows, restored_windows
from unlossy.models.model import EnhancementModel
from unlossy.sample import Restored, Sample
from unlossy.video import Frame


class Noise(EnhancementModel):
    """Draws every frame anew, whatever comes in."""

    window = 4

    def forward(self, batch: Sample) -> Restored:
        raise AssertionError("drawn, not computed")

    def restore(
        self, batch: Sample, *, generator: torch.Generator | None = None, samples: int = 1
    ) -> Tensor:
        frames = batch["degraded"]
        drawn = [torch.rand(frames.shape[2:], generator=generator) for _ in frames[0]]
        return torch.stack(drawn)[None]


class Lengths(EnhancementModel):
    """Codes each frame in as many bits as it is bright, and in none."""

    window = 3

    def bits(self, batch: Sample) -> dict[str, Tensor]:
        assert batch["degraded"].shape[1] == batch["clean"].shape[1] <= self.window
        means = batch["clean"].mean((2, 3, 4))
        return {"nll": means, "nll_prior": torch.zeros_like(means)}


def sample(name: str = "clip", frames: int = 7) -> Sample:
    times = torch.arange(frames)[None].float()
    pictures = torch.arange(frames, dtype=torch.uint8).view(1, -1, 1, 1, 1).repeat(1, 1, 3, 6, 5)
    return Sample(
        name=[name],
        degraded=pictures,
        clean=pictures * 10,
        t_in=times,
        t_out=times,
        side={},
        target={},
        bits=torch.zeros(1),
    )


def drawn(windows: Iterator[tuple[slice, Tensor]]) -> Tensor:
    return torch.cat([frames for _, frames in windows])


def test_the_seed_and_the_name_decide() -> None:
    found = drawn(restored_windows(Noise(), sample(), seed=3))
    assert torch.equal(drawn(restored_windows(Noise(), sample(), seed=3)), found)
    assert len({frame.sum().item() for frame in found}) == 7  # every frame another
    others = [("clip", 4), ("clip", 0), ("clip2", 3), ("3 clip", 3)]
    for name, seed in others:
        assert not torch.equal(drawn(restored_windows(Noise(), sample(name), seed=seed)), found)
    named = named_windows(Noise(), sample(), seed=3)
    assert torch.equal(torch.cat([clips[""] for _, clips in named]), found)


def test_the_generator_is_the_same_one_on_every_machine() -> None:
    """Not of `hash`, which Python seeds anew in every process."""
    assert clip_generator("bunny/0001", 0).initial_seed() == 14089549502717593947
    assert torch.equal(
        drawn(restored_windows(Noise(), sample("bunny/0001"), generator=clip_generator("x", 1))),
        drawn(restored_windows(Noise(), sample("x"), seed=1)),
    )


@pytest.mark.parametrize("length", [1, 2, 3, 7, 100])
def test_the_length_of_the_windows_changes_nothing(length: int) -> None:
    found = drawn(restored_windows(Noise(), sample(), length))
    assert torch.equal(found, drawn(restored_windows(Noise(), sample(), 7, seed=0)))


def test_the_order_of_the_clips_changes_nothing() -> None:
    names = ["a", "b", "c"]

    def draws(order: list[str]) -> dict[str, Tensor]:
        return {name: drawn(restored_windows(Noise(), sample(name))) for name in order}

    first, second = draws(names), draws(names[::-1])
    assert all(torch.equal(first[name], second[name]) for name in names)


def test_a_file_that_comes_in_parts_is_not_drawn_alike_in_each() -> None:
    frames = sample("a.mp4", 11)["degraded"][0]
    stream = (Frame(rgb, None, Fraction(n), Fraction(1)) for n, rgb in enumerate(frames))
    planned = Timeline(1, Fraction(1)).plan(stream)
    results = restored_frames(Noise().eval(), planned, Path("a.mp4"))
    pictures = [result.after.rgb for result in results]
    assert torch.equal(torch.stack(pictures), drawn(restored_windows(Noise(), sample("a.mp4", 11))))


def test_code_lengths_come_window_by_window() -> None:
    found = code_lengths(Lengths(), sample())
    assert found["nll"].tolist() == pytest.approx([k * 10 / 255 for k in range(7)])
    assert found["nll_prior"].tolist() == [0.0] * 7
    assert code_lengths(Noise(), sample()) == {}
