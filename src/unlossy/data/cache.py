"""What a medium made of every clip, computed once: whole clips, whole frames, one file per clip.

    source ──clean──► degradation ──► CACHE/degraded/KEY/CLIP.safetensors ──memory map──► samples

KEY identifies the degradation: its configuration, its code, the versions of the libraries it leans
on. CLIP holds the clip's name and the version of its frames. So a mixture in new proportions, or a
folder with more files in it, finds what it shares with the last run.

An entry holds the stream (the witness, and the count of bits) and what a decoder makes of it: for a
GIF the index planes and palettes, a third of the frames' bytes. The clean frames stay with their
source; only a medium whose pixel format changes them stores a `reference`. An entry appears under
its name when it is complete.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unlossy import assets, gif_file, video
from unlossy.data.digest import code, digest, versions
from unlossy.data.frame_store import check_room, progress
from unlossy.data.source import Source
from unlossy.errors import UserError
from unlossy.sample import Clip, Degradation, Degraded, pristine

_SEED = 0  # of degradations that draw: not the run's, or two seeds would be tested on other clips


@dataclass(frozen=True)
class Kept:
    """A cache entry: what the medium kept of a clip, memory-mapped.

    Attributes:
        pixels: uint8 (S, h, w) indices where there is a palette for them, else (S, 3, h, w) frames.
        t_in: (S,) float32 in clean-frame units.
        side: tensors (S, ...).
        stream: uint8, the stored medium; empty where it has none.
        reference: uint8 (T, 3, H, W), or None where it equals the clean clip.
    """

    pixels: Tensor
    t_in: Tensor
    side: Mapping[str, Tensor]
    stream: Tensor
    reference: Tensor | None

    @property
    def bits(self) -> int:
        """Size of the stream, or of the bare frames of a medium that writes none."""
        return 8 * (self.stream.numel() or self.pixels.numel())

    def frames(self, which: slice, rows: slice, columns: slice) -> Tensor:
        """Return degraded frames, uint8 (S, 3, h, w), reading only the part asked for."""
        if self.pixels.ndim == 4:
            return self.pixels[which, :, rows, columns]
        palettes = self.side["palette"][which].mul(255.0).round().to(torch.uint8)
        index = self.pixels[which, rows, columns].int()
        pictures = [table[plane] for table, plane in zip(palettes, index, strict=True)]
        return torch.stack(pictures).permute(0, 3, 1, 2)


class Cache:
    """The entries of one source under one degradation."""

    def __init__(self, source: Source, degradation: Degradation) -> None:
        self.source = source
        self.degradation = degradation
        self._paths: dict[Clip, Path] = {}  # a digest costs more than reading a sample

    def fill(self, clips: Sequence[Clip], workers: int = 0) -> None:
        """Compute the entries that are missing, with a progress bar.

        Args:
            clips: whole clips to degrade.
            workers: processes; 0 computes in this one.

        Raises:
            UserError: the degradation refuses a clip, the cap is reached, or the disk is full; the
                entries complete until then are kept.
        """
        if all(self.path(clip).exists() for clip in clips):
            return
        with ExitStack() as held:
            with assets.writable(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(FileLock(self._folder / ".lock"))  # two runs degrade once
            self._fill([clip for clip in clips if not self.path(clip).exists()], workers)

    def _fill(self, missing: Sequence[Clip], workers: int) -> None:
        for clip in missing:
            self.source.read(clip, 0, 1)  # decode here, with a bar, rather than in a worker
        largest = sum(3 * clip.frames * clip.height * clip.width for clip in missing)
        check_room(largest, f"{len(missing)} degraded clips (at most)")
        if getattr(self.degradation, "in_process", False):
            workers = 0
        jobs: DataLoader[str] = DataLoader(
            _Jobs(self, missing),
            batch_size=None,
            num_workers=min(workers, len(missing)),
            generator=torch.Generator(),  # leave the global one alone
        )
        results = iter(jobs)  # workers fork before the bar starts its thread
        with progress() as bar:
            for refusal in bar.track(results, len(missing), description="degrading clips"):
                if refusal:
                    raise UserError(refusal)

    def load(self, clip: Clip) -> Kept:
        """Return the entry of a clip that `fill` has made."""
        return _load(self.path(clip))

    def path(self, clip: Clip) -> Path:
        """Return the file of a clip's entry."""
        if clip not in self._paths:
            name = re.sub(r"\W+", "_", clip.name)[-60:]
            name += f"-{digest(clip, self.source.version(clip))}.safetensors"
            self._paths[clip] = self._folder / name
        return self._paths[clip]

    @cached_property
    def _folder(self) -> Path:
        key = digest(
            self.degradation,
            versions("av", "numpy", "pillow", "torch"),
            code_of(self.degradation),
        )
        return assets.cache_root() / "degraded" / key

    def compute(self, clip: Clip) -> None:
        """Degrade one clip and write its entry.

        Raises:
            UserError: as `fill`.
        """
        clean = self.source.read(clip, 0, clip.frames)
        draws = draws_of(clip.name, self.degradation)
        degraded = self.degradation(pristine(clip.name, clean), draws)
        path = self.path(clip)
        part = path.with_suffix(".part")
        with assets.writable(self._folder):
            try:
                part.write_bytes(save(_tensors(degraded, clean)))
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)


def draws_of(name: str, degradation: Degradation) -> torch.Generator:
    """Return the generator that a degradation draws from for the clip of that name."""
    seed = hashlib.sha256(f"{name} {digest(degradation)} {_SEED}".encode()).digest()[:7]
    return torch.Generator().manual_seed(int.from_bytes(seed, "big"))


class _Jobs(Dataset[str]):
    """Clip -> what was refused about it, empty if nothing; an exception would lose its sentence."""

    def __init__(self, cache: Cache, clips: Sequence[Clip]) -> None:
        self.cache, self.clips = cache, clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, position: int) -> str:
        try:
            self.cache.compute(self.clips[position])
        except UserError as error:
            return str(error)
        return ""


def _tensors(degraded: Degraded, clean: Tensor) -> dict[str, Tensor]:
    found = {f"side.{key}": value for key, value in degraded["side"].items()}
    found["pixels"] = degraded.get("index", degraded["frames"])
    found["t_in"] = degraded["t_in"]
    found["stream"] = torch.frombuffer(bytearray(degraded["stream"] or b"\0"), dtype=torch.uint8)
    if degraded["stream"] is None:
        found["stream"] = found["stream"][:0]
    if not torch.equal(degraded["reference"], clean):
        found["reference"] = degraded["reference"]
    return {key: value.contiguous() for key, value in found.items()}


@lru_cache(maxsize=1024)
def _load(path: Path) -> Kept:
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return Kept(
        pixels=tensors.pop("pixels"),
        t_in=tensors.pop("t_in"),
        stream=tensors.pop("stream"),
        reference=tensors.pop("reference", None),
        side={key.removeprefix("side."): value for key, value in tensors.items()},
    )


def code_of(degradation: Degradation) -> str:
    """Digest what computes entries: containers, and the class's file, or folder if it is ours."""
    sources = [Path(video.__file__).parent, Path(gif_file.__file__)]
    try:
        own = Path(inspect.getfile(type(degradation)))
    except (OSError, TypeError):  # a class of a notebook has no file
        return code(*sources)
    ours = type(degradation).__module__.startswith("unlossy.")
    return code(*sources, own.parent if ours else own)
