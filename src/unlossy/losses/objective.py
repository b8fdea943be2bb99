"""A training objective: named, weighted terms, and optional players with their own optimiser.

    total = sum_k w_k(step) * term_k(restored, batch)

A term is an `nn.Module` that says what it `needs` in `restored["extras"]` and returns a scalar.
A player (a discriminator, a codec's quantiles) has its own loss, its own optimiser and a gate that
decides, from a number all ranks agree on, who steps. A player that is an adversary is also a term.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from unlossy.sample import Restored, Sample


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
    """A term and its weight: a number, or a function of the step."""

    def __init__(self, weight: float | Callable[[int], float], term: Term) -> None:
        super().__init__()
        self.weight = weight
        self.term = term

    def at(self, step: int) -> float:
        """Return the weight at a training step, counted from 0."""
        return self.weight(step) if callable(self.weight) else self.weight


class Objective(nn.Module):
    """What the model is trained on.

    Args:
        terms: name -> weighted term.
        adversary: a further player, also a term named `adversary`; None trains without one.
    """

    def __init__(self, terms: Mapping[str, Weighted], adversary: Player | None = None) -> None:
        super().__init__()
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

    def forward(self, restored: Restored, batch: Sample, step: int) -> dict[str, Tensor]:
        """Return every term, unweighted, and their weighted sum under `total`; all scalars."""
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
