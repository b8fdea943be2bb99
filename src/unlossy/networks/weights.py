"""Weights under the names of official files, for networks that are named like them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def load_tolerantly(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load official weights; only BatchNorm's batch counters, absent before torch 0.4.1, may lack.

    Raises:
        ValueError: a name or a shape does not fit.
    """
    state = network.state_dict()
    counters = {key for key in state if key.endswith("num_batches_tracked")}
    missing = state.keys() - weights.keys() - counters
    surplus = weights.keys() - state.keys()
    bent = [key for key in state.keys() & weights.keys() if state[key].shape != weights[key].shape]
    if missing or surplus or bent:
        odd = min([*missing, *surplus, *bent])
        raise ValueError(f"these weights do not fit {type(network).__name__}: see {odd!r}.")
    network.load_state_dict(dict(weights), strict=False)
