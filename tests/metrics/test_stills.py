"""MS-SSIM against torchmetrics and scipy, consistency against Pillow, diversity by hand."""

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from scipy.signal import convolve2d
from torch import Tensor

from unlossy import _torchvision  # noqa: F401
from unlossy.degradations.resample import Downscale
from unlossy.errors import UserError
from unlossy.metrics import stills
from unlossy.metrics.suite import DIRECTION, VideoScores
from unlossy.sample import pristine

from torchmetrics.functional.image import multiscale_structural_similarity_index_measure  # isort: skip

CONF = Path(__file__).parents[2] / "conf" / "metrics"
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def noisy(height: int, width: int, frames: int = 2) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(height)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = [torch.sin(0.2 * (c + 1) * x + 0.13 * y) * 100 + 128 for c in range(3)]
    clean = torch.stack(waves).repeat(frames, 1, 1, 1)
    noise = torch.randint(-30, 31, clean.shape, generator=draws)
    return (clean + noise).clamp(0, 255).byte(), clean.byte()


def scaled_by_hand(x: np.ndarray, y: np.ndarray, weights: tuple[float, ...]) -> float:
    """Of one channel, in float64, by convolutions: windows shrink with their scale."""
    product = 1.0
    for scale, weight in enumerate(weights, 1):
        if scale > 1:
            x, y = (v.reshape(len(v) // 2, 2, -1, 2).mean((1, 3)) for v in (x, y))
        size = min(11, *x.shape)
        bell = np.exp(-((np.arange(size) - (size - 1) / 2) ** 2) / (2 * (1.5 * size / 11) ** 2))
        window = np.outer(bell, bell) / np.outer(bell, bell).sum()

        def mean(values: np.ndarray, window: np.ndarray = window) -> np.ndarray:
            return convolve2d(values, window, mode="valid")

        mx, my = mean(x), mean(y)
        vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
        factor = (2 * cov + (0.03 * 255) ** 2) / (vx + vy + (0.03 * 255) ** 2)
        if scale == len(weights):
            factor = factor * (2 * mx * my + 2.55**2) / (mx**2 + my**2 + 2.55**2)
        product *= max(0.0, factor.mean()) ** weight
    return product


@pytest.mark.parametrize("kind", ["noise", "negative"])
def test_five_whole_windows_are_the_standard_ms_ssim(kind: str) -> None:
    """Within 1e-4: torchmetrics lets the last scale's windows reach over the edge."""
    frames, clean = noisy(176, 192)
    if kind == "negative":  # contrast below zero, which counts as zero
        frames = 255 - clean
    wanted = [
        multiscale_structural_similarity_index_measure(
            frames[:, c : c + 1].double(),
            clean[:, c : c + 1].double(),
            data_range=255.0,
            betas=WEIGHTS,
            normalize="relu",
            reduction="none",
        )
        for c in range(3)
    ]
    found = stills.msssim(frames, clean, WEIGHTS)
    assert found == pytest.approx(torch.stack(wanted).mean(0).tolist(), abs=1e-4)
    assert (max(found) == 0) == (kind == "negative")


@pytest.mark.parametrize("size", [(32, 32), (48, 64), (176, 192)])
def test_small_pictures_have_windows_that_shrink(size: tuple[int, int]) -> None:
    frames, clean = noisy(*size, frames=1)
    first = np.array(WEIGHTS[:2])
    for name, weights in (("msssim_scaled", WEIGHTS), ("msssim2", tuple(first / first.sum()))):
        wanted = [
            np.mean([scaled_by_hand(a, b, weights) for a, b in zip(x, y, strict=True)])
            for x, y in zip(frames.double().numpy(), clean.double().numpy(), strict=True)
        ]
        assert stills.compare(frames, clean, None)[name] == pytest.approx(wanted, abs=1e-6)
        assert 0.2 < wanted[0] < 0.99


def test_too_small_for_a_variant_is_blank() -> None:
    assert set(stills.compare(*noisy(31, 40), None)) == {"msssim2"}
    assert set(stills.compare(*noisy(22, 22), None)) == {"msssim2"}
    assert stills.compare(*noisy(21, 40), None) == {}
    frames, clean = noisy(32, 32)
    assert stills.compare(clean, clean, None) == {name: [1.0, 1.0] for name in stills.VARIANTS}
    assert stills.compare(frames[:0], clean[:0], None) == {}


@pytest.mark.parametrize("factor", [2, 4])
def test_consistency_is_how_far_pillow_s_small_version_is_from_the_input(factor: int) -> None:
    frames, _ = noisy(32, 48)
    kept = torch.randint(0, 256, (2, 3, 32 // factor, 48 // factor), dtype=torch.uint8)
    wanted = []
    for frame, small in zip(frames.float().numpy(), kept.double().numpy(), strict=True):
        size = (48 // factor, 32 // factor)
        shrunk = [Image.fromarray(c).resize(size, Image.Resampling.BICUBIC) for c in frame]
        made = np.clip(np.round(np.stack([np.asarray(c) for c in shrunk])), 0, 255)
        wanted.append((((made - small) / 255) ** 2).mean())
    assert stills.consistency(frames, kept) == pytest.approx(wanted, rel=1e-3)


def test_a_clean_picture_is_what_the_medium_kept() -> None:
    _, clean = noisy(32, 32)
    degraded = Downscale(4)(pristine("a", clean), torch.Generator())["frames"]
    assert stills.consistency(clean, degraded) == [0.0, 0.0]


def test_diversity_is_the_mean_over_pairs() -> None:
    draws = [torch.full((2, 3, 4, 4), value, dtype=torch.uint8) for value in (0, 51, 255)]
    assert stills.diversity(draws) == pytest.approx((0.2 + 1.0 + 0.8) / 3)
    assert stills.diversity(draws[:1] * 3) == 0.0


def row(scores: VideoScores, frames: Tensor, clean: Tensor, degraded: Tensor) -> dict[str, float]:
    kept = range(0, len(clean), len(clean) // len(degraded))
    clip = scores.start(scores.reference(clean, degraded, kept=kept))
    for window in frames.split(3):
        clip.add(window)
    return clip.row()


def test_the_suite_fills_the_columns_where_it_is_asked_to() -> None:
    frames, clean = noisy(32, 32, 10)
    degraded = Downscale(4)(pristine("a", clean), torch.Generator())["frames"]
    found = row(VideoScores(None, pictures=True), frames, clean, degraded)
    wanted = stills.compare(frames, clean, degraded)
    assert list(wanted) == ["consistency", "msssim_scaled", "msssim2"]
    for name, values in wanted.items():
        assert found[name] == pytest.approx(np.mean(values))
    assert list(found)[-7:] == list(DIRECTION)[-7:]
    assert math.isnan(found["diversity"])
    assert math.isnan(found["nll"])
    for asked in (VideoScores(None), VideoScores(None, pictures=True, samples=8).for_validation()):
        blank = row(asked, frames, clean, degraded)
        assert all(math.isnan(blank[name]) for name in wanted)
        assert blank["psnr"] == found["psnr"]
        assert asked.samples == 1


@pytest.mark.parametrize("degraded", [(10, 3, 32, 32), (5, 3, 8, 8), (10, 3, 8, 9), (10, 3, 7, 7)])
def test_there_is_no_consistency_with_what_is_not_a_smaller_version(
    degraded: tuple[int, ...],
) -> None:
    frames, clean = noisy(32, 32, 10)
    kept = torch.zeros(degraded, dtype=torch.uint8)
    found = row(VideoScores(None, pictures=True), frames, clean, kept)
    assert math.isnan(found["consistency"])
    assert found["msssim2"] > 0


def test_digits_are_for_the_suite_without_networks() -> None:
    _, clean = noisy(32, 32)
    digits = clean[:, :1]
    assert row(VideoScores(None, pictures=True), digits, digits, digits)["exact"] == 2
    with pytest.raises(UserError, match=r"1 channel\(s\); score them with metrics=pixel"):
        VideoScores(None, {"some": cast(Any, object())}).reference(digits)


@pytest.mark.assets("lpips_alex", "lpips_vgg")
def test_the_suite_for_pictures() -> None:
    scores = instantiate(OmegaConf.load(CONF / "stills.yaml"), _convert_="all")
    frames, clean = noisy(32, 32)
    found = row(scores, frames, clean, clean[..., ::4, ::4])
    blank = {name for name in DIRECTION if math.isnan(found[name])}
    assert {"lpips_alex", "consistency", "msssim_scaled", "psnr", "ssim"}.isdisjoint(blank)
    assert {"tof", "flicker_flat", "diversity", "nll"} <= blank
    sets = scores.start_set()
    sets.add("a", frames, clean)
    assert sets.compute()["a"]["frames_vgg16"] == 2
    with pytest.raises(UserError, match="samples=0 draws nothing"):
        VideoScores(None, samples=0)
