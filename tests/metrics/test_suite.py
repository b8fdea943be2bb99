"""The protocol: rounding, means, exact frames, blanks, windows; LPIPS as a column."""

import math
from pathlib import Path

import pytest
import torch
from formula_pair import formula_pair
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from unlossy.errors import UserError
from unlossy.metrics import lpips
from unlossy.metrics.pixel import GAUSSIAN, psnr, ssim
from unlossy.metrics.suite import DIRECTION, VideoScores

CONF = Path(__file__).parents[2] / "conf" / "metrics"


def clips(frames: int = 5, height: int = 24, width: int = 32) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(frames)
    clean = torch.randint(0, 256, (frames, 3, height, width), generator=draws)
    noise = torch.randint(-20, 21, clean.shape, generator=draws)
    noise *= torch.arange(1, frames + 1).view(-1, 1, 1, 1)  # frames of very different quality
    return (clean + noise).clamp(0, 255).byte(), clean.byte()


def row(restored: Tensor, clean: Tensor, degraded: Tensor | None = None) -> dict[str, float]:
    clip = VideoScores(None).start()
    clip.add(restored, clean, degraded)
    return clip.row()


def test_a_clip_is_the_mean_of_its_frames_not_of_their_errors() -> None:
    restored, clean = clips()
    found, values = row(restored, clean), psnr(restored, clean)
    assert found["psnr"] == pytest.approx(sum(values) / 5)
    pooled = 10 * math.log10(255**2 / float((restored.int() - clean.int()).square().float().mean()))
    assert abs(found["psnr"] - pooled) > 0.5
    assert found["ssim"] == pytest.approx(sum(ssim(restored, clean, GAUSSIAN)) / 5)
    assert (found["frames"], found["exact"]) == (5, 0)


def test_windows_change_nothing() -> None:
    restored, clean = clips()
    clip = VideoScores(None).start()
    for t in (0, 2, 4):
        clip.add(restored[t : t + 2], clean[t : t + 2], clean[t : t + 2] // 2)
    whole = row(restored, clean, clean // 2)
    assert {k: v for k, v in clip.row().items() if k != "lpips_alex"} == {
        k: v for k, v in whole.items() if k != "lpips_alex"
    }


def test_exact_frames_are_counted_apart() -> None:
    restored, clean = clips()
    degraded = clean.clone()
    degraded[2:] //= 2
    found, values = row(restored, clean, degraded), psnr(restored, clean)
    assert found["exact"] == 2
    assert found["psnr"] == pytest.approx(sum(values[2:]) / 3)
    assert found["ssim"] == pytest.approx(sum(ssim(restored[2:], clean[2:], GAUSSIAN)) / 3)
    assert found["psnr_all"] == pytest.approx(sum(values) / 5)


def test_a_clip_of_exact_frames_is_blank() -> None:
    _, clean = clips()
    found = row(clean, clean, clean)
    assert (found["frames"], found["exact"], found["psnr_all"]) == (5, 5, 100.0)
    assert all(math.isnan(found[name]) for name in DIRECTION if name != "psnr_all")


@pytest.mark.parametrize("degraded", [None, torch.zeros(5, 3, 12, 16, dtype=torch.uint8)])
def test_a_medium_of_another_size_keeps_no_frame_exactly(degraded: Tensor | None) -> None:
    _, clean = clips()
    found = row(clean, clean, degraded)
    assert (found["exact"], found["psnr"], found["ssim"]) == (0, 100.0, 1.0)


def test_floats_are_rounded_to_eight_bits_first() -> None:
    restored, clean = clips()
    assert row(restored / 255 + 0.3 / 255 * (restored < 255), clean / 255)["psnr"] == pytest.approx(
        row(restored, clean)["psnr"], abs=1e-12
    )
    with pytest.raises(ValueError, match="restored frames span"):
        row(restored.float(), clean)
    with pytest.raises(ValueError, match="differ in shape"):
        row(restored[:4], clean)


def test_a_picture_of_one_pixel_has_psnr_alone() -> None:
    found = row(torch.zeros(1, 3, 1, 1).byte(), torch.full((1, 3, 1, 1), 255).byte())
    assert found["psnr"] == 0.0
    assert math.isnan(found["ssim"])
    assert math.isnan(found["lpips_alex"])


def test_no_frames_no_numbers() -> None:
    found = VideoScores(None).start().row()
    assert found["frames"] == 0
    assert math.isnan(found["psnr_all"])


def test_config_without_networks() -> None:
    scores = instantiate(OmegaConf.load(CONF / "pixel.yaml"), _convert_="all")
    assert scores.lpips is None
    assert scores.start_set().compute() == {}


@pytest.mark.assets("lpips_alex", "lpips_vgg")
def test_golden_lpips_through_the_default_config() -> None:
    scores = instantiate(OmegaConf.load(CONF / "default.yaml"), _convert_="all")
    coarse, clean = formula_pair()
    clip = scores.start()
    clip.add(coarse, clean, coarse)
    clip.add(clean, clean, clean)  # exact
    assert clip.row()["lpips_alex"] == pytest.approx(0.0072838, abs=1e-6)
    tiny = scores.start()
    tiny.add(coarse[..., :30, :], clean[..., :30, :])
    assert math.isnan(tiny.row()["lpips_alex"])
    assert set(tiny.row()) == {"frames", "exact", *DIRECTION}


@pytest.mark.assets("lpips_vgg")
def test_vgg_never_fills_the_column_of_alex() -> None:
    vgg = lpips.lpips("lpips_vgg")
    coarse, clean = (picture / 255 for picture in formula_pair())
    assert vgg(coarse, clean).item() == pytest.approx(0.018571, abs=2e-4)
    with pytest.raises(UserError, match="lpips_alex"):
        VideoScores(vgg)
