"""Networks built from a configuration that came in a file, without running anything it names.

A checkpoint is data from elsewhere: its `_target_`s may name network classes defined in
`unlossy.models` or `unlossy.networks`, and nothing else. Classical filters are no networks: one of
them runs an FFmpeg graph out of its settings, and such a graph may write files.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import nn

from unlossy import __version__
from unlossy.errors import UserError
from unlossy.models.weights import EMBEDDED

_HOMES = ("unlossy.models", "unlossy.networks")
_HYDRA_KEYS = ("_target_", "_convert_", "_recursive_")


def build(config: Mapping[str, Any]) -> nn.Module:
    """Build a network from a configuration, nested `_target_`s included.

    Raises:
        UserError: a target that is no network of `unlossy.models` and `unlossy.networks`, or
            arguments that its constructor refuses.
    """
    target = config.get("_target_")
    kind = network_class(target)
    try:
        return kind(**{k: _value(v) for k, v in config.items() if k not in _HYDRA_KEYS})
    except UserError:
        raise
    except Exception as error:  # arguments from a file fail in any of torch's ways
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{target} does not take these arguments in version {__version__}: {reason}."
        ) from error


def network_class(target: object) -> type[nn.Module]:
    """Return the network class of that name, if it is defined where it says it is.

    Raises:
        UserError: it is not, or no network of ours.
    """
    module, _, name = target.rpartition(".") if isinstance(target, str) else ("", "", "")
    if module.startswith(tuple(home + "." for home in _HOMES)):
        try:
            # vars(): an attribute that the module merely imported is found, and told by __module__.
            found = vars(import_module(module)).get(name)
        except ImportError:
            found = None
        if (
            isinstance(found, type)
            and issubclass(found, nn.Module)
            and found.__module__ == module
            and getattr(found, "trainable", True)
        ):
            return found
    raise UserError(
        f"it asks for {target!r}; only networks of {' and '.join(_HOMES)} are built, no filters."
    )


def with_embedded_weights(config: Mapping[str, Any]) -> dict[str, Any]:
    """Let no argument named `*_ckpt` ask for its file: the weights come from elsewhere.

    Raises:
        UserError: a configuration that holds itself.
    """

    def embedded(key: object, value: Any) -> Any:
        if isinstance(value, Mapping):
            return with_embedded_weights(value)
        if isinstance(value, list | tuple):
            return [embedded(None, item) for item in value]
        return EMBEDDED if str(key).endswith("_ckpt") and value is not None else value

    try:
        return {key: embedded(key, value) for key, value in config.items()}
    except RecursionError as error:
        raise UserError(
            f"{config.get('_target_')} does not take arguments that hold themselves."
        ) from error


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return build(value)
        return {key: _value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_value(item) for item in value]
    return value
