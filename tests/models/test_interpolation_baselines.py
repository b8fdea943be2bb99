"""What a user has for nothing where frames are missing: held, averaged, and FFmpeg's own."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from unlossy.errors import UserError
from unlossy.inference.windows import restored_windows
from unlossy.models.baselines import Identity
from unlossy.models.interpolation_baselines import FINEST, FrameAverage, Minterpolate, _parts
from unlossy.models.model import EnhancementModel
from unlossy.sample import Sample
from unlossy.video import filter_frames


def sample(frames: Tensor, t_in: list[float], t_out: list[float]) -> Sample:
    """A clip of uint8 frames (S, 3, H, W), as it waits for its windows."""
    return Sample(
        name=["clip"],
        degraded=frames[None],
        t_in=torch.tensor([t_in]),
        t_out=torch.tensor([t_out]),
        side={},
        target={},
        bits=torch.zeros(1),
    )


def noise(count: int, height: int = 9, width: int = 11) -> Tensor:
    draws = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, height, width), generator=draws, dtype=torch.uint8)


def sliding(count: int, step: int, seed: int = 0) -> Tensor:
    """A smooth texture that slides to the left by `step` pixels a frame, uint8 (T, 3, 64, 96)."""
    picture = np.random.default_rng(seed).normal(size=(3, 64, 96 + step * count))
    picture = gaussian_filter(picture, (0, 2, 2))
    picture = torch.from_numpy(128 + 110 * picture / abs(picture).max()).round().byte()
    return torch.stack([picture[..., step * t : step * t + 96] for t in range(count)])


def restored(model: EnhancementModel, clip: Sample, length: int | None = None) -> Tensor:
    return torch.cat([frames for _, frames in restored_windows(model.eval(), clip, length)])


def psnr(a: Tensor, b: Tensor) -> float:
    return float(10 * torch.log10(255**2 / (a.float() - b.float()).square().mean()))


@pytest.mark.parametrize("length", [1, 2, 5])
def test_the_input_is_held_to_the_nearest_frame(length: int) -> None:
    frames = noise(3)
    clip = sample(frames, [4, 8, 12], list(range(4, 13)))
    found = restored(Identity(), clip, length)
    # 4 5 6 | 7 8 9 10 | 11 12: half-way, the earlier one
    assert torch.equal(found, frames[[0, 0, 0, 1, 1, 1, 1, 2, 2]])
    assert torch.equal(
        restored(Identity(2), clip, length), found.repeat_interleave(2, -1).repeat_interleave(2, -2)
    )


@pytest.mark.parametrize("length", [1, 2, 5])
def test_the_average_is_weighted_by_nearness(length: int) -> None:
    frames = noise(3)
    found = restored(FrameAverage(), sample(frames, [0, 4, 8], list(range(9))), length)
    a, b, c = frames.double()
    wanted = [a, *(a + (b - a) * k / 4 for k in (1, 2, 3)), b]
    wanted += [b + (c - b) * k / 4 for k in (1, 2, 3)]
    assert (found.double() - torch.stack([*wanted, c])).abs().max() <= 0.5 + 1e-4


def test_minterpolate_follows_motion_and_keeps_what_was_kept() -> None:
    clean = sliding(13, 2)
    for factor in (2, 3):
        clip = sample(clean[::factor], [*range(0, 13, factor)], list(range(13)))
        found, average = restored(Minterpolate(), clip), restored(FrameAverage(), clip)
        assert torch.equal(found[::factor], clean[::factor])
        between = [t for t in range(13) if t % factor]
        # Each at its own time, although FFmpeg leans to the nearer frame.
        for t in between:
            mine = psnr(found[t], clean[t])
            assert mine > psnr(average[t], clean[t]) + 3
            assert mine > max(psnr(found[t], clean[t - 1]), psnr(found[t], clean[t + 1])) + 1


def test_minterpolate_is_ffmpegs() -> None:
    """One frame more at the end, and everything between is what the filter makes of it."""
    clean = sliding(9, 3)
    model = Minterpolate("mi_mode=mci:me_mode=bilat")
    found = restored(model, sample(clean[::2], [0, 2, 4, 6, 8], list(range(9))))
    graph = "minterpolate=fps=50:mi_mode=mci:me_mode=bilat"
    theirs = filter_frames(clean[[0, 2, 4, 6, 8, 8, 8]], graph, Fraction(25), count=11)
    assert torch.equal(found[1::2], theirs[1:9:2])


def test_minterpolate_repeats_frames_at_a_cut() -> None:
    frames = torch.cat([sliding(4, 2) // 2, 255 - sliding(4, 2, seed=1) // 2])
    found = restored(Minterpolate(), sample(frames, [*range(0, 16, 2)], list(range(15))))
    assert max(psnr(found[7], frames[k]) for k in (3, 4)) > 40  # one of the scenes, no mixture


@pytest.mark.parametrize("model", [FrameAverage(), Minterpolate(), Identity()])
def test_any_clip_comes_out_at_the_wanted_times(model: EnhancementModel) -> None:
    assert not model.trainable
    assert not list(model.parameters())
    assert model.interpolates
    for times, wanted in (
        ([0.0], [0.0]),
        ([3.0, 4.0, 5.0], [3.0, 4.0, 5.0]),
        ([2.0, 66.0], list(range(2, 67))),
        ([0.0, 1.0, 2.0], [k * 0.4 for k in range(6)]),  # 24 -> 60 frames per second
        ([0.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0, 4.0]),  # a frame that stayed for longer
    ):
        for size in ((1, 1), (7, 33)):
            frames = noise(len(times), *size)
            found = restored(model, sample(frames, times, wanted))
            assert found.shape == (len(wanted), 3, *size)
            assert torch.equal(found[0], frames[0])


@pytest.mark.parametrize(
    ("t_in", "t_out", "parts"),
    [
        ([0, 2, 4], [0, 1, 2, 3, 4], 2),
        ([7, 11], [7, 8, 9, 10, 11], 4),
        ([0, 1, 2], [0, 0.4, 0.8, 1.2, 1.6, 2.0], 5),
        ([0, 2, 5], [0, 1, 2, 3, 4, 5], 6),
        ([14313, 14314], [14313, 14313 + 1 / 3, 14313 + 2 / 3], 3),  # as exact as float32 is
        ([0, 1], [0, 0.123456, 0.5], FINEST),
        ([0, 1], [0, 1], 1),
        ([5], [5], 1),
    ],
)
def test_ffmpeg_is_asked_for_the_fewest_steps(
    t_in: list[float], t_out: list[float], parts: int
) -> None:
    assert _parts(sample(noise(len(t_in)), t_in, t_out)) == parts


def test_options_that_ffmpeg_does_not_know_are_refused() -> None:
    with pytest.raises(UserError, match="FFmpeg refuses the filter"):
        Minterpolate("mi_mode=magic")
