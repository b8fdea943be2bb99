"""The objective: its sum, and every row of the paper's table as configured in conf/loss."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from unlossy.errors import UserError
from unlossy.losses.adversarial import Adversary
from unlossy.losses.objective import Objective, Term, Weighted
from unlossy.losses.pixel import Charbonnier, GradientLoss, PixelLoss

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


@pytest.mark.assets("lpips_vgg")
@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("charbonnier", {"charbonnier": 1}),
        ("lpips", {"lpips": 1}),
        ("charbonnier_lpips", {"charbonnier": 22, "lpips": 1}),
        ("charbonnier_lpips_paper_sum", {"charbonnier": 0.15, "lpips": 10_000}),
    ],
)
def test_the_losses_of_astf(name, terms):
    objective = instantiate(configured(name))
    assert {key: weighted.at(0) for key, weighted in objective.terms.items()} == terms
    if "charbonnier" in terms:
        distance = objective.terms["charbonnier"].term
        assert isinstance(distance, Charbonnier)
        assert distance.reduction == ("sum" if "sum" in name else "mean")
        assert distance.eps == 1e-6
    if "lpips" in terms:
        assert objective.terms["lpips"].term.lpips.trunk.layout.name == "vgg"
    assert not objective.players()
    assert not objective.state_dict()
    assert not objective.needs_balance


@pytest.mark.assets("lpips_vgg")
def test_the_published_sum_pulls_where_the_mean_form_does():
    clips, frames, side = 2, 2, 32
    summed, mean = (instantiate(configured(f"charbonnier_lpips{x}")) for x in ("_paper_sum", ""))
    mean.terms["charbonnier"].weight = 0.15 * clips * frames * 3 * side**2 / 10_000
    clean = torch.rand(clips, frames, 3, side, side)
    gradients = []
    for objective in (summed, mean):
        estimate = clean + 0.05 * torch.randn(clean.shape, generator=torch.Generator())
        estimate.requires_grad_()
        batch = {"clean": clean, "t_out": torch.zeros(clips, frames)}
        objective({"estimate": estimate, "extras": {}}, batch, 0)["total"].backward()
        gradients.append(estimate.grad.flatten())
    one, other = gradients
    assert torch.cosine_similarity(one, other, 0).item() == pytest.approx(1, abs=1e-6)
    assert (one.norm() / other.norm()).item() == pytest.approx(10_000, rel=1e-4)
    # and not because one term drowns the other
    drowned = instantiate(configured("charbonnier_lpips"))
    drowned.terms["charbonnier"].weight = 0.0
    estimate = estimate.detach().requires_grad_()
    drowned({"estimate": estimate, "extras": {}}, batch, 0)["total"].backward()
    assert torch.cosine_similarity(one, estimate.grad.flatten(), 0) < 0.999


def clips(count=3, frames=3, shape=(3, 8, 8)):
    """Clips as validation hands them over: uint8, batch 1."""
    t = torch.arange(float(frames))[None]
    for _ in range(count):
        degraded, clean = (torch.rand(2, 1, frames, *shape) * 255).to(torch.uint8)
        yield {"degraded": degraded, "clean": clean, "t_in": t, "t_out": t, "side": {}}


class Squared(Term):
    def forward(self, restored, batch):
        return (restored["estimate"] - batch["clean"]).square().mean()


def ratio(weight=3.0, other=None, to="squared"):
    terms = {"charbonnier": Weighted(weight, Charbonnier(), ratio_to=to)}
    return Objective({**terms, "squared": Weighted(2.0, other or Squared())})


def test_a_ratio_is_measured_once_and_kept():
    objective, batches = ratio(), list(clips())
    assert objective.needs_balance
    estimate = {"estimate": torch.rand(1, 3, 3, 8, 8), "extras": {}}
    batch = {"clean": torch.rand(1, 3, 3, 8, 8)}
    with pytest.raises(UserError, match=r"call objective\.balance"):
        objective(estimate, batch, 0)
    rehearsed = objective.eval()(estimate, batch, 0)
    assert rehearsed["total"] == 3 * rehearsed["charbonnier"] + 2 * rehearsed["squared"]
    objective.train().balance(iter(batches))
    assert not objective.needs_balance
    middle = [{k: b[k][:, 1:2].float() / 255 for k in ("degraded", "clean")} for b in batches]
    sums = [
        sum(w.at(0) * float(w.term({"estimate": b["degraded"], "extras": {}}, b)) for b in middle)
        for w in objective.terms.values()
    ]
    assert sums[0] / sums[1] == pytest.approx(3, rel=1e-5)
    objective(estimate, batch, 0)
    resumed = ratio()
    resumed.load_state_dict(objective.state_dict())
    assert resumed.terms["charbonnier"].at(0) == objective.terms["charbonnier"].at(0)
    assert not resumed.needs_balance


@pytest.mark.parametrize("to", ["nothing", "charbonnier"])
def test_a_ratio_to_no_other_term_is_refused(to):
    with pytest.raises(UserError, match=f"ratio_to={to}, which is no other term .* squared"):
        ratio(to=to)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(UserError, match=r"cannot be measured on 0 clip\(s\)"):
        ratio().balance([])
    same = next(clips())
    with pytest.raises(UserError, match=r"cannot be measured on 1 clip\(s\)"):
        ratio().balance([{**same, "degraded": same["clean"]}])
    with pytest.raises(UserError, match="as many and as large"):
        ratio().balance([{**same, "clean": same["clean"][..., :4]}])
    with pytest.raises(UserError, match="'squared' reads what a model adds"):
        ratio(other=Half()).balance([same])


@pytest.mark.assets("lpips_vgg")
def test_the_ratio_of_the_paper_as_configured():
    config = configured("charbonnier_lpips")
    config.terms.charbonnier.ratio_to, config.terms.charbonnier.weight = "lpips", 3
    objective = instantiate(config)
    batch = next(clips(frames=1, shape=(3, 32, 32)))
    objective.balance([batch])
    pair = {key: batch[key] / 255 for key in ("degraded", "clean")} | {"t_out": batch["t_out"]}
    values = objective.eval()({"estimate": pair["degraded"], "extras": {}}, pair, 0)
    weight = objective.terms["charbonnier"].at(0)
    assert (weight * values["charbonnier"] / values["lpips"]).item() == pytest.approx(3, rel=1e-4)
