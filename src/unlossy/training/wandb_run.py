"""A run as W&B sees it: group, kind of job, tags, settings, curves, pictures, table, summary.

What stands on disk comes first; W&B mirrors it, online where there is a key and a server, else in
`wandb/` of the run folder, to be uploaded by `wandb sync`. Nobody is asked for anything. Curves go
through Lightning's logger alone, against `trainer/global_step`: W&B's own step only ever rises, and
what comes with a lower one is dropped.

Under an agent of a W&B sweep (WANDB_SWEEP_ID, WANDB_RUN_ID) the run is the one that the agent made.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import wandb
from omegaconf import DictConfig
from rich.console import Console

from unlossy import _torchvision  # noqa: F401
from unlossy.report import wandb_names as names
from unlossy.report.table import summarise
from unlossy.training.configs import build

from lightning.pytorch.loggers import Logger, WandbLogger  # isort: skip

TAGS = ("model", "loss", "degradation", "source")
TOLD = ("unlossy", "git", "device", "versions")  # of a run card, beside its configuration
console = Console(stderr=True, soft_wrap=True)


def mirror(
    cfg: DictConfig,
    run_folder: Path,
    card: Mapping[str, Any],
    scored: Mapping[str, str],
    job_type: names.JobType,
) -> list[Logger]:
    """Begin the W&B run that the configuration asks for, and return its logger, or none.

    Args:
        cfg: the whole configuration; `logger.mirror` may name a group, a kind of job, more tags.
        run_folder: names the run, also when it is resumed, and receives `wandb/`.
        card: of the run, with its redacted `config` and the `choices`.
        scored: `model` and `loss` as tables name them, for tags and grouping.
        job_type: where `logger.mirror` names none.

    Raises:
        UserError: an option of the logger is refused.
    """
    own = cfg.logger.mirror
    if own is None:
        return []
    of_agent = "WANDB_SWEEP_ID" in os.environ
    if of_agent and own.get("job_type") == "stage":
        return []  # the agent's one run is the recipe's
    groups = {key: value for key, value in card["choices"].items() if _is_group(key)}
    choices = groups | dict(scored)
    tags = [*(choices[group] for group in TAGS if choices.get(group)), *(own.get("tags") or ())]
    identity = {
        "save_dir": str(run_folder),
        "id": None if of_agent else run_folder.name.replace("_", "-"),
        "name": f"{cfg.name}/{run_folder.name}",
        "group": own.get("group") or cfg.name,
        "job_type": own.get("job_type") or job_type,
        "tags": list(dict.fromkeys(tags)),
        "resume": "allow",
    }
    logger = _opened(own, identity)
    told = {key: card[key] for key in TOLD}
    logger.log_hyperparams({**card["config"], names.CHOICES: choices, "run": told})
    return [logger]


def _is_group(key: str) -> bool:
    return not (key.startswith("hydra/") or "@" in key)


def _opened(own: DictConfig, identity: Mapping[str, Any]) -> WandbLogger:
    """Return a logger whose run has begun, offline without a key or a server."""

    def logger(mode: str | None) -> WandbLogger:
        # mode, by name: wandb has read its environment by now, where Lightning's offline= writes.
        return cast(WandbLogger, build(own, **identity, mode=mode))

    os.environ.setdefault("WANDB_SILENT", "true")  # the run folder is announced, and its files
    if wandb.setup().settings.mode == "disabled":
        return logger("disabled")
    if not wandb.login(prompt=False, verify=False):  # no key
        return logger("offline")
    if _begins(online := logger(None)):
        return online
    console.print("W&B cannot be reached, so this run is kept offline; upload it with wandb sync.")
    return logger("offline")


def _begins(logger: WandbLogger) -> bool:
    try:
        return logger.experiment is not None
    except wandb.errors.Error:
        wandb.teardown()  # its service still holds the run's id
        return False


def log_test(
    loggers: Iterable[Logger],
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    run_folder: Path,
) -> None:
    """Send what was scored to W&B, where it is among the loggers: table, means, strips.

    Args:
        loggers: of the run.
        rows: one per model and clip.
        columns: of the table.
        run_folder: holds `panels/test/<clip>.png`.
    """
    cells = [[row.get(column) for column in columns] for row in rows]
    strips = sorted((run_folder / "panels" / "test").glob("*.png"))
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_table(names.CLIPS, columns=list(columns), data=cells)
            for path in strips:
                logger.log_image(names.test_panel(path.stem), [str(path)])
            logger.experiment.summary.update(dict(_means(rows)))


def _means(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    for line in summarise(dict(row) for row in rows):
        for metric in names.TESTED:
            if line.get(metric) is not None:
                yield names.tested(line["source"], line["model"], metric), line[metric]


def finish_wandb() -> None:
    """End the process's W&B run, if there is one, so that the next run starts its own.

    Called in a `finally`, it marks a run that an exception has ended as failed.
    """
    if wandb.run is not None:
        wandb.run.finish(exit_code=int(sys.exc_info()[0] is not None))
