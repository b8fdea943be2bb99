"""Pictures of faces or rooms, a folder by path: cropped at their centre, shrunk to 32x32.

    picture ──► centre crop x crop ──antialiased bicubic──► size x size, 8 bits

CelebA's aligned pictures (178x218) are cropped to 128 around the face; LSUN's bedrooms, exported as
pictures, to the largest square (`crop` null). What is still smaller, 8x8, is made of the 32x32 in 8
bits by the degradation, so that the input is a function of the picture that is to be restored.

A clip groups 64 pictures of one split: with one clip a picture, CelebA would fill the cache with
200,000 files. Its mean is over unrelated pictures, all clips but the last of a split have as many.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional

from unlossy import video
from unlossy.data.digest import code, digest
from unlossy.data.frame_store import mapped, stored
from unlossy.data.source import Source
from unlossy.data.splits import by_hash
from unlossy.errors import UserError
from unlossy.sample import Clip, Split
from unlossy.video import pictures

GROUP = 64  # pictures of a clip


@dataclass(frozen=True)
class Faces(Source):
    """Small pictures made of the pictures below a folder.

    Args:
        path: the folder.
        partition: a file with a line `name 0`, `1` or `2` (train, val, test) per picture, as seen
            from here or from `path`; CelebA's `list_eval_partition.txt` is one. Pictures that it
            does not name are left out. None splits by a hash of the name.
        val: share of the pictures for validation, where there is no partition.
        test: share for testing.
        crop: side of the centred square that is kept; None for the largest.
        size: side that it is shrunk to.
        mirror: whether training mirrors half of the pictures.

    Raises:
        UserError: no path, no pictures there, impossible numbers, or a partition that names what is
            not there; or, of `read`, a picture smaller than the crop.
    """

    path: str | None
    partition: str | None = None
    val: float = 0.1
    test: float = 0.1
    crop: int | None = 128
    size: int = 32
    mirror: bool = False

    def __post_init__(self) -> None:
        if self.path is None:
            raise UserError("source=faces32 needs source.path=FOLDER, the folder of your pictures.")
        if not self._root.is_dir():
            raise UserError(f"{self._root} is no folder; set source.path to that of your pictures.")
        if min(self.val, self.test) < 0 or self.val + self.test > 1:
            raise UserError(
                f"source.val={self.val} and source.test={self.test} must be shares that sum to at "
                "most 1."
            )
        if not 1 <= self.size <= (self.size if self.crop is None else self.crop):
            raise UserError(
                f"source.crop={self.crop} cannot be shrunk to source.size={self.size}; take a size "
                "of at least 1 and a crop of at least the size."
            )
        if not self._files:
            kinds = " ".join(pictures.SUFFIXES)
            raise UserError(f"{self._root} holds no pictures; put some there ({kinds}).")
        self._splits  # noqa: B018  refuse a bad partition here, not in the middle of a run

    def clips(self, split: Split) -> Sequence[Clip]:
        """Return groups of pictures in the order of their names, named faces/split/number."""
        return [clip for clip, (own, _) in self._place.items() if own == split]

    def read(self, clip: Clip, start: int, count: int) -> Tensor:
        """Return pictures as a view of those of their split, which the first call shrinks."""
        split, first = self._place[clip]
        return mapped(self._stored[split])[first + start : first + min(start + count, clip.frames)]

    def flips(self, clip: Clip) -> Collection[int]:
        """Return columns if pictures are mirrored; no face is upside down."""
        return (-1,) if self.mirror else ()

    def version(self, clip: Clip) -> str:
        """Return the digest of the pictures' names, file sizes and times, and of what is kept."""
        split, first = self._place[clip]
        return self._version(self._splits[split][first : first + clip.frames])

    def _version(self, names: Sequence[str]) -> str:
        found = [(name, self._files[name].stat()) for name in names]
        stats = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]
        return digest(stats, self.crop, self.size, code(Path(__file__)))

    @property
    def _root(self) -> Path:
        return Path(self.path or "").expanduser()

    @cached_property
    def _files(self) -> dict[str, Path]:
        """Name as seen from the folder -> picture; what is hidden is passed over."""
        found: dict[str, Path] = {}
        for path in sorted(self._root.rglob("*")):
            below = path.relative_to(self._root)
            hidden = any(part.startswith(".") for part in below.parts)
            if path.suffix.lower() in pictures.SUFFIXES and not hidden and path.is_file():
                found[below.as_posix()] = path
        return found

    @cached_property
    def _splits(self) -> dict[Split, list[str]]:
        if self.partition is None:
            where = f"{self._root} holds {len(self._files)} picture(s)"
            return by_hash(list(self._files), self.val, self.test, where)
        path = Path(self.partition).expanduser()
        path = path if path.is_file() else self._root / path
        if not path.is_file():
            raise UserError(f"source.partition: the file {self.partition} does not exist.")
        splits: dict[Split, list[str]] = {split: [] for split in get_args(Split)}
        place: dict[str, Split] = dict(zip("012", get_args(Split), strict=True))
        seen: set[str] = set()
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"source.partition: {path} cannot be read as text ({error}); name CelebA's "
                "list_eval_partition.txt or a list of the same kind."
            ) from error
        for number, line in enumerate(text.splitlines(), 1):
            if not (words := line.split()):
                continue
            name, split = " ".join(words[:-1]), words[-1]
            if name not in self._files or split not in place or name in seen:
                raise UserError(
                    f"{path}, line {number}: {line.strip()!r} is not `name 0`, `name 1` or "
                    f"`name 2` of a picture in {self._root} that no other line names."
                )
            seen.add(name)
            splits[place[split]].append(name)
        return {split: sorted(names) for split, names in splits.items()}

    @cached_property
    def _place(self) -> dict[Clip, tuple[Split, int]]:
        """Clip -> split, and its first picture among those of the split."""
        found: dict[Clip, tuple[Split, int]] = {}
        for split, names in self._splits.items():
            for number, first in enumerate(range(0, len(names), GROUP)):
                size = (min(GROUP, len(names) - first), self.size, self.size)
                found[Clip(f"faces/{split}/{number:05d}", *size, "faces")] = (split, first)
        return found

    @cached_property
    def _stored(self) -> dict[Split, Path]:
        return {
            split: stored(
                f"faces-{split}", self._version(names), partial(self._shrunk, names), len(names)
            )
            for split, names in self._splits.items()
            if names
        }

    def _shrunk(self, names: Sequence[str]) -> Iterator[Tensor]:
        for name in names:
            yield self._small(name, next(video.iter_frames(self._files[name])))

    def _small(self, name: str, picture: Tensor) -> Tensor:
        height, width = picture.shape[-2:]
        side = min(height, width) if self.crop is None else self.crop
        if min(height, width) < max(side, self.size):
            raise UserError(
                f"{self._files[name]} is {width}x{height}, smaller than {max(side, self.size)} "
                "pixels (source.crop, source.size); leave it out or choose a smaller crop."
            )
        top, left = (height - side) // 2, (width - side) // 2
        area = picture[None, :, top : top + side, left : left + side].float()
        small = functional.interpolate(area, (self.size, self.size), mode="bicubic", antialias=True)
        return small[0].round().clamp(0, 255).to(torch.uint8)
