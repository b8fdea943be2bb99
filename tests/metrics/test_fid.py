"""Distances between sets, against scipy, torchmetrics, and torch-fidelity on a seeded Inception."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn

from unlossy import assets
from unlossy.errors import UserError
from unlossy.metrics import fid, lpips
from unlossy.metrics.fid import InceptionDistance, SetScores, Vgg16Distances
from unlossy.metrics.suite import VideoScores

import torch_fidelity  # isort: skip  (after unlossy has mended torchvision)
from torch_fidelity.feature_extractor_inceptionv3 import (  # isort: skip
    FeatureExtractorInceptionV3,
)
from torch_fidelity.metric_fid import (  # isort: skip
    fid_features_to_statistics,
    fid_statistics_to_metric,
)
from torch_fidelity.metric_kid import kid_features_to_metric, mmd2  # isort: skip
from torchmetrics.image.fid import FrechetInceptionDistance  # isort: skip


class Means:
    """Features of no network: the three mean colours, so that values can be had by hand."""

    every = 2

    def __init__(self) -> None:
        self.calls = 0

    def features(self, frames: Tensor) -> Tensor:
        self.calls += len(frames)
        return frames.float().mean((2, 3)) / 255

    def compare(self, restored: Tensor, clean: Tensor) -> dict[str, fid.Cell]:
        return {"fd": fid.frechet_distance(restored, clean), "frames": len(clean)}


def features(count: int, dimensions: int, seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=draws) / dimensions**0.5
    return torch.randn(count, dimensions, generator=draws) @ mixing + 0.1 * seed


@pytest.mark.parametrize(("count", "dimensions"), [(40, 8), (12, 30)])
def test_frechet_distance_equals_the_textbook(count: int, dimensions: int) -> None:
    x, y = features(count, dimensions, 1).double(), features(count + 5, dimensions, 2).double()
    c_x, c_y = np.cov(x.numpy(), rowvar=False), np.cov(y.numpy(), rowvar=False)
    root = sqrtm(c_x @ c_y).real if count > dimensions else None
    roots = np.sqrt(np.linalg.eigvals(c_x @ c_y).astype(complex)).real.sum()
    textbook = ((x.mean(0) - y.mean(0)) ** 2).sum().item() + np.trace(c_x) + np.trace(c_y)
    found = fid.frechet_distance(x, y)
    assert found == pytest.approx(textbook - 2 * roots, rel=1e-5)
    if root is not None:
        assert found == pytest.approx(textbook - 2 * np.trace(root), rel=1e-9)


def test_frechet_distance_equals_torchmetrics() -> None:
    identity = nn.Flatten()
    identity.num_features = 16
    metric = FrechetInceptionDistance(feature=identity).set_dtype(torch.float64)
    x, y = features(50, 16, 1), features(50, 16, 2)
    metric.update(x, real=False)
    metric.update(y, real=True)
    assert fid.frechet_distance(x, y) == pytest.approx(float(metric.compute()), rel=1e-5)


def test_kernel_distance_equals_torch_fidelitys_u_statistic() -> None:
    x, y = features(30, 16, 1), features(30, 16, 2)
    k = [(a.double() @ b.double().T / 16 + 1) ** 3 for a, b in ((x, x), (x, y), (y, y))]
    wanted = mmd2(*(kernel.numpy() for kernel in k), mmd_est="u-statistic")
    assert fid.kernel_distance(x, y) == pytest.approx(wanted, rel=1e-9)
    usual = kid_features_to_metric(
        x, y, kid_subsets=1, kid_subset_size=30, rng_seed=0, verbose=False
    )
    unpaired = usual["kernel_inception_distance_mean"]
    assert fid.kernel_distance(x, y) == pytest.approx(unpaired, rel=0.1)  # sets drawn apart


def test_equal_sets_are_at_distance_zero_and_one_frame_has_none() -> None:
    x = features(20, 12, 1)
    assert fid.kernel_distance(x, x) == 0.0
    assert fid.frechet_distance(x, x) == pytest.approx(0.0, abs=1e-9)
    assert math.isnan(fid.kernel_distance(x[:1], x[:1]))
    assert math.isnan(fid.frechet_distance(x[:1], x[:1]))


def frames(count: int, seed: int, size: int = 24) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=draws)
    fine = nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    return (fine * 255).round().byte()


def test_every_second_frame_across_windows_and_clean_ones_only_once() -> None:
    means = Means()
    sets = VideoScores(None, {"means": means}).start_set()
    restored, clean = frames(7, 1), frames(7, 2)
    for model in ("input", "ccdnet"):
        for window in (slice(0, 3), slice(3, 4), slice(4, 7)):
            sets.add(model, restored[window] // (1 + (model == "ccdnet")), clean[window])
    found = sets.compute()
    assert list(found) == ["input", "ccdnet"]
    assert found["input"]["frames"] == 4
    x, y = (value[::2].float().mean((2, 3)) / 255 for value in (restored, clean))
    assert found["input"]["fd"] == pytest.approx(fid.frechet_distance(x, y), rel=1e-6)
    assert means.calls == 4 + 2 * 4


@pytest.mark.assets("lpips_alex", "lpips_vgg")
def test_vgg16_distances() -> None:
    distances = Vgg16Distances(lpips.trunk("lpips_vgg"))
    clean = frames(6, 1)
    near, far = clean // 4 * 4, clean // 64 * 64
    sets = SetScores({"vgg16": distances}, torch.device("cpu"))
    for model, restored in {"same": clean, "near": near, "far": far}.items():
        sets.add(model, restored, clean)
    found = sets.compute()
    assert found["same"] == {
        "kid_vgg16": 0.0,
        "fd_vgg16": pytest.approx(0.0, abs=1e-6),
        "frames_vgg16": 6,
    }
    for column in ("kid_vgg16", "fd_vgg16"):
        assert found["near"][column] < found["far"][column]
    assert distances.features(clean).shape == (6, 512)
    assert distances.features(clean[..., :15, :]).shape == (0, 512)
    tiny = SetScores({"vgg16": distances}, torch.device("cpu"))
    tiny.add("input", clean[..., :1, :1], clean[..., :1, :1])
    assert tiny.compute()["input"]["frames_vgg16"] == 0
    with pytest.raises(UserError, match="lpips_vgg"):
        Vgg16Distances(lpips.trunk("lpips_alex"))


@pytest.mark.assets("lpips_vgg")
def test_vgg16_features_equal_a_plain_stack_of_layers() -> None:
    from safetensors.torch import load_file

    state = load_file(assets.fetch("lpips_vgg"))
    x = frames(1, 3).float() / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    for place in range(30):
        if f"features.{place}.weight" in state:
            weight, bias = (state[f"features.{place}.{part}"] for part in ("weight", "bias"))
            x = nn.functional.conv2d(x, weight, bias, padding=1).relu()
        elif f"features.{place - 1}.weight" not in state:
            x = nn.functional.max_pool2d(x, 2)
    found = Vgg16Distances(lpips.trunk("lpips_vgg")).features(frames(1, 3))
    torch.testing.assert_close(found, x.mean((2, 3)), atol=1e-4, rtol=1e-3)


@pytest.fixture(scope="module")
def seeded() -> FeatureExtractorInceptionV3:
    """torch-fidelity's Inception with seeded weights that keep the scale of what passes through."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: {})
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = FeatureExtractorInceptionV3("seeded", ["2048"], "no file")
    draws = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.normal_(0, (2 / weight[0].numel()) ** 0.5, generator=draws)
    return network


@pytest.fixture(scope="module")
def inception_file(
    seeded: FeatureExtractorInceptionV3, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("inception") / "seeded.pth"
    torch.save(seeded.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def inception(inception_file: Path) -> InceptionDistance:
    return InceptionDistance(inception_file)


def test_features_and_distance_equal_torch_fidelitys(
    inception: InceptionDistance, seeded: FeatureExtractorInceptionV3
) -> None:
    """The two halves of the slow test below, without torch-fidelity's 2048 eigenvalues."""
    images = torch.cat([frames(2, 1, 40), 255 - frames(2, 2, 40)])
    with torch.inference_mode():
        (wanted,) = seeded(images)
    found = inception.features(images)
    assert found.std(0).mean() > 0.01  # the pictures differ in features of random weights too
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    halves = [fid_features_to_statistics(half) for half in wanted[:, :64].double().chunk(2)]
    distance = fid_statistics_to_metric(*halves, verbose=False)["frechet_inception_distance"]
    ours = fid.frechet_distance(*found[:, :64].chunk(2))
    assert ours == pytest.approx(distance, rel=1e-4)


class Pictures(torch.utils.data.Dataset[Tensor]):
    def __init__(self, pictures: Tensor) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Tensor:
        return self.pictures[index]


@pytest.mark.slow
def test_fid_equals_torch_fidelity(inception_file: Path) -> None:
    restored, clean = frames(16, 1, 40), 255 - frames(16, 2, 40)
    wanted = torch_fidelity.calculate_metrics(
        input1=Pictures(restored),
        input2=Pictures(clean),
        fid=True,
        cuda=False,
        batch_size=16,
        feature_extractor_weights_path=str(inception_file),
        cache=False,
        verbose=False,
    )["frechet_inception_distance"]
    sets = SetScores({"fid": InceptionDistance(inception_file, minimum=2)}, torch.device("cpu"))
    sets.add("input", restored, clean)
    found = sets.compute()["input"]
    assert found["frames_fid"] == 16
    assert found["fid"] == pytest.approx(wanted, rel=1e-4)
    assert wanted > 0.01


def test_fid_is_refused_for_few_frames(inception: InceptionDistance) -> None:
    assert inception.compare(torch.zeros(2047, 4), torch.zeros(2047, 4)) == {
        "fid": "refused under 2048 frames",
        "frames_fid": 2047,
    }


def test_fid_without_the_file_is_unavailable() -> None:
    sets = SetScores({"fid": InceptionDistance()}, torch.device("cpu"))
    sets.add("input", frames(3, 1), frames(3, 2))
    assert sets.compute() == {"input": {"fid": "unavailable", "frames_fid": 0}}


def test_a_wrong_inception_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    for content in (b"", b"not a pickle", None):
        if content is None:
            torch.save({"conv": torch.zeros(1)}, path)
        else:
            path.write_bytes(content)
        with pytest.raises(UserError, match=r"weights\.pth.*distances\.inception"):
            InceptionDistance(path)
    with pytest.raises(UserError, match=r"missing\.pth"):
        InceptionDistance(tmp_path / "missing.pth")


def test_a_pickle_with_code_is_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (witness,))

    torch.save({"conv": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(UserError, match=r"trap\.pth"):
        InceptionDistance(tmp_path / "trap.pth")
    assert not witness.exists()
