"""The objective: its sum, and every row of the paper's table as configured in conf/loss."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from unlossy.losses.adversarial import Adversary
from unlossy.losses.objective import Objective, Term, Weighted
from unlossy.losses.pixel import GradientLoss, PixelLoss

CONF = Path(__file__).parents[2] / "conf" / "loss"

# loss: pixel weight, gradient weight, adversarial weight, what the discriminator sees, its form
TABLE = {
    "l1": (100, None, None, None, None),
    "grad": (100, 100, None, None, None),
    "gan": (100, None, 1, 6, "gan"),
    "grad_gan": (100, 100, 1, 12, "gan"),
    "grad_lsgan": (100, 100, 1, 12, "lsgan"),
    "l1_gan12": (100, None, 1, 12, "gan"),
}


def configured(name):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name)


class Half(Term):
    needs = frozenset({"flow"})

    def forward(self, restored, batch):
        return restored["estimate"].mean() * 0 + 0.5


def pair():
    frames = torch.rand(3, 2, 1, 3, 32, 32)
    return {"estimate": frames[0], "extras": {}}, {"degraded": frames[1], "clean": frames[2]}


@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_the_paper(name):
    objective = instantiate(configured(name))
    assert isinstance(objective, Objective)
    pixel, gradient, adversarial, inputs, form = TABLE[name]
    terms = dict(objective.terms)
    assert set(terms) == ({"pixel", "gradient"} if gradient else {"pixel"})
    assert terms["pixel"].weight == pixel
    assert isinstance(terms["pixel"].term, PixelLoss)
    assert terms["pixel"].term.p == 1
    if gradient:
        assert terms["gradient"].weight == gradient
        assert isinstance(terms["gradient"].term, GradientLoss)
        assert terms["gradient"].term.absolute
    players = objective.players()
    assert len(players) == (adversarial is not None)
    for player in players.values():
        assert isinstance(player, Adversary)
        assert player.weight == adversarial
        assert player.network.in_channels == inputs
        assert player.form == form
        assert player.pool.size == 60
        assert (player.model_above, player.player_below) == (0.25, 0.75)
        assert player.make_optimizer().defaults["lr"] == 2e-4
        assert player.make_optimizer().defaults["betas"] == (0.5, 0.999)
        assert player.make_optimizer().defaults["weight_decay"] == 1e-4
    restored, batch = pair()
    values = objective(restored, batch, 0)
    assert list(values) == [*terms, *players, "total"]
    expected = pixel * values["pixel"]
    if gradient:
        expected = expected + gradient * values["gradient"]
    if players:
        expected = expected + values["adversary"]
    torch.testing.assert_close(values["total"], expected)


def test_a_weight_may_follow_the_step():
    objective = Objective({"ramp": Weighted(lambda step: 10.0 * step, Half())})
    assert objective(*pair(), 0)["total"] == 0
    assert objective(*pair(), 3)["total"] == 15
    assert objective(*pair(), 3)["ramp"] == 0.5


def test_needs_are_told_by_name():
    objective = Objective({"warp": Weighted(1, Half()), "pixel": Weighted(1, PixelLoss())})
    assert objective.needs == {"warp": {"flow"}, "pixel": frozenset()}
    assert objective.players() == {}


def test_the_adversary_can_be_taken_away():
    config = configured("grad_gan")
    config.adversary = None
    values = instantiate(config)(*pair(), 0)
    assert "adversary" not in values
