"""Decoded frames on disk, one memory-mapped array per film: decoded once, read at no cost.

    produce() ──frame by frame──► CACHE/frames/NAME-KEY.npy  uint8 (T, 3, H, W)

320x180 costs 173 kB a frame. The file appears under its name when it is complete, never before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from unlossy import assets, video
from unlossy.data.digest import code, digest, versions
from unlossy.errors import UserError

_CAP_GB = 50.0


def stored(name: str, key: str, produce: Callable[[], Iterator[Tensor]], total: int) -> Path:
    """Return the file, for `mapped`, of the frames that `produce` yields; made once.

    Args:
        name: for people who look into the cache, and for the progress bar.
        key: identifies the frames together with the decoder's version.
        produce: yields `total` or so frames (3, H, W) of one size.
        total: number of frames that the progress bar counts to.

    Raises:
        UserError: the disk is full or unwritable, the cap is reached, or a frame has another size.
    """
    full_key = digest(key, versions("av", "pillow"), code(Path(video.__file__).parent))
    path = assets.cache_root() / "frames" / f"{name.replace('/', '_')[-60:]}-{full_key}.npy"
    if not path.exists():
        with assets.writable(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                if not path.exists():
                    _write(path, name, produce(), total)
    return path


@lru_cache(maxsize=512)
def mapped(path: Path) -> Tensor:
    """Return stored frames, uint8 (T, 3, H, W), as a view of the file."""
    # copy-on-write: torch warns about tensors over read-only memory
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def _write(path: Path, name: str, frames: Iterator[Tensor], total: int) -> None:
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file, progress() as bar:
            task = bar.add_task(f"decoding {name}", total=total)
            count, shape = 0, None
            for frame in frames:
                if shape is None:
                    shape = frame.shape
                    check_room(total * frame.numel(), f"{total} frames of {name}")
                    _header(file, 0, shape)
                elif frame.shape != shape:
                    raise UserError(f"{name} changes its size at frame {count}; cut or resize it.")
                file.write(frame.contiguous().numpy().data)  # numpy's own writer hides ENOSPC
                count += 1
                bar.update(task, completed=count)
            if shape is None:
                raise UserError(f"{name} holds no frames; leave it out.")
            file.seek(0)
            _header(file, count, shape)  # numpy pads headers so that the length can grow in place
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _header(file: Any, count: int, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(file, header)


def progress() -> Progress:
    """Return a progress bar on stderr that leaves nothing behind."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)


def check_room(wanted: int, what: str) -> None:
    """Refuse to let the cache grow over `UNLOSSY_CACHE_CAP` gigabytes (50 unless set).

    Raises:
        UserError: `wanted` more bytes do not fit.
    """
    cap = os.environ.get("UNLOSSY_CACHE_CAP", str(_CAP_GB))
    try:
        limit = float(cap) * 1e9
    except ValueError:
        raise UserError(f"UNLOSSY_CACHE_CAP={cap} is not a number of gigabytes.") from None
    root = assets.cache_root()
    used = 0
    for folder, _, names in os.walk(root):
        for name in names:
            with suppress(FileNotFoundError):  # another process has just finished that one
                used += Path(folder, name).stat().st_size
    if used + wanted > limit:
        raise UserError(
            f"The cache {root} holds {used / 1e9:.1f} GB and {what} need {wanted / 1e9:.1f} GB "
            f"more, above its cap of {limit / 1e9:g} GB; delete what is old there, use fewer or "
            "smaller frames, or raise UNLOSSY_CACHE_CAP (gigabytes)."
        )
