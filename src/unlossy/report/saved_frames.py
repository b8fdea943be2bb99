"""Frames of an evaluation as lossless PNGs: what people are asked about, and a proxy is trained on.

    RUN/frames/<label>/<clip, / as _>/<frame, 4 digits>.png

A label is a model, or one output of it (`pixelsr:t1`), as in rows.csv; `clean` holds the clean
clips. Written window by window by `eval.py ... save=true` and `train.py ... save=true`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unlossy.errors import UserError

CLEAN = "clean"


@dataclass(frozen=True)
class SavedFrames:
    """The frames of one run.

    Args:
        folder: `RUN/frames`, made when the first frame is written.
    """

    folder: Path

    def write(self, label: str, clip: str, start: int, frames: Tensor) -> None:
        """Write a window of a clip.

        Args:
            label: whose frames they are.
            clip: its name.
            start: the first frame's number.
            frames: uint8 (T, 3, H, W) or (T, 1, H, W).

        Raises:
            UserError: the disk refuses.
        """
        into = self.folder / label / clip.replace("/", "_")
        try:
            into.mkdir(parents=True, exist_ok=True)
            for number, frame in enumerate(frames.cpu(), start):
                pixels = frame[0] if len(frame) == 1 else frame.permute(1, 2, 0).contiguous()
                Image.fromarray(pixels.numpy()).save(into / f"{number:04d}.png")
        except OSError as error:
            raise UserError(
                f"Cannot save frames in {into} ({error.strerror or error}); make room, or leave "
                "save=true out."
            ) from error


class Pair(NamedTuple):
    """A clean frame and what a model made in its place."""

    clip: str
    frame: str
    clean: Path
    made: Path


def saved_pairs(run: Path, label: str) -> list[Pair]:
    """Return the frames that a run has saved both clean and as `label`, in order.

    Raises:
        UserError: `run` holds no saved frames, or none of that label.
    """
    folder = run / "frames"
    if not (folder / CLEAN).is_dir():
        raise UserError(
            f"{run} holds no saved frames (no {folder.name}/{CLEAN}): name a run folder that "
            "eval.py or train.py has written with save=true."
        )
    labels = sorted(path.name for path in folder.iterdir() if path.name != CLEAN)
    if label not in labels:
        raise UserError(f"{run} has no saved frames of {label}; it has {', '.join(labels)}.")
    pairs = [
        Pair(made.parent.name, made.stem, folder / CLEAN / made.parent.name / made.name, made)
        for made in sorted((folder / label).glob("*/*.png"))
    ]
    return [pair for pair in pairs if pair.clean.is_file()]


def load_pairs(pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    """Return the clean frames and those made in their place, each uint8 (N, C, H, W).

    Raises:
        UserError: a file is no picture, or the frames differ in size.
    """
    clean, made = [_read(pair.clean) for pair in pairs], [_read(pair.made) for pair in pairs]
    for pair, *frames in zip(pairs, clean, made, strict=True):
        if any(frame.shape != clean[0].shape for frame in frames):
            raise UserError(
                f"{pair.made} and its clean frame are not both of the size of {pairs[0].clean}; "
                "frames of one size are needed, such as those of source=patches32."
            )
    return torch.stack(clean), torch.stack(made)


def _read(path: Path) -> Tensor:
    """Return a PNG as uint8 (C, H, W)."""
    try:
        with Image.open(path) as image:
            pixels = torch.from_numpy(np.array(image))
    except OSError as error:
        raise UserError(f"{path} is not a whole PNG ({error}); evaluate the run again.") from error
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
