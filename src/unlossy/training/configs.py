"""From a configuration to what it describes; only this and `sweep_overrides` know Hydra here.

Whatever a configuration asks for and cannot have becomes one sentence here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import hydra
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlossy import _torchvision  # noqa: F401
from unlossy.errors import UserError

from lightning.fabric.utilities.exceptions import MisconfigurationException  # isort: skip


HIGHEST_SEED = 2**32 - 1  # NumPy's


def compose(name: str, overrides: Sequence[str]) -> tuple[DictConfig, Mapping[str, Any]]:
    """Compose another `conf/train.yaml` within the Hydra application that is running.

    Args:
        name: what it is for, in messages.
        overrides: as on a command line.

    Returns:
        The configuration, and the name chosen in each group.

    Raises:
        UserError: the overrides name what is not there.
    """
    try:
        cfg = hydra.compose("train", list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"The configuration of {name} does not compose: {reason}.") from error
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    return own, cfg.hydra.runtime.choices


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Return the configuration as plain containers.

    Raises:
        UserError: a required value (`???`) or an interpolation has no value.
    """
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"The configuration lacks a value: {str(error).splitlines()[0]}") from None
    return {key: value for key, value in cast(dict[str, Any], plain).items() if key != "hydra"}


def build(node: DictConfig, **extra: Any) -> Any:
    """Instantiate a config node; what its constructor refuses becomes one sentence.

    Raises:
        UserError: from the constructor, or because an option is unknown or of the wrong type.
    """
    try:
        return instantiate(node, _convert_="all", **extra)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        target, given = _failed(node, str(error))
        if isinstance(cause, TypeError | AttributeError):
            raise UserError(
                f"{target} does not take these options, of which one is unknown, missing or of a "
                f"wrong type: {given or 'none'} ({str(cause).rstrip('.')})."
            ) from cause
        if isinstance(cause, ValueError | ImportError | MisconfigurationException):
            raise UserError(f"{target}: {' '.join(str(cause).split())}") from cause
        if cause is None:  # of Hydra itself: a target that it does not call
            raise UserError(f"{target}: {' '.join(str(error).split())}") from error
        raise


def _failed(node: DictConfig, message: str) -> tuple[str, str]:
    """Return what Hydra could not build, by its message: the target, and the options given."""
    if found := re.search(r"^full_key: (.+)$", message, re.MULTILINE):
        inner = OmegaConf.select(node._get_root(), found[1])
        node = inner if isinstance(inner, DictConfig) else node
    options = {str(key): value for key, value in node.items()}
    plain = [
        f"{key}={value}"
        for key, value in options.items()
        if not (key.startswith("_") or OmegaConf.is_config(value))
    ]
    return str(node.get("_target_", "configuration")), ", ".join(plain)


def check_settings(cfg: DictConfig) -> None:
    """Refuse values of a kind or a size that no run can have, and names that are no folder's.

    Raises:
        UserError: naming the first.
    """
    least = {
        "seed": 0,
        "checkpoint_every": 1,
        "data.batch": 1,
        "data.crop": 1,
        "data.frames": 1,
        "data.workers": 0,
        "trainer.max_steps": 1,
        "trainer.val_check_interval": 1,
        "trainer.log_every_n_steps": 1,
    }
    for key, lowest in least.items():
        value = OmegaConf.select(cfg, key, default=lowest)
        if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
            raise UserError(f"{key}={value} does not work; use a whole number from {lowest} on.")
    if cfg.seed > HIGHEST_SEED:
        raise UserError(f"seed={cfg.seed} is too large; use one up to {HIGHEST_SEED}.")
    for key in ("test", "save"):
        value = OmegaConf.select(cfg, key, default=True)
        if not isinstance(value, bool):
            raise UserError(f"{key}={value} is neither; write {key}=true or {key}=false.")
    for key in ("stages", "trained", "baselines", "logger.mirror", "trial"):
        value = OmegaConf.select(cfg, key)
        if not (value is None or isinstance(value, DictConfig)):
            raise UserError(f"{key}={value} does not work; set what it holds, {key}.NAME=VALUE.")
    for group in ("source", "degradation"):
        value = OmegaConf.select(cfg, f"data.{group}", default=cfg)
        if not isinstance(value, DictConfig):
            raise UserError(f"data.{group}={value} does not work; choose it by {group}=NAME.")
    ema = OmegaConf.select(cfg, "ema")
    if ema is not None and not (isinstance(ema, float) and 0 < ema < 1):
        raise UserError(f"ema={ema} does not work; use a number between 0 and 1, such as 0.999.")
    if not isinstance(cfg.name, str) or cfg.name in ("", ".", "..") or {"/", "\\"} & set(cfg.name):
        raise UserError(
            f"name={cfg.name} is no folder's name; choose a word without slashes, a number "
            f"in quotes: name=\"'1'\"."
        )
    for key in ("run_root", "ckpt", "init"):
        if OmegaConf.select(cfg, key) == "":
            raise UserError(f"{key} is empty; name a path, or leave it out.")
