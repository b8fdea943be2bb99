"""The cross-entropy baseline against probabilities written out."""

import math

import pytest
import torch
from torch.nn import functional

from unlossy.errors import UserError
from unlossy.models.pixel_independent import PixelIndependent
from unlossy.networks.conditioning import Conditioning

LEVELS = 5


def model(colors=3):
    made = PixelIndependent(Conditioning(colors * LEVELS, 4, 1, colors, 1), colors, LEVELS)
    torch.nn.init.normal_(made.conditioning.head.weight)
    made.conditioning(torch.rand(2, colors, 8, 8))
    return made.eval()


@pytest.fixture
def batch():
    return {"degraded": torch.rand(2, 3, 3, 6, 7), "clean": torch.rand(2, 3, 3, 12, 14)}


def test_the_levels_of_a_color_lie_together_and_the_estimate_is_their_mean(batch):
    made = model()
    restored = made(batch)
    wanted = made.conditioning(batch["degraded"][1, 2:])[0].view(3, LEVELS, 12, 14)
    logits = restored["extras"]["logits"][1, 2]
    torch.testing.assert_close(logits, wanted)
    means = (logits.softmax(1) * torch.linspace(0, 1, LEVELS)[:, None, None]).sum(1)
    torch.testing.assert_close(restored["estimate"][1, 2], means)


def test_greedy_is_the_most_likely_and_sampled_has_the_probabilities(batch):
    made = model()
    logits = made(batch)["extras"]["logits"]
    drawn = made.restore_all(batch)
    assert tuple(drawn) == made.outputs == ("greedy", "sampled")
    assert torch.equal((drawn["greedy"] * 4).round().long(), logits.argmax(3))
    many = made.restore(batch, generator=torch.Generator().manual_seed(1), samples=500)
    shares = torch.stack(
        [(many.view(500, *drawn["sampled"].shape) == k / 4) for k in range(LEVELS)]
    )
    difference = shares.double().mean(1).movedim(0, 3) - logits.softmax(3)
    assert difference.mean((0, 1, 2, 4, 5)).abs().max() < 0.001
    assert difference.square().mean().sqrt() < 0.5 / math.sqrt(500)


def test_seeds_repeat_and_windows_do_not_matter(batch):
    made = model()
    seeded = torch.Generator().manual_seed
    one = {"degraded": batch["degraded"][:1]}
    whole = made.restore(one, generator=seeded(3))
    assert torch.equal(whole, made.restore_all(one, generator=seeded(3))["sampled"])
    assert not torch.equal(whole, made.restore(one, generator=seeded(4)))
    draws = seeded(3)
    parts = [{"degraded": one["degraded"][:, k : k + 1]} for k in range(3)]
    windows = [made.restore(part, generator=draws) for part in parts]
    assert torch.equal(torch.cat(windows, 1), whole)


def test_bits_are_cross_entropy(batch):
    made = model()
    labels = (batch["clean"] * 4).round().long()[1, 2]
    logits = made(batch)["extras"]["logits"][1, 2]  # (3, levels, H, W)
    wanted = functional.cross_entropy(logits, labels) / math.log(2)
    found = made.bits(batch)["nll"]
    assert found.shape == (2, 3)
    torch.testing.assert_close(found[1, 2], wanted.detach())


def test_one_color_works():
    assert model(1).restore({"degraded": torch.rand(1, 1, 1, 8, 8)}).shape == (1, 1, 1, 16, 16)


def test_reach_is_at_least_how_far_it_sees():
    made = PixelIndependent(Conditioning(3 * LEVELS, 4, 2, 3, 2), 3, LEVELS).eval()
    clip = torch.rand(1, 1, 3, 4, 60, requires_grad=True)
    made({"degraded": clip})["extras"]["logits"][..., 120:124].square().sum().backward()
    columns = clip.grad.any(2).any(2)[0, 0].nonzero().flatten()
    assert 30 - made.reach <= int(columns.min()) < 30 < int(columns.max()) <= 30 + made.reach
    assert made.reach <= 2 * (30 - int(columns.min()))


def test_mistakes_have_a_sentence(batch):
    with pytest.raises(UserError, match=r"set model\.conditioning\.outputs=768"):
        PixelIndependent(Conditioning(3, 4, 1))
    with pytest.raises(UserError, match="at least 1 and 2"):
        PixelIndependent(Conditioning(3, 4, 1), levels=1)
    for verb in (model(), model().restore, model().restore_all, model().bits):
        with pytest.raises(UserError, match="reads 3 colours and got frames of 1"):
            verb({**batch, "degraded": batch["degraded"][:, :, :1]})
    with pytest.warns(UserWarning, match="has not been trained"):
        PixelIndependent(Conditioning(6, 4, 1), 3, 2).restore(batch)
