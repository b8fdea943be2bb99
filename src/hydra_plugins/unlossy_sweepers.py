"""The two Hydra sweepers of `train.py -m`: every combination, or what Optuna asks for.

Hydra builds sweepers from this namespace only, and imports all of it whenever it starts: nothing
here imports more than Hydra before a sweep begins. What a job does and leaves is in
`unlossy.training.sweeps`, the search in `unlossy.training.studies`.

    params of conf/sweep/NAME.yaml  +  typed overrides  ->  jobs  ->  the configured launcher

A typed override replaces a parameter of the same key, and a typed group (`trainer=tiny`) those
within it (`trainer.max_steps`), as in recipes of stages.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

if TYPE_CHECKING:  # importing them would cost every start of Hydra seconds
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

    from unlossy.training.sweeps import Record, Sweep

# Overrides that say nothing about what is trained: how, and where what it leaves lies.
ASIDE = ("hydra", "sweep", "name", "run_root", "logger")


def task(sweep: Sweep, cfg: DictConfig) -> Record:
    """Do a job, in whichever process the launcher started for it."""
    from unlossy.training.sweeps import run_job

    hydra = HydraConfig.get()
    overrides = list(hydra.overrides.task)
    return run_job(sweep, cfg, hydra.runtime.choices, overrides, hydra.job.num)


class _Sweeper(Sweeper):
    """What both sweepers have in common.

    Args:
        params: override -> what it sweeps over.
    """

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        self.params = dict(params or {})
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra has composed; its task function is for single runs."""
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> None:
        """Run the sweep, print its table, and end the process with 1 if a job failed."""
        from unlossy.cli import refusing

        assert self.config is not None
        with refusing():
            _refuse_checkpoint(self.config)
            _check_launcher(self.config)
            own = [f"{key}={value}" for key, value in self.params.items()]
            parsed = _merged(_parse(own), _parse(arguments))
            folder = _folder(self.config, _parse(arguments))
            with open_dict(self.config.hydra):  # where a launcher keeps its own logs
                self.config.hydra.sweep.dir = str(folder)
            code = self.run(folder, parsed)
        sys.exit(code)

    def run(self, folder: Path, overrides: Sequence[Override]) -> int:
        """Run the jobs and return the exit code."""
        raise NotImplementedError

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Compose a job, and refuse one that cannot run in a sweep.

        Raises:
            UserError: it would start further processes by itself.
        """
        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        cfg = loader.load_sweep_config(self.config, list(overrides))
        _check_processes(cfg, self.config.hydra.launcher)
        return cfg

    def launch(
        self, sweep: Sweep, jobs: Sequence[Sequence[str]], first: int
    ) -> tuple[list[Record], bool]:
        """Return the jobs' records, and whether the launcher came to its end.

        A job never raises; a launcher does, where a process is killed or a node is lost.
        """
        from unlossy.refusals import WHOLE
        from unlossy.training.trainers import console

        assert self.hydra_context is not None
        assert self.config is not None
        os.environ.pop(WHOLE, None)  # all is composed: what fails now is not the command line
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra_context,
            task_function=cast("TaskFunction", partial(task, sweep)),
            config=self.config,
        )
        try:
            returns = launcher.launch(jobs, initial_job_idx=first)
            return [one.return_value for one in returns], True
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0]
            console.print(
                f"The launcher gave up ({type(error).__name__}: {reason}); type the same command "
                f"again to do what is missing.",
                style="red",
            )
            return [], False


class GridSweeper(_Sweeper):
    """Every combination of the values given: `-m loss=l1,grad seed=0,1`."""

    def run(self, folder: Path, overrides: Sequence[Override]) -> int:
        """Run all combinations through the launcher at once."""
        from unlossy.training.sweeps import Sweep, conclude
        from unlossy.training.trainers import console

        assert self.config is not None
        varied, jobs = combinations(overrides)
        for job in jobs:
            self.compose(job)
        console.print(f"sweep folder: {folder}, {len(jobs)} jobs")
        folder.mkdir(parents=True, exist_ok=True)
        alone = "BasicLauncher" in self.config.hydra.launcher._target_
        records, ended = self.launch(Sweep(folder, varied, len(jobs), alone), jobs, 0)
        return conclude(folder, records) or int(not ended)


class OptunaSweeper(_Sweeper):
    """Trials of an Optuna study, one at a time; more processes of the same command help along.

    Args:
        params: override -> an interval, a range or choices to search, or one value.
        n_trials: of all processes together.
        storage: URL of a database; None is `study.db` in the sweep's folder.
        sampler: node of the sampler.
        pruner: node of the pruner.
        seed: of the sampler.
    """

    def __init__(
        self,
        params: Mapping[str, Any] | None,
        n_trials: int,
        storage: str | None,
        sampler: DictConfig,
        pruner: DictConfig,
        seed: int,
    ) -> None:
        super().__init__(params)
        self.n_trials = n_trials
        self.storage = storage
        self.sampler = sampler
        self.pruner = pruner
        self.seed = seed

    def run(self, folder: Path, overrides: Sequence[Override]) -> int:
        """Make trials until there are enough, then say which is the best."""
        from unlossy.errors import UserError

        if find_spec("optuna") is None:
            raise UserError('This sweep needs Optuna; pip install "unlossy[optuna]" brings it.')
        from unlossy.training.studies import (
            Search,
            best_trial,
            describe,
            parameters,
            run_trials,
        )
        from unlossy.training.sweeps import Sweep, objective_of, write_csv
        from unlossy.training.trainers import console

        space = {o.get_key_element(): distribution(o) for o in overrides if o.is_sweep_override()}
        if not space:
            raise UserError(
                "There is nothing to search; give an override an interval, such as "
                "'optimizer.lr=tag(log,interval(1e-4,1e-2))'."
            )
        fixed = [_typed(o) for o in overrides if not o.is_sweep_override()]
        if not any(_key(line) == "test" for line in fixed):
            fixed.append("test=false")  # or the test split would be searched on
        watched = objective_of(self.compose(fixed))
        search = Search(
            folder=folder,
            storage=self.storage or f"sqlite:///{(folder / 'study.db').resolve()}",
            space=space,
            n_trials=self.n_trials,
            direction="maximize" if watched.mode == "max" else "minimize",
            sampler=self.sampler,
            seed=self.seed,
            settings=_digest(fixed),
        )
        folder.mkdir(parents=True, exist_ok=True)
        console.print(f"sweep folder: {folder}, {self.n_trials} trials, for {watched.name}")

        def launch(trial: Trial) -> Record:
            assert self.config is not None
            told = {"storage": search.storage, "study": search.name, "number": trial.number}
            told["pruner"] = OmegaConf.to_container(self.pruner)
            alone = "BasicLauncher" in self.config.hydra.launcher._target_
            sweep = Sweep(folder, tuple(space), self.n_trials, alone, told)
            job = [*fixed, *parameters(trial)]
            records, _ = self.launch(sweep, [job], trial.number)
            write_csv(folder)
            return records[0]

        study = run_trials(search, launch)
        best = best_trial(study)
        states = [trial.state.name.lower() for trial in study.get_trials(deepcopy=False)]
        told = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        console.print(f"{len(states)} trials ({told}): {write_csv(folder)}")
        if best is None:
            console.print("No trial came to its end; sweep.csv says why.", style="red")
            return 1
        console.print(
            f"best: trial {best.number} with {watched.name} {best.value:.4f}: {describe(best)}\n"
            f"Train it fully and score it:\n  {self._command(fixed, parameters(best))}"
        )
        return 0

    def _command(self, fixed: Sequence[str], found: Sequence[str]) -> str:
        """Return the single run with the parameters found, without the budget of a trial."""
        own = {key.partition("@")[0] for key in self.params if _group(key) == "trainer"}
        left = {"hydra", "sweep", "name", "test", *own}
        kept = [o for o in fixed if not left & {_key(o), _group(_key(o))}]
        program = sys.argv[0]
        door = ["python", program] if program.endswith(".py") else [Path(program).name, "train"]
        return shlex.join([*door, *kept, *found])


def combinations(overrides: Sequence[Override]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Return the keys that take several values, and every combination of all overrides.

    Raises:
        UserError: an override names an interval, which has no end of values.
    """
    from unlossy.errors import UserError

    axes: dict[str, list[str]] = {}
    varied = []
    for override in overrides:
        key = override.get_key_element()
        axes[key] = [_typed(override)]
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
    """
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
        if all(isinstance(step, int) for step in steps):
            return IntDistribution(steps[0], steps[-1], step=int(value.step))
        return FloatDistribution(float(steps[0]), float(steps[-1]), step=float(value.step))
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def _typed(override: Override) -> str:
    assert override.input_line is not None
    return override.input_line


def _parse(arguments: Sequence[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(arguments))


def _merged(own: Sequence[Override], typed: Sequence[Override]) -> list[Override]:
    """Return the parameters that no typed override replaces, and those."""
    replaced = {o.key_or_group for o in typed}
    kept = [o for o in own if not replaced & {o.key_or_group, _group(o.key_or_group)}]
    last = {o.get_key_element(): o for o in [*kept, *typed]}
    return list(last.values())


def _folder(config: DictConfig, typed: Sequence[Override]) -> Path:
    """Return `run_root/NAME`: a typed name, the sweep's file, or a hash of what is typed."""
    names = [o.value() for o in typed if o.key_or_group == "name"]
    chosen = config.hydra.runtime.choices.get("sweep")
    if names:
        name = str(names[-1])
    elif chosen:
        name = str(chosen).replace("/", "_")
    else:
        name = f"sweep_{_digest([_typed(o) for o in typed])}"
    return Path(config.run_root) / name


def _digest(overrides: Sequence[str]) -> str:
    """Return 8 hexadecimal digits that stand for overrides in any order, but for `ASIDE`."""
    kept = sorted(line for line in overrides if _group(_key(line)) not in ASIDE)
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()[:8]


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def _group(key: str) -> str:
    return key.partition(".")[0].partition("/")[0]


def _refuse_checkpoint(config: DictConfig) -> None:
    from unlossy.errors import UserError

    if config.get("ckpt") is not None:
        raise UserError(
            f"ckpt={config.ckpt} is for one run; a sweep goes on by itself when its command is "
            f"typed again, so leave it out."
        )


def _check_launcher(config: DictConfig) -> None:
    """Refuse a crowd on one GPU."""
    from unlossy.errors import UserError

    kind = str(config.hydra.launcher._target_).rpartition(".")[2]
    on_gpu = config.trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda")
    if kind == "JoblibLauncher" and config.hydra.launcher.n_jobs < 0 and on_gpu:
        import torch

        if torch.cuda.is_available():
            raise UserError(
                "hydra/launcher=joblib would start a job per core, all on one GPU; say how many "
                "fit on it with hydra.launcher.n_jobs=2."
            )


def _check_processes(cfg: DictConfig, launcher: DictConfig) -> None:
    """Refuse a job of several processes unless SLURM starts exactly those.

    Lightning would start them by typing the whole command again, sweep and all.
    """
    from unlossy.errors import UserError
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
