"""Classical filters against scipy, brute force and FFmpeg itself; how their settings are chosen."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scipy.ndimage import gaussian_filter
from torch import Tensor

from unlossy.errors import UserError
from unlossy.inference.windows import restored_windows
from unlossy.models import baselines
from unlossy.models.baselines import FFmpegFilter, Gaussian, Identity, Undither
from unlossy.models.model import EnhancementModel
from unlossy.sample import Sample, pristine
from unlossy.video import filter_frames

CONF = Path(__file__).parents[2] / "conf" / "model"
NAMES = (
    "identity",
    "gaussian",
    "undither",
    "nlmeans",
    "bilateral",
    "deband",
    "gradfun",
    "deblock",
    "atadenoise",
)


def gif_sample(
    index: Tensor, palette: Tensor, clean: Tensor | None = None, rows: int = 0
) -> Sample:
    """A one-clip batch from indices (S, h, w) and byte colours (P, 3), padded to `rows` rows."""
    frames = palette[index].permute(0, 3, 1, 2)[None]  # (1, S, 3, h, w) uint8
    count, size = len(index), len(palette)
    table = torch.zeros(1, count, max(rows, size), 3)
    table[:, :, :size] = palette / 255
    return Sample(
        name=["clip"],
        degraded=frames.float() / 255,
        clean=(frames if clean is None else clean).float() / 255,
        t_in=torch.arange(count)[None].float(),
        t_out=torch.arange(count)[None].float(),
        side={"palette": table, "palette_size": torch.full((1, count), size)},
        target={},
        bits=torch.zeros(1),
    )


def random_gif(height: int, width: int, colors: int, frames: int = 2) -> Sample:
    draws = torch.Generator().manual_seed(3)
    palette = torch.randint(0, 256, (colors, 3), generator=draws, dtype=torch.uint8)
    return gif_sample(
        torch.randint(0, colors, (frames, height, width), generator=draws), palette, rows=colors + 5
    )


def built(name: str) -> EnhancementModel:
    return instantiate(OmegaConf.load(CONF / f"{name}.yaml"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width", "colors"), [(1, 1, 1), (1, 9, 2), (23, 17, 2)])
def test_any_gif_passes(name: str, height: int, width: int, colors: int) -> None:
    model, sample = built(name), random_gif(height, width, colors, frames=1)
    restored = model.restore(sample)
    assert restored.shape == sample["degraded"].shape
    assert restored.isfinite().all()
    assert not model.trainable
    assert not list(model.parameters())
    if hasattr(model, "fit"):
        model.fit([sample])


def test_identity_changes_nothing() -> None:
    sample = random_gif(6, 7, 4)
    assert torch.equal(Identity().restore(sample), sample["degraded"])


@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_gaussian_equals_scipy(sigma: float) -> None:
    sample = random_gif(20, 24, 8)
    ours = Gaussian([sigma]).restore(sample)[0, 0, 1].numpy()
    theirs = gaussian_filter(
        sample["degraded"][0, 0, 1].numpy(), sigma, mode="nearest", radius=int(np.ceil(3 * sigma))
    )
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_likeness_by_brute_force() -> None:
    palette = torch.randint(0, 256, (12, 3), generator=torch.Generator().manual_seed(0))
    palette[7] = palette[3]  # a repeated colour
    found = baselines._likeness(palette / 255)
    colors = palette.double().numpy()
    for a in range(12):
        for b in range(12):
            mean = (colors[a] + colors[b]) / 2
            radius = ((colors[a] - mean) ** 2).sum()
            nearest = ((colors - mean) ** 2).sum(1).min()
            assert float(found[a, b]) == pytest.approx(nearest / radius if radius else 1, abs=1e-5)


def test_undither_by_brute_force() -> None:
    sample, sigma = random_gif(5, 6, 7, frames=1), 0.7
    frame = sample["degraded"][0, 0].double().numpy()
    palette = sample["side"]["palette"][0, 0, :7].double().numpy()
    wanted = np.zeros_like(frame)
    for y in range(5):
        for x in range(6):
            total, weights = np.zeros(3), 0.0
            for v in (y - 1, y, y + 1):
                for u in (x - 1, x, x + 1):
                    a, b = frame[:, y, x], frame[:, min(max(v, 0), 4), min(max(u, 0), 5)]
                    mean = (a + b) / 2
                    radius = ((a - mean) ** 2).sum()
                    like = ((palette - mean) ** 2).sum(1).min() / radius if radius > 0 else 1
                    weight = like * np.exp(-((v - y) ** 2 + (u - x) ** 2) / (2 * sigma**2))
                    total, weights = total + weight * b, weights + weight
            wanted[:, y, x] = total / weights
    assert Undither([sigma]).restore(sample)[0, 0].numpy() == pytest.approx(wanted, abs=1e-5)


def test_undither_mixes_a_dither_and_keeps_an_edge() -> None:
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    checkers, halves = (rows + columns) % 2, columns // 8
    black_white = torch.tensor([[0, 0, 0], [255, 255, 255]], dtype=torch.uint8)
    with_grey = torch.tensor([[0, 0, 0], [254, 254, 254], [127, 127, 127]], dtype=torch.uint8)
    mixed = Undither([1.0]).restore(gif_sample(checkers[None], black_white))
    assert (mixed[..., 3:-3, 3:-3] - 0.5).abs().max() < 0.1
    edge = gif_sample(halves[None], with_grey)
    torch.testing.assert_close(Undither([1.0]).restore(edge), edge["degraded"], atol=1e-6, rtol=0)


def test_ffmpeg_filter_is_ffmpeg() -> None:
    sample = random_gif(16, 20, 16, frames=3)
    graph = "gblur=sigma=0.8"
    wanted = filter_frames((sample["degraded"][0] * 255).round().byte(), graph)
    assert torch.equal(FFmpegFilter([graph]).restore(sample)[0], wanted.float() / 255)


def test_bilateral_filters_all_three_colors() -> None:
    sample = random_gif(16, 20, 64, frames=1)
    change = (built("bilateral").restore(sample) - sample["degraded"]).abs().mean((0, 1, 3, 4))
    assert (change > 1e-3).all()


@pytest.mark.parametrize(
    ("model", "settings"),
    [(FFmpegFilter, ["nosuchfilter=3"]), (Gaussian, []), (Gaussian, [0.5, 0.0]), (Undither, [-1])],
)
def test_impossible_settings_are_refused_at_construction(
    model: type[EnhancementModel], settings: list[float | str]
) -> None:
    with pytest.raises(UserError):
        model(settings)


def test_a_negative_context_is_refused() -> None:
    with pytest.raises(UserError, match="context=-1"):
        FFmpegFilter(["gblur"], context=-1)


@pytest.fixture(scope="module")
def coded() -> Sample:
    """A drifting picture as HEVC keeps it at QP 37, (1, 10, 3, 96, 128) in [0, 1]."""
    t, y, x = torch.meshgrid(torch.arange(10), torch.arange(96), torch.arange(128), indexing="ij")
    waves = [
        torch.sin(0.13 * (c + 1) * (x + t) + 0.09 * y) + torch.sin(0.02 * x * y) for c in range(3)
    ]
    clean = ((torch.stack(waves, 1) + 2) * 63).round().byte()
    kept = instantiate(OmegaConf.load(CONF.parent / "degradation" / "hevc.yaml"))(
        pristine("drift", clean), torch.Generator()
    )
    return Sample(
        name=["drift"],
        degraded=kept["frames"][None].float() / 255,
        clean=kept["reference"][None].float() / 255,
        t_in=kept["t_in"][None],
        t_out=kept["t_in"][None],
        side={},
        target={},
        bits=torch.ones(1),
    )


@pytest.mark.parametrize("name", ["deblock", "atadenoise"])
def test_every_setting_changes_a_decoded_clip_and_the_first_hardly(
    name: str, coded: Sample
) -> None:
    model = built(name)
    restored = [model.smooth(coded, setting) for setting in model.settings]
    changes = [(one - coded["degraded"]).abs().mean() for one in restored]
    assert all(0 < change < 0.01 for change in changes)
    assert changes[0] == min(changes)
    assert all(not torch.equal(a, b) for a, b in pairwise(restored))
    before, after = (
        baselines._psnr(one, coded["clean"]) for one in (coded["degraded"], restored[0])
    )
    assert after > before - 0.02


def test_atadenoise_joins_windows_without_a_seam(coded: Sample) -> None:
    stored = coded | {"degraded": (coded["degraded"] * 255).round().byte()}
    model = built("atadenoise")
    for setting in range(len(model.settings)):
        model.choice.fill_(setting)
        whole, parts = (
            torch.cat([part for _, part in restored_windows(model, stored, length)])
            for length in (10, 3)
        )
        assert torch.equal(whole, parts)
    model.context = 1
    assert not torch.equal(whole, torch.cat([p for _, p in restored_windows(model, stored, 3)]))


def test_fit_shows_a_temporal_filter_the_neighbours() -> None:
    """Noise on a still picture: averaging over time helps, the more frames the better."""
    still = torch.full((1, 9, 3, 32, 32), 128, dtype=torch.uint8)
    noisy = (still + torch.randint(0, 9, still.shape) - 4).byte()
    sample = random_gif(32, 32, 4, frames=9) | {"degraded": noisy, "clean": still}
    same = ":".join(f"{plane}a=0.3:{plane}b=5" for plane in range(3))
    settings = [f"atadenoise={same}:s={frames}" for frames in (5, 7, 9)]
    chosen = []
    for context in (0, 4):
        model = FFmpegFilter(settings, context)
        model.fit([sample, sample])
        chosen.append(model.label)
        model.fit([sample | {"degraded": noisy[:, :1], "clean": still[:, :1]}])  # one frame will do
    assert chosen == [settings[0], settings[-1]]  # without neighbours all settings are alike


def test_fit_takes_the_best_setting_and_skips_exact_frames() -> None:
    noisy, exact = random_gif(24, 24, 30, frames=3), random_gif(24, 24, 30, frames=1)
    noisy["clean"] = Gaussian([0.6]).restore(noisy)
    stored = noisy | {key: (noisy[key] * 255).round().byte() for key in ("degraded", "clean")}
    model = Gaussian([0.4, 0.6, 0.85, 1.0])
    assert model.label == "0.85"
    model.fit([exact])  # says nothing: any smoothing is a loss
    assert model.label == "0.85"
    model.fit([exact, stored, exact])
    assert model.label == "0.6"
    copy = Gaussian([0.4, 0.6, 0.85, 1.0])
    copy.load_state_dict(model.state_dict())
    assert copy.label == "0.6"
