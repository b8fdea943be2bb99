"""Photographs, cut into pieces of one size: clips of one frame, for training only.

A network that works per frame learns more from thirteen photographs than from another minute of
the same film. Five come from a fetched archive, eight lie inside the scikit-image and scikit-learn
wheels. Pieces are spread evenly and overlap where the size does not divide: every pixel is in one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from unlossy import assets, video
from unlossy.data.digest import digest
from unlossy.data.frame_store import mapped, stored
from unlossy.data.source import Source
from unlossy.errors import UserError
from unlossy.sample import Clip, Split


@dataclass(frozen=True)
class Photos(Source):
    """Pieces of packaged photographs.

    Args:
        packaged: files of the asset `photos`.
        installed: `package/path` of files inside installed packages.
        size: (width, height) of a piece.
    """

    packaged: Sequence[str]
    installed: Sequence[str]
    size: Sequence[int] = (320, 180)

    def clips(self, split: Split) -> Sequence[Clip]:
        """Return the pieces, named photos/file/row-column; none but for training."""
        return list(self._pieces) if split == "train" else []

    def read(self, clip: Clip, start: int, count: int) -> Tensor:
        """Return the piece, uint8 (1, 3, H, W)."""
        first = self._order[clip] + start
        return mapped(self._file)[first : first + count]

    def version(self, clip: Clip) -> str:
        """Return the digest of the photograph and the piece's place."""
        path, top, left = self._pieces[clip]
        return digest(self._hashes[path], top, left, self.size)

    @cached_property
    def _hashes(self) -> dict[Path, str]:
        paths = {path for path, _, _ in self._pieces.values()}
        return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    @cached_property
    def _order(self) -> dict[Clip, int]:
        return {clip: position for position, clip in enumerate(self._pieces)}

    @cached_property
    def _pieces(self) -> dict[Clip, tuple[Path, int, int]]:
        width, height = self.size
        folder = assets.fetch("photos")
        paths = [folder / name for name in self.packaged]
        paths += [installed(name) for name in self.installed]
        found = {}
        for path in paths:
            photo = video.probe(path)
            if photo.width < width or photo.height < height:
                raise UserError(
                    f"{path.name} is {photo.width}x{photo.height}, smaller than a piece of "
                    f"{width}x{height} (source.size); choose smaller pieces or leave it out."
                )
            for row, top in enumerate(_spread(photo.height, height)):
                for column, left in enumerate(_spread(photo.width, width)):
                    name = f"photos/{path.stem}/{row}-{column}"
                    found[Clip(name, 1, height, width, "photos")] = (path, top, left)
        return found

    @cached_property
    def _file(self) -> Path:
        key = digest([self.version(clip) for clip in self._pieces])
        return stored("photos", key, self._decode, len(self._pieces))

    def _decode(self) -> Iterator[Tensor]:
        width, height = self.size
        photos = {path: video.read_frames(path)[0] for path, _, _ in self._pieces.values()}
        for path, top, left in self._pieces.values():
            yield photos[path][:, top : top + height, left : left + width]


def installed(name: str) -> Path:
    """Return the path of `package/file`, which lies in an installed package.

    Raises:
        UserError: there is no such package.
    """
    package, _, inside = name.partition("/")
    spec = find_spec(package)  # found, not imported: scikit-learn takes a second
    if spec is None or spec.origin is None:
        raise UserError(f"{name} is wanted, but {package} is not installed; pip install it.")
    return Path(spec.origin).parent / inside


def _spread(length: int, piece: int) -> list[int]:
    """Return evenly spread starts of as few pieces as cover `length`."""
    count = -(-length // piece)
    return [round(i * (length - piece) / max(count - 1, 1)) for i in range(count)]
