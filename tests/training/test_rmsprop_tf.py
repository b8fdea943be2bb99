"""TensorFlow's RMSProp: a recursion by hand, torch's own beside it, a stop in between."""

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from unlossy.errors import UserError
from unlossy.training.rmsprop_tf import RMSPropTF

CONF = Path(__file__).parents[2] / "conf"


def weight(value: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.tensor([value], dtype=torch.float64))


def steps(make, gradients, schedule=None) -> list[float]:
    """How far a weight moves at each step."""
    w = weight()
    optimizer = make([w])
    schedule = schedule and schedule(optimizer)
    moves = []
    for gradient in gradients:
        w.grad = torch.tensor([gradient], dtype=torch.float64)
        before = w.item()
        optimizer.step()
        moves.append(w.item() - before)
        if schedule:
            schedule.step()
    return moves


def test_steps_are_the_recursion_s() -> None:
    gradients = [0.3, -2.0, 1e-3, 0.0, 7.0, -0.1]
    rates = [0.1, 0.1, 0.1, 0.05, 0.05, 0.05]
    square, momentum, wanted = 1.0, 0.0, []
    for g, lr in zip(gradients, rates, strict=True):
        square = 0.8 * square + 0.2 * g * g
        momentum = 0.5 * momentum + lr * g / math.sqrt(square + 1e-2)
        wanted.append(-momentum)
    found = steps(
        partial(RMSPropTF, lr=0.1, alpha=0.8, momentum=0.5, eps=1e-2),
        gradients,
        partial(torch.optim.lr_scheduler.StepLR, step_size=3, gamma=0.5),
    )
    assert found == pytest.approx(wanted, rel=1e-12)


def test_torch_s_own_goes_four_thousand_times_as_far_at_first() -> None:
    """The comparison that the trap was found by: gradient 0.001, the defaults of both."""
    make = instantiate(OmegaConf.load(CONF / "optimizer" / "rmsprop_tf.yaml"))
    theirs = partial(torch.optim.RMSprop, **make.keywords)
    ours, torchs = (steps(optimizer, [1e-3] * 200) for optimizer in (make, theirs))
    assert torchs[0] / ours[0] == pytest.approx(4358.7, abs=0.1)
    assert sum(torchs) / sum(ours) == pytest.approx(39.46, abs=0.01)


def test_a_resumed_run_goes_on_as_if_nothing_had_happened() -> None:
    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Linear(3, 2)

    def train(model: nn.Module, optimizer: RMSPropTF, seeds: range) -> None:
        for seed in seeds:
            x = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()

    whole, broken = network(), network()
    optimizer = RMSPropTF(whole.parameters(), lr=0.01)
    train(whole, optimizer, range(8))
    first = RMSPropTF(broken.parameters(), lr=0.01)
    train(broken, first, range(4))
    resumed = network()
    resumed.load_state_dict(broken.state_dict())
    second = RMSPropTF(resumed.parameters(), lr=0.5)
    second.load_state_dict(first.state_dict())
    train(resumed, second, range(4, 8))
    pairs = zip(whole.parameters(), resumed.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_weights_without_a_gradient_stay() -> None:
    used, unused = weight(), weight()
    used.grad = torch.ones_like(used)
    RMSPropTF([used, unused]).step()
    assert used.item() != 1.0
    assert unused.item() == 1.0


@pytest.mark.parametrize("wrong", [{"lr": -1}, {"alpha": 1.0}, {"momentum": 1.5}, {"eps": 0.0}])
def test_what_cannot_work_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="RMSPropTF got"):
        RMSPropTF([weight()], **wrong)


def test_the_rate_halves_every_half_million_steps() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", ["experiment=pixelsr/faces", "source.path=faces"])
    optimizer = instantiate(cfg.optimizer)([weight()])
    schedule = instantiate(cfg.schedule)(optimizer)
    rates = {}
    for step in (0, 499_999, 500_000, 999_999, 1_000_000, 1_500_000):
        schedule.last_epoch = step
        rates[step] = schedule._get_closed_form_lr()[0]
    assert list(rates.values()) == [4e-4, 4e-4, 2e-4, 2e-4, 1e-4, 5e-5]
