"""The Lightning trainer of a run: its callbacks and what it watches."""

from __future__ import annotations

import logging
import warnings
from math import ceil
from pathlib import Path
from typing import Literal, NamedTuple

from omegaconf import DictConfig
from rich.console import Console

from unlossy import _torchvision  # noqa: F401
from unlossy.data.video_data import VideoData
from unlossy.errors import UserError
from unlossy.metrics.suite import DIRECTION, VideoScores
from unlossy.models.model import EnhancementModel
from unlossy.training import ranks
from unlossy.training.callbacks import (
    AtomicFiles,
    BestCheckpoint,
    LastCheckpoint,
    Panels,
    ProgressBar,
    Throughput,
)
from unlossy.training.configs import build
from unlossy.training.divergence import Divergence
from unlossy.training.enhancer import VALIDATED, Enhancer
from unlossy.training.launching import cluster, team
from unlossy.training.pruning import Pruning

from lightning import Trainer  # isort: skip
from lightning.fabric.plugins.environments.lightning import LightningEnvironment  # isort: skip
from lightning.fabric.utilities.exceptions import MisconfigurationException  # isort: skip
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging  # isort: skip
from lightning.pytorch.loggers import Logger  # isort: skip

console = Console(stderr=True, soft_wrap=True)
# Lightning announces devices it does not use and services it could, and doubts that we can resume.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
warnings.filterwarnings(
    "ignore", r"You're resuming from a checkpoint that ended before", UserWarning
)
warnings.filterwarnings("ignore", r"Checkpoint directory .* exists and is not empty", UserWarning)
# Its successor came with torch 2.13, and we serve 2.11.
warnings.filterwarnings("ignore", r".broadcast_buffers. is deprecated", FutureWarning)
# Parts that were trained before stay as they were.
warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode", UserWarning)
# A gate that is shut on the first batch leaves the schedule a step ahead of the optimiser: meant.
warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler.step\(\)` before", UserWarning)


class Watched(NamedTuple):
    """What the best checkpoint is best in, and whether the highest of it is or the lowest."""

    name: str
    mode: Literal["max", "min"]


def watched(monitor: str | None, model: EnhancementModel, scores: VideoScores) -> Watched:
    """Return what to watch; None is the code length of a likelihood, else PSNR.

    A draw's PSNR would take a blurred distribution for the best one, and to draw costs more than to
    train where the model reads the clean clip.

    Raises:
        UserError: a validation of this model does not measure that.
    """
    absent = set() if scores.lpips else {"lpips_alex"}
    if model.teacher_forced:
        absent = {"psnr", "ssim", "lpips_alex"}
    absent |= {"nll", "nll_conditioning", "nll_prior"}.difference(model.likelihoods)
    known = [f"val/{name}" for name in VALIDATED if name not in absent]
    monitor = monitor or ("val/nll" if "val/nll" in known else "val/psnr")
    if monitor not in known:
        raise UserError(
            f"monitor={monitor} is not what a validation of this model with these metrics "
            f"measures; use one of {', '.join(known)}."
        )
    return Watched(monitor, "max" if DIRECTION[monitor.removeprefix("val/")] > 0 else "min")


def make_trainer(
    cfg: DictConfig, run_folder: Path, log: Logger, best_in: Watched
) -> tuple[Trainer, BestCheckpoint]:
    """Return the trainer, and its callback that keeps the best checkpoint.

    Args:
        cfg: the whole configuration.
        run_folder: receives checkpoints and panels.
        log: what every run writes.
        best_in: what the best checkpoint is best in.

    Raises:
        UserError: an option of the trainer is refused.
    """
    steps = cfg.trainer.max_steps
    validations = ceil(steps / cfg.trainer.val_check_interval)
    # Averages swap out before the checkpoints are written.
    average = [] if cfg.ema is None else [EMAWeightAveraging(decay=cfg.ema)]
    bar = [ProgressBar()] if cfg.trainer.enable_progress_bar else []
    best = BestCheckpoint(
        run_folder / "checkpoints",
        filename="best",
        monitor=best_in.name,
        mode=best_in.mode,
        enable_version_counter=False,
    )
    last = LastCheckpoint(run_folder / "checkpoints", cfg.checkpoint_every)
    panels = Panels(run_folder / "panels")
    launcher = cluster(team(cfg.trainer)) or LightningEnvironment()  # else Lightning would guess
    pruning = [] if cfg.get("trial") is None else [Pruning(cfg.trial, best_in.name)]
    # Divergence before the validation that would crown it; pruning after the checkpoints.
    callbacks: list[Callback] = [
        *(Divergence(), *average, *bar, Throughput(), panels, best, last, *pruning)
    ]
    trainer: Trainer = build(
        cfg.trainer,
        callbacks=callbacks,
        plugins=[AtomicFiles(), launcher],
        logger=log,
        default_root_dir=str(run_folder),
        max_epochs=-1,  # steps end a run, and a finished one can go on with more of them
        check_val_every_n_epoch=None,
        val_check_interval=ceil(steps / validations),  # the last step is validated too
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_model_summary=False,
    )
    return trainer, best


def say(text: str) -> None:
    """Print to stderr, on the first rank alone."""
    if ranks.first_rank():
        console.print(text)


def fit(trainer: Trainer, enhancer: Enhancer, data: VideoData, resume: Path | None) -> None:
    """Train, from the state of a checkpoint where one is given.

    Raises:
        UserError: no validation clip had a value of what is monitored.
        KeyboardInterrupt: Ctrl-C, which Lightning turns into exit code 1.
    """
    try:
        trainer.fit(enhancer, datamodule=data, ckpt_path=resume, weights_only=True)
    except SystemExit:
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    except MisconfigurationException as error:
        raise UserError(f"Training cannot go on: {str(error).splitlines()[0]}") from error
