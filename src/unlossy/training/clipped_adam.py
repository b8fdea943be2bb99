"""Adam whose gradients are clipped to a norm over all of its parameters, whoever calls its step.

Lightning clips under automatic optimisation alone, and a discriminator asks for the manual one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Adam

from unlossy.errors import UserError


class ClippedAdam(Adam):
    """Scale the gradients of all groups down to a norm of `max_norm`, then take Adam's step.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decays of the running means.
        weight_decay: plain L2, added behind the clipping.
        max_norm: above 0.
        fused: one pass over each parameter.

    Raises:
        UserError: max_norm is not above 0.
        ValueError: torch does not accept one of the others.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        max_norm: float = 1.0,
        fused: bool = False,
    ) -> None:
        if not max_norm > 0:
            raise UserError(f"ClippedAdam got max_norm={max_norm}; use a norm above 0.")
        self.max_norm = max_norm
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay, fused=fused)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; `closure`, if given, computes loss and gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        clip_grad_norm_([p for group in self.param_groups for p in group["params"]], self.max_norm)
        super().step()
        return loss
