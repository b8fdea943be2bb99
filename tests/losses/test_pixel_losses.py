"""Pixel and gradient losses against the golden values measured on the authors' code."""

import pytest
import torch

from unlossy.errors import UserError
from unlossy.losses.pixel import Charbonnier, GradientLoss, PixelLoss, image_gradients


def golden_pair(dtype=torch.float64):
    """The spec's pair, 2x3x16x20 in [-1, 1], as a batch in [0, 1]."""
    i = torch.arange(2 * 3 * 16 * 20, dtype=dtype)
    a, b = torch.sin(0.1 * i), torch.sin(0.13 * i + 0.7)
    estimate, clean = ((x.view(2, 1, 3, 16, 20) + 1) / 2 for x in (a, b))
    return {"estimate": estimate, "extras": {}}, {"clean": clean}


@pytest.mark.parametrize(
    ("loss", "golden"),
    [
        (PixelLoss(), 0.80958520),
        (GradientLoss(), 0.68647138),
        (GradientLoss(absolute=False), 1.56255336),
    ],
)
def test_golden_values(loss, golden):
    assert loss(*golden_pair()).item() == pytest.approx(golden, abs=1e-8)


def test_powers_by_hand():
    estimate = torch.tensor([[0.0, 0.25], [0.5, 1.0]]).expand(1, 1, 3, 2, 2)
    clean = torch.zeros(1, 1, 3, 2, 2)
    pair = {"estimate": estimate, "extras": {}}, {"clean": clean}
    # in [-1, 1]: errors 0, 0.5, 1, 2; gradients at the one inner pixel: dx = 1, dy = 1.5
    assert PixelLoss(p=2)(*pair).item() == pytest.approx((0 + 0.25 + 1 + 4) / 4)
    assert GradientLoss(p=2)(*pair).item() == pytest.approx(2 * (1 + 2.25) / 2)


def test_gradients_run_over_the_picture_whatever_stands_before_it():
    x = torch.arange(4.0).expand(5, 4) + 10 * torch.arange(5.0)[:, None]  # 1 a column, 10 a row
    clip = x.expand(2, 7, 3, 5, 4)
    gradients = image_gradients(clip)
    assert gradients.shape == (2, 7, 6, 4, 3)
    assert (gradients[..., :3, :, :] == 1).all()
    assert (gradients[..., 3:, :, :] == 10).all()


@pytest.mark.parametrize(
    "loss",
    [
        *(PixelLoss(), GradientLoss(), PixelLoss(2), GradientLoss(2)),
        *(Charbonnier(), Charbonnier(reduction="sum")),
    ],
)
def test_the_mean_over_steps_is_the_mean_of_the_steps(loss):
    steps, clean = torch.rand(2, 3, 4, 3, 8, 9), torch.rand(2, 4, 3, 8, 9)
    alone = [loss({"estimate": steps[:, k], "extras": {}}, {"clean": clean}) for k in range(3)]
    together = loss({"estimate": steps[:, -1], "extras": {"steps": steps}}, {"clean": clean})
    torch.testing.assert_close(together, torch.stack(alone).mean())


def test_half_precision_is_not_summed_in_half():
    restored, batch = golden_pair(torch.float32)
    restored["estimate"] = restored["estimate"].bfloat16()
    for loss in (PixelLoss(), GradientLoss(), Charbonnier()):
        assert loss(restored, batch).dtype == torch.float32


def test_a_perfect_estimate_has_finite_gradients():
    clean = torch.rand(1, 1, 3, 8, 8)
    for loss in (PixelLoss(), GradientLoss(), PixelLoss(2), GradientLoss(2), Charbonnier()):
        estimate = clean.clone().requires_grad_()
        loss({"estimate": estimate, "extras": {}}, {"clean": clean}).backward()
        assert estimate.grad.isfinite().all()


def test_charbonnier_by_hand():
    estimate = torch.tensor([[0.0, 1e-3], [0.5, -1.5]]).expand(1, 2, 3, 2, 2)
    pair = {"estimate": estimate, "extras": {}}, {"clean": torch.zeros(1, 2, 3, 2, 2)}
    # sqrt(0 + 1e-6), sqrt(1e-6 + 1e-6), sqrt(0.25 + 1e-6), and 1.5 below black: nothing is clamped
    expected = (0.001 + 0.001 * 2**0.5 + 0.500001 + 1.500000333) / 4
    assert Charbonnier()(*pair).item() == pytest.approx(expected, rel=1e-6)
    assert Charbonnier(reduction="sum")(*pair).item() == pytest.approx(24 * expected, rel=1e-6)
    assert Charbonnier(eps=0.25)(*pair).item() == pytest.approx(
        (0.5 + 0.500001 + 0.5**0.5 + 2.5**0.5) / 4, rel=1e-6
    )


@pytest.mark.parametrize("wrong", [{"eps": 0.0}, {"reduction": "max"}])
def test_what_charbonnier_cannot_be_is_refused(wrong):
    with pytest.raises(UserError, match=r"wanted: eps above 0 .* and 'mean' or 'sum'"):
        Charbonnier(**wrong)
