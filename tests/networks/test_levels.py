"""Levels against torch's own distributions, and a draw against a loop over cumulated sums."""

import math

import pytest
import torch
from torch.nn import functional

from unlossy.networks.levels import code_length, draw, expected, to_levels, to_values


@pytest.fixture
def logits():
    return 2 * torch.randn(2, 3, 5, 4, 6, dtype=torch.float64)  # (N, colors, levels, H, W)


def test_levels_and_values_are_inverse_and_eight_bits_are_kept():
    for levels in (2, 8, 17, 256):
        every = torch.arange(levels)
        assert torch.equal(to_levels(to_values(every, levels), levels), every)
    assert torch.equal(to_levels(torch.arange(256) / 255, 256), torch.arange(256))
    assert to_levels(torch.tensor([0.0, 0.2, 0.3, 1.0]), 3).tolist() == [0, 0, 1, 2]


def test_the_mean_is_that_of_the_probabilities(logits):
    values = torch.tensor([0, 0.25, 0.5, 0.75, 1]).double()
    wanted = torch.einsum("nckhw,k->nchw", logits.softmax(2), values)
    torch.testing.assert_close(expected(logits), wanted)


def test_the_code_length_is_cross_entropy_in_bits(logits):
    values = torch.rand(2, 3, 4, 6)
    wanted = functional.cross_entropy(
        logits.transpose(1, 2), (values * 4).round().long(), reduction="none"
    )
    torch.testing.assert_close(code_length(logits, values), wanted / math.log(2))


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_a_draw_is_the_first_level_that_reaches_the_uniform(logits, temperature):
    uniforms = torch.rand(2, 3, 4, 6, dtype=torch.float64)
    found = draw(logits, uniforms, temperature)
    for place in torch.cartesian_prod(*map(torch.arange, found.shape)).tolist():
        n, c, i, j = place
        weights = [math.exp(x / temperature) for x in logits[n, c, :, i, j].tolist()]
        left, level = float(uniforms[n, c, i, j]) * sum(weights), 0
        while (left := left - weights[level]) > 0:
            level += 1
        assert int(found[n, c, i, j]) == level


def test_draws_have_their_probabilities():
    odds = torch.tensor([0.5, 0.25, 0.125, 0.125])
    uniforms = torch.linspace(0, 1, 8001, dtype=torch.float64)[None, :-1]
    found = draw(odds.log()[:, None, None].expand(4, 1, 8000), uniforms, 1.0)
    assert (found.flatten().bincount() / 8000 - odds).abs().max() < 1e-3


def test_greedy_takes_the_most_likely_whatever_the_uniforms(logits):
    assert torch.equal(draw(logits, torch.rand(2, 3, 4, 6).double(), 0), logits.argmax(2))
