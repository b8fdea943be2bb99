"""The one data module: any source through any degradation, cut into training samples or kept whole.

source ──► cache ──┬── train: samples cut at random, a pure function of (seed, index)
                   └── val, test: whole clips, batch 1, frames waiting as uint8 on the CPU
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import Any, get_args

import torch
from torch.utils.data import DataLoader

from unlossy import _torchvision  # noqa: F401
from unlossy.data.cache import Cache
from unlossy.data.digest import description, digest
from unlossy.data.samples import (
    Steps,
    TrainingLoader,
    TrainingSamples,
    WholeClips,
    collate,
)
from unlossy.data.source import Source
from unlossy.errors import UserError
from unlossy.sample import Clip, Degradation, Sample, Split, to_float

from lightning import LightningDataModule  # isort: skip


class VideoData(LightningDataModule):
    """Samples of a source under a degradation.

    Args:
        source: where clean clips come from.
        degradation: the medium.
        batch: training samples per step and rank.
        crop: side of a training crop, in degraded pixels; a smaller clip is continued by its edge.
        frames: consecutive degraded frames of a training window; shorter clips are not trained on.
        workers: loader processes; 0 reads in the training process.
        seed: of the training samples.

    Raises:
        UserError: a size is not positive.
    """

    def __init__(
        self,
        source: Source,
        degradation: Degradation,
        batch: int = 8,
        crop: int = 64,
        frames: int = 1,
        workers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch", batch, 1),
            ("crop", crop, 1),
            ("frames", frames, 1),
            ("workers", workers, 0),
            ("seed", seed, 0),
        ):
            if value < least:
                raise UserError(f"data.{name}={value} is too small; use {least} or more.")
        self.source = source
        self.degradation = degradation
        self.batch = batch
        self.crop = crop
        self.frames = frames
        self.workers = workers
        self.seed = seed
        self.cache = Cache(source, degradation)

    @cached_property
    def clips(self) -> dict[Split, list[Clip]]:
        """Clips by split. Validation and test may share clips; training shares none."""
        clips = {split: list(self.source.clips(split)) for split in get_args(Split)}
        held_out = set(clips["val"]) | set(clips["test"])
        names = [clip.name for clip in (*clips["train"], *held_out)]
        for name, count in Counter(names).items():
            if count > 1:
                raise UserError(f"The source offers two clips named {name}; rename or drop one.")
        return clips

    def prepare_data(self) -> None:
        """Decode and degrade what the cache lacks, on one process of a node."""
        every = dict.fromkeys(clip for split in self.clips.values() for clip in split)
        self.cache.fill(list(every), self.workers)

    def digest(self) -> str:
        """Return what identifies the clips of each split, their frames and the degradation."""
        named = {
            split: [(clip, self.source.version(clip)) for clip in clips]
            for split, clips in self.clips.items()
        }
        return digest(named, self.degradation)

    def describe(self) -> dict[str, Any]:
        """Return counts per split and source, and the digest; after `prepare_data`."""
        described: dict[str, Any] = {"digest": self.digest()}
        for split, clips in self.clips.items():
            described[split] = {}
            for name in dict.fromkeys(clip.source for clip in clips):
                own = [clip for clip in clips if clip.source == name]
                described[split][name] = {
                    "clips": len(own),
                    "frames": sum(clip.frames for clip in own),
                    "bits": sum(self.cache.load(clip).bits for clip in own),
                }
        return {**described, "degradation": description(self.degradation)}

    def source_of(self, clip: str) -> str:
        """Return the source that a clip of any split came from, by the clip's name."""
        return self._sources[clip]

    @cached_property
    def _sources(self) -> dict[str, str]:
        return {clip.name: clip.source for clips in self.clips.values() for clip in clips}

    def train_dataloader(self) -> TrainingLoader:
        """Return the batches from the trainer's step on; its length counts the earlier ones."""
        trainer = self.trainer
        first = trainer.global_step if trainer is not None else 0
        total = trainer.max_steps if trainer is not None else -1
        rank, world = self._rank
        return TrainingLoader(
            TrainingSamples(self.cache, self.clips["train"], self.crop, self.frames, self.seed),
            batch_sampler=Steps(first, total, self.batch, rank, world),
            collate_fn=collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # the loader must not draw from the global one
        )

    def first_batch(self) -> Sample:
        """Return the first training batch as numbers, read in this process."""
        samples = TrainingSamples(
            self.cache, self.clips["train"], self.crop, self.frames, self.seed
        )
        return to_float(collate([samples[k] for k in range(self.batch)]))

    def val_dataloader(self) -> DataLoader[Sample]:
        """Return this rank's share of the validation split: where it has none, a single None.

        Lightning refuses an empty loader.
        """
        share = self.whole("val", *self._rank)
        nothing: Any = [None]
        return share if len(share) else DataLoader(nothing, None, generator=torch.Generator())

    def test_dataloader(self) -> DataLoader[Sample]:
        """Return the whole clips of the test split."""
        return self.whole("test")

    def whole(self, split: Split, rank: int = 0, world: int = 1) -> DataLoader[Sample]:
        """Return whole clips of a split, batch 1, uint8 on the CPU.

        Args:
            split: all of its clips, unless several processes share them.
            rank: of this process, whose clips are `rank`, `rank + world`, ...; none is repeated to
                make the shares equal, for it would count twice.
            world: how many processes there are.

        Raises:
            UserError: it has none.
        """
        if not self.clips[split]:
            raise UserError(
                f"The source has no {split} clips; take one that has, such as source=mixed, or "
                "give source=folder a share or a list for them."
            )
        # In this process: a worker would copy every whole clip through shared memory.
        return DataLoader(
            WholeClips(self.cache, self.clips[split][rank::world]),
            batch_size=1,
            collate_fn=collate,
            generator=torch.Generator(),
        )

    @property
    def _rank(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def transfer_batch_to_device(
        self, batch: Sample, device: torch.device, dataloader_idx: int
    ) -> Sample:
        """Move training batches only: whole clips wait on the CPU for their windows."""
        if not self._training:
            return batch
        moved: Sample = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        """Turn the frames of training batches into numbers."""
        return to_float(batch) if self._training else batch

    @property
    def _training(self) -> bool:
        return self.trainer is not None and self.trainer.training
