"""The gallery of a run read back: pictures of some clips, as `training/gallery.py` left them.

    RUN/gallery/index.json        exhibits: a clip, and a file name for each of its pictures
    RUN/gallery/<clip>/<label>.still.webp   one frame, of its own pixels
                       <label>.film.webp    up to five frames over time, side by side
                       <label>.rows.webp    the pixels of row `row` of every frame, time downwards

The rows are a flicker strip: what stands still draws vertical lines, what flickers breaks them.
They are stored a pixel for a pixel; a page shows each `Exhibit.row_height` pixels high, with
`image-rendering: pixelated`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlossy.errors import UserError

FOLDER = "gallery"
INDEX = "index.json"
STRIP_HEIGHT = 96  # pixels on a screen that a flicker strip takes at least


@dataclass(frozen=True)
class Shown:
    """One output of a clip: `input`, `clean`, or a trained model's, as labelled in rows.csv.

    Args:
        label: whose pictures they are.
        still: file of one frame, `width` x `height` pixels.
        film: file of up to five frames over time, side by side, each about 160 pixels wide.
        rows: file of the flicker strip, `width` x `frames` pixels.
        psnr: of the still, in dB; None for `clean` and where the still equals it.
    """

    label: str
    still: Path
    film: Path
    rows: Path
    psnr: float | None


@dataclass(frozen=True)
class Exhibit:
    """A clip that is shown.

    Args:
        clip: its name in rows.csv.
        source: where it comes from.
        degradation: its name in rows.csv.
        width: of the clean frames, in pixels.
        height: of the clean frames.
        frames: how many the clean clip has.
        row: which row of pixels the flicker strips show, from the top.
        outputs: the input first, then trained models, the clean clip last.
    """

    clip: str
    source: str
    degradation: str
    width: int
    height: int
    frames: int
    row: int
    outputs: tuple[Shown, ...]

    @property
    def row_height(self) -> int:
        """How many pixels of a screen a row of the flicker strip should take: a whole number."""
        return math.ceil(STRIP_HEIGHT / self.frames)


def read_gallery(run_folder: Path) -> list[Exhibit]:
    """Return the exhibits of a run in the order of its split; none where it left no gallery.

    Raises:
        UserError: the index is damaged, or names a picture that is not there.
    """
    path = run_folder / FOLDER / INDEX
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["exhibits"]
        return [_exhibit(entry, path.parent) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {error}); evaluate the run again with "
            f"eval.py, or remove {path.parent}."
        ) from error


def _exhibit(entry: Mapping[str, Any], folder: Path) -> Exhibit:
    outputs = [
        Shown(
            label=str(each["label"]),
            still=_picture(folder, each["still"]),
            film=_picture(folder, each["film"]),
            rows=_picture(folder, each["rows"]),
            psnr=None if each["psnr"] is None else float(each["psnr"]),
        )
        for each in entry["outputs"]
    ]
    return Exhibit(
        clip=str(entry["clip"]),
        source=str(entry["source"]),
        degradation=str(entry["degradation"]),
        width=int(entry["width"]),
        height=int(entry["height"]),
        frames=int(entry["frames"]),
        row=int(entry["row"]),
        outputs=tuple(outputs),
    )


def _picture(folder: Path, name: str) -> Path:
    path = folder / name
    # A page embeds what stands here: nothing from outside the gallery.
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        raise ValueError(f"no picture {name}")
    return path
