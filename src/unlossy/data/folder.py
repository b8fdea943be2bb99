"""Any folder of videos, GIFs, or folders of frames.

    path/cat.mp4  path/b/dog.gif            a clip each
    path/c/0001.png  path/c/0002.png  ...   one clip: the frames in natural order
    path/photo.png                          a picture in the folder itself: a clip of one frame

The split follows a hash of each clip's name, so that adding files moves none of the others, or
explicit lists: text files with a line `name` or `name nFrames` per clip. The lists of GIF-Faces
(`name nFrames`, one list to validate and to test) and of GIF-Moments (`name height width nFrames`
below a header) are read as they come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, get_args

from torch import Tensor

from unlossy import video
from unlossy.data.digest import digest
from unlossy.data.frame_store import mapped, stored
from unlossy.data.source import Source
from unlossy.data.splits import by_hash
from unlossy.errors import UserError
from unlossy.sample import Clip, Split
from unlossy.video import decoding, pictures

_ANIMATED = (".gif", *decoding.SUFFIXES)


class _Item(NamedTuple):
    path: Path
    limit: int | None  # frames to use; None for all


@dataclass(frozen=True)
class Folder(Source):
    """The clips below a folder.

    Args:
        path: the folder.
        every: keep every n-th frame.
        size: (width, height) to average down to; None keeps each clip's own.
        val: share of the clips for validation, by hash of the name.
        test: share for testing; 1.0 for a folder that is only evaluated.
        lists: split -> list file, as seen from here or from `path`; replaces the shares. `val` and
            `test` may share clips.

    Raises:
        UserError: no path, not a folder, nothing in it, or a list that names what is not there.
    """

    path: str | None
    every: int = 1
    size: Sequence[int] | None = None
    val: float = 0.1
    test: float = 0.1
    lists: Mapping[Split, str] | None = None

    def __post_init__(self) -> None:
        if self.path is None:
            raise UserError("source=folder needs source.path=FOLDER, the folder of your clips.")
        if not self._root.is_dir():
            problem = "is a file, not a folder" if self._root.exists() else "does not exist"
            raise UserError(f"{self._root} {problem}; set source.path to the folder of your clips.")
        if self.every < 1 or min(self.val, self.test) < 0 or self.val + self.test > 1:
            raise UserError(
                f"source.every={self.every} must be at least 1, source.val={self.val} and "
                f"source.test={self.test} shares that sum to at most 1."
            )
        if not self._items:
            kinds = " ".join(_ANIMATED)
            raise UserError(
                f"{self._root} holds no clips; put videos ({kinds}) or folders of frames there."
            )
        self._splits  # noqa: B018  refuse bad lists here, not in the middle of a run

    def clips(self, split: Split) -> Sequence[Clip]:
        """Return the clips of a split by name; decodes them on the first call to count frames."""
        return list(self._clips(split))

    def read(self, clip: Clip, start: int, count: int) -> Tensor:
        """Return frames as a view of the decoded clip."""
        return self._decoded(clip.name)[start : start + count]

    def version(self, clip: Clip) -> str:
        """Return the digest of the clip's name, file sizes and times, and what is kept of it."""
        item = self._item(clip.name)
        files = sorted(item.path.iterdir()) if item.path.is_dir() else [item.path]
        stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        return digest(clip.name, stats, item.limit, self.every, self.size)

    @property
    def _root(self) -> Path:
        return Path(self.path or "").expanduser()

    @cached_property
    def _items(self) -> dict[str, Path]:
        """Name -> file or folder of frames; what is hidden or of another kind is passed over."""
        found: dict[str, Path] = {}
        for path in sorted(self._root.rglob("*")):
            below = path.relative_to(self._root)
            name, suffix = below.as_posix(), path.suffix.lower()
            if any(part.startswith(".") for part in below.parts) or not path.is_file():
                continue
            if suffix in _ANIMATED or (suffix in pictures.SUFFIXES and path.parent == self._root):
                found[name] = path
            elif suffix in pictures.SUFFIXES:
                found[path.parent.relative_to(self._root).as_posix()] = path.parent
        return found

    @cached_property
    def _splits(self) -> dict[Split, dict[str, _Item]]:
        return self._by_hash() if self.lists is None else self._by_lists(self.lists)

    def _by_hash(self) -> dict[Split, dict[str, _Item]]:
        where = f"{self._root} holds {len(self._items)} clip(s)"
        splits = by_hash(list(self._items), self.val, self.test, where)
        return {
            split: {name: _Item(self._items[name], None) for name in names}
            for split, names in splits.items()
        }

    def _by_lists(self, lists: Mapping[Split, str]) -> dict[Split, dict[str, _Item]]:
        stems = {str(Path(name).with_suffix("")): path for name, path in self._items.items()}
        splits: dict[Split, dict[str, _Item]] = {split: {} for split in get_args(Split)}
        for split, file in lists.items():
            path = Path(file).expanduser()
            path = path if path.is_file() else self._root / path
            if not path.is_file():
                raise UserError(f"source.lists.{split}: the list {file} does not exist.")
            for number, line in enumerate(path.read_text().splitlines(), 1):
                name, *numbers = line.split() or [""]
                if not name or (number == 1 and numbers[-1:] == ["nframe"]):  # Moments' header
                    continue
                clip = self._items.get(name) or stems.get(name)
                if clip is None or not all(text.isdigit() for text in numbers):
                    raise UserError(
                        f"{path}, line {number}: {line.strip()!r} is not `name` or "
                        f"`name nFrames` of a clip in {self._root}."
                    )
                splits[split][name] = _Item(clip, int(numbers[-1]) if numbers else None)
        held_out = splits["val"] | splits["test"]
        for name in held_out.keys() & splits["train"].keys():
            raise UserError(f"source.lists: {name} is in train and held out; keep it in one list.")
        return splits

    def _item(self, name: str) -> _Item:
        return next(items[name] for items in self._splits.values() if name in items)

    @cached_property
    def _files(self) -> dict[str, Path]:
        return {}

    @cached_property
    def _found(self) -> dict[Split, list[Clip]]:
        return {}

    def _clips(self, split: Split) -> list[Clip]:
        if split not in self._found:
            shapes = {name: self._decoded(name).shape for name in self._splits[split]}
            self._found[split] = [
                Clip(name, frames, height, width, "folder")
                for name, (frames, _, height, width) in shapes.items()
            ]
        return self._found[split]

    def _decoded(self, name: str) -> Tensor:
        if name not in self._files:
            item = self._item(name)
            total = -(-(item.limit or video.probe(item.path).frames) // self.every)
            key = self.version(Clip(name, 0, 0, 0, "folder"))
            self._files[name] = stored(name, key, lambda: self._decode(item), total)
        return mapped(self._files[name])

    def _decode(self, item: _Item) -> Iterator[Tensor]:
        count = None if item.limit is None else -(-item.limit // self.every)
        size = None if self.size is None else (self.size[0], self.size[1])
        return video.iter_frames(item.path, 0, count, size, self.every)
