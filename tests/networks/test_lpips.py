"""LPIPS against the values of tests/parity, the authors' own class, and its rules of use."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from unlossy import assets
from unlossy.networks.lpips import LPIPS, Trunk

import lpips  # isort: skip  (after unlossy has mended torchvision)

REFERENCES = Path(__file__).parents[1] / "parity" / "lpips_refs"
pytestmark = pytest.mark.assets("lpips_alex", "lpips_vgg")


@pytest.fixture(scope="module")
def alex() -> LPIPS:
    return LPIPS(load_file(assets.fetch("lpips_alex")))


@pytest.fixture(scope="module")
def vgg() -> LPIPS:
    return LPIPS(load_file(assets.fetch("lpips_vgg")))


def picture(name: str) -> Tensor:
    pixels = np.array(Image.open(REFERENCES / f"ex_{name}.png").convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255


def test_authors_pictures(alex: LPIPS, vgg: LPIPS) -> None:
    both = torch.cat([picture("p0"), picture("p1")])
    reference = picture("ref").expand_as(both)
    assert alex(both, reference).tolist() == pytest.approx([0.72188, 0.13757], abs=1e-5)
    assert vgg(both, reference).tolist() == pytest.approx([0.5686, 0.4217], abs=2e-4)


@pytest.mark.filterwarnings("ignore:.*deprecated:UserWarning:torchvision")
def test_equals_the_authors_class(alex: LPIPS) -> None:
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    state = load_file(assets.fetch("lpips_alex"))
    places = {key.split(".")[1]: key for key in theirs.net.state_dict() if key.endswith("weight")}
    theirs.net.load_state_dict(
        {
            places[place].replace("weight", part): state[f"features.{place}.{part}"]
            for place in places
            for part in ("weight", "bias")
        }
    )
    draws = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 3, 64, 80, generator=draws), torch.rand(2, 3, 64, 80, generator=draws)
    wanted = theirs(x, y, normalize=True).flatten()
    torch.testing.assert_close(alex(x, y), wanted, atol=1e-5, rtol=1e-5)


def test_gradient_reaches_the_prediction_alone_and_is_finite(alex: LPIPS) -> None:
    prediction = torch.full((1, 3, 40, 40), 0.5).requires_grad_()
    clean = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(1)).requires_grad_()
    alex(prediction * 2.6, clean).sum().backward()  # 1.3: a prediction may leave [0, 1]
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()
    assert prediction.grad.abs().sum() > 0
    assert clean.grad is None
    assert not list(alex.parameters())
    assert not alex.state_dict()  # a checkpoint does not carry 10 MB of AlexNet


def test_features_that_are_all_zero_have_finite_gradients() -> None:
    from unlossy.networks.lpips import _unit

    features = torch.zeros(1, 4, 2, 2, requires_grad=True)
    _unit(features).sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_equal_pictures_are_at_distance_zero(vgg: LPIPS) -> None:
    assert vgg(picture("ref"), picture("ref")).tolist() == [0.0]


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_other_ranges_are_refused(alex: LPIPS, low: float) -> None:
    wrong, right = (
        torch.linspace(low, 1.1, 3 * 40 * 40).view(1, 3, 40, 40),
        torch.rand(1, 3, 40, 40),
    )
    with pytest.raises(ValueError, match=r"prediction in \[0, 1\]"):
        alex(wrong, right)
    with pytest.raises(ValueError, match=r"clean in \[0, 1\]"):
        alex(right.requires_grad_(), wrong)


def test_smallest_size_is_just_enough(alex: LPIPS, vgg: LPIPS) -> None:
    for network in (alex, vgg):
        small = torch.rand(1, 3, network.smallest, network.smallest)
        assert network(small, 1 - small).isfinite().all()
        with pytest.raises(ValueError, match=f"at least {network.smallest}"):
            network(small[..., 1:], small[..., 1:])


def test_random_or_foreign_trunks_are_refused() -> None:
    state = load_file(assets.fetch("lpips_alex"))
    drawn = {key: torch.randn_like(value) * value.std() for key, value in state.items()}
    with pytest.raises(ValueError, match="not the LPIPS trunk"):
        LPIPS(drawn)
    with pytest.raises(ValueError, match=r"lacks features\.10\.bias"):
        Trunk({key: value for key, value in state.items() if key != "features.10.bias"})
    with pytest.raises(ValueError, match="torchvision's names"):
        Trunk({"conv1.weight": torch.zeros(1)})
