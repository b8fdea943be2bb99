"""FILM's losses: a few lines of numpy agree, who feels a gradient, weights by step, no VGG."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from unlossy.errors import UserError
from unlossy.losses.film import PixelL1, StyleLoss, VGGLoss
from unlossy.losses.objective import Objective, Weighted
from unlossy.losses.stepwise import Stepwise
from unlossy.networks.vgg19 import VGG19

WIDTHS = (64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512, 512)
PLACES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30)
SHARES = (1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5)


@pytest.fixture(scope="module")
def state():
    """Random weights in torchvision's layout, which keep the size of what goes through."""
    state, inputs = {}, 3
    draws = torch.Generator().manual_seed(0)
    for place, width in zip(PLACES, WIDTHS, strict=True):
        kernel = torch.randn(width, inputs, 3, 3, generator=draws) * (2 / (9 * inputs)) ** 0.5
        state[f"features.{place}.weight"] = kernel
        state[f"features.{place}.bias"] = 0.1 * torch.randn(width, generator=draws)
        inputs = width
    return state


@pytest.fixture(scope="module")
def path(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg19.safetensors"
    save_file(state, path)
    return str(path)


def batch(size=(16, 24), *, kept=(0.0, 2.0)):
    clean = torch.rand(1, 3, 3, *size)
    restored = {"estimate": torch.rand(1, 3, 3, *size), "extras": {}}
    times = {"t_in": torch.tensor([kept]), "t_out": torch.tensor([[0.0, 1.0, 2.0]])}
    return restored, {"clean": clean, **times}


def reference(frames: torch.Tensor, state, norm: str) -> list[np.ndarray]:
    """The five maps as an ordinary stack of torch's layers, on the scale of [0, 1], (C, H W)."""
    layers: list[nn.Module] = []
    for place, width in zip(PLACES, WIDTHS, strict=True):
        if place in (5, 10, 19, 28):
            layers.append(nn.AvgPool2d(2, ceil_mode=True))
        inputs = state[f"features.{place}.weight"].shape[1]
        conv = nn.Conv2d(inputs, width, 3, padding=1)
        conv.load_state_dict({k: state[f"features.{place}.{k}"] for k in ("weight", "bias")})
        layers += [conv, nn.ReLU()]
    if norm == "caffe":
        x = frames * 255 - torch.tensor([123.68, 116.779, 103.939]).view(3, 1, 1)
    else:
        mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        x = (frames - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    maps, relus = [], 0
    for layer in layers:
        x = layer(x)
        relus += isinstance(layer, nn.ReLU)
        if isinstance(layer, nn.ReLU) and relus in (2, 4, 6, 10, 14):
            maps.append(x[0].flatten(1).double().numpy() * (1 / 255 if norm == "caffe" else 0.226))
    return maps


@torch.no_grad()
@pytest.mark.parametrize("norm", ["torchvision", "caffe"])
def test_the_values_are_those_of_a_few_lines_of_numpy(state, path, norm):
    restored, clip = batch((9, 14))
    ours, theirs = (reference(x[:, 1], state, norm) for x in (restored["estimate"], clip["clean"]))
    vgg = sum(a * np.abs(f - g).mean() for a, f, g in zip(SHARES, ours, theirs, strict=True))
    grams = [[f @ f.T / f.shape[1] for f in maps] for maps in (ours, theirs)]
    style = sum(a * ((f - g) ** 2).mean() for a, f, g in zip(SHARES, *grams, strict=True))
    assert VGGLoss(path, norm)(restored, clip).item() == pytest.approx(vgg, rel=1e-4)
    assert StyleLoss(path, norm)(restored, clip).item() == pytest.approx(style, rel=1e-4)
    pixel = np.abs(restored["estimate"][:, 1].numpy() - clip["clean"][:, 1].numpy()).mean()
    assert PixelL1()(restored, clip).item() == pytest.approx(pixel, rel=1e-5)


def test_only_frames_that_were_made_count_or_all_where_none_was():
    restored, clip = batch()
    value = PixelL1()(restored, clip)
    restored["estimate"][:, [0, 2]] = 0
    assert PixelL1()(restored, clip) == value
    assert PixelL1()(restored, clip | {"t_in": clip["t_out"]}) == pytest.approx(
        (restored["estimate"] - clip["clean"]).abs().mean().item()
    )


def test_both_terms_look_at_a_picture_once_and_only_the_estimate_feels_a_gradient(
    path, monkeypatch
):
    looks = []
    forward = VGG19.forward
    monkeypatch.setattr(VGG19, "forward", lambda self, x: looks.append(1) or forward(self, x))
    vgg, style = VGGLoss(path), StyleLoss(path)
    restored, clip = batch()
    with torch.no_grad():  # a rehearsal must leave nothing behind that has no gradient
        vgg(restored, clip)
    restored["estimate"].requires_grad_()
    clip["clean"].requires_grad_()
    (vgg(restored, clip) + style(restored, clip)).backward()
    assert len(looks) == 4
    assert clip["clean"].grad is None
    assert restored["estimate"].grad[:, 1].abs().min() >= 0
    assert restored["estimate"].grad[:, 1].abs().max() > 0
    assert not restored["estimate"].grad[:, [0, 2]].any()
    assert not list(vgg.parameters())
    assert not vgg.state_dict()


def test_autocast_changes_nothing(path):
    restored, clip = batch()
    exact = StyleLoss(path)(restored, clip)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(StyleLoss(path)(restored | {"extras": {}}, clip), exact)


@pytest.mark.assets("lpips_vgg")
def test_without_a_path_the_substitute_is_the_vgg16_of_lpips():
    from unlossy.networks.lpips import Trunk

    restored, clip = batch()
    vgg = VGGLoss()
    assert isinstance(vgg.vgg, Trunk)
    maps = zip(*(vgg.vgg(x[:, 1]) for x in (restored["estimate"], clip["clean"])), strict=True)
    expected = sum(a * 0.226 * (f - g).abs().mean() for a, (f, g) in zip(SHARES, maps, strict=True))
    torch.testing.assert_close(vgg(restored, clip), expected)
    assert StyleLoss()(restored, clip) > 0
    clip["clean"] = restored["estimate"]
    assert vgg(restored | {"extras": {}}, clip) == 0


def test_weights_switch_a_step_behind_the_boundary():
    weight = Stepwise([1, 0.25], [0.5], max_steps=3_000_000)
    assert [weight(step) for step in (0, 1_500_000, 1_500_001, 2_999_999)] == [1, 1, 0.25, 0.25]
    three = Stepwise([3, 2, 1], [0.1, 0.6], max_steps=10)
    assert [three(step) for step in range(10)] == [3, 3, 2, 2, 2, 2, 2, 1, 1, 1]
    term = Weighted(weight, PixelL1())
    terms = Objective({"l1": term})(*batch(), step=1_500_001)
    assert terms["total"] == pytest.approx(0.25 * terms["l1"].item())


@pytest.mark.parametrize(
    ("values", "boundaries"), [([1], [0.5]), ([1, 2, 3], [0.5, 0.2]), ([1, 2], [1.5]), ([], [])]
)
def test_steps_that_make_no_sense_are_refused(values, boundaries):
    with pytest.raises(UserError, match="increasing shares of the run"):
        Stepwise(values, boundaries, 10)


@pytest.mark.parametrize("case", ["missing", "damaged", "other"])
def test_a_file_that_is_no_vgg19_gets_a_sentence(case, state, tmp_path):
    path = tmp_path / "vgg.safetensors"
    if case == "damaged":
        path.write_bytes(b"no tensors")
    if case == "other":
        save_file({k: v for k, v in state.items() if "28" not in k}, path)
    with pytest.raises(UserError, match=r"^(There is no VGG-19 at|.* holds no VGG-19) .*\.$"):
        VGGLoss(str(path))


def test_the_range_of_the_input_is_asked_for_once():
    with pytest.raises(UserError, match="norm=torchvision"):
        VGGLoss(None, "caffe")
    with pytest.raises(UserError, match="norm=torchvision"):
        VGGLoss("vgg19.pth", "imagenet")
