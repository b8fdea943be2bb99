"""The two Hydra sweepers of `train.py -m`: every combination, or what Optuna asks for.

Hydra builds sweepers from this namespace only, and imports all of it whenever it starts: nothing
here imports more than Hydra before a sweep begins. What overrides mean is in
`unlossy.training.sweep_overrides`, what a job does and leaves in `unlossy.training.sweeps`, the
search in `unlossy.training.studies`.
"""

from __future__ import annotations

import multiprocessing
import os
import shlex
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

if TYPE_CHECKING:  # importing them would cost every start of Hydra seconds
    from optuna.trial import Trial

    from unlossy.training.sweeps import Record, Sweep

UNPRUNED = {"_target_": "optuna.pruners.NopPruner"}


def task(sweep: Sweep, cfg: DictConfig) -> Record:
    """Do a job, in whichever process the launcher started for it."""
    from unlossy.training.sweeps import run_job

    methods = multiprocessing.get_all_start_methods()
    if multiprocessing.get_start_method() not in methods:
        # joblib has made its own the default in this process; with that no loader's worker starts.
        multiprocessing.set_start_method(methods[0], force=True)
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
        from unlossy.training.sweep_overrides import folder_of, merged, parse, refuse_checkpoint

        assert self.config is not None
        with refusing():
            refuse_checkpoint(self.config)
            own = [f"{key}={value}" for key, value in self.params.items()]
            parsed = merged(parse(own), parse(arguments))
            folder = folder_of(self.config, parse(arguments))
            with open_dict(self.config.hydra):  # where a launcher keeps its own logs
                self.config.hydra.sweep.dir = str(folder)
            code = self.run(folder, parsed)
        sys.exit(code)

    @abstractmethod
    def run(self, folder: Path, overrides: Sequence[Override]) -> int:
        """Run the jobs and return the exit code."""

    def compose(self, jobs: Sequence[Sequence[str]]) -> list[DictConfig]:
        """Compose jobs, and refuse one that cannot run in a sweep.

        What fails after it is not the command line any more.

        Raises:
            UserError: one would start further processes by itself.
        """
        from unlossy.refusals import WHOLE
        from unlossy.training.sweep_overrides import check_processes

        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        found = [loader.load_sweep_config(self.config, list(job)) for job in jobs]
        for cfg in found:
            check_processes(cfg, self.config.hydra.launcher)
        os.environ.pop(WHOLE, None)
        return found

    def launch(
        self, sweep: Sweep, jobs: Sequence[Sequence[str]], first: int
    ) -> tuple[list[Record], str]:
        """Return the jobs' records, or why the launcher came to no end, "" if it did.

        A job never raises; a launcher does, where a process is killed or a node is lost.
        """
        assert self.hydra_context is not None
        assert self.config is not None
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra_context,
            task_function=cast("TaskFunction", partial(task, sweep)),
            config=self.config,
        )
        try:
            returns = launcher.launch(jobs, initial_job_idx=first)
            return [one.return_value for one in returns], ""
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0]
            return [], f"The launcher gave up: {type(error).__name__}: {reason}"

    def alone(self) -> bool:
        """Return whether one job runs at a time, on this terminal."""
        assert self.config is not None
        return "BasicLauncher" in self.config.hydra.launcher._target_


class GridSweeper(_Sweeper):
    """Every combination of the values given: `-m loss=l1,grad seed=0,1`."""

    def run(self, folder: Path, overrides: Sequence[Override]) -> int:
        """Run all combinations through the launcher at once."""
        from unlossy.training.sweep_overrides import combinations
        from unlossy.training.sweeps import Sweep, conclude, left_by
        from unlossy.training.trainers import console

        varied, jobs = combinations(overrides)
        self.compose(jobs)
        console.print(f"sweep folder: {folder}, {len(jobs)} jobs")
        folder.mkdir(parents=True, exist_ok=True)
        records, reason = self.launch(Sweep(folder, varied, len(jobs), self.alone()), jobs, 0)
        if reason:
            again = "type the same command again to do what is missing"
            console.print(f"{reason}; {again}.", style="red")
            records = left_by(folder, varied, jobs)
        return conclude(folder, records) or int(bool(reason))


class OptunaSweeper(_Sweeper):
    """Trials of an Optuna study, one at a time; more processes of the same command help along.

    Args:
        params: override -> an interval, a range or choices to search, or one value.
        n_trials: of all processes together.
        storage: URL of a database; None is `study.db` in the sweep's folder.
        sampler: node of the sampler.
        pruner: node of the pruner; None prunes nothing.
        seed: of the sampler.
    """

    def __init__(
        self,
        params: Mapping[str, Any] | None,
        n_trials: int,
        storage: str | None,
        sampler: DictConfig,
        pruner: DictConfig | None,
        seed: int,
    ) -> None:
        super().__init__(params)
        self.n_trials = n_trials
        self.storage = storage
        self.sampler = sampler
        self.pruner = OmegaConf.create(UNPRUNED) if pruner is None else pruner
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
            failed_trial,
            parameters,
            run_trials,
        )
        from unlossy.training.sweep_overrides import (
            digest,
            distribution,
            examples,
            key_of,
            line_of,
        )
        from unlossy.training.sweeps import Sweep, begun, objective_of, write_csv
        from unlossy.training.trainers import console

        space = {o.get_key_element(): distribution(o) for o in overrides if o.is_sweep_override()}
        if not space:
            raise UserError(
                "There is nothing to search; give an override an interval, such as "
                "'optimizer.lr=tag(log,interval(1e-4,1e-2))'."
            )
        fixed = [line_of(o) for o in overrides if not o.is_sweep_override()]
        if not any(key_of(line) == "test" for line in fixed):
            fixed.append("test=false")  # or the test split would be searched on
        watched = objective_of(self.compose([[*fixed, *one] for one in examples(space)])[0])
        search = Search(
            folder=folder,
            storage=self.storage or f"sqlite:///{(folder / 'study.db').resolve()}",
            space=space,
            n_trials=self.n_trials,
            direction="maximize" if watched.mode == "max" else "minimize",
            sampler=self.sampler,
            pruner=self.pruner,
            seed=self.seed,
            settings=digest([*fixed, *(line_of(o) for o in overrides if o.is_sweep_override())]),
        )
        folder.mkdir(parents=True, exist_ok=True)
        console.print(f"sweep folder: {folder}, {self.n_trials} trials, for {watched.name}")

        works = False  # whether the launcher is known to: with one that never did, no trial is lost

        def launch(trial: Trial) -> Record:
            nonlocal works
            told = {"storage": search.storage, "study": search.name, "number": trial.number}
            told["pruner"] = OmegaConf.to_container(search.pruner)
            sweep = Sweep(folder, tuple(space), self.n_trials, self.alone(), told)
            job = [*fixed, *parameters(trial)]
            records, reason = self.launch(sweep, [job], trial.number)
            works = works or bool(records) or begun(folder, trial.number)
            if not works:
                raise UserError(f"{reason}; once it works, the same command goes on.")
            record = records[0] if records else failed_trial(search, trial, reason)
            write_csv(folder)
            return record

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
        from unlossy.training.sweep_overrides import group_of, key_of

        own = {key.partition("@")[0] for key in self.params if group_of(key) == "trainer"}
        left = {"hydra", "sweep", "name", "test", *own}
        kept = [o for o in fixed if not left & {key_of(o), group_of(key_of(o))}]
        program = sys.argv[0]
        door = ["python", program] if program.endswith(".py") else [Path(program).name, "train"]
        return shlex.join([*door, *kept, *found])
