"""Weight files read without running code in them: torch's with `weights_only`, and safetensors."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from unlossy.errors import UserError


def read_weights(path: str | Path) -> dict[str, Any]:
    """Return the dictionary that a `.safetensors` or torch file holds, on the CPU.

    Raises:
        UserError: the file is missing, damaged, no dictionary, or holds pickled code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}; give the path of a checkpoint file.")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if "nsupported" in str(error):  # an unsupported global, operand or class
            raise UserError(
                f"The checkpoint {path} holds pickled code, which is never run; "
                "use a file with tensors and plain containers only."
            ) from error
        raise UserError(_damaged(path)) from error
    except (RuntimeError, EOFError, ValueError, KeyError, SafetensorError, OSError) as error:
        raise UserError(_damaged(path)) from error
    if not isinstance(content, dict):
        raise UserError(_damaged(path))
    return content


def _damaged(path: Path) -> str:
    return f"{path} is not a checkpoint, or a damaged one; give a file that a training run wrote."
