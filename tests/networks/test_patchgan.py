"""The discriminator against numbers measured on the authors' network, in float64."""

import pytest
import torch
from test_unet import figures, fill, wave

from unlossy.networks.patchgan import PatchGAN


def test_golden_numbers():
    network = fill(PatchGAN(12))
    with torch.no_grad():
        logits = network(wave(1, 12, 64, 64))
    golden = (0.23562870, 0.10211419, 0.36982450, 0.18608763, 0.06848779)
    assert logits.shape == (1, 1, 6, 6)
    torch.testing.assert_close(
        figures(logits), torch.tensor(golden, dtype=torch.float64), rtol=0, atol=2e-8
    )


@pytest.mark.parametrize(("inputs", "count"), [(12, 2_774_849), (6, 2_768_705)])
def test_parameter_counts_of_the_paper(inputs, count):
    network = PatchGAN(inputs)
    assert sum(p.numel() for p in network.parameters()) == count
    assert len(network.state_dict()) == 22


def test_sizes():
    network = PatchGAN(6, 2)
    assert network(torch.rand(1, 6, 256, 256)).shape == (1, 1, 30, 30)
    smallest = PatchGAN.smallest
    assert network(torch.rand(1, 6, smallest, smallest)).shape == (1, 1, 1, 1)
    with pytest.raises(RuntimeError):
        network(torch.rand(1, 6, smallest - 1, 64))


def test_a_logit_sees_70_pixels():
    network = PatchGAN(6, 2).eval()
    x = torch.rand(1, 6, 128, 128, requires_grad=True)
    logits = network(x)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    seen = x.grad.abs().sum((0, 1, 2)).nonzero()
    assert seen.max() - seen.min() + 1 == 70


def test_from_weights_finds_the_sizes():
    source = PatchGAN(6, 3)
    network = PatchGAN.from_weights(source.state_dict())
    assert network.in_channels == 6
    assert all(
        torch.equal(a, b) for a, b in zip(network.parameters(), source.parameters(), strict=True)
    )
    with pytest.raises(ValueError, match="PatchGAN"):
        PatchGAN.from_weights({"1.weight": torch.zeros(1)})
