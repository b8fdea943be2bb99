"""The order of events: build, prepare, rehearse, fit, score, write; what `train` and `eval` do.

This file and the doors are the only ones that know Hydra; what it builds does not. Nothing is
written before everything is built and a first batch has passed through it.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from unlossy import _torchvision  # noqa: F401
from unlossy import checkpoint as checkpoints
from unlossy.data.video_data import VideoData
from unlossy.errors import UserError
from unlossy.losses.objective import Objective
from unlossy.metrics.suite import VideoScores
from unlossy.models.model import EnhancementModel
from unlossy.models.weights import read_weights
from unlossy.training import folder as folders
from unlossy.training.callbacks import (
    AtomicFiles,
    LastCheckpoint,
    Panels,
    ProgressBar,
    Throughput,
    finish_wandb,
    log_clip_table,
    wandb_offline,
    wandb_starts,
)
from unlossy.training.enhancer import Enhancer, introduce, rehearse
from unlossy.training.evaluation import Contender, contenders, evaluate_split
from unlossy.training.step_log import StepLog

from lightning import Trainer, seed_everything  # isort: skip
from lightning.fabric.utilities.exceptions import MisconfigurationException  # isort: skip
from lightning.pytorch.callbacks import (  # isort: skip
    Callback,
    EMAWeightAveraging,
    ModelCheckpoint,
)
from lightning.pytorch.loggers import Logger, WandbLogger  # isort: skip

console = Console(stderr=True, soft_wrap=True)
# Lightning announces devices it does not use and services it could, and doubts that we can resume.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
warnings.filterwarnings(
    "ignore", r"You're resuming from a checkpoint that ended before", UserWarning
)
warnings.filterwarnings("ignore", r"Checkpoint directory .* exists and is not empty", UserWarning)
# A gate that is shut on the first batch leaves the schedule a step ahead of the optimiser: meant.
warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler.step\(\)` before", UserWarning)


def train(cfg: DictConfig, choices: Mapping[str, Any]) -> Path:
    """Train one model, score it with the input and the filters, and return the run folder.

    Args:
        cfg: a composed `conf/train.yaml`.
        choices: the name chosen in each group, for tables and checkpoints.

    Raises:
        UserError: a setting that cannot work, named with its remedy.
    """
    started = time.monotonic()
    config = resolved(cfg)
    check_numbers(cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)
    data: VideoData = build(cfg.data)
    model: EnhancementModel = build(cfg.model)
    objective: Objective = build(cfg.loss)
    introduce(model, objective)
    name, loss = str(choices["model"]), str(choices["loss"])
    filters = {str(key): build(node) for key, node in cfg.get("baselines", {}).items()}
    contenders(filters, {name: Contender(model, loss, cfg.seed)}, data, cfg.seed)
    enhancer = Enhancer(
        model,
        objective,
        build(cfg.optimizer),
        build(cfg.schedule) if cfg.schedule else None,
        build(cfg.metrics),
        checkpoint_card(config, choices, model),
        cfg.seed,
    )
    resume = checkpoint_to_continue(cfg, config)
    if cfg.init is not None and resume is None:
        start_from(Path(cfg.init), enhancer)
    _check_optimizers(enhancer)
    data.prepare_data()
    rehearse(model, objective, data.first_batch())

    if resume is not None:
        run_folder = resume.parent.parent
    else:
        run_folder = folders.make(Path(cfg.run_root), cfg.name, folders.config_hash(config))
    console.print(f"run folder: {run_folder}")
    best = ModelCheckpoint(
        run_folder / "checkpoints",
        filename="best",
        monitor="val/psnr",
        mode="max",
        enable_version_counter=False,
    )
    log = StepLog(run_folder)
    try:
        trainer = _trainer(cfg, run_folder, log, best)
    finally:
        folders.remove_if_empty(run_folder)
    run_folder.mkdir(parents=True, exist_ok=True)
    if resume is not None:
        log.rewind(int(read_weights(resume)["global_step"]))
    card = folders.run_card(config, choices) | {"data": data.describe()}
    folders.write_json(run_folder / "run.json", card)
    try:
        _fit(trainer, enhancer, data, resume)
        if cfg.test:
            restorer = Contender(checkpoints.load(best.best_model_path), loss, cfg.seed)
            rows, card["filters"] = evaluate_split(
                contenders(filters, {name: restorer}, data, cfg.seed),
                data,
                "test",
                str(choices["degradation"]),
                enhancer.scores[0],
                trainer.strategy.root_device,
                run_folder,
            )
            log_clip_table(trainer.loggers, rows, folders.COLUMNS)
    finally:
        finish_wandb()
    card |= {"seconds": round(time.monotonic() - started, 1), "steps": trainer.global_step}
    folders.write_json(run_folder / "run.json", card)
    console.print(f"run folder: {run_folder}\nbest checkpoint: {best.best_model_path}")
    return run_folder


def evaluate(cfg: DictConfig, choices: Mapping[str, Any]) -> Path:
    """Score a checkpoint or a filter, with the input and the default filters; return the folder.

    Raises:
        UserError: what is to be scored is untrained, named twice, or does not fit the medium.
    """
    started = time.monotonic()
    config = resolved(cfg)
    check_numbers(cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)
    if cfg.split not in ("test", "val"):
        raise UserError(f"split={cfg.split} is not scored; use split=test or split=val.")
    data: VideoData = build(cfg.data)
    filters = {str(key): build(node) for key, node in cfg.get("baselines", {}).items()}
    trained: dict[str, Contender] = {}
    if "model" in cfg:
        name, model = str(choices["model"]), build(cfg.model)
        if model.trainable:
            raise UserError(
                f"model={name} has learnt nothing yet; score its checkpoint with ckpt=PATH, which "
                f"brings its own settings."
            )
        filters[name] = model
    path = None
    if cfg.ckpt is not None:
        path = newest_best(Path(cfg.run_root)) if cfg.ckpt == "last" else Path(cfg.ckpt)
        told = checkpoints.describe(path)["training"]
        restorer = Contender(checkpoints.load(path), told["loss"], told["seed"])
        trained[told["model"]] = restorer
    everyone = contenders(filters, trained, data, cfg.seed)
    scores: VideoScores = build(cfg.metrics)
    device = _device(cfg.device)
    data.prepare_data()
    run_folder = folders.make(Path(cfg.run_root), cfg.name, folders.config_hash(config))
    try:
        medium = str(choices["degradation"])
        _, chosen = evaluate_split(everyone, data, cfg.split, medium, scores, device, run_folder)
    finally:
        folders.remove_if_empty(run_folder)
    card = folders.run_card(config, choices) | {"data": data.describe(), "filters": chosen}
    card["checkpoint"] = str(path) if path else None
    card["seconds"] = round(time.monotonic() - started, 1)
    folders.write_json(run_folder / "run.json", card)
    console.print(f"run folder: {run_folder}")
    return run_folder


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Return the configuration as plain containers.

    Raises:
        UserError: a required value (`???`) or an interpolation has no value.
    """
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"The configuration lacks a value: {str(error).splitlines()[0]}") from None
    return {key: value for key, value in cast(dict[str, Any], plain).items() if key != "hydra"}


def build(node: DictConfig, **extra: Any) -> Any:
    """Instantiate a config node; what its constructor refuses becomes one sentence.

    Raises:
        UserError: from the constructor, or because an option is unknown or of the wrong type.
    """
    try:
        return instantiate(node, _convert_="all", **extra)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, TypeError | ValueError | ImportError | MisconfigurationException):
            raise UserError(f"{node.get('_target_', 'configuration')}: {cause}") from cause
        raise


def check_numbers(cfg: DictConfig) -> None:
    """Refuse counts that no run can have.

    Raises:
        UserError: naming the first.
    """
    least = {
        "seed": 0,
        "checkpoint_every": 1,
        "trainer.max_steps": 1,
        "trainer.val_check_interval": 1,
        "trainer.log_every_n_steps": 1,
    }
    for key, lowest in least.items():
        value = OmegaConf.select(cfg, key, default=lowest)
        if not isinstance(value, int) or value < lowest:
            raise UserError(f"{key}={value} does not work; use a whole number from {lowest} on.")


def _check_optimizers(enhancer: Enhancer) -> None:
    try:
        enhancer.configure_optimizers()
    except (TypeError, ValueError) as error:
        raise UserError(f"The optimizer or schedule does not work: {error}.") from error


def checkpoint_card(
    config: Mapping[str, Any], choices: Mapping[str, Any], model: EnhancementModel
) -> dict[str, Any]:
    """Return what a checkpoint carries so that it can be rebuilt and recognised."""
    return checkpoints.card(
        config["model"],
        training={
            "model": str(choices["model"]),
            "loss": str(choices["loss"]),
            "degradation": config["degradation"],
            "source": str(choices["source"]),
            "needs": sorted(model.needs),
            "scale": model.scale,
            "seed": config["seed"],
        },
    )


def checkpoint_to_continue(cfg: DictConfig, config: Mapping[str, Any]) -> Path | None:
    """Return the checkpoint that `ckpt` names, if it belongs to a run of this recipe.

    Raises:
        UserError: there is none, or continuing it would mix two recipes in one folder.
    """
    if cfg.ckpt is None:
        return None
    if cfg.ckpt == "last":
        return folders.find_last(Path(cfg.run_root), cfg.name, folders.config_hash(config))
    resume = Path(cfg.ckpt)
    checkpoints.describe(resume)
    if resume.parent.name != "checkpoints":
        raise UserError(
            f"{resume} does not lie in the checkpoints/ of a run folder, so the run to go on with "
            f"is unknown; to start from its weights, pass init={resume}."
        )
    if different := folders.first_difference(resume.parent.parent, config):
        raise UserError(
            f"{resume} belongs to a run with another {different}; pass that run's settings, or "
            f"start from its weights with init={resume}."
        )
    return resume


def start_from(path: Path, enhancer: Enhancer) -> None:
    """Copy the model's weights from a checkpoint, and the adversary's where both have one.

    Raises:
        UserError: the checkpoint is unreadable or holds another model.
    """
    checkpoints.describe(path)
    state = read_weights(path)["state_dict"]
    for part in ("model", "objective"):
        own = getattr(enhancer, part)
        theirs = {k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(part)}
        if part == "objective" and not (theirs and own.state_dict()):
            continue
        try:
            own.load_state_dict(theirs)
        except RuntimeError:
            raise UserError(
                f"init={path} holds another {part} than the configuration asks for (other sizes "
                f"or parts); name a checkpoint of the same {part}."
            ) from None


def newest_best(run_root: Path) -> Path:
    """Return the newest `best.ckpt` under `run_root`.

    Raises:
        UserError: there is none.
    """
    found = sorted(run_root.glob("*/*/checkpoints/best.ckpt"), key=lambda path: path.parts[-3])
    if not found:
        raise UserError(
            f"ckpt=last: no checkpoint lies under {run_root}; train one with "
            f"python train.py model=ccdnet loss=grad_gan"
        )
    return found[-1]


def _trainer(cfg: DictConfig, run_folder: Path, log: StepLog, best: ModelCheckpoint) -> Trainer:
    steps = cfg.trainer.max_steps
    validations = ceil(steps / cfg.trainer.val_check_interval)
    # Averages swap out before the checkpoints are written.
    average = [] if cfg.ema is None else [EMAWeightAveraging(decay=cfg.ema)]
    bar = [ProgressBar()] if cfg.trainer.enable_progress_bar else []
    last = LastCheckpoint(run_folder / "checkpoints", cfg.checkpoint_every)
    panels = Panels(run_folder / "panels")
    callbacks: list[Callback] = [*average, *bar, Throughput(), panels, best, last]
    trainer: Trainer = build(
        cfg.trainer,
        callbacks=callbacks,
        plugins=[AtomicFiles()],
        logger=[log, *_mirror(cfg, run_folder)],
        default_root_dir=str(run_folder),
        max_epochs=-1,  # steps end a run, and a finished one can go on with more of them
        check_val_every_n_epoch=None,
        val_check_interval=ceil(steps / validations),  # the last step is validated too
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_model_summary=False,
    )
    return trainer


def _mirror(cfg: DictConfig, run_folder: Path) -> list[Logger]:
    """Return the W&B logger, one id per run folder; offline without a key or a server."""
    if cfg.logger.mirror is None:
        return []

    def logger(mode: str | None) -> WandbLogger:
        # mode, by name: wandb has read its environment by now, where Lightning's offline= writes.
        return cast(
            WandbLogger,
            build(
                cfg.logger.mirror,
                save_dir=str(run_folder),
                id=run_folder.name.replace("_", "-"),
                name=f"{cfg.name}/{run_folder.name}",
                group=cfg.name,
                resume="allow",
                mode=mode,
            ),
        )

    if wandb_offline():
        return [logger("offline")]
    if wandb_starts(online := logger(None)):
        return [online]
    console.print("W&B cannot be reached, so this run is kept offline; upload it with wandb sync.")
    return [logger("offline")]


def _fit(trainer: Trainer, enhancer: Enhancer, data: VideoData, resume: Path | None) -> None:
    try:
        trainer.fit(enhancer, datamodule=data, ckpt_path=resume, weights_only=True)
    except SystemExit:
        if trainer.interrupted:  # Lightning turns Ctrl-C into exit code 1
            raise KeyboardInterrupt from None
        raise


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"device={name} is not there; use auto, cpu, or cuda where there is one.")
    return torch.device(name)
