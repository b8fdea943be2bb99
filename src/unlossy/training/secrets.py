"""Secrets stay out of what a run writes: run.json, checkpoints, W&B's configuration.

A setting that holds one is refused; a password within the address of a service is blanked there,
because such an address is of use only with it.

    api_key: 0123...                    refused, also where only the value tells: Bearer 0123...
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
WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # access|Token, HF|Token
# A part of a dotted key; whatever lies below it is secret too. `key` and `tokens` may be anything.
NAME = re.compile(
    r"(?:^|[_\W])(?:"
    r"(?:api|access|account|deploy|encryption|private|secret|signing|ssh|wandb)_?keys?|"
    r"(?:admin|db|ftp|login|mail|proxy|root|smtp|user)_?pass|"
    r"auth|authorization|(?P<counted>token)|secrets?|\w*passwords?|passwd|pwd|passphrase|"
    r"credentials?)(?=\.|$)",
    re.IGNORECASE,
)
# PWD is where the shell stands.
VARIABLE = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|_PWD|_PAT|_PASS|^PASS)$", re.IGNORECASE)
# All before @ is blanked on the web (a token may stand for the user), elsewhere the password, up to
# the last @, since it may hold @ and slashes. The port of an address of the web is none.
ON_WEB = re.compile(r"(https?://)(?:[^\s/:]*:(?!\d+(?:[/?#]|$))\S*|[^\s/]*)@", re.IGNORECASE)
ELSEWHERE = re.compile(r"(?<!http)(?<!https)(://[^\s/:]*):\S*@", re.IGNORECASE)
IN_QUERY = re.compile(
    r"((?:[?&;][^?=&;\s]*(?:key|token|secret|sig|signature)|password|passwd|pwd)"
    r"\s*=\s*)(?:'[^']*'|[^&;\s]+)",
    re.IGNORECASE,
)


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
        # What an address holds is blanked, so that it may come from the environment.
        text = _without_passwords(str(value))
        if variable := next((known[content] for content in known if content in text), None):
            raise UserError(
                f"{key} holds what {variable} holds, and run.json, checkpoints and W&B would keep "
                f"it; leave it out, so that it is read from the environment variable {variable}."
            )
        if name := _secret_part(key, value):
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
        return {inner: _blanked(f"{key}.{inner}", each, known) for inner, each in value.items()}
    if isinstance(value, list | tuple):
        return [_blanked(key, each, known) for each in value]
    if _is_empty(value):
        return value
    if _secret_part(key, value):
        return BLANK
    text = _without_passwords(str(value))
    for content in known:
        text = text.replace(content, BLANK)
    return value if text == str(value) else text


def _without_passwords(text: str) -> str:
    text = ON_WEB.sub(rf"\1{BLANK}@", text)
    text = ELSEWHERE.sub(rf"\1:{BLANK}@", text)
    return IN_QUERY.sub(rf"\1{BLANK}", text)


def _secret_part(key: str, value: Any) -> str:
    """Return the part of a dotted key that tells of a secret, "" if none does."""
    words = WORDS.sub("_", key)
    found = NAME.search(words)
    if found is None or (found["counted"] and _is_count(value)):
        return ""
    return words[: found.end()].rpartition(".")[2]


def _is_count(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < 10 ** (SHORTEST - 1)


def _known() -> dict[str, str]:
    """Return what the environment keeps secret -> the variable that holds it, longest first."""
    found = {
        content: variable
        for variable, content in os.environ.items()
        if VARIABLE.search(variable) and len(content) >= SHORTEST
    }
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


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
