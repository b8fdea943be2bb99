"""A recipe of several stages: each an ordinary run, and then the run that uses what they made.

    stages:   {stage1: [experiment=x, ...], stage2: ["init=${trained.stage1}", ...]}   overrides
    trained:  {stage1: null, stage2: null}             a path here, and that stage is not run
    model:    {s_ckpt: "${trained.stage1}", ...}       the last run, whose configuration this is

    runs/<name>/<date>_<time>_<hash>/            the last run: run.json rows.csv checkpoints/ ...
        stages/<stage>/<date>_<time>_<hash>/     each stage: run.json checkpoints/best.ckpt ...

A stage is composed from its own overrides and from those of the command line that tell what is
trained on and how (`SHARED`), of which the command line's win. It is not scored on the test split.
With `ckpt=last` finished stages are skipped and an unfinished one goes on where it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf, open_dict

from unlossy import checkpoint as checkpoints
from unlossy.errors import UserError
from unlossy.training import folder as folders
from unlossy.training import runs
from unlossy.training.configs import check_numbers, compose, resolved
from unlossy.training.trainers import console

# First parts of the keys whose overrides on the command line are meant for every stage, too.
SHARED = frozenset(
    {
        *("seed", "source", "degradation", "data", "network", "trainer", "optimizer", "schedule"),
        *("metrics", "logger", "checkpoint_every", "ema"),
    }
)


def train(cfg: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str] = ()) -> Path:
    """Run the stages of a recipe, if it has any, then the recipe's own run; return its folder.

    Args:
        cfg: a composed `conf/train.yaml`.
        choices: the name chosen in each group.
        overrides: the command line that it was composed from, as typed.

    Raises:
        UserError: as for `runs.train`; a recipe that cannot be run or gone on with.
    """
    if not cfg.stages:
        return runs.train(cfg, choices)
    config = resolved(cfg)
    check_numbers(cfg)
    # As written: what they refer to is the stage's configuration, not this one.
    written = cast("dict[str, list[str]]", OmegaConf.to_container(cfg.stages, resolve=False))
    composed = {name: compose(_of_stage(own, overrides)) for name, own in written.items()}
    for name, path in cfg.trained.items():
        if name not in composed:
            raise UserError(f"trained.{name} is no stage; this recipe has {', '.join(composed)}.")
        if path is not None:
            checkpoints.describe(path)
    folder = _folder(cfg, config)
    console.print(f"recipe folder: {folder}")
    try:
        for number, (name, (stage, chosen)) in enumerate(composed.items(), 1):
            console.print(f"stage {number} of {len(composed)}: {name}")
            if cfg.trained.get(name) is None:
                best = _finished(folder / "stages" / name) or _run(
                    stage, chosen, cfg.trained, folder, name
                )
                OmegaConf.update(cfg.trained, name, str(best), force_add=True)
            console.print(f"{name}: {cfg.trained[name]}")
    finally:
        for empty in (folder / "stages", folder):
            folders.remove_if_empty(empty)
    last = folder / "checkpoints" / "last.ckpt"
    cfg.ckpt = str(last) if last.exists() else None
    return runs.train(cfg, choices, into=folder)


def _of_stage(own: Sequence[str], typed: Sequence[str]) -> list[str]:
    """Return the overrides of a stage: its own, as far as no typed one replaces them, and those."""
    # Which kind of data module a stage reads is its own affair.
    shared = [o for o in typed if _key(o).split(".")[0] in SHARED and _key(o) != "data"]
    replaced = {_key(override) for override in shared}
    kept = [o for o in own if not replaced & {_key(o), _key(o).split(".")[0]}]
    return [*kept, *shared, "test=false"]


def _key(override: str) -> str:
    """Return what an override sets: `trainer` of `trainer=tiny`, `data.crop` of `++data.crop=8`."""
    return re.split(r"[=@]", override.lstrip("+~"), maxsplit=1)[0]


def _folder(cfg: DictConfig, config: Mapping[str, Any]) -> Path:
    root, digest = Path(cfg.run_root), folders.config_hash(config)
    if cfg.ckpt is None:
        return folders.make(root, cfg.name, digest)
    if cfg.ckpt != "last":
        raise UserError(
            f"ckpt={cfg.ckpt} names one run, but this recipe has stages; go on with it by "
            f"ckpt=last, or name finished stages, such as trained.{next(iter(cfg.stages))}=PATH."
        )
    return folders.find_last(root, cfg.name, digest, "stages").parent


def _finished(folder: Path) -> Path | None:
    """Return the best checkpoint of the newest run of a stage that came to its end."""
    for card in sorted(folder.glob("*/run.json"), reverse=True):
        with suppress(ValueError):
            if "seconds" in json.loads(card.read_text(encoding="utf-8")):
                return card.parent / "checkpoints" / "best.ckpt"
    return None


def _run(
    stage: DictConfig, choices: Mapping[str, Any], trained: DictConfig, folder: Path, name: str
) -> Path:
    """Run a stage, or the rest of it, and return its best checkpoint."""
    killed = sorted((folder / "stages" / name).glob("*/checkpoints/last.ckpt"))
    with open_dict(stage):
        stage.trained = dict(trained)
    stage.run_root, stage.name = str(folder / "stages"), name
    stage.ckpt = str(killed[-1]) if killed else None
    return runs.train(stage, choices) / "checkpoints" / "best.ckpt"
