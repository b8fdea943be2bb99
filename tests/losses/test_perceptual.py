"""LPIPS as a term: the authors' values, who feels the gradient, what stays out of checkpoints."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unlossy.errors import UserError
from unlossy.losses.perceptual import LPIPSTerm

REFERENCES = Path(__file__).parents[1] / "parity" / "lpips_refs"
pytestmark = pytest.mark.assets("lpips_alex", "lpips_vgg")


@pytest.fixture(scope="module")
def vgg() -> LPIPSTerm:
    return LPIPSTerm()


@pytest.fixture(scope="module")
def alex() -> LPIPSTerm:
    return LPIPSTerm("lpips_alex")


def clip(*names: str) -> torch.Tensor:
    """Pictures of the authors' repository as a clip (1, T, 3, 64, 64)."""
    pixels = [np.array(Image.open(REFERENCES / f"ex_{n}.png").convert("RGB")) for n in names]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)[None] / 255


def pair(estimate, clean, starts=(0,)):
    t_out = torch.tensor(starts)[:, None] + torch.arange(clean.shape[1])
    return {"estimate": estimate, "extras": {}}, {"clean": clean, "t_out": t_out}


def test_the_mean_over_frames_of_the_authors_values(vgg, alex):
    restored, batch = pair(clip("p0", "p1"), clip("ref", "ref"))
    assert vgg(restored, batch).item() == pytest.approx((0.5686 + 0.4217) / 2, abs=2e-4)
    assert alex(restored, batch).item() == pytest.approx((0.72188 + 0.13757) / 2, abs=1e-5)
    assert vgg(*pair(clip("ref"), clip("ref"))).item() == 0.0


def test_only_the_prediction_feels_a_gradient_also_beyond_white(alex):
    estimate = (clip("p0") * 1.5).requires_grad_()
    clean = clip("ref").requires_grad_()
    alex(*pair(estimate, clean)).backward()
    assert clean.grad is None
    assert estimate.grad.isfinite().all()
    assert (estimate.grad[estimate > 1] != 0).float().mean() > 0.5
    assert not list(alex.parameters())
    assert not alex.state_dict()


def test_a_rehearsal_without_gradients_sees_what_leaves_the_range_as_a_step_does(alex):
    restored, batch = pair((clip("p0") * 1.5).requires_grad_(), clip("ref"))
    with torch.no_grad():
        rehearsed = alex(restored, batch)
    assert rehearsed == alex(restored, batch)
    assert rehearsed != alex(*pair((clip("p0") * 1.5).clamp(max=1), clip("ref")))


def test_half_precision_and_autocast_are_computed_in_float32(alex):
    exact = alex(*pair(clip("p1").bfloat16().float(), clip("ref")))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(alex(*pair(clip("p1").bfloat16(), clip("ref"))), exact)


def test_some_frames_of_a_window_by_where_it_starts(alex):
    few = LPIPSTerm("lpips_alex", frames=2)
    names = ["p0", "p1", "ref", "p1", "ref"]
    estimate, clean = clip(*names), clip(*["ref"] * 5)
    alone = [alex(*pair(estimate[:, k : k + 1], clean[:, :1])) for k in range(5)]
    for start, (one, other) in {0: (0, 2), 4: (4, 1), 5: (0, 2)}.items():
        found = few(*pair(estimate, clean, [start]))
        torch.testing.assert_close(found, (alone[one] + alone[other]) / 2)
    short = pair(estimate[:, :1], clean[:, :1])
    assert torch.equal(few(*short), alex(*short))
    with pytest.raises(UserError, match="frames=0; use 1 or more"):
        LPIPSTerm(frames=0)


def test_a_crop_too_small_for_the_trunk_is_refused(vgg):
    small = clip("ref")[..., :15, :]
    with pytest.raises(ValueError, match="at least 16 pixels"):
        vgg(*pair(small, small))
