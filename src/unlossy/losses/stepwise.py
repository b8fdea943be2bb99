"""Weights of loss terms that change in steps: `Weighted.weight` of an objective."""

from __future__ import annotations

from collections.abc import Sequence

from unlossy.errors import UserError


class Stepwise:
    """A weight that changes in steps: values[i] behind i of the boundaries.

    A value still counts at its boundary, as in TensorFlow's PiecewiseConstantDecay: the new one
    comes a step later.

    Args:
        values: one more than boundaries.
        boundaries: shares of the run, increasing, in [0, 1].
        max_steps: of the run.

    Raises:
        UserError: not one value more than boundaries, or these are not increasing in [0, 1].
    """

    def __init__(
        self, values: Sequence[float], boundaries: Sequence[float], max_steps: int
    ) -> None:
        shares = [0.0, *boundaries, 1.0]
        if len(values) != len(boundaries) + 1 or shares != sorted(shares):
            raise UserError(
                f"A weight got values {list(values)} and boundaries {list(boundaries)}; give "
                "increasing shares of the run, from 0 to 1, and one value more than those."
            )
        self.values = tuple(values)
        self.boundaries = tuple(share * max_steps for share in boundaries)

    def __call__(self, step: int) -> float:
        """Return the weight at a step, counted from 0."""
        return self.values[sum(step > boundary for boundary in self.boundaries)]
