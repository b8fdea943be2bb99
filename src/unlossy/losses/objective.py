"""A training objective: named, weighted terms, and optional players with their own optimiser.

    total = sum_k w_k(step) * term_k(restored, batch)

A term is an `nn.Module` that says what it `needs` in `restored["extras"]` and returns a scalar. Its
weight is a number, a function of the step, or a ratio to another weighted term, which `balance`
turns into a number once, before training.

A player (a discriminator, a codec's quantiles) has its own loss, its own optimiser and a gate that
decides, from a number all ranks agree on, who steps. A player that is an adversary is also a term.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from unlossy.errors import UserError
from unlossy.sample import Restored, Sample, to_float


class Term(nn.Module):
    """A scalar to minimise.

    Attributes:
        needs: keys that it wants in `restored["extras"]`.
    """

    needs: frozenset[str] = frozenset()

    @abstractmethod
    def forward(self, restored: Restored, batch: Sample) -> Tensor:
        """Return a scalar."""


class Player(Term):
    """A term whose network plays against the model: own loss, own optimiser, own gate.

    Per batch: the model runs once; `loss` is computed and its gradients applied if the gate lets
    the player step; then the player, just updated, is read as a term of the model's objective.

    Attributes:
        weight: of the term in the model's total.
    """

    weight: float

    @abstractmethod
    def loss(self, restored: Restored, batch: Sample, draws: torch.Generator) -> dict[str, Tensor]:
        """Return `loss`, to call backward on, and `accuracy`, a scalar in [0, 1] for the gate."""

    @abstractmethod
    def gate(self, accuracy: float) -> tuple[bool, bool]:
        """Return (whether the player steps, whether the model steps)."""

    @abstractmethod
    def make_optimizer(self) -> torch.optim.Optimizer:
        """Return the player's own optimiser over its trainable parameters."""


class Weighted(nn.Module):
    """A term and its weight.

    Args:
        weight: a number, or a function of the step.
        term: what is weighted.
        ratio_to: name of another term of the objective. `weight` then is how many times the other
            weighted term this one shall count; `Objective.balance` measures the factor, a buffer,
            so that a resumed run goes on with the same one. None takes `weight` as it is.
    """

    factor: Tensor | None

    def __init__(
        self,
        weight: float | Callable[[int], float],
        term: Term,
        ratio_to: str | None = None,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.term = term
        self.ratio_to = ratio_to
        # Only where one is measured: other objectives keep the state dicts they always had.
        self.register_buffer("factor", torch.tensor(math.nan) if ratio_to else None)

    @property
    def unmeasured(self) -> bool:
        """Whether the factor of the ratio is yet to be measured."""
        return self.factor is not None and bool(self.factor.isnan())

    def at(self, step: int) -> float:
        """Return the weight at a training step, counted from 0; an unmeasured factor counts 1."""
        weight = self.weight(step) if callable(self.weight) else self.weight
        return weight if self.factor is None or self.unmeasured else weight * float(self.factor)


class Objective(nn.Module):
    """What the model is trained on.

    Args:
        terms: name -> weighted term.
        adversary: a further player, also a term named `adversary`; None trains without one.

    Raises:
        UserError: a ratio to a term that is not there, to itself, or to another ratio.
    """

    def __init__(self, terms: Mapping[str, Weighted], adversary: Player | None = None) -> None:
        super().__init__()
        fixed = [name for name, weighted in terms.items() if weighted.ratio_to is None]
        for name, weighted in terms.items():
            if weighted.ratio_to is not None and weighted.ratio_to not in fixed:
                raise UserError(
                    f"Loss term '{name}' has ratio_to={weighted.ratio_to}, which is no other term "
                    f"with a weight of its own; those are {', '.join(fixed) or 'none'}."
                )
        self.terms = nn.ModuleDict(dict(terms))
        self.adversary = adversary

    @property
    def needs(self) -> dict[str, frozenset[str]]:
        """Term name -> what it wants in `extras`, to compare with `model.provides`."""
        terms = {name: weighted.term.needs for name, weighted in self._weighted().items()}
        return {**terms, **{name: player.needs for name, player in self.players().items()}}

    def players(self) -> dict[str, Player]:
        """Return the players by name, empty where the model trains alone."""
        return {} if self.adversary is None else {"adversary": self.adversary}

    @property
    def needs_balance(self) -> bool:
        """Whether a weight is a ratio that is yet to be measured."""
        return any(weighted.unmeasured for weighted in self._weighted().values())

    @torch.no_grad()
    def balance(self, batches: Iterable[Sample]) -> None:
        """Measure the ratios once, with the degraded clips for estimates: where training starts.

        Args:
            batches: about 64 clips or crops, uint8 or in [0, 1], degraded as large as clean. Only
                the middle frame of each is looked at.

        Raises:
            UserError: there are none, sizes differ, or a term of a ratio is zero or reads what only
                a model provides.
        """
        ratios = {name: w for name, w in self._weighted().items() if w.ratio_to is not None}
        measured = set(ratios) | {str(weighted.ratio_to) for weighted in ratios.values()}
        if dependent := sorted(name for name in measured if self.needs[name]):
            raise UserError(
                f"Loss term '{dependent[0]}' reads what a model adds to its estimate, so its ratio "
                "cannot be measured beforehand; give its weight as a number, with ratio_to=null."
            )
        sums, count = dict.fromkeys(measured, 0.0), 0
        for batch in map(_middle, batches):
            restored = Restored(estimate=batch["degraded"], extras={})
            count += 1
            for name in measured:
                sums[name] += float(self._weighted()[name].term(restored, batch))
        for name, weighted in ratios.items():
            other = str(weighted.ratio_to)
            if not (count and sums[name] > 0 and sums[other] > 0):
                raise UserError(
                    f"The ratio of '{name}' to '{other}' cannot be measured on {count} clip(s) "
                    f"where they sum to {sums[name]:.3g} and {sums[other]:.3g}; give the weight as "
                    "a number, with ratio_to=null."
                )
            assert weighted.factor is not None
            weighted.factor.fill_(self._weighted()[other].at(0) * sums[other] / sums[name])

    def forward(self, restored: Restored, batch: Sample, step: int) -> dict[str, Tensor]:
        """Return every term, unweighted, and their weighted sum under `total`; all scalars.

        The weight of a term at that step is `terms[name].at(step)`.

        Raises:
            UserError: in training mode, a ratio has not been measured.
        """
        if self.training and self.needs_balance:
            raise UserError("A loss weight is a ratio; call objective.balance(batches) first.")
        values: dict[str, Tensor] = {}
        total = restored["estimate"].new_zeros(())
        for name, weighted in self._weighted().items():
            values[name] = weighted.term(restored, batch)
            total = total + weighted.at(step) * values[name]
        for name, player in self.players().items():
            values[name] = player(restored, batch)
            total = total + player.weight * values[name]
        return {**values, "total": total}

    def _weighted(self) -> dict[str, Weighted]:
        return cast("dict[str, Weighted]", dict(self.terms.items()))


def _middle(batch: Sample) -> Sample:
    """Return the middle frame of a batch of clips, as numbers."""
    if batch["degraded"].shape != batch["clean"].shape:
        raise UserError(
            f"A ratio of losses is measured where degraded frames are as many and as large as the "
            f"clean ones, not {tuple(batch['degraded'].shape)} and {tuple(batch['clean'].shape)}; "
            "give the weights as numbers, with ratio_to=null."
        )
    middle = batch["degraded"].shape[1] // 2
    one = slice(middle, middle + 1)
    cut = Sample(**{**batch, "degraded": batch["degraded"][:, one]})
    cut["clean"], cut["t_in"] = batch["clean"][:, one], batch["t_in"][:, one]
    cut["t_out"] = batch["t_out"][:, one]
    return to_float(cut)
