"""The U-Net against numbers measured on the authors' network, in float64."""

import pytest
import torch

from unlossy.networks.unet import UNet


def fill(network):
    """Fill a network from the rank and index of its official names (spec, section 10)."""
    state = network.state_dict()
    keys = sorted(key for key in state if not key.endswith("num_batches_tracked"))
    for rank, key in enumerate(keys):
        value = state[key]
        s = torch.sin(0.37 * torch.arange(value.numel(), dtype=torch.float64) + rank)
        if value.ndim == 4:
            s = s * (2 / value[0].numel()) ** 0.5
        elif key.endswith("running_var"):
            s = 1 + 0.5 * s**2
        else:
            s = 1 + 0.1 * s if key.endswith("weight") else 0.1 * s
        state[key] = s.view(value.shape)
    network.load_state_dict(state)
    return network.double().eval()


def wave(*shape):
    count = torch.Size(shape).numel()
    return torch.sin(0.1 * torch.arange(count, dtype=torch.float64)).view(shape)


def figures(y):
    flat = y.flatten()
    middle = flat[len(flat) // 2]
    return torch.stack([y.mean(), y.std(correction=0), flat[0], middle, flat[-1]])


@pytest.mark.parametrize(
    ("shape", "golden"),
    [
        ((1, 3, 32, 32), (0.08544794, 0.28415908, 0.28118502, 0.28496134, -0.33056346)),
        ((1, 3, 37, 45), (0.08404808, 0.28940588, 0.27889585, 0.28757789, -0.32613818)),
        ((1, 12, 32, 32), (0.08548280, 0.28392901, 0.27765949, 0.28499790, -0.32665347)),
    ],
)
def test_golden_numbers(shape, golden):
    network = fill(UNet(shape[1]))
    with torch.no_grad():
        y = network(wave(*shape))
    assert y.shape == (1, 3, *shape[2:])
    torch.testing.assert_close(
        figures(y), torch.tensor(golden, dtype=torch.float64), rtol=0, atol=2e-8
    )


@pytest.mark.parametrize(("inputs", "count"), [(3, 14_789_059), (6, 14_790_787), (12, 14_794_243)])
def test_parameter_counts_of_the_paper(inputs, count):
    with torch.device("meta"):
        network = UNet(inputs)
    assert sum(p.numel() for p in network.parameters()) == count
    assert sum(b.numel() for b in network.buffers()) == 7_954
    assert len(network.state_dict()) == 136


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (45, 50)])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_any_size_from_16_keeps_its_size(size, norm):
    assert UNet(3, 5, 4, norm).eval()(torch.rand(2, 3, *size)).shape == (2, 5, *size)


def test_a_smaller_image_is_refused():
    with pytest.raises(ValueError, match="at least 16x16"):
        UNet(3, 3, 2)(torch.rand(1, 3, 15, 40))


def test_no_norm_means_none():
    network = UNet(3, 3, 2, norm="none")
    assert not any("running" in key for key in network.state_dict())
    with pytest.raises(ValueError, match="norm"):
        UNet(3, norm="instance")


def test_from_weights_finds_the_sizes_and_accepts_missing_batch_counters():
    source = UNet(6, 4, 3)
    weights = {k: v for k, v in source.state_dict().items() if "num_batches" not in k}
    network = UNet.from_weights(weights)
    x = torch.rand(1, 6, 20, 20)
    torch.testing.assert_close(network.eval()(x), source.eval()(x), rtol=0, atol=0)


@pytest.mark.parametrize("break_it", ["missing", "surplus", "bent", "foreign"])
def test_from_weights_refuses_what_does_not_fit(break_it):
    weights = UNet(3, 3, 2).state_dict()
    if break_it == "missing":
        del weights["upconv4.conv.3.bias"]
    elif break_it == "surplus":
        weights["extra.weight"] = torch.zeros(1)
    elif break_it == "bent":
        weights["upconv1.up.weight"] = torch.zeros(3, 3, 2, 2)
    else:
        weights = {"weight": torch.zeros(1)}
    with pytest.raises(ValueError, match="these weights"):
        UNet.from_weights(weights)
