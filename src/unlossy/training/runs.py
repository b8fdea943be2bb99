"""The order of events: build, prepare, fit, score, write; what the doors `train` and `eval` do.

This file and the doors are the only ones that know Hydra; what it builds does not.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.progress import Progress

from unlossy import _torchvision  # noqa: F401
from unlossy import checkpoint as checkpoints
from unlossy.data.video_data import VideoData
from unlossy.errors import UserError
from unlossy.metrics.suite import VideoScores
from unlossy.models.baselines import Identity, Tuned
from unlossy.models.model import EnhancementModel
from unlossy.report.table import print_table, summarise
from unlossy.training import folder as folders
from unlossy.training.callbacks import (
    LastCheckpoint,
    Panels,
    ProgressBar,
    Throughput,
    finish_wandb,
    wandb_offline,
)
from unlossy.training.enhancer import Enhancer, introduce, match
from unlossy.training.scoring import Row, Strips, score
from unlossy.training.step_log import StepLog

from lightning import Trainer, seed_everything  # isort: skip
from lightning.pytorch.callbacks import (  # isort: skip
    Callback,
    EMAWeightAveraging,
    ModelCheckpoint,
)
from lightning.pytorch.loggers import Logger, WandbLogger  # isort: skip

console = Console(stderr=True)
STRIPS = 8  # clips of the test split that are drawn
# Lightning announces devices it does not use and services it could; what matters comes as warnings.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)


def train(cfg: DictConfig, choices: Mapping[str, Any]) -> Path:
    """Train one model, score it with the input and the baselines, and return the run folder.

    Args:
        cfg: a composed `conf/train.yaml`.
        choices: the name chosen in each group, for tables and for `ckpt=last`.

    Raises:
        UserError: a setting that cannot work, named with its remedy.
    """
    started = time.monotonic()
    config = resolved(cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)
    data: VideoData = build(cfg.data)
    model: EnhancementModel = build(cfg.model)
    objective = build(cfg.loss)
    introduce(model, objective)
    match(model, data.degradation)
    scores: VideoScores = build(cfg.metrics)

    run_folder, resume = _place(cfg, config)
    console.print(f"run folder: {run_folder}")
    card = folders.run_card(config, choices)
    data.prepare_data()
    card["data"] = data.describe()
    folders.write_json(run_folder / "run.json", card)
    enhancer = Enhancer(
        model,
        objective,
        build(cfg.optimizer),
        build(cfg.schedule) if cfg.schedule else None,
        scores,
        checkpoint_card(config, choices, model),
        cfg.seed,
    )
    if cfg.init is not None and resume is None:
        start_from(Path(cfg.init), enhancer)
    best = ModelCheckpoint(
        run_folder / "checkpoints",
        filename="best",
        monitor="val/psnr",
        mode="max",
        enable_version_counter=False,
    )
    log = StepLog(run_folder)
    trainer: Trainer = build(
        cfg.trainer,
        callbacks=_callbacks(cfg, run_folder, best),
        logger=[log, *_mirror(cfg, run_folder)],
        default_root_dir=str(run_folder),
        max_epochs=1,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_model_summary=False,
    )
    if resume is not None:
        log.rewind(_step_of(resume))
    with _finishing(trainer):
        trainer.fit(enhancer, datamodule=data, ckpt_path=resume, weights_only=True)
        if trainer.interrupted:
            raise KeyboardInterrupt
        if cfg.test:
            restorer = checkpoints.load(best.best_model_path)
            losses = {str(choices["model"]): str(choices["loss"])}
            models = {str(choices["model"]): restorer}
            rows, card["filters"] = _score(
                cfg, choices, data, models, scores, losses, cfg.seed, run_folder
            )
            _log_table(trainer, rows)
    card["seconds"] = round(time.monotonic() - started, 1)
    card["steps"] = trainer.global_step
    folders.write_json(run_folder / "run.json", card)
    console.print(f"run folder: {run_folder}\nbest checkpoint: {best.best_model_path}")
    return run_folder


def evaluate(cfg: DictConfig, choices: Mapping[str, Any]) -> Path:
    """Score a checkpoint or a model with the input and the classical filters; return the folder.

    Raises:
        UserError: neither `ckpt` nor `model` names what to score, or it does not fit the medium.
    """
    started = time.monotonic()
    config = resolved(cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)
    models: dict[str, EnhancementModel] = {}
    losses: dict[str, str] = {}
    seed = cfg.seed
    if cfg.ckpt is not None:
        path = newest_best(Path(cfg.run_root)) if cfg.ckpt == "last" else Path(cfg.ckpt)
        trained = checkpoints.describe(path)["training"]
        models[trained["model"]] = checkpoints.load(path)
        losses[trained["model"]], seed = trained["loss"], trained["seed"]
    if "model" in cfg:
        models[str(choices["model"])] = build(cfg.model)
    data: VideoData = build(cfg.data)
    for model in models.values():
        match(model, data.degradation)
    scores: VideoScores = build(cfg.metrics)
    run_folder = folders.make(Path(cfg.run_root), cfg.name, folders.config_hash(config))
    console.print(f"run folder: {run_folder}")
    card = folders.run_card(config, choices)
    data.prepare_data()
    card["data"] = data.describe()
    _, card["filters"] = _score(cfg, choices, data, models, scores, losses, seed, run_folder)
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
        raise UserError(f"The configuration is incomplete: {str(error).splitlines()[0]}") from None
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
        if isinstance(cause, TypeError | ValueError):
            raise UserError(f"{node.get('_target_', 'configuration')}: {cause}") from cause
        raise


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


def start_from(path: Path, enhancer: Enhancer) -> None:
    """Copy the model's weights from a checkpoint, and the adversary's where both have one.

    Raises:
        UserError: the checkpoint is unreadable or holds another model.
    """
    checkpoints.describe(path)
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    for part in ("model", "objective"):
        own = getattr(enhancer, part)
        theirs = {k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(part)}
        if part == "objective" and not theirs:
            continue
        try:
            own.load_state_dict(theirs)
        except RuntimeError:
            raise UserError(
                f"init={path} holds another {part} than the configuration asks for "
                f"(other sizes or parts); name a checkpoint of the same {part}."
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


def _place(cfg: DictConfig, config: Mapping[str, Any]) -> tuple[Path, Path | None]:
    """Return the run folder, and the checkpoint to go on from."""
    root, digest = Path(cfg.run_root), folders.config_hash(config)
    if cfg.ckpt is None:
        return folders.make(root, cfg.name, digest), None
    resume = folders.find_last(root, cfg.name, digest) if cfg.ckpt == "last" else Path(cfg.ckpt)
    trained = checkpoints.describe(resume)
    if trained["model"] != config["model"]:
        raise UserError(
            f"{resume} holds another model than the configuration asks for "
            f"({trained['training']['model']}, or other options of it); pass its settings, or "
            f"leave ckpt out."
        )
    if resume.parent.name != "checkpoints":
        raise UserError(
            f"{resume} does not lie in the checkpoints/ of a run folder, so the run to go on with "
            f"is unknown; to start from its weights, set model.base_ckpt."
        )
    return resume.parent.parent, resume


def _callbacks(cfg: DictConfig, run_folder: Path, best: ModelCheckpoint) -> list[Callback]:
    """Return the callbacks in their order: averages swap out before the checkpoints are written."""
    average = [] if cfg.ema is None else [EMAWeightAveraging(decay=cfg.ema)]
    last = LastCheckpoint(run_folder / "checkpoints", cfg.checkpoint_every)
    bar = [ProgressBar()] if cfg.trainer.enable_progress_bar else []
    return [*average, *bar, Throughput(), Panels(run_folder / "panels"), best, last]


def _mirror(cfg: DictConfig, run_folder: Path) -> list[Logger]:
    """Return the W&B logger, one id per run folder; offline where no key is set."""
    if cfg.logger.mirror is None:
        return []
    return [
        build(
            cfg.logger.mirror,
            save_dir=str(run_folder),
            id=run_folder.name.replace("_", "-"),
            name=f"{cfg.name}/{run_folder.name}",
            group=cfg.name,
            resume="allow",
            # By name: wandb has read its environment by now, where Lightning's offline= writes.
            mode="offline" if wandb_offline() else None,
        )
    ]


def _step_of(resume: Path) -> int:
    return int(torch.load(resume, map_location="cpu", weights_only=True)["global_step"])


@contextmanager
def _finishing(trainer: Trainer) -> Iterator[None]:
    """End the W&B run however the training ends, so that the next one starts its own."""
    try:
        yield
    finally:
        finish_wandb()


def _score(
    cfg: DictConfig,
    choices: Mapping[str, Any],
    data: VideoData,
    models: Mapping[str, EnhancementModel],
    scores: VideoScores,
    losses: Mapping[str, str],
    seed: int,
    run_folder: Path,
) -> tuple[list[Row], dict[str, str]]:
    """Score the input, the baselines and `models`; write and print; return rows and tuned settings.

    `losses` tells which loss a model of that name was trained on, and so who was trained at all.
    """
    data.setup("test")
    everyone: dict[str, EnhancementModel] = {"input": Identity()}
    everyone |= {str(name): build(node) for name, node in cfg.get("baselines", {}).items()}
    everyone |= models
    for model in everyone.values():
        if isinstance(model, Tuned):
            model.fit(data.val_dataloader())
    loader = data.val_dataloader() if cfg.get("split") == "val" else data.test_dataloader()
    sets = scores.start_set()
    shown = ["input", *models] if models else list(everyone)
    strips = Strips(run_folder / "panels" / "test", shown, every=max(1, len(loader) // STRIPS))
    rows: list[Row] = []
    with Progress(console=console) as progress:
        task = progress.add_task("scoring", total=len(loader) * len(everyone))
        for row in score(everyone, loader, scores, sets, strips):
            row["loss"] = losses.get(row["model"], "")
            row["degradation"] = str(choices["degradation"])
            row["source"] = data.source_of(row["clip"])
            row["seed"] = seed
            rows.append(row)
            progress.advance(task)
    rows = folders.finished(rows)
    folders.write_rows(run_folder / "rows.csv", rows)
    lines = summarise(rows)
    folders.write_json(run_folder / "summary.json", _summary(rows, lines, sets.compute()))
    print_table(rows, lines)
    return rows, {n: m.label for n, m in everyone.items() if isinstance(m, Tuned)}


def _summary(
    rows: list[Row], lines: list[Row], distances: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return per model: means over all clips, distances between sets, and means per source."""
    everywhere = summarise({**row, "source": "all"} for row in rows)
    summary: dict[str, Any] = {}
    for line in everywhere:
        name = line["model"]
        per_source = {one["source"]: one for one in lines if one["model"] == name}
        columns = {key: None if value != value else value for key, value in distances[name].items()}
        summary[name] = {**line, **columns, "sources": per_source}
    return summary


def _log_table(trainer: Trainer, rows: list[Row]) -> None:
    columns = [column for column in folders.COLUMNS if column != "seed"]
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            cells = [[row.get(column) for column in columns] for row in rows]
            logger.log_table("test/clips", columns=columns, data=cells)
