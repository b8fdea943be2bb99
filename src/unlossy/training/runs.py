"""The order of events: build, prepare, rehearse, fit, score, write; what `train` and `eval` do.

Nothing is written before everything is built and a first batch has passed through it. An assembled
model is not fitted: it is tuned on the validation clips, packed, and scored like any other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from unlossy import _torchvision  # noqa: F401
from unlossy import checkpoint as checkpoints
from unlossy.data.video_data import VideoData
from unlossy.errors import UserError
from unlossy.losses.objective import Objective
from unlossy.metrics.suite import VideoScores
from unlossy.models.model import EnhancementModel
from unlossy.models.weights import read_weights
from unlossy.training import folder as folders
from unlossy.training import ranks
from unlossy.training.callbacks import AtomicFiles
from unlossy.training.configs import build, check_settings, resolved
from unlossy.training.enhancer import Enhancer, introduce, match, rehearse
from unlossy.training.evaluation import Contender, contenders, evaluate_split, suitable
from unlossy.training.launching import joined, team
from unlossy.training.secrets import refuse_secrets
from unlossy.training.starting import (
    check_clips,
    check_parts,
    checkpoint_card,
    checkpoint_to_continue,
    newest_best,
    restorer,
    start_from,
)
from unlossy.training.step_log import StepLog
from unlossy.training.trainers import Watched, fit, make_trainer, say, watched
from unlossy.training.wandb_run import finish_wandb, log_test, mirror

from lightning import seed_everything  # isort: skip

BALANCE = 64  # validation clips that a ratio of loss weights is measured on


@dataclass(frozen=True)
class Prepared:
    """What a run is made of, built and found to fit together; no clip has been read."""

    data: VideoData
    model: EnhancementModel
    enhancer: Enhancer | None  # None: the model is assembled
    scores: VideoScores
    best_in: Watched  # what the best checkpoint is best in
    filters: Mapping[str, EnhancementModel]
    missed: Sequence[str]  # filters that do not suit the medium
    card: Mapping[str, Any]


def train(cfg: DictConfig, choices: Mapping[str, Any], into: Path | None = None) -> Path:
    """Train or assemble one model, score it with the input and the filters, return the run folder.

    Args:
        cfg: a composed `conf/train.yaml`; its `stages` are not run here.
        choices: the name chosen in each group, for tables and checkpoints.
        into: a run folder that is there already; None makes one.

    Raises:
        UserError: a setting that cannot work, named with its remedy.
    """
    started = time.monotonic()
    config = resolved(cfg)
    check_settings(cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)
    run = _prepare(cfg, config, choices)
    data, model, enhancer = run.data, run.model, run.enhancer
    together = team(cfg.trainer)
    resume = None
    if enhancer is not None:
        resume = checkpoint_to_continue(cfg, config, restorer(data.degradation))
        if cfg.init is not None and resume is None:
            start_from(Path(cfg.init), enhancer)
    data.prepare_data()
    if enhancer is not None:
        batch = data.first_batch()
        rehearse(model, enhancer.objective, batch)
        run.scores.reference(batch["clean"][0])  # refuses frames that the metrics cannot read
        if enhancer.objective.needs_balance and resume is None:
            enhancer.objective.balance(islice(data.whole("val"), BALANCE))
    with joined(together):
        return _carry_out(cfg, config, choices, run, resume, into, started)


def _carry_out(
    cfg: DictConfig,
    config: Mapping[str, Any],
    choices: Mapping[str, Any],
    run: Prepared,
    found: Path | None,
    into: Path | None,
    started: float,
) -> Path:
    """Fit or assemble, score and write: what the processes of a run do together.

    Args:
        cfg: as for `train`.
        config: the same, resolved.
        choices: as for `train`.
        run: its parts.
        found: the checkpoint to go on with.
        into: as for `train`.
        started: when, by `time.monotonic`.
    """
    data, model, enhancer, card = run.data, run.model, run.enhancer, run.card
    name, loss = card["training"]["model"], card["training"]["loss"]
    first = ranks.first_rank()
    _say_left_out(run.missed)
    resume = ranks.from_first(lambda: found)
    if resume is not None:
        run_folder = resume.parent.parent
    else:
        root, digest = Path(cfg.run_root), folders.config_hash(config)
        run_folder = into or ranks.from_first(lambda: folders.make(root, cfg.name, digest))
    say(f"run folder: {run_folder}")
    log = StepLog(run_folder)
    run_card = folders.run_card(config, choices) | {"data": data.describe()}
    try:
        trainer, best = make_trainer(cfg, run_folder, log, run.best_in)
        who = {"model": name, "loss": loss}
        mirrors = mirror(cfg, run_folder, run_card, who, "train") if first else []
        trainer.loggers = [log, *mirrors]
    finally:
        if first:
            folders.remove_if_empty(run_folder)
    device = trainer.strategy.root_device
    try:
        if first:
            run_folder.mkdir(parents=True, exist_ok=True)
            if resume is not None:
                log.rewind(int(read_weights(resume)["global_step"]))
            folders.write_json(run_folder / "run.json", run_card)
        if enhancer is not None:
            fit(trainer, enhancer, data, resume)
            path = Path(best.best_model_path)
        else:
            path = run_folder / "checkpoints" / "best.ckpt"
            run_card["fitted"] = ranks.from_first(
                lambda: _assemble(model.to(device), data, card, path)
            )
            say(f"{name}: {run_card['fitted']}")
        if cfg.test:
            finished = Contender(checkpoints.load(path), loss, cfg.seed)
            rows, run_card["filters"] = evaluate_split(
                contenders(run.filters, {name: finished}, data, cfg.seed),
                data,
                "test",
                str(choices["degradation"]),
                run.scores,
                device,
                run_folder,
                cfg.save,
                cfg.seed,
            )
            log_test(trainer.loggers, rows, folders.COLUMNS, run_folder)
    finally:
        finish_wandb()
    run_card |= {"seconds": round(time.monotonic() - started, 1), "steps": trainer.global_step}
    if first:
        folders.write_json(run_folder / "run.json", run_card)
    say(f"run folder: {run_folder}\nbest checkpoint: {path}")
    return run_folder


def check(cfg: DictConfig, choices: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse a run that cannot start, as far as that shows before its clips are read.

    Args:
        cfg: as for `train`.
        choices: as for `train`.

    Returns:
        A checkpoint as the run would leave it, but for the training.

    Raises:
        UserError: as `train`.
    """
    config = resolved(cfg)
    check_settings(cfg)
    run = _prepare(cfg, config, choices)
    if run.enhancer is not None and cfg.init is not None:
        start_from(Path(cfg.init), run.enhancer)
    return checkpoints.pack(run.model, run.card["model"], run.card["training"])


def _prepare(cfg: DictConfig, config: Mapping[str, Any], choices: Mapping[str, Any]) -> Prepared:
    """Build all parts of a run and introduce them to each other."""
    refuse_secrets(config)
    data: VideoData = build(cfg.data)
    model: EnhancementModel = build(cfg.model)
    match(model, data.degradation)
    scores: VideoScores = build(cfg.metrics)
    best_in = watched(cfg.monitor, model, scores)
    filters, missed = _baselines(cfg, data) if cfg.test else ({}, [])
    card = checkpoint_card(config, choices, model, data.degradation)
    enhancer = None
    if model.assembled:
        _check_assembling(cfg, config, card["training"]["model"])
    else:
        enhancer = _enhancer(cfg, model, scores, card)
        data.val_dataloader()  # refuses a source without such clips
    if cfg.test:
        data.test_dataloader()
    return Prepared(data, model, enhancer, scores, best_in, filters, missed, card)


def evaluate(cfg: DictConfig, choices: Mapping[str, Any]) -> Path:
    """Score a checkpoint or a filter, with the input and the default filters; return the folder.

    Raises:
        UserError: what is to be scored is untrained, named twice, or does not fit the medium.
    """
    started = time.monotonic()
    config = resolved(cfg)
    refuse_secrets(config)
    check_settings(cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)
    if cfg.split not in ("test", "val"):
        raise UserError(f"split={cfg.split} is not scored; use split=test or split=val.")
    data: VideoData = build(cfg.data)
    filters, missed = _baselines(cfg, data)
    together = team(cfg)
    restored_by = restorer(data.degradation)
    trained: dict[str, Contender] = {}
    who: dict[str, str] = {}
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
        check_clips(path, told, restored_by)
        trained[told["model"]] = Contender(checkpoints.load(path), told["loss"], told["seed"])
        who = {"model": told["model"], "loss": told["loss"]}
    everyone = contenders(filters, trained, data, cfg.seed)
    scores: VideoScores = build(cfg.metrics)
    device = _device(cfg.device)
    data.prepare_data()
    root, digest = Path(cfg.run_root), folders.config_hash(config)
    with joined(together):
        first = ranks.first_rank()
        _say_left_out(missed)
        run_folder = ranks.from_first(lambda: folders.make(root, cfg.name, digest))
        card = folders.run_card(config, choices) | {"data": data.describe()}
        card["checkpoint"] = str(path) if path else None
        if device.type == "cuda":
            device = torch.device("cuda", ranks.rank() % together.devices)
        try:
            mirrors = mirror(cfg, run_folder, card, who, "eval") if first else []
            medium = str(choices["degradation"])
            rows, card["filters"] = evaluate_split(
                everyone, data, cfg.split, medium, scores, device, run_folder, cfg.save, cfg.seed
            )
            log_test(mirrors, rows, folders.COLUMNS, run_folder)
        finally:
            finish_wandb()
            if first:
                folders.remove_if_empty(run_folder)
        card["seconds"] = round(time.monotonic() - started, 1)
        if first:
            folders.write_json(run_folder / "run.json", card)
        say(f"run folder: {run_folder}")
    return run_folder


def _baselines(cfg: DictConfig, data: VideoData) -> tuple[dict[str, EnhancementModel], list[str]]:
    """Return what `suitable` says of the filters of the configuration."""
    filters = {str(key): build(node) for key, node in (cfg.get("baselines") or {}).items()}
    return suitable(filters, data.degradation)


def _say_left_out(missed: Sequence[str]) -> None:
    if missed:
        say(f"left out, made for another medium: {', '.join(missed)}")


def _enhancer(
    cfg: DictConfig, model: EnhancementModel, scores: VideoScores, card: Mapping[str, Any]
) -> Enhancer:
    objective: Objective = build(cfg.loss)
    introduce(model, objective)
    schedule = build(cfg.schedule) if cfg.get("schedule") else None
    optimizer = build(cfg.optimizer)
    enhancer = Enhancer(model, objective, optimizer, schedule, scores, card, cfg.seed)
    try:
        enhancer.configure_optimizers()
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise UserError(f"The optimizer or schedule does not work: {reason}.") from error
    return enhancer


def _check_assembling(cfg: DictConfig, config: Mapping[str, Any], name: str) -> None:
    for key in ("ckpt", "init"):
        if cfg[key] is not None:
            raise UserError(
                f"model={name} is assembled, not trained, so {key}={cfg[key]} means nothing to it; "
                f"name its parts with model.s_ckpt=PATH and so on."
            )
    check_parts(name, config["model"])


def _assemble(model: EnhancementModel, data: VideoData, card: Mapping[str, Any], path: Path) -> str:
    """Tune a model of finished parts on validation clips, write its checkpoint, tell the choice."""
    if data.clips["val"]:
        model.fit(data.val_dataloader())
    content = checkpoints.pack(model.cpu(), card["model"], card["training"])
    AtomicFiles().save_checkpoint(content, path)
    return model.label


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"device={name} is not there; use auto, cpu, or cuda where there is one.")
    return torch.device(name)
