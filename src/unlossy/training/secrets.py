"""Secrets stay out of what a run writes: run.json, checkpoints, W&B's configuration.

A setting that holds one is refused; a password within the address of a service is blanked there,
because such an address is of use only with it.

    api_key: 0123...                    refused, also where only the value tells
    postgresql://ann:0123@host/db       postgresql://ann:***@host/db
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from unlossy.errors import UserError

BLANK = "***"
SHORTEST = 8  # characters of a variable's content that is taken for a secret
NAME = re.compile(
    r"(?:^|[_\W])(?:api_?key|(?:access|private|secret)_?key|auth|token|secret|password|passwd|"
    r"passphrase|credentials?)(?:\.\d+)?$",
    re.IGNORECASE,
)
VARIABLE = re.compile(r"(?:^|_)(?:\w*KEY|TOKEN|SECRET|PASS|PASSWORD|PASSWD)$", re.IGNORECASE)
# A password may hold @ where it holds no slash, and a slash where it holds no @. A port is neither.
IN_URL = re.compile(r"(?<=://)([^\s/:@]*):(?!\d+(?:/|$))(?:[^\s/]*|[^\s@]*)@")
AS_USER = re.compile(r"(?<=https://)[^\s/:@]+@")  # https://TOKEN@host
IN_QUERY = re.compile(r"([?&][^=&\s]*(?:key|token|secret|password|passwd)=)[^&\s]+", re.IGNORECASE)


def refuse_secrets(config: Mapping[str, Any]) -> None:
    """Refuse a configuration in which a secret is written out.

    Args:
        config: resolved, nested.

    Raises:
        UserError: naming the setting and the environment variable to use, not the secret.
    """
    known = _known()
    for key, value in _settings(config):
        if _is_empty(value):
            continue
        if variable := known.get(str(value)):
            raise UserError(
                f"{key} holds what {variable} holds, and run.json, checkpoints and W&B would keep "
                f"it; leave it out, so that it is read from the environment variable {variable}."
            )
        if NAME.search(key):
            name = next(part for part in reversed(key.split(".")) if not part.isdecimal())
            variable = "WANDB_API_KEY" if key.startswith("logger.") else name.upper()
            raise UserError(
                f"{key} looks like a secret, and run.json, checkpoints and W&B would keep it; "
                f"leave it out, and export it as the environment variable {variable}."
            )


def redacted(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of nested settings without secrets, those within addresses among them."""
    known = _known()
    return {key: _blanked(str(key), value, known) for key, value in config.items()}


def _blanked(key: str, value: Any, known: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {inner: _blanked(str(inner), each, known) for inner, each in value.items()}
    if isinstance(value, list | tuple):
        return [_blanked(key, each, known) for each in value]
    if not _is_empty(value) and (NAME.search(key) or str(value) in known):
        return BLANK
    if isinstance(value, str):
        value = IN_URL.sub(rf"\1:{BLANK}@", value)
        value = AS_USER.sub(f"{BLANK}@", value)
        return IN_QUERY.sub(rf"\1{BLANK}", value)
    return value


def _known() -> dict[str, str]:
    """Return what the environment keeps secret -> the variable that holds it."""
    return {
        content: variable
        for variable, content in os.environ.items()
        if VARIABLE.search(variable) and len(content) >= SHORTEST
    }


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or isinstance(value, bool)


def _settings(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of nested mappings and lists."""
    if not isinstance(value, Mapping | list | tuple):
        yield key, value
        return
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
    for name, inner in pairs:
        yield from _settings(inner, f"{key}.{name}" if key else str(name))
