"""What a checkpoint holds, and how a model comes out of one without running anything in it.

    {"unlossy": {"format": 1, "version": "0.1.0",
                 "model": {"_target_": "unlossy.models.ccdnet.CCDNet", "steps": 2, ...},
                 "training": {"model": "ccdnet", "loss": "grad_gan", "degradation": {...},
                              "source": "photos", "needs": [...], "scale": 1, "seed": 0,
                              "after": None}},
     "state_dict": {"model.base.inconv.0.weight": ..., ...},
     ...}                                      what else the trainer needs to resume; ignored here

Tensors and plain containers only, read with `weights_only=True`; `models/building.py` says which
classes its `_target_`s may name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unlossy import __version__
from unlossy.errors import UserError
from unlossy.models.building import build, network_class, with_embedded_weights
from unlossy.models.ccdnet import CCDNet
from unlossy.models.gif2video import GIF2Video
from unlossy.models.model import EnhancementModel
from unlossy.models.weights import read_weights, state_in

FORMAT = 1
PREFIX = "model."  # where the LightningModule keeps the model
_TRAINING = {
    "model": str,
    "loss": str,
    "degradation": dict,
    "source": str,
    "needs": list,
    "scale": int,
    "seed": int,
}


def card(model: Mapping[str, Any], training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the "unlossy" part of a checkpoint.

    Args:
        model: the resolved configuration of the model, `_target_` and constructor arguments.
        training: the names chosen for model, loss and source, the configuration of the
            degradation, the model's needs and scale, the seed; `describe` wants all seven. Also
            `after`, the `fingerprint` of the stage whose output the model restores; without it, or
            with None, it restores what the medium kept.
    """
    return {
        "format": FORMAT,
        "version": __version__,
        "model": _plain(model),
        "training": _plain(training),
    }


def pack(
    network: nn.Module, model: Mapping[str, Any], training: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a whole checkpoint of a network, ready for `torch.save`; arguments as for `card`."""
    state = {PREFIX + key: value for key, value in network.state_dict().items()}
    return {"unlossy": card(model, training), "state_dict": state}


def describe(path: str | Path) -> dict[str, Any]:
    """Return the "unlossy" part of a checkpoint without building its model.

    Raises:
        UserError: missing, damaged, incomplete, not ours, of a later format, or holding pickled
            code.
    """
    return _card_of(_read(path), path)


def restores(description: Mapping[str, Any]) -> bool:
    """Return whether the model that `describe` described restores clips, without building it.

    Raises:
        UserError: it is no network of this version's.
    """
    kind = network_class(description["model"].get("_target_"))
    return issubclass(kind, EnhancementModel) and kind.restores


def interpolates(description: Mapping[str, Any]) -> bool:
    """Return whether the model that `describe` described makes frames between frames.

    Raises:
        UserError: it is no network of this version's.
    """
    return bool(getattr(network_class(description["model"].get("_target_")), "interpolates", False))


def fingerprint(path: str | Path) -> str:
    """Return the SHA-256, in hexadecimal, of the model in a checkpoint: configuration and weights.

    Optimisers, callbacks and paths do not count: a run repeated elsewhere has the same fingerprint.

    Raises:
        UserError: as for `describe`.
    """
    content = _read(path)
    config = with_embedded_weights(_card_of(content, path)["model"])
    found = hashlib.sha256(json.dumps(config, sort_keys=True, default=repr).encode())
    for key, value in sorted(content["state_dict"].items()):
        if key.startswith(PREFIX) and isinstance(value, Tensor):
            found.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            found.update(value.reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()


def load(path: str | Path) -> EnhancementModel:
    """Return the model of a checkpoint in evaluation mode on the CPU.

    Raises:
        UserError: as for `describe`; a foreign `_target_`; weights of another model.
    """
    content = _read(path)
    config = _card_of(content, path)["model"]
    try:
        model = build(with_embedded_weights(config))
    except UserError as error:
        raise UserError(f"The checkpoint {path} cannot be used: {error}") from error
    if not isinstance(model, EnhancementModel):
        raise UserError(f"The checkpoint {path} holds {config['_target_']}, which is no model.")
    state = {
        key.removeprefix(PREFIX): value
        for key, value in content["state_dict"].items()
        if key.startswith(PREFIX)
    }
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f"The weights in {path} are of another model than the {config['_target_']} it names; "
            "give a checkpoint that a training run wrote."
        ) from error
    return model.eval()


def load_official(u1: str | Path, u2: str | Path | None = None, steps: int = 2) -> CCDNet:
    """Return the authors' CCDNet from their released files, in evaluation mode on the CPU.

    Args:
        u1: a `ccdnet1_*` file (`.pt` with `model_netG`, or its state dict as `.safetensors`).
        u2: a `ccdnet2_*` file, which holds the refinement network only; None gives CCDNet1.
        steps: K, how often to estimate; read only with `u2`. The released evaluations use 2.

    Raises:
        UserError: a file is missing, damaged or of another network.
    """
    base, refine = (None if path is None else _generator(path) for path in (u1, u2))
    assert base is not None
    return CCDNet.from_official(base, refine, steps).eval()


def load_official_gif2video(
    u1: str | Path, slomo: str | Path, u2: str | Path | None = None, sequential: bool = False
) -> GIF2Video:
    """Return the authors' GIF2Video from their released files, in evaluation mode on the CPU.

    Args:
        u1: as for `load_official`.
        slomo: a `gif2video_*` file, which holds the networks of flow and refinement only.
        u2: as for `load_official`; the released evaluations have it or not.
        sequential: True for the `gif2video_*.seq.*` file.

    Raises:
        UserError: a file is missing, damaged or of another network.
    """
    base, flow, refine = (None if path is None else _generator(path) for path in (u1, slomo, u2))
    assert base is not None
    assert flow is not None
    return GIF2Video.from_official(base, flow, refine, sequential).eval()


def _read(path: str | Path) -> dict[str, Any]:
    content = read_weights(path)
    if "model_netG" in content:
        raise UserError(
            f"{path} is a file released with GIF2Video; load it with load_official or "
            "load_official_gif2video of unlossy.checkpoint."
        )
    return content


def _card_of(content: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    description, state = content.get("unlossy"), content.get("state_dict")
    if not (
        isinstance(description, dict)
        and isinstance(state, dict)
        and all(isinstance(key, str) for key in state)
    ):
        raise UserError(f"{path} is no unlossy checkpoint; give a file that a training run wrote.")
    if not isinstance(description.get("model"), dict):
        raise UserError(f"{path} does not say which model it holds; train it again.")
    if description.get("format") != FORMAT:
        raise UserError(
            f"{path} has checkpoint format {description.get('format')}, this version reads "
            f"{FORMAT}; use the unlossy version {description.get('version')} that wrote it."
        )
    training = description.get("training")
    known = training if isinstance(training, dict) else {}
    absent = [key for key, kind in _TRAINING.items() if not isinstance(known.get(key), kind)]
    if absent or not all(isinstance(need, str) for need in known["needs"]):
        raise UserError(
            f"{path} does not say how it was trained ({', '.join(absent or ['needs'])}); "
            "give a file that a training run wrote."
        )
    return description


def _generator(path: str | Path) -> Mapping[str, Tensor]:
    return state_in(read_weights(path))


def _plain(value: Any) -> Any:
    """Copy containers of any kind as dicts and lists, which `weights_only` reads."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Set):
        return sorted(_plain(item) for item in value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
