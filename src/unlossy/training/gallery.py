"""What the test leaves to look at: a frame, a film and a flicker strip of some clips.

    clip, window by window ──► Views ──► one still · up to five thumbnails · a row of each frame
                                 └──► RUN/gallery/<clip>/<label>.{still,film,rows}.webp, index.json

Of a clip of T frames W pixels wide Views hold W x T pixels per output, and no window. Stills and
rows are lossless, so that they can be judged; a film is an overview. `report/gallery.py` reads it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from unlossy.errors import UserError
from unlossy.report.gallery import FOLDER, INDEX
from unlossy.report.saved_frames import CLEAN
from unlossy.sample import Clip, Sample
from unlossy.training import folder as folders
from unlossy.training.ranks import first_rank, gathered

PER_SOURCE = 6  # clips
FILM, THUMBNAIL, BETWEEN = 5, 160, 4  # frames of a film; pixels of each, and between two
# WebP halves the resolution of colour unless it is lossless: at quality 90 dithered frames of
# 320x180 come out at 33 dB, smooth ones of 640x272 at 42. Lossless, 1280x720 takes a megabyte.
LOSSLESS = 640  # pixels that a still may be wide
METHOD = 2  # of libwebp's 0 to 6: 4 takes three times as long and saves 3 %
QUALITY = 90


def exhibited(clips: Sequence[Clip]) -> list[Clip]:
    """Return the clips to show, in order: per source, the longest of each sixth of its clips.

    Length tells nothing of how well a clip is restored, and one of one frame shows no flicker.
    """
    chosen = []
    for source in dict.fromkeys(clip.source for clip in clips):
        own = [clip for clip in clips if clip.source == source]
        parts = min(PER_SOURCE, len(own))
        ends = [len(own) * part // parts for part in range(parts + 1)]
        for first, last in pairwise(ends):
            chosen.append(max(own[first:last], key=lambda clip: clip.frames))
    return chosen


class Views:
    """What is kept of one clip while its windows pass.

    Args:
        labels: of the outputs to keep, in order; none keeps nothing.
        sample: the whole clip, of batch 1, with its clean frames.
        kept: which of the clean frames the medium kept. Where it dropped others, only those are
            looked at, for they are what models differ in.
    """

    def __init__(self, labels: Sequence[str], sample: Sample, kept: Sequence[int]) -> None:
        self.labels = labels
        self.frames, channels, self.height, self.width = sample["clean"][0].shape
        self.row = self.height // 2
        seen = sorted(set(range(self.frames)) - set(kept)) or range(self.frames)
        self.film = sorted({seen[(2 * k + 1) * len(seen) // (2 * FILM)] for k in range(FILM)})
        self.still = seen[len(seen) // 2]
        self._stills: dict[str, Tensor] = {}
        self._films: dict[str, dict[int, Image.Image]] = {label: {} for label in labels}
        self._rows = {
            label: torch.empty(self.frames, channels, 1, self.width, dtype=torch.uint8)
            for label in labels
        }

    def add(self, label: str, start: int, frames: Tensor) -> None:
        """Look at a window of uint8 frames (T, C, H, W), the first of which is number `start`."""
        if label not in self.labels:
            return
        self._rows[label][start : start + len(frames)] = frames[:, :, self.row : self.row + 1]
        for number, frame in enumerate(frames, start):
            if number in self.film:
                self._films[label][number] = _thumbnail(frame)
            if number == self.still:
                self._stills[label] = frame.clone()  # a view would hold the whole window

    def pictures(self, label: str) -> dict[str, Image.Image]:
        """Return the still, the film and the rows of an output of which all frames were seen."""
        rows = self._rows[label].transpose(0, 2)[0]  # (T, C, 1, W) -> (C, T, W)
        return {
            "still": _picture(self._stills[label]),
            "film": _side_by_side([self._films[label][number] for number in self.film]),
            "rows": _picture(rows),
        }

    def psnr(self, label: str) -> float | None:
        """Return the PSNR of the still in dB, None where it is the clean one."""
        difference = self._stills[label].double() - self._stills[CLEAN].double()
        error = difference.square().mean().item()
        return 10 * math.log10(255**2 / error) if error else None


class Gallery:
    """The pictures of a test; under several ranks each writes those of its own clips.

    Args:
        run_folder: receives `gallery/`.
        clips: of the whole split, whichever rank scores them.
        degradation: its name in the table.
        labels: of the outputs to show beside the clean clip, in order.
    """

    def __init__(
        self, run_folder: Path, clips: Sequence[Clip], degradation: str, labels: Sequence[str]
    ) -> None:
        self.folder = run_folder / FOLDER
        self.clips = {clip.name: clip for clip in exhibited(clips)}
        self.degradation = degradation
        self.labels = (*labels, CLEAN)
        self._entries: list[dict[str, Any]] = []

    def views(self, sample: Sample, kept: Sequence[int]) -> Views:
        """Return what looks at a clip, which keeps nothing of one that is not shown."""
        return Views(self.labels if sample["name"][0] in self.clips else (), sample, kept)

    def add(self, sample: Sample, views: Views) -> None:
        """Write the pictures of a clip, if it is shown, after all of it was seen.

        Raises:
            UserError: the disk refuses.
        """
        name = sample["name"][0]
        if name not in self.clips:
            return
        views.add(CLEAN, 0, sample["clean"][0])
        outputs = [
            {"label": label, "psnr": views.psnr(label), **self._save(name, label, views)}
            for label in self.labels
        ]
        told = {"clip": name, "source": self.clips[name].source, "degradation": self.degradation}
        size = {"width": views.width, "height": views.height, "frames": views.frames}
        self._entries.append(told | size | {"row": views.row, "outputs": outputs})

    def write_index(self) -> None:
        """Write which pictures there are, in the order of the split; to be called by all ranks."""
        order = list(self.clips)
        entries = sorted(gathered(self._entries), key=lambda entry: order.index(entry["clip"]))
        if entries and first_rank():
            self.folder.mkdir(exist_ok=True)
            folders.write_json(self.folder / INDEX, {"exhibits": entries})

    def _save(self, clip: str, label: str, views: Views) -> dict[str, str]:
        """Write the pictures of one output, and return their names within the gallery."""
        stem = f"{clip.replace('/', '_')}/{label.replace(':', '_')}"
        lossless = {"still": views.width <= LOSSLESS, "film": False, "rows": True}
        names = {kind: f"{stem}.{kind}.webp" for kind in lossless}
        try:
            (self.folder / stem).parent.mkdir(parents=True, exist_ok=True)
            for kind, picture in views.pictures(label).items():
                picture.save(
                    self.folder / names[kind],
                    lossless=lossless[kind],
                    quality=QUALITY,
                    method=METHOD,
                )
        except OSError as error:
            raise UserError(
                f"Cannot write pictures into {self.folder} ({error.strerror or error}); make room "
                "and evaluate the run again with eval.py."
            ) from error
        return names


def _picture(pixels: Tensor) -> Image.Image:
    """Turn uint8 (3, H, W), or (1, H, W) for grey, into a picture."""
    colors = pixels.cpu().expand(3, -1, -1)
    return Image.fromarray(colors.permute(1, 2, 0).contiguous().numpy())


def _thumbnail(frame: Tensor) -> Image.Image:
    """Return a frame averaged down to a thumbnail's width, or enlarged by a whole factor."""
    picture = _picture(frame)
    if picture.width > THUMBNAIL:
        height = max(1, round(picture.height * THUMBNAIL / picture.width))
        return picture.resize((THUMBNAIL, height), Image.Resampling.BOX)
    factor = THUMBNAIL // picture.width
    size = (picture.width * factor, picture.height * factor)
    return picture.resize(size, Image.Resampling.NEAREST)


def _side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """Return pictures of one size in a line, what is between them transparent."""
    width, height = pictures[0].size
    step = width + BETWEEN
    sheet = Image.new("RGBA", (step * len(pictures) - BETWEEN, height))
    for place, picture in enumerate(pictures):
        sheet.paste(picture, (place * step, 0))
    return sheet
