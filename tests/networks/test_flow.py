"""SPyNet and its warp against shifts, against its definition, and against files of other shapes."""

import pytest
import torch
from torch.nn import functional

from unlossy.networks.flow import SPyNet, warp


def shake(network):
    """Move the weights off zero, with flows of pixels."""
    torch.manual_seed(0)
    for level in network.basic_module:
        torch.nn.init.normal_(level.basic_module[-1].weight, std=0.01)
    return network.eval()


def test_published_size():
    assert sum(p.numel() for p in SPyNet().parameters()) == 1_440_300


@pytest.mark.parametrize(("right", "down"), [(0, 0), (2, 0), (0, -3), (-1, 2)])
def test_an_integer_flow_is_a_shift(right, down):
    x = torch.rand(2, 5, 9, 11)
    flow = torch.tensor([float(right), float(down)]).view(1, 2, 1, 1).expand(2, 2, 9, 11)
    rows, columns = torch.arange(9) + down, torch.arange(11) + right
    edge = x[:, :, rows.clamp(0, 8)][..., columns.clamp(0, 10)]
    inside = ((rows >= 0) & (rows < 9))[:, None] & ((columns >= 0) & (columns < 11))
    torch.testing.assert_close(warp(x, flow, "border"), edge, rtol=0, atol=1e-5)
    torch.testing.assert_close(warp(x, flow), edge * inside, rtol=0, atol=1e-5)


def test_half_a_pixel_is_the_mean_of_two():
    x = torch.rand(1, 1, 6, 7)
    flow = torch.zeros(1, 2, 6, 7)
    flow[:, 0] = 0.5
    expected = (x[..., :-1] + x[..., 1:]) / 2
    torch.testing.assert_close(warp(x, flow)[..., :-1], expected, rtol=0, atol=1e-6)


def test_one_pixel_has_somewhere_to_lie():
    x = torch.rand(1, 3, 1, 1)
    assert torch.equal(warp(x, torch.zeros(1, 2, 1, 1)), x)


def test_a_fresh_network_sees_no_motion():
    assert not SPyNet()(torch.rand(1, 3, 20, 40), torch.rand(1, 3, 20, 40)).any()


@pytest.mark.parametrize("size", [(3, 5), (31, 33), (32, 64)])
def test_levels_written_out(size):
    """The coarse-to-fine loop again, at the sizes where the official one runs and where not."""
    network = shake(SPyNet())
    pair = torch.rand(2, 2, 3, *size)
    height, width = (-(-n // 32) * 32 for n in size)
    frames = functional.interpolate(pair.flatten(0, 1), (height, width), mode="bilinear")
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    frames = ((frames - mean) / std).unflatten(0, (2, 2))
    flow = torch.zeros(2, 2, height // 32, width // 32)
    with torch.no_grad():
        for k in range(6):
            ref, supp = (functional.avg_pool2d(x, 2 ** (5 - k)) for x in frames)
            if k:
                flow = 2 * functional.interpolate(
                    flow, scale_factor=2, mode="bilinear", align_corners=True
                )
            seen = torch.cat([ref, warp(supp, flow, "border"), flow], 1)
            flow = flow + network.basic_module[k].basic_module(seen)
        flow = functional.interpolate(flow, size, mode="bilinear")
        flow = flow * torch.tensor([size[1] / width, size[0] / height]).view(2, 1, 1)
        assert flow.abs().max() > 0.02
        torch.testing.assert_close(network(*pair), flow, rtol=0, atol=1e-5)


def test_parts_of_a_batch_and_gradients_change_nothing(monkeypatch):
    network = shake(SPyNet())
    ref, supp = torch.rand(2, 3, 3, 20, 30)
    with_gradient = network(ref, supp)
    assert with_gradient.requires_grad
    monkeypatch.setattr("unlossy.networks.flow._BUDGET_CPU", 2 * 20 * 30)
    with torch.no_grad():
        torch.testing.assert_close(network(ref, supp), with_gradient, rtol=0, atol=1e-5)


def test_flow_and_warp_are_float32_under_autocast():
    network = shake(SPyNet())
    ref, supp = torch.rand(2, 1, 3, 32, 32)
    expected = network(ref, supp)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(ref, supp), expected)
        assert warp(ref.bfloat16(), expected).dtype == torch.float32


@pytest.mark.parametrize("prefix", ["", "spynet.", "model.spynet."])
@pytest.mark.parametrize("normalization", [True, False])
def test_weights_alone_or_inside_a_larger_network(prefix, normalization):
    network = shake(SPyNet())
    weights = {
        prefix + key: value
        for key, value in network.state_dict().items()
        if normalization or key not in ("mean", "std")
    }
    if prefix:
        weights["fusion.weight"] = torch.zeros(1)
    ours = SPyNet.from_weights(weights)
    for key, value in network.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value)


@pytest.mark.parametrize("case", ["none", "short", "bent", "surplus"])
def test_weights_that_are_no_spynet_are_refused(case):
    weights = SPyNet().state_dict()
    if case == "none":
        weights = {"fusion.weight": torch.zeros(1)}
    if case == "short":
        del weights["basic_module.3.basic_module.4.bias"]
    if case == "bent":
        weights["basic_module.0.basic_module.0.weight"] = torch.zeros(32, 8, 5, 5)
    if case == "surplus":
        weights["basic_module.6.basic_module.0.weight"] = torch.zeros(32, 8, 7, 7)
    with pytest.raises(ValueError, match=r"no SPyNet|do not fit"):
        SPyNet.from_weights(weights)


def test_the_fast_convolutions_of_a_cpu_are_the_plain_ones():
    """NNPACK's, whatever the layout of weights; where it is missing both are torch's own."""
    network = shake(SPyNet())
    ref, supp = torch.rand(2, 2, 3, 20, 40)
    with_gradient = network(ref, supp).detach()
    network.to(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(network(ref, supp), with_gradient, rtol=0, atol=2e-5)
