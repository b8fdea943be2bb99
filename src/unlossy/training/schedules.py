"""Learning rates that restart, that rise and fall, or go down stairs; each group from its own.

    lr(step) = eta_min + w_i (lr_0 - eta_min) (1 + cos(pi (step - s_i) / p_i)) / 2
               in period i, which has p_i steps and begins at s_i = p_1 + ... + p_{i-1}

Loshchilov and Hutter, "SGDR", ICLR 2017, eq. 5, with listed periods and a weight for each as in
EDVR's training code (CosineAnnealingLR_Restart). Stepped once per batch.

OneCycle is torch's (Smith and Topin, "Super-Convergence", 2019), which gives one number for its
highest rate to all groups alike, and so would train a flow network as fast as the rest.

Staircase is torch's StepLR with the length of a stair told by the run: FILM's, of four.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, StepLR

from unlossy.errors import UserError


class CosineRestarts(LRScheduler):
    """Cosine annealing over periods of given lengths; each parameter group from its own rate.

    Args:
        optimizer: its rates are lr_0.
        periods: steps of each period; after the last the rate stays at `eta_min`.
        weights: share of the rate that each period restarts at; None restarts at the whole rate.
        eta_min: rate at the end of a period, the same for every group.

    Raises:
        UserError: no period, one without steps, not a weight a period, or a negative number.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        periods: Sequence[int],
        weights: Sequence[float] | None = None,
        eta_min: float = 0.0,
    ) -> None:
        self.periods = list(periods)
        self.weights = [1.0] * len(self.periods) if weights is None else list(weights)
        self.eta_min = eta_min
        if (
            not self.periods
            or any(period != int(period) or period < 1 for period in self.periods)
            or len(self.weights) != len(self.periods)
            or min(*self.weights, eta_min) < 0
        ):
            raise UserError(
                f"A schedule of periods {self.periods} with weights {self.weights} and "
                f"eta_min={eta_min} does not work; give whole numbers of steps from 1 on, as many "
                "weights, and nothing below zero."
            )
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Return the rate of each group at step `last_epoch`, counted from 0."""
        share, start = 0.0, 0
        for stop, period, weight in zip(
            accumulate(self.periods), self.periods, self.weights, strict=True
        ):
            if start <= self.last_epoch < stop:
                share = weight * (1 + math.cos(math.pi * (self.last_epoch - start) / period)) / 2
            start = stop
        return [self.eta_min + share * (base - self.eta_min) for base in self.base_lrs]


class OneCycle(OneCycleLR):
    """One cycle of cosines over the run; every parameter group keeps its share of the rate.

    Args:
        optimizer: the rates of its groups tell their shares.
        max_lr: the highest rate of the group with the highest rate.
        total_steps: of the run.
        pct_start: share of the steps in which the rate rises.
        cycle_momentum: whether momentum, or beta1, falls while the rate rises.

    Raises:
        ValueError: torch does not accept one of them.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float,
        total_steps: int,
        pct_start: float = 0.3,
        cycle_momentum: bool = False,
    ) -> None:
        rates = [group["lr"] for group in optimizer.param_groups]
        highest = max(rates)
        peaks = [max_lr * (rate / highest) if highest else max_lr for rate in rates]
        super().__init__(
            optimizer, peaks, total_steps, pct_start=pct_start, cycle_momentum=cycle_momentum
        )


class Staircase(StepLR):
    """The same number of steps at each of several rates, each `gamma` times the one before.

    Args:
        optimizer: its rates are the highest.
        total_steps: of the run.
        stairs: rates, >= 1.
        gamma: > 0.

    Raises:
        UserError: one of these numbers is out of range.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, stairs: int, gamma: float) -> None:
        if stairs < 1 or not gamma > 0:
            raise UserError(
                f"A staircase got stairs={stairs}, gamma={gamma}; use 1 stair or more and a gamma "
                "above 0."
            )
        super().__init__(optimizer, math.ceil(total_steps / stairs), gamma)
