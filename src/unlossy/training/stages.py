"""A recipe of several stages: each an ordinary run, and then the run that uses what they made.

    stages:   {stage1: [experiment=x, ...], stage2: ["init=${trained.stage1}", ...]}   overrides
    trained:  {stage1: null, stage2: null}             a path here, and that stage is not run
    model:    {s_ckpt: "${trained.stage1}", ...}       the last run, whose configuration this is

    runs/<name>/<date>_<time>_<hash>/            the last run: run.json rows.csv checkpoints/ ...
        stages/<stage>/<date>_<time>_<hash>/     each stage: run.json checkpoints/best.ckpt ...

A stage is composed from its own overrides and from those of the command line that tell what is
trained on and how (`SHARED`), of which the command line's win. It is not scored on the test split.
With `ckpt=last` finished stages are skipped and an unfinished one goes on where it was.

Before any of it the recipe is rehearsed: every run is built, and stands in for its own result,
untrained, where a later run refers to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from unlossy import checkpoint as checkpoints
from unlossy.errors import UserError
from unlossy.training import folder as folders
from unlossy.training import ranks, runs
from unlossy.training.configs import check_settings, compose, resolved
from unlossy.training.launching import Team, joined, team
from unlossy.training.trainers import say

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
    check_settings(cfg)
    if not cfg.stages:
        return runs.train(cfg, choices)
    _check(cfg)
    config = resolved(cfg)
    again = _killed(cfg, config) if cfg.ckpt else None
    # As written: what they refer to is the stage's configuration, not this one.
    written = cast("dict[str, list[str]]", OmegaConf.to_container(cfg.stages, resolve=False))
    composed = {
        name: compose(f"stage {name}", _of_stage(own, overrides))
        for name, own in written.items()
        if cfg.trained.get(name) is None
    }
    _rehearse(cfg, choices, composed, again)
    with joined(_one_team(cfg, composed)):
        root, digest = Path(cfg.run_root), folders.config_hash(config)
        folder = ranks.from_first(lambda: again or folders.make(root, cfg.name, digest))
        say(f"recipe folder: {folder}")
        try:
            for number, name in enumerate(written, 1):
                say(f"stage {number} of {len(written)}: {name}")
                if name in composed:
                    stage, chosen = composed[name]
                    stage = _with(stage, trained=dict(cfg.trained))
                    best = _best_of(stage, chosen, cfg.name, folder, name)
                    cfg = _with(cfg, trained={**cfg.trained, name: str(best)})
                say(f"{name}: {cfg.trained[name]}")
            last = folder / "checkpoints" / "last.ckpt"
            going_on = ranks.from_first(last.exists)
            return runs.train(_with(cfg, ckpt=str(last) if going_on else None), choices, folder)
        finally:
            if ranks.first_rank():
                for empty in (folder / "stages", folder):
                    folders.remove_if_empty(empty)


def _one_team(cfg: DictConfig, composed: Mapping[str, tuple[DictConfig, Any]]) -> Team:
    """Return the processes of all runs of a recipe, which stay the same."""
    teams = {team(one.trainer) for one in (cfg, *(stage for stage, _ in composed.values()))}
    if len(teams) > 1:
        raise UserError(
            "The stages of a recipe are trained by the same processes, and these ask for different "
            "ones; set trainer=ddp, or trainer.devices, for all of them on the command line."
        )
    return teams.pop()


def _check(cfg: DictConfig) -> None:
    """Refuse checkpoints that a recipe cannot begin with."""
    instead = f"name finished stages, such as trained.{next(iter(cfg.stages))}=PATH."
    if cfg.init is not None:
        raise UserError(f"init={cfg.init} starts one run, and this recipe has stages; {instead}")
    if cfg.ckpt not in (None, "last"):
        raise UserError(
            f"ckpt={cfg.ckpt} names one run, and this recipe has stages; go on with all of it by "
            f"ckpt=last, or {instead}"
        )
    for name, path in cfg.trained.items():
        if name not in cfg.stages:
            raise UserError(f"trained.{name} is no stage; this recipe has {', '.join(cfg.stages)}.")
        if path is not None:
            checkpoints.describe(path)


def _killed(cfg: DictConfig, config: Mapping[str, Any]) -> Path:
    """Return the folder of the recipe to go on with."""
    root, digest = Path(cfg.run_root), folders.config_hash(config)
    same, others = folders.runs_of(root, cfg.name, digest, "stages")
    if same:
        return same[-1]
    other = f", or pass the settings of {others[-1]}" if others else ""
    raise UserError(
        f"ckpt=last: no run under {root / cfg.name} has this configuration and has begun a stage; "
        f"start the recipe without ckpt{other}."
    )


def _rehearse(
    cfg: DictConfig,
    choices: Mapping[str, Any],
    composed: Mapping[str, tuple[DictConfig, Mapping[str, Any]]],
    again: Path | None,
) -> None:
    """Refuse a recipe that would fail later, when hours have been spent on its first stages."""
    trained = dict(cfg.trained)
    with TemporaryDirectory() as place:
        for name, (one, chosen) in (*composed.items(), ("", (cfg, choices))):
            run = _with(one, trained=trained, ckpt=None)
            try:
                content = runs.check(run, chosen)
            except UserError as error:
                reason = re.sub(rf"{re.escape(place)}/([^/\s]+)\.ckpt", r"<\1>", str(error))
                raise UserError(reason) from error
            if name:
                trained[name] = f"{place}/{name}.ckpt"
                torch.save(content, trained[name])
                if again is not None:
                    _finished(again / "stages" / name, run)


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


def _finished(folder: Path, stage: DictConfig) -> Path | None:
    """Return the best checkpoint of the newest run of a stage that came to its end.

    Raises:
        UserError: a run of the stage had other settings.
    """
    config = resolved(stage)
    for path in sorted(folder.glob("*/run.json"), reverse=True):
        different = folders.first_difference(path.parent, config)
        card = json.loads(path.read_text(encoding="utf-8"))
        steps = card["config"]["trainer"]["max_steps"]
        if steps != config["trainer"]["max_steps"]:
            different = f"trainer.max_steps ({steps})"
        if different:
            raise UserError(
                f"ckpt=last: {path.parent} was trained with another {different}; pass that "
                f"setting, or start the recipe without ckpt."
            )
        if "seconds" in card:
            return path.parent / "checkpoints" / "best.ckpt"
    return None


def _best_of(
    stage: DictConfig, choices: Mapping[str, Any], recipe: str, folder: Path, name: str
) -> Path:
    """Run a stage, or the rest of it, unless it is finished, and return its best checkpoint."""
    root = folder / "stages"
    if done := ranks.from_first(lambda: _finished(root / name, stage)):
        return done
    killed = ranks.from_first(lambda: sorted((root / name).glob("*/checkpoints/last.ckpt")))
    ckpt = str(killed[-1]) if killed else None
    stage = _with(stage, run_root=str(root), name=name, ckpt=ckpt)
    if stage.logger.mirror is not None:
        own = stage.logger.mirror
        stage.logger.mirror = {**own, "group": own.get("group") or recipe, "job_type": "stage"}
    return runs.train(stage, choices) / "checkpoints" / "best.ckpt"


def _with(cfg: DictConfig, **values: Any) -> DictConfig:
    """Return a copy of the configuration with other values: no override has to quote a path."""
    changed = deepcopy(cfg)
    with open_dict(changed):
        changed.update(values)
    return changed
