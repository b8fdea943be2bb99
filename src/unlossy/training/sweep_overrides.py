"""What the overrides of a sweep mean: its jobs or what it searches, its folder, what it refuses.

    params of conf/sweep/NAME.yaml  +  typed overrides  ->  merged  ->  combinations  (a grid)
                                                                    ->  distribution  (a search)

A typed override replaces a parameter of the same key, and a typed group (`trainer=tiny`) those
within it (`trainer.max_steps`), as in recipes of stages.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig, OmegaConf

from unlossy.errors import UserError

if TYPE_CHECKING:  # an extra
    from optuna.distributions import BaseDistribution

# Overrides that say nothing about what is trained: how, and where what it leaves lies.
ASIDE = ("hydra", "sweep", "name", "run_root", "logger")


def parse(arguments: Sequence[str]) -> list[Override]:
    """Return arguments as Hydra reads them."""
    return OverridesParser.create().parse_overrides(list(arguments))


def merged(own: Sequence[Override], typed: Sequence[Override]) -> list[Override]:
    """Return the parameters that no typed override replaces, and those.

    Raises:
        UserError: several values of what belongs to the whole sweep.
    """
    for override in typed:
        if override.is_sweep_override() and group_of(override.key_or_group) in ASIDE:
            raise UserError(
                f"{line_of(override)} has several values; {override.key_or_group} is of the whole "
                f"sweep, so give it one."
            )
    replaced = {o.key_or_group for o in typed}
    kept = [o for o in own if not replaced & {o.key_or_group, group_of(o.key_or_group)}]
    last = {o.get_key_element(): o for o in [*kept, *typed]}
    return list(last.values())


def combinations(overrides: Sequence[Override]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Return the keys that take several values, and every combination of all overrides.

    Raises:
        UserError: an override names an interval, which has no end of values.
    """
    axes: dict[str, list[str]] = {}
    varied = []
    for override in overrides:
        key = override.get_key_element()
        axes[key] = [line_of(override)]
        if override.is_sweep_override():
            if not override.is_discrete_sweep():
                raise UserError(
                    f"{override.input_line} has no end of values; list some, or search it with "
                    f"hydra/sweeper=optuna."
                )
            varied.append(key)
            axes[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
    return tuple(varied), [list(job) for job in itertools.product(*axes.values())]


def distribution(override: Override) -> BaseDistribution:
    """Return what Optuna calls a sweep: `interval(a,b)`, `range(a,b)` or `x,y,z`.

    An interval may be `tag(log,...)`, and of whole numbers, `int(interval(16,64))`.

    Raises:
        UserError: there is nothing in it.
    """
    try:
        return _distribution(override)
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise UserError(f"{line_of(override)} cannot be searched: {reason}.") from error


def _distribution(override: Override) -> BaseDistribution:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    value = override.value()
    if override.is_interval_sweep() and isinstance(value, IntervalSweep):
        log, low, high = "log" in value.tags, cast("Any", value.start), cast("Any", value.end)
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(float(low), float(high), log=log)
    if override.is_range_sweep() and isinstance(value, RangeSweep):
        steps = list(value.range())
        if not steps:
            raise ValueError("the range is empty")
        if all(isinstance(step, int) for step in steps):
            return IntDistribution(steps[0], steps[-1], step=int(value.step))
        return FloatDistribution(float(steps[0]), float(steps[-1]), step=float(value.step))
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def examples(space: Mapping[str, BaseDistribution]) -> list[list[str]]:
    """Return as few trials as have every choice at least once, and of numbers the lowest."""
    choices = {
        key: list(getattr(what, "choices", ())) or [getattr(what, "low", "")]
        for key, what in space.items()
    }
    count = max(map(len, choices.values()))
    return [[f"{k}={of[n % len(of)]}" for k, of in choices.items()] for n in range(count)]


def folder_of(config: DictConfig, typed: Sequence[Override]) -> Path:
    """Return `run_root/NAME`: a typed name, the sweep's file, or a hash of what is typed.

    Raises:
        UserError: a single run could have no such name or root, either.
    """
    from unlossy.training.configs import check_settings

    chosen = config.hydra.runtime.choices.get("sweep")
    if any(o.key_or_group == "name" for o in typed):
        name = config.name
    elif chosen:
        name = str(chosen).replace("/", "_")
    else:
        name = f"sweep_{digest([line_of(o) for o in typed])}"
    check_settings(OmegaConf.create({"name": name, "run_root": config.run_root, "seed": 0}))
    return Path(config.run_root) / str(name)


def digest(overrides: Sequence[str]) -> str:
    """Return 8 hexadecimal digits that stand for overrides in any order, but for `ASIDE`."""
    kept = sorted(line for line in overrides if group_of(key_of(line)) not in ASIDE)
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()[:8]


def line_of(override: Override) -> str:
    """Return an override as it was typed."""
    assert override.input_line is not None
    return override.input_line


def key_of(override: str) -> str:
    """Return what an override sets, without its sign and its package."""
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def group_of(key: str) -> str:
    """Return the first part of a key."""
    return key.partition(".")[0].partition("/")[0]


def refuse_checkpoint(config: DictConfig) -> None:
    """Refuse `ckpt=` for many runs.

    Raises:
        UserError: it is given.
    """
    if config.get("ckpt") is not None:
        raise UserError(
            f"ckpt={config.ckpt} is for one run; a sweep goes on by itself when its command is "
            f"typed again, so leave it out."
        )


def check_processes(cfg: DictConfig, launcher: DictConfig) -> None:
    """Refuse a job of several processes unless SLURM starts exactly those.

    A process that starts others types its own command again, and in a sweep that is all of it.

    Raises:
        UserError: naming the settings that do.
    """
    from unlossy.training.launching import team

    counts = ("devices", "num_nodes", "accelerator")
    asked = team(OmegaConf.create({k: cfg.trainer[k] for k in counts if k in cfg.trainer}))
    devices, nodes = asked.devices, asked.nodes
    if not str(launcher._target_).endswith("SlurmLauncher"):
        if asked.size > 1:
            raise UserError(
                f"-m cannot start jobs of {asked.size} processes on this machine; submit them "
                f"with hydra/launcher=slurm, or give each job one device with trainer.devices=1."
            )
        return
    tasks = int(launcher.get("tasks_per_node", 1)), int(launcher.get("nodes", 1))
    if tasks != (devices, nodes):
        raise UserError(
            f"SLURM would start {tasks[0]} tasks on each of {tasks[1]} nodes for a trainer of "
            f"{devices} devices on {nodes}; set hydra.launcher.tasks_per_node={devices} "
            f"hydra.launcher.nodes={nodes}."
        )
