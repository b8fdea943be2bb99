"""Weight files read without running code in them: torch's with `weights_only`, and safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from unlossy.errors import UserError

# For an argument `*_ckpt`: the weights come with the state dict that will be loaded.
EMBEDDED = "embedded"
# How torch's archives begin: a zip file, and before torch 1.6 the pickle of a magic number.
_BEGINNINGS = (b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")


def read_weights(path: str | Path) -> dict[str, Any]:
    """Return the dictionary that a `.safetensors` or torch file holds, on the CPU.

    Raises:
        UserError: the file is missing, unreadable, damaged, no dictionary, or holds pickled code.
    """
    path = Path(path)
    damaged = f"{path} is no checkpoint, or a damaged one; give a file that a training run wrote."
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}; give the path of a checkpoint file.")
    try:
        with path.open("rb") as file:
            beginning = file.read(max(map(len, _BEGINNINGS)))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its rights.") from error
    safe = path.suffix == ".safetensors"
    if not safe and not beginning.startswith(_BEGINNINGS):
        raise UserError(damaged)
    try:
        content = load_file(path) if safe else torch.load(path, "cpu", weights_only=True)
    except UnpicklingError as error:
        raise UserError(
            f"{path} holds pickled code, which is never run; "
            "give a file of tensors and plain containers, as a training run writes it."
        ) from error
    except Exception as error:  # a damaged archive fails in any of torch's ways
        raise UserError(damaged) from error
    if not isinstance(content, dict):
        raise UserError(damaged)
    return content


def state_in(content: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """Return the state dict inside a file of BasicSR, of GIF2Video or of ours, or `content`."""
    for key in ("params_ema", "params", "model_netG", "state_dict"):
        if isinstance(inner := content.get(key), Mapping):
            return inner
    return content
