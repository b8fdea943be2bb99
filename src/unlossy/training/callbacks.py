"""What happens around the training loop: the resumable checkpoint, throughput, picture panels."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from unlossy import _torchvision  # noqa: F401
from unlossy.data.samples import TrainingLoader
from unlossy.report import wandb_names
from unlossy.report.pictures import strip
from unlossy.sample import Sample
from unlossy.training.scoring import shown_frame

from lightning import LightningModule, Trainer  # isort: skip
from lightning.fabric.plugins import TorchCheckpointIO  # isort: skip
from lightning.pytorch.callbacks import (  # isort: skip
    Callback,
    Checkpoint,
    ModelCheckpoint,
    RichProgressBar,
)


class AtomicFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it: a kill leaves the old or the new one.

    Lightning's own writing moves a file from the system's temporary folder, which is a copy, and
    can be cut off, where that is another disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Save atomically."""
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_suffix(".part")
        torch.save(checkpoint, part)
        part.replace(place)


class ProgressBar(RichProgressBar):
    """Steps done, time left and steps per second, the loss and the last validation."""

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Leave out the version of a logger, which says nothing to anybody."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics

    def _get_train_description(self, current_epoch: int) -> str:
        return "training"


class BestCheckpoint(ModelCheckpoint):
    """Keeps `best.ckpt`, and knows how good it is even where the run folder has been moved."""

    @property
    def state_key(self) -> str:
        """Where checkpoints hold its state: under the name of Lightning's class, as ever."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state, whose paths become those of this folder."""
        former, here = str(state_dict["dirpath"]), str(self.dirpath)

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return {moved(key): score for key, score in value.items()}
            inside = isinstance(value, str) and value.startswith(former)
            return here + value.removeprefix(former) if inside else value

        super().load_state_dict({key: moved(value) for key, value in state_dict.items()})


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt`, from which a killed run goes on bit for bit.

    It is written every `every` steps and after each validation, but not just before one: resumed
    from there, Lightning would skip that validation, and with it a chance of a best checkpoint.

    Args:
        folder: where `last.ckpt` goes.
        every: steps between two writes.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self.path = folder / "last.ckpt"
        self.every = every

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Write every `every` steps, unless a validation follows."""
        step, interval = trainer.global_step, trainer.val_check_batch
        if step % self.every == 0 and step % (interval or step + 1) != 0:
            trainer.save_checkpoint(self.path)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write after each validation of a fit."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)


class Throughput(Callback):
    """Logs `time/data`, the share of the loop's time that it waits for data, and the throughput.

    Both are means since the last logged step; validation lies outside. The first interval contains
    the start of the loader's workers and is logged like any other.
    """

    def __init__(self) -> None:
        self._start = self._validation = self._waited = 0.0  # seconds
        self._samples = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Sample, *_: Any
    ) -> None:
        """Count the samples of all ranks, and log at the trainer's interval."""
        self._samples += len(batch["name"]) * trainer.world_size
        if trainer.global_step % trainer.log_every_n_steps != 0:  # type: ignore[attr-defined]
            return
        now, waited = time.perf_counter(), cast(TrainingLoader, trainer.train_dataloader).waited
        pl_module.log("time/data", (waited - self._waited) / (now - self._start))
        pl_module.log("time/samples_per_second", self._samples / (now - self._start))
        self._start, self._waited, self._samples = now, waited, 0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._validation = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the clock go on as if no time had passed."""
        self._start += time.perf_counter() - self._validation


class Panels(Callback):
    """Draws input | restored | clean, a fixed crop of the first clips, at each validation.

    Args:
        folder: where `<clip>_<step>.png` goes; loggers that take images get them too.
        clips: how many clips.
        size: side of the centre crop in pixels.
    """

    def __init__(self, folder: Path, clips: int = 3, size: int = 160) -> None:
        self.folder = folder
        self.clips = clips
        self.size = size

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Sample,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw one frame of the clip, where the validation has restored it."""
        if batch_idx >= self.clips or trainer.sanity_checking or "shown" not in outputs:
            return
        if not trainer.is_global_zero:
            return
        frames = {"input": batch["degraded"][0, 0], "restored": outputs["shown"]}
        clean = batch["clean"][0, shown_frame(batch)]
        if frames["input"].shape != clean.shape:
            del frames["input"]
        self.folder.mkdir(parents=True, exist_ok=True)
        name = batch["name"][0].replace("/", "_")
        path = self.folder / f"{name}_{trainer.global_step:06d}.png"
        strip({key: self._crop(frame) for key, frame in frames.items()}, self._crop(clean), path)
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image(wandb_names.panel(name), [str(path)], step=trainer.global_step)

    def _crop(self, frame: Tensor) -> Tensor:
        top, left = (max(0, (length - self.size) // 2) for length in frame.shape[-2:])
        return frame[..., top : top + self.size, left : left + self.size].to(torch.uint8)
