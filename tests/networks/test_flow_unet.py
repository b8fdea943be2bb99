"""The flow U-Net against the authors' numbers, at odd sizes, in half precision."""

import math

import pytest
import torch

from unlossy.networks.flow_unet import FlowUNet, PairFlow


def filled(networks: dict[str, FlowUNet]) -> None:
    """Fill as the golden numbers were made: sines, by the rank of a name among all names."""
    state = {f"{k}.{n}": p for k, net in networks.items() for n, p in net.named_parameters()}
    with torch.no_grad():
        for rank, key in enumerate(sorted(state)):
            j = torch.arange(state[key].numel(), dtype=torch.float64).view_as(state[key])
            s = (0.37 * j + rank).sin()
            scale = 0.1 if key.endswith("bias") else math.sqrt(2 / state[key][0].numel())
            state[key].copy_(s * scale)


def sines(shape: tuple[int, ...], step: float = 0.1, phase: float = 0.0) -> torch.Tensor:
    return (step * torch.arange(math.prod(shape), dtype=torch.float64) + phase).sin().view(shape)


@pytest.mark.slow  # 20 million sines
def test_the_authors_numbers():
    """`netA`, whose names come first among the 92 of netSlomo, at its published width."""
    network = FlowUNet(6, 2).double()
    filled({"netA": network})
    with torch.no_grad():
        y = network(sines((1, 6, 64, 64)))
    found = [y.mean(), y.std(correction=0), *y.flatten()[[0, -1]]]
    expected = [0.10582448, 0.03184711, 0.13982151, 0.07925232]
    assert torch.stack(found).tolist() == pytest.approx(expected, abs=2e-8)


def test_published_sizes():
    with torch.device("meta"):  # nothing is drawn
        networks = [FlowUNet(*channels) for channels in ((6, 2), (16, 5))]
    sizes = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert sizes == [19_793_026, 19_808_805]


@pytest.mark.parametrize("size", [(32, 32), (45, 50), (33, 63)])
def test_any_size_from_32_and_a_fresh_network_says_zero(size):
    network = FlowUNet(3, 2, 2)
    assert not network(torch.rand(1, 3, *size)).any()
    torch.nn.init.ones_(network.outconv.weight)
    y = network(torch.rand(1, 3, *size))
    assert y.shape == (1, 2, *size)
    assert y.std() > 0.1  # a signal gets through all of its layers


def test_smaller_frames_are_refused():
    with pytest.raises(ValueError, match="32x32"):
        FlowUNet(3, 2, 2)(torch.rand(1, 3, 31, 64))


def test_weights_tell_the_sizes_and_foreign_ones_are_refused():
    network = FlowUNet(7, 4, 3)
    ours = FlowUNet.from_weights(network.state_dict())
    assert (ours.in_channels, ours.out_channels, ours.channels) == (7, 4, 3)
    for key, value in network.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value)
    with pytest.raises(ValueError, match="not a flow U-Net"):
        FlowUNet.from_weights({"weight": torch.zeros(3)})


def test_a_flow_is_bounded_and_float32_in_half_precision():
    network = PairFlow(2, max_flow=5).eval()
    torch.nn.init.normal_(network.unet.outconv.weight, std=10)
    ref, supp = torch.rand(2, 1, 3, 32, 48)
    flow = network(ref, supp)
    assert 4 < flow.abs().max() <= 5
    assert not torch.allclose(flow, network(supp, ref))
    with torch.autocast("cpu", torch.bfloat16):
        half = network(ref, supp)
    assert half.dtype == torch.float32
    assert len(half.unique()) > 0.9 * len(flow.unique())
