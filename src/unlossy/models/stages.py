"""A network inside another model that has its weights from a checkpoint of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from unlossy.errors import UserError
from unlossy.models.building import build, with_embedded_weights
from unlossy.models.model import EnhancementModel
from unlossy.models.weights import read_weights
from unlossy.sample import Restored, Sample

# What weights that do not fit raise, or a network that a clip of noise does not suit.
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
        UserError: no checkpoint of ours, one of another network, or one that names a class which
            is no network of ours; nothing that a file names is run.
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
        with torch.random.fork_rng(devices=[]):  # random numbers stay where they are
            theirs = build(with_embedded_weights(content["unlossy"]["model"]))
        theirs.load_state_dict(weights)
        same = torch.equal(_of_noise(network), _of_noise(theirs))
    except UserError as error:
        raise UserError(f"{key}={path} cannot be used: {error}") from error
    except _UNFIT as error:
        raise other from error
    if not same:
        raise other


@torch.no_grad()
def _of_noise(network: nn.Module) -> Tensor:
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
