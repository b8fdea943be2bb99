"""Cached sampling against its definition: the same uniforms must give the same integers."""

import runpy
import statistics
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from unlossy.networks.pixelcnn import PixelCNN
from unlossy.networks.pixelcnn_sampling import sample

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sample_naively = runpy.run_path(str(BENCHMARKS / "naive_sampling.py"))["sample_naively"]


def network(layers, channels, colors, levels=16, hidden=10, std=0.3):
    """Random weights of this spread, biases too; with 0, as built."""
    prior = PixelCNN(layers, channels, colors, levels, hidden).double()
    for parameter in prior.parameters() if std else ():
        nn.init.normal_(parameter, std=std)
    return prior


def inputs(prior, batch, height, width, dtype=torch.float64):
    shape = (batch, prior.colors, height, width)
    conditioning = torch.randn(batch, prior.colors, prior.levels, height, width, dtype=dtype)
    return conditioning, torch.rand(shape, dtype=torch.float64)


def replayed(prior, levels, conditioning, uniforms):
    """What the whole network would have drawn at each place after the values before it."""
    with torch.inference_mode():
        logits = prior(levels.to(conditioning.dtype) / (prior.levels - 1)) + conditioning
    cumulated = logits.double().softmax(2).cumsum(2)
    return (cumulated < uniforms[:, :, None] * cumulated[:, :, -1:]).sum(2)


@pytest.mark.parametrize("std", [0, 0.3])
@pytest.mark.parametrize(
    ("layers", "channels", "colors", "hidden"),
    [(3, 8, 3, 20), (2, 5, 1, 7), (1, 2, 3, 2), (0, 6, 3, 9), (2, 5, 2, 6)],
    ids=["ragged", "grey", "fewer maps than colours", "no layers", "two colours"],
)
def test_cached_is_naive(layers, channels, colors, hidden, std):
    prior = network(layers, channels, colors, hidden=hidden, std=std)
    conditioning, uniforms = inputs(prior, 3, 5, 7)
    temperature = torch.tensor([1.0, 0.5, 0.0])
    levels = sample(prior, conditioning, uniforms, temperature)
    assert levels.dtype == torch.int64
    assert len(levels.unique()) > 8
    assert torch.equal(levels, sample_naively(prior, conditioning, uniforms, temperature))


def test_an_image_higher_than_the_receptive_field():
    prior = network(1, 6, 3)
    conditioning, uniforms = inputs(prior, 2, 12, 4)
    temperature = torch.tensor([1.0, 0.8])
    levels = sample(prior, conditioning, uniforms, temperature)
    assert torch.equal(levels, sample_naively(prior, conditioning, uniforms, temperature))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (6, 1)])
def test_images_of_one_row_or_column(height, width):
    prior = network(2, 6, 3)
    conditioning, uniforms = inputs(prior, 2, height, width)
    levels = sample(prior, conditioning, uniforms, torch.ones(2))
    assert torch.equal(levels, sample_naively(prior, conditioning, uniforms, torch.ones(2)))


def test_an_image_does_not_depend_on_its_batch():
    prior = network(3, 8, 3)
    conditioning, uniforms = inputs(prior, 4, 6, 5)
    temperature = torch.tensor([1.0, 0.0, 0.9, 0.3])
    together = sample(prior, conditioning, uniforms, temperature)
    for b in range(4):
        one = slice(b, b + 1)
        alone = sample(prior, conditioning[one], uniforms[one], temperature[one])
        assert torch.equal(alone, together[one])


def test_temperature_0_has_no_chance_in_it():
    prior = network(2, 8, 3)
    conditioning, uniforms = inputs(prior, 2, 6, 6)
    other = torch.rand_like(uniforms)
    greedy = sample(prior, conditioning, uniforms, torch.zeros(2))
    assert torch.equal(greedy, sample(prior, conditioning, other, torch.zeros(2)))
    assert torch.equal(greedy, sample_naively(prior, conditioning, other, torch.zeros(2)))
    drawn = sample(prior, conditioning, uniforms, torch.ones(2))
    assert not torch.equal(drawn, sample(prior, conditioning, other, torch.ones(2)))
    assert torch.equal(drawn, sample(prior, conditioning, uniforms, torch.ones(2)))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_shares_of_levels_are_their_probabilities(temperature):
    """Evenly spaced uniforms meet a level as often as it is probable, to within one."""
    prior = network(1, 3, 3, levels=4)
    for parameter in prior.parameters():
        nn.init.zeros_(parameter)
    p = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64)
    conditioning = p.log()[None, None, :, None, None].expand(1, 3, 4, 20, 10)
    uniforms = ((torch.arange(200.0).double() + 0.5) / 200).view(1, 1, 20, 10).expand(1, 3, 20, 10)
    levels = sample(prior, conditioning, uniforms, torch.tensor([temperature]))
    expected = 200 * p ** (1 / temperature) / (p ** (1 / temperature)).sum()
    for c in range(3):
        counts = levels[0, c].flatten().bincount(minlength=4)
        assert (counts - expected).abs().max() <= 1


def test_levels_are_written_where_the_definition_reads_them():
    """The whole network, shown the images drawn, would draw each sub-pixel of them again."""
    prior = PixelCNN(layers=4, hidden=48)
    conditioning, uniforms = inputs(prior, 2, 6, 20, torch.float32)
    levels = sample(prior, conditioning, uniforms, torch.ones(2))
    agree = replayed(prior, levels, conditioning, uniforms) == levels
    assert agree.float().mean() >= 0.999


def test_autocast_and_gradients_stay_outside():
    prior = network(1, 4, 3).float()
    conditioning, uniforms = inputs(prior, 1, 3, 4, torch.float32)
    plain = sample(prior, conditioning, uniforms, torch.ones(1))
    with torch.autocast("cpu", torch.bfloat16):
        levels = sample(prior, conditioning.requires_grad_(), uniforms, torch.ones(1))
    assert torch.equal(levels, plain)
    assert not levels.is_inference()  # so that others may change it in place


def test_what_does_not_fit_is_refused():
    prior = network(1, 4, 3)
    conditioning, uniforms = inputs(prior, 2, 3, 4)
    for wrong in (
        (conditioning[:, :2], uniforms, torch.ones(2)),
        (conditioning, uniforms[..., 1:], torch.ones(2)),
        (conditioning, uniforms, torch.ones(1)),
        (conditioning, uniforms, torch.tensor([1.0, -0.5])),
        (conditioning, uniforms, torch.tensor([1.0, torch.nan])),
    ):
        with pytest.raises(ValueError, match="wanted are"):
            sample(prior, *wrong)


def test_cached_is_ten_times_faster():
    """Two rows of a 32x32 image against one pass, both extrapolated; 32 channels, 20 layers."""
    prior = PixelCNN()
    conditioning, uniforms = inputs(prior, 1, 2, 32, torch.float32)
    cached, naive = [], []
    for _ in range(3):
        start = time.perf_counter()
        sample(prior, conditioning, uniforms, torch.ones(1))
        cached.append((time.perf_counter() - start) * 32 / 2)
        start = time.perf_counter()
        with torch.inference_mode():
            prior(torch.rand(1, 3, 32, 32))
        naive.append((time.perf_counter() - start) * 32 * 32 * 3)
    ratio = statistics.median(naive) / statistics.median(cached)
    print(f"cached against naive, 32x32, batch 1: {ratio:.0f}x")
    assert ratio > 10


@pytest.mark.slow
def test_a_full_size_batch_would_be_drawn_again():
    prior = PixelCNN()
    conditioning, uniforms = inputs(prior, 16, 32, 32, torch.float32)
    levels = sample(prior, conditioning, uniforms, torch.ones(16))
    agree = replayed(prior, levels, conditioning, uniforms) == levels
    assert agree.float().mean() >= 0.999


@pytest.mark.gpu
def test_a_gpu_draws_the_same():
    prior = network(3, 8, 3)
    conditioning, uniforms = inputs(prior, 4, 6, 5)
    temperature = torch.tensor([1.0, 0.0, 0.9, 0.3])
    expected = sample(prior, conditioning, uniforms, temperature)
    levels = sample(prior.cuda(), conditioning.cuda(), uniforms, temperature)
    assert torch.equal(levels.cpu(), expected)


@pytest.mark.gpu
def test_a_gpu_draws_in_float32_what_the_whole_network_would(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    prior = PixelCNN().cuda()
    conditioning, uniforms = inputs(prior, 16, 32, 32, torch.float32)
    levels = sample(prior, conditioning.cuda(), uniforms, torch.ones(16))
    agree = replayed(prior, levels, conditioning.cuda(), uniforms.cuda()) == levels
    assert agree.float().mean() >= 0.999
