"""RMSProp as TensorFlow has it, whose first steps are small.

    s <- alpha s + (1 - alpha) g^2                 s starts at 1
    v <- momentum v + lr g / sqrt(s + eps)         eps inside the root, rates inside the momentum
    w <- w - v

Tieleman and Hinton 2012, as in TensorFlow's tf.compat.v1.train.RMSPropOptimizer. torch's RMSprop
starts s at 0, adds eps to the root, and multiplies the whole momentum by the present rate: for a
gradient of 0.001 its first step is 4,000 times as large, and after 200 steps it has gone 40 times
as far. Rates that were found with the one are therefore none for the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from unlossy.errors import UserError


class RMSPropTF(Optimizer):
    """Divides gradients by a running root mean square that starts at 1.

    Args:
        params: parameters or parameter groups.
        lr: learning rate, from 0 on.
        alpha: decay of the mean square, in [0, 1).
        momentum: decay of the momentum, in [0, 1).
        eps: above 0, added to the mean square.

    Raises:
        UserError: one of them is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 4e-4,
        alpha: float = 0.95,
        momentum: float = 0.9,
        eps: float = 1e-8,
    ) -> None:
        if not (lr >= 0 and 0 <= alpha < 1 and 0 <= momentum < 1 and eps > 0):
            raise UserError(
                f"RMSPropTF got lr={lr}, alpha={alpha}, momentum={momentum}, eps={eps}; wanted: a "
                "rate from 0 on, decays in [0, 1) and eps above 0."
            )
        settings = {"lr": lr, "alpha": alpha, "momentum": momentum, "eps": eps}
        super().__init__(params, settings)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; `closure`, if given, computes loss and gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, weight.grad, group)
        return loss

    def _move(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["square_avg"] = torch.ones_like(weight)
            state["momentum_buffer"] = torch.zeros_like(weight)
        squares, momentum = state["square_avg"], state["momentum_buffer"]
        squares.mul_(group["alpha"]).addcmul_(gradient, gradient, value=1 - group["alpha"])
        root = squares.add(group["eps"]).sqrt_()
        momentum.mul_(group["momentum"]).addcdiv_(gradient, root, value=group["lr"])
        weight.sub_(momentum)
