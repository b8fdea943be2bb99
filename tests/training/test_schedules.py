"""The schedule at the edges of its periods, by hand, and after a resume."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from unlossy.errors import UserError
from unlossy.models.basicvsr import BasicVSR
from unlossy.training.configs import build
from unlossy.training.enhancer import Enhancer
from unlossy.training.schedules import CosineRestarts, OneCycle, Staircase

CONF = Path(__file__).parents[2] / "conf"


def optimizer(*rates: float) -> torch.optim.Optimizer:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups, lr=1.0)


def rates(schedule, steps):
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return found


def test_the_edges_of_periods_by_hand():
    schedule = CosineRestarts(optimizer(0.9), [4, 2, 3], [1.0, 0.5, 0.25], eta_min=0.1)
    found = rates(schedule, 11)
    assert found[0] == pytest.approx(0.9)
    assert found[1] == pytest.approx(0.1 + 0.8 * (1 + 0.5**0.5) / 2)
    assert found[2] == pytest.approx(0.5)
    assert found[3] == pytest.approx(0.1 + 0.8 * (1 - 0.5**0.5) / 2)
    assert found[4] == pytest.approx(0.1 + 0.4)  # the restart, at half of what is above eta_min
    assert found[5] == pytest.approx(0.1 + 0.2)
    assert found[6] == pytest.approx(0.1 + 0.2)
    assert found[7] == pytest.approx(0.1 + 0.2 * 0.75)
    assert found[9:] == pytest.approx([0.1, 0.1])


def test_one_period_is_torchs_cosine():
    ours, theirs = (
        CosineRestarts(optimizer(0.3), [20], eta_min=0.01),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer(0.3), 20, 0.01),
    )
    assert rates(ours, 20) == pytest.approx(rates(theirs, 20))


def test_every_group_keeps_its_share_and_a_resume_goes_on():
    first = CosineRestarts(optimizer(0.8, 0.1), [3, 5])
    for _ in range(4):
        first.optimizer.step()
        first.step()
    assert first.get_last_lr()[0] == pytest.approx(8 * first.get_last_lr()[1])
    resumed = CosineRestarts(optimizer(0.8, 0.1), [3, 5])
    resumed.optimizer.load_state_dict(first.optimizer.state_dict())
    resumed.load_state_dict(first.state_dict())
    assert rates(resumed, 4) == rates(first, 4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"periods": []},
        {"periods": [10, 0]},
        {"periods": [2.5]},
        {"periods": [10, 10], "weights": [1.0]},
        {"periods": [10], "weights": [-1.0]},
        {"periods": [10], "eta_min": -1e-7},
    ],
)
def test_what_is_no_schedule_is_refused(wrong):
    with pytest.raises(UserError, match="whole numbers of steps from 1 on, as many weights"):
        CosineRestarts(optimizer(0.1), **wrong)


def test_as_configured_with_the_papers_adam():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(
            "train", ["schedule=cosine_restarts", "optimizer=adam_astf", "trainer.max_steps=7"]
        )
    adam = build(cfg.optimizer)([{"params": [nn.Parameter(torch.zeros(1))], "lr": 2e-4}])
    assert adam.defaults["betas"] == (0.9, 0.99)
    assert (adam.defaults["eps"], adam.defaults["weight_decay"]) == (1e-10, 0)
    schedule = build(cfg.schedule)(adam)
    found = rates(schedule, 8)
    assert (found[0], found[7]) == (pytest.approx(2e-4), pytest.approx(1e-7))
    assert cfg.optimizer.lr == 2e-4


def test_one_group_has_torchs_cycle_to_the_bit():
    ours, theirs = (
        OneCycle(optimizer(3e-4), 3e-4, 20),
        torch.optim.lr_scheduler.OneCycleLR(optimizer(3e-4), 3e-4, 20, cycle_momentum=False),
    )
    assert rates(ours, 19) == rates(theirs, 19)


def test_a_cycle_leaves_the_flow_network_its_eighth():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", ["loss=l1", "metrics=pixel", "trainer.max_steps=10"])
    model, rest = BasicVSR(4, 1, flow="spynet"), (cfg.loss, cfg.optimizer, cfg.schedule)
    objective, adam, schedule = (build(node) for node in rest)
    enhancer = Enhancer(model, objective, adam, schedule, build(cfg.metrics), {})
    (made,) = enhancer.configure_optimizers()
    cycle, found = made["lr_scheduler"]["scheduler"], []
    for _ in range(9):
        found.append(cycle.get_last_lr())
        made["optimizer"].step()
        cycle.step()
    assert all(flow == network / 8 for network, flow in found)
    assert max(network for network, _ in found) == cfg.optimizer.lr


def test_a_rate_of_zero_has_no_shares():
    assert OneCycle(optimizer(0.0, 0.0), 0.1, 5).get_last_lr() == pytest.approx([0.004, 0.004])


def test_stairs_divide_the_run():
    stairs = Staircase(optimizer(1e-4), total_steps=10, stairs=4, gamma=10 ** (-1 / 3))
    expected = [1e-4] * 3 + [4.64159e-5] * 3 + [2.154435e-5] * 3 + [1e-5]
    assert rates(stairs, 10) == pytest.approx(expected)
    with pytest.raises(UserError, match="1 stair or more"):
        Staircase(optimizer(1e-4), total_steps=10, stairs=0, gamma=0.5)


def test_films_rates_as_published():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", ["experiment=film/l1", "name=test"])
    adam = build(cfg.optimizer)([{"params": [nn.Parameter(torch.zeros(1))], "lr": 1e-4}])
    schedule = build(cfg.schedule)(adam)
    assert (schedule.step_size, schedule.gamma) == (750_000, 0.464158)
    assert (adam.defaults["betas"], adam.defaults["eps"]) == ((0.9, 0.999), 1e-7)
    assert (cfg.optimizer.lr, cfg.optimizer.weight_decay) == (1e-4, 0)
