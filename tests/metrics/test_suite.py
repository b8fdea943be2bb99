"""The protocol: rounding, means, exact frames, blanks, windows; one clean side for all models."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from formula_pair import formula_pair
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from unlossy.errors import UserError
from unlossy.metrics import flicker, lpips, reference
from unlossy.metrics.flicker import Flicker
from unlossy.metrics.pixel import GAUSSIAN, psnr, ssim
from unlossy.metrics.suite import DIRECTION, VideoScores

CONF = Path(__file__).parents[2] / "conf" / "metrics"


def clips(frames: int = 5, height: int = 24, width: int = 32) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(frames)
    clean = torch.randint(0, 256, (frames, 3, height, width), generator=draws)
    noise = torch.randint(-20, 21, clean.shape, generator=draws)
    noise *= torch.arange(1, frames + 1).view(-1, 1, 1, 1)  # frames of very different quality
    return (clean + noise).clamp(0, 255).byte(), clean.byte()


def row(
    restored: Tensor,
    clean: Tensor,
    degraded: Tensor | None = None,
    scores: VideoScores | None = None,
    window: int = 100,
) -> dict[str, float]:
    scores = scores or VideoScores(None)
    clip = scores.start(scores.reference(clean, degraded))
    for frames in restored.split(window):
        clip.add(frames)
    return clip.row()


def same(one: dict[str, float], other: dict[str, float]) -> bool:
    return one.keys() == other.keys() and all(
        one[name] == other[name] or (math.isnan(one[name]) and math.isnan(other[name]))
        for name in one
    )


def test_a_clip_is_the_mean_of_its_frames_not_of_their_errors() -> None:
    restored, clean = clips()
    found, values = row(restored, clean), psnr(restored, clean)
    assert found["psnr"] == pytest.approx(sum(values) / 5)
    pooled = 10 * math.log10(255**2 / float((restored.int() - clean.int()).square().float().mean()))
    assert abs(found["psnr"] - pooled) > 0.5
    assert found["ssim"] == pytest.approx(sum(ssim(restored, clean, GAUSSIAN)) / 5)
    assert (found["frames"], found["exact"]) == (5, 0)


@pytest.mark.parametrize("window", [1, 3, 7, 8, 19])
def test_windows_change_nothing(window: int) -> None:
    restored, clean = clips(19)
    clean = clean // 8 + 100  # no cuts
    degraded = clean.clone()
    degraded[::3] //= 2
    scores = VideoScores(None, flicker=Flicker())
    whole = row(restored, clean, degraded, scores)
    assert whole["exact"] == 12
    assert not math.isnan(whole["warp_error"])
    assert same(row(restored, clean, degraded, scores, window), whole)


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


def dropped(clean: Tensor, restored: Tensor, degraded: Tensor) -> dict[str, float]:
    """The row of a clip of which frames 0, 3, 6 were kept."""
    scores = VideoScores(None)
    clip = scores.start(scores.reference(clean, degraded, kept=[0, 3, 6]))
    for frames in restored.split(4):
        clip.add(frames)
    return clip.row()


def test_where_frames_were_dropped_the_others_are_observed() -> None:
    clean = torch.full((7, 3, 4, 4), 100, dtype=torch.uint8)
    restored = clean + torch.tensor([0, 1, 2, 0, 4, 8, 0]).view(-1, 1, 1, 1).byte()
    found = dropped(clean, restored, clean[::3])

    def decibels(square: float) -> float:
        return 20 * math.log10(255) - 10 * math.log10(square)

    between = [decibels(d * d) for d in (1, 2, 4, 8)]
    assert (found["frames"], found["exact"]) == (7, 3)
    assert found["psnr"] == pytest.approx(sum(between) / 4)
    assert found["psnr_all"] == pytest.approx((300 + sum(between)) / 7)
    # One error over frames 0 to 3, both included, and over 3 to 6.
    runs = decibels((1 + 4) / 4), decibels((16 + 64) / 4)
    assert found["psnr_clip"] == pytest.approx(sum(runs) / 2)
    assert dropped(clean, clean, clean[::3])["psnr_clip"] == 100.0


def test_a_key_frame_that_the_medium_changed_is_not_observed() -> None:
    clean = torch.full((7, 3, 4, 4), 100, dtype=torch.uint8)
    restored = clean + torch.tensor([0, 1, 2, 5, 4, 8, 3]).view(-1, 1, 1, 1).byte()
    quantised = clean[::3].clone()
    quantised[1:, 0, 0, 0] += 1
    found, values = dropped(clean, restored, quantised), psnr(restored, clean)
    assert found["exact"] == 1
    assert found["psnr"] == pytest.approx(sum(values[1:]) / 6)
    assert found["psnr_clip"] == pytest.approx(
        (psnr_of(1 + 4 + 25, 4) + psnr_of(25 + 16 + 64 + 9, 4)) / 2
    )


def psnr_of(total: float, frames: int) -> float:
    return 10 * math.log10(255**2 * frames / total)


def test_without_dropped_frames_there_are_no_runs() -> None:
    restored, clean = clips()
    assert math.isnan(row(restored, clean, clean // 2)["psnr_clip"])
    scores = VideoScores(None)
    still = scores.start(scores.reference(clean[:1], clean[:1], kept=[0]))
    still.add(restored[:1])
    assert math.isnan(still.row()["psnr_clip"])
    with pytest.raises(ValueError, match="degraded holds 2 frames where 3 of 5"):
        scores.reference(clean, clean[::3], kept=[0, 2, 4])


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
    with pytest.raises(ValueError, match=r"clean frames are"):
        row(restored, clean[0, 0, :2, :3])
    with pytest.raises(ValueError, match="does not fit"):
        row(restored[..., 1:], clean)
    with pytest.raises(ValueError, match="after 5 frames does not fit"):
        row(restored[[0, 1, 2, 3, 4, 4]], clean, window=5)
    with pytest.raises(ValueError, match="4 of 5 frames were added"):
        row(restored[:4], clean)


def test_a_picture_of_one_pixel_has_psnr_alone() -> None:
    found = row(torch.zeros(1, 3, 1, 1).byte(), torch.full((1, 3, 1, 1), 255).byte())
    assert found["psnr"] == 0.0
    assert math.isnan(found["ssim"])
    assert math.isnan(found["lpips_alex"])


def test_no_frames_no_numbers() -> None:
    nothing = torch.zeros(0, 3, 8, 8, dtype=torch.uint8)
    found = row(nothing, nothing)
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
    twice = torch.cat([clean, clean])
    found = row(torch.cat([coarse, clean]), twice, torch.cat([coarse, clean]), scores)
    assert found["exact"] == 1
    assert found["lpips_alex"] == pytest.approx(0.0072838, abs=1e-6)
    assert found["tlp"] == pytest.approx(0.72838, abs=1e-4)  # the clean clip stands still
    blank = {name for name in DIRECTION if math.isnan(found[name])}
    assert blank == {"psnr_std", *list(DIRECTION)[-8:]}  # for pictures, dropped frames
    tiny = row(coarse[..., :30, :], clean[..., :30, :], scores=scores)
    assert math.isnan(tiny["lpips_alex"])
    assert set(tiny) == {"frames", "exact", *DIRECTION}
    assert scores.for_validation().flicker is None
    assert scores.for_validation().lpips is scores.lpips


@pytest.mark.assets("lpips_alex")
def test_tlp_and_windows_with_lpips(monkeypatch: pytest.MonkeyPatch) -> None:
    alex = lpips.lpips("lpips_alex")
    scores = VideoScores(alex, flicker=Flicker())
    restored, clean = clips(10, 40, 56)
    clean = clean // 8 + 100
    whole = row(restored, clean, scores=scores)
    assert same(row(restored, clean, scores=scores, window=3), whole)
    x, y = restored / 255, clean / 255
    wanted = (alex(x[:-1], x[1:]) - alex(y[:-1], y[1:])).abs().mean() * 100
    assert whole["tlp"] == pytest.approx(wanted.item(), rel=1e-4)
    assert whole["lpips_alex"] == pytest.approx(alex(x, y).mean().item(), rel=1e-4)
    monkeypatch.setattr(reference, "HELD", 0)  # a clip too long to be held
    assert same(row(restored, clean, scores=scores), whole)


@pytest.mark.assets("lpips_alex")
def test_the_clean_side_is_computed_once_for_all_models(monkeypatch: pytest.MonkeyPatch) -> None:
    alex = lpips.lpips("lpips_alex")
    seen: list[int] = []
    features, flows = alex.features, flicker.farneback
    monkeypatch.setattr(alex, "features", lambda x: seen.append(len(x)) or features(x))
    pairs: list[int] = []
    monkeypatch.setattr(flicker, "farneback", lambda a, b: pairs.append(len(a)) or flows(a, b))
    scores = VideoScores(alex, flicker=Flicker())
    restored, clean = clips(10, 40, 56)
    truth = scores.reference(clean // 8 + 100)
    for _ in range(3):
        clip = scores.start(truth)
        clip.add(restored)
    assert sum(seen) == 3 * 10 + 10 + 1  # and the last frame of the first block once more
    assert sum(pairs) == 3 * 9 + 2 * 9  # the clean flow there and back
    seen.clear()
    monkeypatch.setattr(reference, "HELD", 0)
    truth = scores.reference(clean // 8 + 100)
    outputs = [scores.start(truth) for _ in range(5)]
    for frames in restored.split(3):
        for clip in outputs:  # five outputs of one window share a block that is not held
            clip.add(frames)
    assert sum(seen) == 5 * 10 + 10 + 1


def test_the_deviation_of_psnr_is_numpys() -> None:
    restored, clean = clips()
    degraded = clean.clone()
    degraded[1:] //= 2
    values = psnr(restored, clean)
    assert row(restored, clean)["psnr_std"] == pytest.approx(np.std(values))
    assert row(restored, clean, degraded)["psnr_std"] == pytest.approx(np.std(values[1:]))
    assert math.isnan(row(restored[:1], clean[:1])["psnr_std"])


def test_one_frame_does_not_flicker() -> None:
    restored, clean = clips(1)
    found = row(restored, clean, scores=VideoScores(None, flicker=Flicker()))
    assert all(math.isnan(found[name]) for name in flicker.COLUMNS)
    assert not math.isnan(found["psnr"])


@pytest.mark.assets("lpips_vgg")
def test_vgg_never_fills_the_column_of_alex() -> None:
    vgg = lpips.lpips("lpips_vgg")
    coarse, clean = (picture / 255 for picture in formula_pair())
    assert vgg(coarse, clean).item() == pytest.approx(0.018571, abs=2e-4)
    with pytest.raises(UserError, match="lpips_alex"):
        VideoScores(vgg)
