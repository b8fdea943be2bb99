"""A network inside another model that has its weights from a checkpoint of its own."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from unlossy.errors import UserError
from unlossy.models.model import EnhancementModel
from unlossy.models.weights import EMBEDDED, read_weights
from unlossy.sample import Restored, Sample

# What options that do not fit raise; options that are networks themselves arrive as mappings.
_UNFIT = (RuntimeError, TypeError, ValueError, AttributeError)


def load_stage(network: EnhancementModel, path: str, key: str, place: str) -> None:
    """Load the weights of a checkpoint of ours into the network.

    Options such as CCDNet's `update` change what weights mean and not their shapes, so the network
    that the checkpoint describes must restore a clip of noise to the same.

    Args:
        network: of numbers, strings and networks, of scale 1.
        path: the checkpoint.
        key: the option that gave the path, for messages.
        place: the option that gave the network, for messages.

    Raises:
        UserError: no checkpoint of ours, or one of another network.
    """
    content: dict[str, Any] = read_weights(path)
    target = f"{type(network).__module__}.{type(network).__name__}"
    match content:
        case {"unlossy": {"model": {"_target_": str(found), **options}}, "state_dict": dict(state)}:
            pass
        case _:
            raise UserError(f"{key}={path} is no checkpoint of ours; give one of {place}'s.")
    if found != target:
        raise UserError(f"{key}={path} holds {found}, not {target}; set {place} to it.")
    weights = {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}
    asked = ", ".join(f"{option}={value}" for option, value in options.items())
    other = UserError(
        f"{key}={path} holds a {type(network).__name__} of other sizes, parts or options; set "
        f"{place} to its options, which are {asked or 'the default ones'}."
    )
    try:
        network.load_state_dict(weights)
        theirs = _described(type(network), options)
        theirs.load_state_dict(weights)
        same = torch.equal(_of_noise(network), _of_noise(theirs))
    except _UNFIT as error:
        raise other from error
    if not same:
        raise other


def _described(kind: type[EnhancementModel], options: Mapping[Any, Any]) -> EnhancementModel:
    """Build a network from its options, reading no file; random numbers stay where they are."""
    with torch.random.fork_rng(devices=[]):
        return kind(**_built(options))


def _built(options: Mapping[Any, Any]) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for key, value in options.items():
        if key.startswith("_"):  # Hydra's
            continue
        if key.endswith("_ckpt") and value is not None:
            built[key] = EMBEDDED
        elif isinstance(value, Mapping) and "_target_" in value:
            module, _, name = str(value["_target_"]).rpartition(".")
            built[key] = getattr(import_module(module), name)(**_built(value))
        else:
            built[key] = value
    return built


@torch.no_grad()
def _of_noise(network: EnhancementModel) -> Tensor:
    draws, times = torch.Generator().manual_seed(0), torch.arange(2.0)[None]
    noise = torch.rand(1, 2, 3, 32, 32, generator=draws)
    palette = torch.rand(1, 2, 8, 3, generator=draws)
    training = network.training
    restored: Restored = network.eval()(
        Sample(
            name=["noise"],
            degraded=noise,
            t_in=times,
            t_out=torch.tensor([[0, 0.5, 1]]) if network.interpolates else times,
            side={"palette": palette, "palette_size": torch.full((1, 2), 8)},
            target={},
            bits=torch.zeros(1),
        )
    )
    network.train(training)
    return restored["estimate"]
