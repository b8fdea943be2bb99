"""Canvases whose labels and ink are known because they were put together so."""

import math

import pytest
import torch
from torch import Tensor

from unlossy.metrics.corners import LABELS, corner_labels, corner_shares

S = 4


def digits_of(count: int) -> Tensor:
    return torch.rand(count, 1, S, S, generator=torch.Generator().manual_seed(0)) * 0.7 + 0.1


def canvas(digits: Tensor, top: float, bottom: float) -> Tensor:
    """Paste the digits into both corners, at two intensities."""
    canvases = torch.zeros(len(digits), 1, 2 * S, 2 * S)
    canvases[..., :S, :S] = top * digits
    canvases[..., S:, S:] = bottom * digits
    return canvases


@pytest.mark.parametrize(
    ("top", "bottom", "label"),
    [
        (1.0, 0.0, "top_left"),
        (0.0, 1.0, "bottom_right"),
        (0.91, 0.09, "top_left"),
        (0.89, 0.0, "other"),
        (1.0, 0.11, "other"),
        (1.0, 1.0, "both"),
        (0.0, 0.0, "none"),
        (0.09, 0.09, "none"),
        (0.5, 0.5, "other"),  # what regression paints
    ],
)
def test_a_digit_gets_the_label_of_its_ink(top, bottom, label):
    digits = digits_of(3)
    labels = corner_labels(canvas(digits, top, bottom), digits)
    assert [LABELS[k] for k in labels.tolist()] == [label] * 3


def test_shares_of_a_known_mixture():
    digits = digits_of(10)
    parts = [(1, 0)] * 4 + [(0, 1)] * 3 + [(1, 1), (0, 0), (0.5, 0.5)]
    canvases = torch.cat([canvas(digits[k : k + 1], *part) for k, part in enumerate(parts)])
    found = corner_shares(canvases, digits)
    assert [found.shares[name].value for name in LABELS] == [0.4, 0.3, 0.1, 0.1, 0.1]
    assert found.elsewhere == 0
    assert found.correlation == pytest.approx(0.9)  # nine digits, and one empty canvas


def test_the_interval_is_wilsons():
    digits = digits_of(1000)
    canvases = canvas(digits, 1, 0)
    canvases[480:] = canvas(digits[480:], 0, 1)
    share = corner_shares(canvases, digits).shares["top_left"]
    z, n, p = 1.959964, 1000, 0.48
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert share == pytest.approx((p, middle - half, middle + half), abs=1e-6)


def test_speckle_is_neither_and_correlates_less():
    digits = (digits_of(200) > 0.4).float()
    canvases = canvas(digits, 1, 1)
    canvases *= torch.rand(canvases.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    found = corner_shares(canvases, digits)
    assert found.shares["other"].value > 0.9
    assert 0.3 < found.correlation < 0.9


def test_a_scribble_of_the_right_darkness_is_told_by_its_correlation():
    digits = digits_of(50)
    found = corner_shares(canvas(digits.roll(1, 0) * _ratio(digits), 1, 0), digits)
    assert found.shares["top_left"].value == 1
    assert abs(found.correlation) < 0.3


def _ratio(digits: Tensor) -> Tensor:
    ink = digits.sum((1, 2, 3), keepdim=True)
    return (0.95 * ink / ink.roll(1, 0)).clamp(max=1 / digits.max())


def test_ink_where_no_digit_is_ever():
    digits = digits_of(2)
    canvases = canvas(digits, 1, 0)
    canvases[0, :, :S, S:] = digits[0] / 2
    canvases[1, :, S:, :S] = digits[1] / 4
    found = corner_shares(canvases, digits)
    assert found.elsewhere == pytest.approx((0.5 + 0.25) / 2)
    assert found.shares["top_left"].value == 1


def test_what_cannot_be_compared_is_refused():
    digits = digits_of(2)
    whole = canvas(digits, 1, 0)
    for canvases, wanted, words in (
        (whole[:1], digits, "do not fit"),
        (whole[..., 1:], digits, "do not fit"),
        (whole[:0], digits[:0], "do not fit"),
        (whole * 7, digits, "canvases leave"),
        (whole, digits * math.nan, "digits leave"),
        (whole, digits * 0, "no ink"),
    ):
        with pytest.raises(ValueError, match=words):
            corner_shares(canvases, wanted)
