"""The conditioning network by its size, its shapes and a block written out."""

import pytest
import torch

from unlossy.networks.conditioning import Conditioning


@pytest.mark.parametrize(("blocks", "weights"), [(6, 379_200), (10, 602_688)])
def test_as_many_weights_as_published(blocks, weights):
    assert sum(p.numel() for p in Conditioning(768, blocks=blocks).parameters()) == weights


@pytest.mark.parametrize(("colors", "doublings"), [(3, 2), (1, 1), (3, 0)])
def test_every_doubling_doubles_and_every_pixel_counts(colors, doublings):
    network = Conditioning(5, 4, 1, colors, doublings).eval()
    x = torch.rand(2, colors, 8, 9, requires_grad=True)
    y = network(x)
    assert network.scale == 2**doublings
    assert y.shape == (2, 5, 8 * network.scale, 9 * network.scale)
    y.square().sum().backward()
    assert x.grad.all()


def test_layers_written_out():
    network = Conditioning(5, 4, 2, doublings=1).eval()
    x = torch.rand(2, 3, 8, 8)

    def block(x, part):
        change = part.norm2(part.conv2(part.norm1(part.conv1(x)).clamp(min=0)))
        return change + x

    stem, first, second, up, _, third, fourth = network.body
    y = block(block(stem(x - 0.5), first), second)
    y = block(block(up(y).clamp(min=0), third), fourth)
    torch.testing.assert_close(network(x), network.head(y))


def test_settled_leaves_statistics_and_mode_alone():
    network = Conditioning(5, 4, 1)
    x = torch.rand(2, 3, 4, 4)
    assert network.untrained
    y = network.settled(x)
    assert network.untrained
    assert network.training
    assert not y.requires_grad
    torch.testing.assert_close(y, network.eval()(x))
    network.train()(x)
    assert not network.untrained


def test_half_precision_gives_float32():
    with torch.autocast("cpu", torch.bfloat16):
        assert Conditioning(5, 4, 1)(torch.rand(1, 3, 4, 4)).dtype == torch.float32


@pytest.mark.parametrize("numbers", [{"outputs": 0}, {"blocks": -1}, {"momentum": 0.0}])
def test_numbers_out_of_range_have_a_sentence(numbers):
    with pytest.raises(ValueError, match="must be"):
        Conditioning(**{"outputs": 5, **numbers})
