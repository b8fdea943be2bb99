"""VRCNN against the sum of its layers' table, its layers written out, and YCbCr by matrices."""

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

from unlossy.errors import UserError
from unlossy.models.vrcnn import VRCNN

# Full-range BT.601: luma, and colour differences scaled to [-0.5, 0.5].
Y = np.array([0.299, 0.587, 0.114])
YCBCR = np.stack([Y, (np.array([0, 0, 1]) - Y) / 1.772, (np.array([1, 0, 0]) - Y) / 1.402])


def batch(frames=2, height=11, width=13):
    return {"degraded": torch.rand(2, frames, 3, height, width)}


def shaken(channels):
    model = VRCNN(channels)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def test_as_many_weights_as_the_table_of_layers_has():
    table = [(64, 1, 5), (16, 64, 5), (32, 64, 3), (16, 48, 3), (32, 48, 1), (1, 48, 3)]
    sizes = [(p.ndim, p.numel()) for p in VRCNN("y").parameters()]
    weights = sum(size for axes, size in sizes if axes == 4)
    assert weights == sum(filters * seen * side**2 for filters, seen, side in table) == 54512
    assert sum(size for axes, size in sizes if axes == 1) == 161
    assert len(sizes) == 12


@pytest.mark.parametrize("channels", ["y", "rgb"])
def test_it_starts_at_its_input(channels):
    clip = batch()
    assert torch.equal(VRCNN(channels)(clip)["estimate"], clip["degraded"])


def layers(model, x):
    """The diagram of the paper with plain convolutions, (N, C, h, w)."""
    weights = dict(model.named_parameters())

    def convolve(name, x):
        kernel = weights[f"{name}.weight"]
        return conv2d(x, kernel, weights[f"{name}.bias"], padding=kernel.shape[-1] // 2)

    x = convolve("first", x).relu()
    for branches in ("second", "third"):
        x = torch.cat([convolve(f"{branches}.{k}", x).relu() for k in (0, 1)], 1)
    return convolve("last", x)


def test_rgb_written_out():
    model, clip = shaken("rgb"), batch()
    frames = clip["degraded"].flatten(0, 1)
    wanted = frames + layers(model, frames)
    torch.testing.assert_close(model(clip)["estimate"].flatten(0, 1), wanted, atol=1e-6, rtol=0)


def test_y_corrects_luma_and_keeps_chroma():
    model, clip = shaken("y"), batch()
    frames = clip["degraded"].flatten(0, 1).double()
    planes = torch.einsum("kc,nchw->nkhw", torch.from_numpy(YCBCR), frames)
    planes[:, :1] += layers(model, planes[:, :1].float())
    wanted = torch.einsum("ck,nkhw->nchw", torch.from_numpy(np.linalg.inv(YCBCR)), planes)
    found = model(clip)["estimate"].flatten(0, 1).double()
    assert (found - frames).abs().max() > 0.01
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_reach_is_how_far_it_sees():
    model, clip = shaken("rgb"), batch(1, 1, 40)
    other = {"degraded": clip["degraded"].clone()}
    other["degraded"][..., 20] += 0.5
    changed = (model(clip)["estimate"] != model(other)["estimate"]).any(0).any(1).flatten()
    where = changed.nonzero().flatten()
    assert int(where.min()) == 20 - model.reach
    assert int(where.max()) == 20 + model.reach


@pytest.mark.parametrize("channels", ["y", "rgb"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (33, 2)])
def test_restore_takes_any_size(channels, size):
    clip = batch(3, *size)
    restored = shaken(channels).restore(clip)
    assert restored.shape == clip["degraded"].shape
    assert restored.min() >= 0
    assert restored.max() <= 1


def test_other_channels_have_a_sentence():
    with pytest.raises(UserError, match="use 'y' or 'rgb'"):
        VRCNN("yuv")
