"""PSNR and SSIM against scikit-image, the golden pair and values by hand."""

import math

import numpy as np
import pytest
import torch
from formula_pair import formula_pair
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from unlossy.metrics import pixel


def noisy_pair(height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    ramp = torch.linspace(0, 255, height * width).view(1, 1, height, width)
    texture = torch.randint(-60, 61, (2, 3, height, width), generator=draws)
    clean = (ramp + texture).clamp(0, 255).byte()
    noise = torch.randint(-9, 10, clean.shape, generator=draws)
    return (clean.int() + noise).clamp(0, 255).byte(), clean


def scikit_ssim(frames: Tensor, clean: Tensor, **how: object) -> list[float]:
    pairs = zip(frames.numpy(), clean.numpy(), strict=True)
    return [structural_similarity(x, y, channel_axis=0, **how) for x, y in pairs]


GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def test_golden_pair() -> None:
    coarse, clean = formula_pair()
    assert clean.double().mean() / 255 == pytest.approx(0.50130240, abs=1e-8)
    assert coarse.double().mean() / 255 == pytest.approx(0.50144410, abs=1e-8)
    assert pixel.psnr(coarse, clean) == pytest.approx([28.95964], abs=1e-5)
    assert pixel.ssim(coarse, clean, pixel.UNIFORM) == pytest.approx([0.96956795], abs=1e-7)
    assert pixel.ssim(coarse, clean, pixel.GAUSSIAN) == pytest.approx([0.96417391], abs=1e-7)


@pytest.mark.parametrize(("height", "width"), [(11, 11), (11, 40), (33, 47), (96, 64)])
def test_ssim_equals_scikit_image(height: int, width: int) -> None:
    frames, clean = noisy_pair(height, width)
    assert pixel.ssim(frames, clean, pixel.GAUSSIAN) == pytest.approx(
        scikit_ssim(frames, clean, **GAUSSIAN), abs=1e-6
    )
    assert pixel.ssim(frames, clean, pixel.UNIFORM) == pytest.approx(
        scikit_ssim(frames, clean), abs=1e-6
    )


@pytest.mark.parametrize("level", [0, 3, 255])
def test_ssim_of_flat_frames_equals_scikit_image(level: int) -> None:
    clean = torch.full((1, 3, 16, 16), level, dtype=torch.uint8)
    frames = clean.clone()
    frames[..., 8, 8] = 128
    assert pixel.ssim(frames, clean, pixel.GAUSSIAN) == pytest.approx(
        scikit_ssim(frames, clean, **GAUSSIAN), abs=1e-6
    )


def test_psnr_equals_scikit_image_per_frame() -> None:
    frames, clean = noisy_pair(30, 20)
    wanted = [
        peak_signal_noise_ratio(y, x) for x, y in zip(frames.numpy(), clean.numpy(), strict=True)
    ]
    assert pixel.psnr(frames, clean) == pytest.approx(wanted, abs=1e-9)


def test_psnr_by_hand_and_its_cap() -> None:
    clean = torch.zeros(3, 3, 2, 2, dtype=torch.uint8)
    frames = clean.clone()
    frames[1] = 255  # as wrong as can be: 0 dB
    frames[2, 0, 0, 0] = 6  # mean square 36 / 12 = 3
    assert pixel.psnr(frames, clean) == pytest.approx([100.0, 0.0, 10 * math.log10(255**2 / 3)])


def test_psnr_of_one_level_in_a_huge_frame_stays_under_the_cap() -> None:
    clean = torch.zeros(1, 3, 1000, 1500, dtype=torch.uint8)
    frames = clean.clone()
    frames[0, 0, 0, 0] = 1
    assert pixel.psnr(frames, clean) == [100.0]


def test_no_window_fits_in() -> None:
    frames, clean = noisy_pair(8, 30)
    assert all(math.isnan(value) for value in pixel.ssim(frames, clean, pixel.GAUSSIAN))
    assert not any(math.isnan(value) for value in pixel.ssim(frames, clean, pixel.UNIFORM))


def test_eight_bits_rounds_to_nearest_and_refuses_other_ranges() -> None:
    values = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 1.0])
    assert pixel.eight_bits(values, "restored").tolist() == [0, 0, 1, 255]
    assert pixel.eight_bits(torch.arange(256) / 255, "restored").tolist() == list(range(256))
    for wrong in (-0.01, 1.01, np.nan):
        with pytest.raises(ValueError, match="restored frames span"):
            pixel.eight_bits(torch.tensor([0.5, wrong]), "restored")
