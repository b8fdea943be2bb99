"""Digests of configurations: what a cache entry is filed under and what a run card records.

An object is described by its class and its public attributes, recursively, so that a degradation or
source which is a dataclass of plain values needs no code for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any


def digest(*values: Any) -> str:
    """Return 16 hexadecimal digits that identify the values, the same in every process."""
    text = json.dumps([description(value) for value in values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def description(value: Any) -> Any:
    """Return `value` as JSON can hold it.

    Raises:
        TypeError: something below it, such as a tensor or a function, has no stable description.
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Path():
            return str(value)
        case Mapping():
            return {str(key): description(entry) for key, entry in value.items()}
        case Set():
            return sorted(json.dumps(description(entry)) for entry in value)
        case Sequence() if not isinstance(value, bytes | bytearray):
            return [description(entry) for entry in value]
    kind = type(value)
    if is_dataclass(value):
        names = [field.name for field in fields(value)]
    elif hasattr(value, "__dict__") and not callable(value):
        names = list(vars(value))
    else:
        raise TypeError(
            f"{kind.__qualname__} cannot be described by plain values; keep such parts of a source "
            "or degradation in attributes that start with an underscore."
        )
    public = [name for name in names if not name.startswith("_")]
    described = {name: description(getattr(value, name)) for name in public}
    return {"class": f"{kind.__module__}.{kind.__qualname__}", **described}


def versions(*packages: str) -> list[str]:
    """Return `name version` of installed packages: another decoder may give other bytes."""
    return [f"{package} {version(package)}" for package in packages]


def code(*paths: Path) -> str:
    """Return the digest of source files and packages: an edited decoder may give other bytes."""
    found = hashlib.sha256()
    for path in paths:
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            found.update(file.read_bytes())
    return found.hexdigest()[:16]
