"""Listed shots of fetched films: every n-th frame of each shot is a clip.

    python -m unlossy.data.shots FILE        prints the shots of a film, as the lists in conf/source

A shot ends where the mean |grey difference| of two frames at 96x54 exceeds 25 of 255; shots under
eight frames (flashes, dissolves) are left out of the lists. A shot belongs to one split, whole: the
lists must not overlap. Where `size` is given frames are area-averaged down, which removes most of
what the film's own codec left behind.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from unlossy import assets, video
from unlossy.data.digest import digest
from unlossy.data.frame_store import mapped, stored
from unlossy.data.source import Source
from unlossy.errors import UserError
from unlossy.sample import Clip, Split

CUT = 25.0  # mean |grey difference|, of 255
SHORTEST = 8  # frames


@dataclass(frozen=True)
class Shots(Source):
    """Every n-th frame of listed shots of the films of one asset.

    Args:
        asset: name in `assets`; also the clips' `source`.
        shots: split -> film -> [[first frame, frame after the last], ...]. A film is a file of the
            asset without its suffix; any name where the asset is a single file.
        every: split -> n; the first frame of each shot is kept.
        size: (width, height) to average down to; None keeps the film's own.
        longest: split -> most frames to keep of a shot, from its first on; None keeps them all.

    Raises:
        UserError: an empty shot, two shots that overlap, or a split without its `every` or, where
            some are named, its `longest`.
    """

    asset: str
    shots: Mapping[Split, Mapping[str, Sequence[Sequence[int]]]]
    every: Mapping[Split, int]
    size: Sequence[int] | None = None
    longest: Mapping[Split, int] | None = None

    def __post_init__(self) -> None:
        where = f"the lists of source {self.asset}"
        for split in get_args(Split):
            if self.every.get(split, 0) < 1 or split not in self.shots:
                raise UserError(f"{where} lack `{split}` in `shots`, or an n >= 1 in `every`.")
            if self.longest is not None and self.longest.get(split, 0) < 1:
                raise UserError(f"{where} lack a number of frames for `{split}` in `longest`.")
        for film in {film for films in self.shots.values() for film in films}:
            spans = sorted(
                (start, stop)
                for films in self.shots.values()
                for start, stop in films.get(film, ())
            )
            for start, stop in spans:
                if not 0 <= start < stop:
                    raise UserError(f"{where} hold an empty shot [{start}, {stop}] of {film}.")
            for before, after in pairwise(spans):
                if before[1] > after[0]:
                    raise UserError(
                        f"{where} hold overlapping shots {list(before)} and {list(after)} of "
                        f"{film}; a frame belongs to one shot and one split."
                    )

    def clips(self, split: Split) -> Sequence[Clip]:
        """Return one clip per shot, named film/first frame."""
        return [clip for clip, (_, own, _) in self._frames_of.items() if own == split]

    def read(self, clip: Clip, start: int, count: int) -> Tensor:
        """Return frames as a view of the decoded film, which the first call decodes."""
        film, _, frames = self._frames_of[clip]
        first = self._position[film][frames[start]]
        return self._decoded(film)[first : first + count]

    def version(self, clip: Clip) -> str:
        """Return the digest of the film's hash, the frames kept and their size."""
        film, _, frames = self._frames_of[clip]
        return digest(self._hash(film), str(frames), self.size)

    @cached_property
    def _frames_of(self) -> dict[Clip, tuple[str, Split, range]]:
        sizes = {film: self._film_size(film) for films in self.shots.values() for film in films}
        found: dict[Clip, tuple[str, Split, range]] = {}
        for split, films in self.shots.items():
            for film, spans in films.items():
                for start, stop in spans:
                    limit = None if self.longest is None else self.longest[split]
                    frames = range(start, stop, self.every[split])[:limit]
                    width, height = sizes[film]
                    name = f"{film}/{start:05d}"
                    clip = Clip(name, len(frames), height, width, self.asset)
                    found[clip] = (film, split, frames)
        return found

    @cached_property
    def _position(self) -> dict[str, dict[int, int]]:
        """Film -> frame of the film -> row of the decoded array, in the film's order."""
        films: dict[str, list[int]] = {}
        for film, _, frames in self._frames_of.values():
            films.setdefault(film, []).extend(frames)
        return {
            film: {frame: row for row, frame in enumerate(sorted(frames))}
            for film, frames in films.items()
        }

    @cached_property
    def _files(self) -> dict[str, Path]:
        return {}  # filled film by film: digests cost more than a sample does

    def _film_size(self, film: str) -> tuple[int, int]:
        if self.size is not None:
            return self.size[0], self.size[1]
        declared = video.probe(self._path(film))
        return declared.width, declared.height

    def _path(self, film: str) -> Path:
        path = assets.fetch(self.asset)
        return path / f"{film}.mp4" if path.is_dir() else path

    def _hash(self, film: str) -> str:
        members = assets.ASSETS[self.asset].members
        return next((m.sha256 for m in members if Path(m.path).stem == film), members[0].sha256)

    def _decoded(self, film: str) -> Tensor:
        if film not in self._files:
            rows = self._position[film]
            key = digest(self._hash(film), sorted(rows), self.size)
            name = film if film == self.asset else f"{self.asset}-{film}"
            self._files[film] = stored(name, key, lambda: self._decode(film), len(rows))
        return mapped(self._files[film])

    def _decode(self, film: str) -> Iterator[Tensor]:
        wanted = self._position[film]
        first, last = min(wanted), max(wanted)
        size = None if self.size is None else (self.size[0], self.size[1])
        frames = video.iter_frames(self._path(film), first, last - first + 1, size)
        return (frame for index, frame in enumerate(frames, first) if index in wanted)


def find_shots(path: Path) -> list[tuple[int, int]]:
    """Return the shots [first, after the last) of a film, the short ones included."""
    cuts, before, count = [0], None, 0
    for count, frame in enumerate(video.iter_frames(path, size=(96, 54)), 1):
        grey = torch.tensordot(torch.tensor([0.299, 0.587, 0.114]), frame.float(), dims=1)
        if before is not None and (grey - before).abs().mean() > CUT:
            cuts.append(count - 1)
        before = grey
    return list(pairwise([*cuts, count]))


if __name__ == "__main__":
    for start, stop in find_shots(Path(sys.argv[1])):
        if stop - start >= SHORTEST:
            print(f"[{start}, {stop}]", end=", ")
    print()
