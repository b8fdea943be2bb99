"""From cache entries to samples: random crops to train on, whole clips to measure.

    training sample i = (clip, window, crop, flips), a pure function of (seed, i)

Step s of rank r trains on samples (s*W + r)*B ... + B - 1 (B the batch, W the ranks). So neither
the number of workers nor a kill and a resume in the middle changes what is learnt, and no worker
holds a state. Frames stay uint8 until `to_float`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Sampler

from unlossy.data.cache import Cache, Kept
from unlossy.data.source import EVERYWHERE, Area
from unlossy.errors import UserError
from unlossy.sample import Clip, Sample


class TrainingSamples(Dataset[Sample]):
    """The endless sequence of training samples, by index; sample i depends on (seed, i) alone.

    Raises:
        UserError: no clip is as long as the window.
    """

    def __init__(
        self, cache: Cache, clips: Sequence[Clip], crop: int, frames: int, seed: int
    ) -> None:
        self.cache, self.crop, self.frames, self.seed = cache, crop, frames, seed
        kept = [(clip, len(cache.load(clip).t_in)) for clip in clips]
        windows = [(clip, count - frames + 1) for clip, count in kept if count >= frames]
        if not windows:
            longest = max((count for _, count in kept), default=0)
            raise UserError(
                f"No training clip has the {frames} frame(s) of a window (data.frames); "
                f"the longest of {len(kept)} clips has {longest}: use a source with longer ones."
            )
        self.clips = [clip for clip, _ in windows]
        self.windows = [count for _, count in windows]
        shares = [cache.source.weight(clip) * count for clip, count in windows]
        self.cumulative = np.cumsum(shares)

    def __getitem__(self, index: int) -> Sample:
        """Return sample `index`: frames uint8, a batch dimension of one."""
        draw = np.random.Generator(np.random.Philox(key=np.array([self.seed, index], np.uint64)))
        position = np.searchsorted(self.cumulative, draw.random() * self.cumulative[-1], "right")
        position = min(int(position), len(self.clips) - 1)
        clip, kept = self.clips[position], self.cache.load(self.clips[position])
        start = int(draw.integers(self.windows[position]))
        height, width = kept.pixels.shape[-2:]
        top = int(draw.integers(max(height - self.crop, 0) + 1))
        left = int(draw.integers(max(width - self.crop, 0) + 1))
        area = (slice(top, top + self.crop), slice(left, left + self.crop))
        sample = _sample(self.cache, clip, kept, slice(start, start + self.frames), area)
        allowed = self.cache.source.flips(clip)
        flipped = [axis for axis in (-1, -2) if draw.random() < 0.5 and axis in allowed]
        sample["degraded"] = self._finish(sample["degraded"], 1, flipped)
        scale = self.cache.degradation.scale
        sample["clean"] = self._finish(sample["clean"], scale, flipped)
        first, count = int(sample["t_out"][0, 0]), sample["t_out"].shape[1]
        target = self.cache.source.target(clip, first, count, _enlarged(area, scale))
        for key, value in target.items():
            turned = _mirrored(value, flipped) if key.startswith("flow") else value
            sample["target"][key] = self._finish(turned[None], scale, flipped, beyond="constant")
        return sample

    def _finish(
        self, frames: Tensor, scale: int, flipped: list[int], beyond: str = "replicate"
    ) -> Tensor:
        """Continue a crop at the border of a small clip, by its edge or zero, and flip it."""
        down, right = (self.crop * scale - side for side in frames.shape[-2:])
        if down or right:
            frames = functional.pad(frames[0], (0, right, 0, down), mode=beyond)[None]
        return frames.flip(flipped) if flipped else frames


def _mirrored(flow: Tensor, flipped: list[int]) -> Tensor:
    """Return (..., 2, H, W) as it points in a picture that is flipped along these axes."""
    signs = [-1.0 if axis in flipped else 1.0 for axis in (-1, -2)]  # x, y
    return flow * flow.new_tensor(signs).view(2, 1, 1)


class WholeClips(Dataset[Sample]):
    """The clips of a split as they are: frames uint8, clean ones a view of the memory map."""

    def __init__(self, cache: Cache, clips: Sequence[Clip]) -> None:
        self.cache, self.clips = cache, clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, position: int) -> Sample:
        clip = self.clips[position]
        kept = self.cache.load(clip)
        return _sample(self.cache, clip, kept, slice(None), EVERYWHERE)


class Steps(Sampler[list[int]]):
    """Batches of sample indices for one rank: steps `first` ... `total` - 1, or on without end.

    The length is `total`, the steps before `first` included: Lightning compares it with the batches
    counted since the beginning of the run, also after a resume. `total` < 0 has no end.
    """

    def __init__(self, first: int, total: int, batch: int, rank: int = 0, world: int = 1) -> None:
        self.first, self.total, self.batch, self.rank, self.world = first, total, batch, rank, world

    def __len__(self) -> int:
        if self.total < 0:
            raise TypeError("an endless sequence of steps has no length")
        return self.total

    def __iter__(self) -> Iterator[list[int]]:
        step = self.first
        while self.total < 0 or step < self.total:
            start = (step * self.world + self.rank) * self.batch
            yield list(range(start, start + self.batch))
            step += 1


def collate(samples: Sequence[Sample]) -> Sample:
    """Join samples along the batch; shorter palettes are padded with zeros to the longest."""

    def joined(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(tensors)) if len(tensors) > 1 else tensors[0]

    side = {key: [sample["side"][key] for sample in samples] for key in samples[0]["side"]}
    if "palette" in side:
        longest = max(table.shape[2] for table in side["palette"])
        side["palette"] = [
            functional.pad(table, (0, 0, 0, longest - table.shape[2])) for table in side["palette"]
        ]
    return Sample(
        name=[name for sample in samples for name in sample["name"]],
        degraded=joined([sample["degraded"] for sample in samples]),
        t_in=joined([sample["t_in"] for sample in samples]),
        t_out=joined([sample["t_out"] for sample in samples]),
        clean=joined([sample["clean"] for sample in samples]),
        side={key: joined(tensors) for key, tensors in side.items()},
        target={
            key: joined([sample["target"][key] for sample in samples])
            for key in samples[0]["target"]
        },
        bits=joined([sample["bits"] for sample in samples]),
    )


def _sample(cache: Cache, clip: Clip, kept: Kept, which: slice, area: Area) -> Sample:
    """Return frames `which` within `area` (rows, columns, degraded pixels) as a batch of one.

    Wanted are all clean frames from the first degraded frame's time to the last one's. Targets are
    left to training samples.
    """
    t_in = kept.t_in[which]
    first, last = int(t_in[0]), int(t_in[-1])
    if kept.reference is None:
        clean = cache.source.read(clip, first, last - first + 1)
    else:
        clean = kept.reference[first : last + 1]
    rows, columns = _enlarged(area, cache.degradation.scale)
    return Sample(
        name=[clip.name],
        degraded=kept.frames(which, *area)[None],
        t_in=t_in[None],
        t_out=torch.arange(first, last + 1, dtype=torch.float32)[None],
        clean=clean[:, :, rows, columns][None],
        side={key: value[which][None] for key, value in kept.side.items()},
        target={},
        bits=torch.tensor([kept.bits]),
    )


def _enlarged(area: Area, scale: int) -> Area:
    """Return the clean pixels of an area of degraded ones."""
    rows, columns = (
        side if side == slice(None) else slice(side.start * scale, side.stop * scale)
        for side in area
    )
    return rows, columns


class TrainingLoader(DataLoader[Sample]):
    """A loader that counts the seconds it was waited for, in `waited`."""

    waited = 0.0

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        """Yield the batches."""
        batches = super().__iter__()
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch
