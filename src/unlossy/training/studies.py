"""A search: trials of an Optuna study, made by any number of processes on one storage.

    lock: bury the trials of dead processes · enough trials? · ask     then, unlocked: run · tell

Exactly `n_trials` are made in all, whoever makes them. A process that runs a trial holds a lock
file; a trial that is `RUNNING` though its lock is free was killed, and its parameters are asked for
again, so that its run goes on from where it was. The sampler is seeded by (seed, trial), because
processes with one seed would all draw the same first trials, and a resumed one its own again.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import optuna
from filelock import FileLock, Timeout
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from unlossy.errors import UserError
from unlossy.training.configs import build
from unlossy.training.sweeps import Record

REPEATS = "repeats"  # of a trial: the number of the one whose process was killed
ERROR = "error"  # of a trial: why it failed
TRIES = 3  # processes that one set of parameters may kill


@dataclass(frozen=True)
class Search:
    """What is searched, and how.

    Args:
        folder: of the sweep; receives lock files.
        storage: URL of the database.
        space: override -> what it may be.
        n_trials: of all processes together.
        direction: of the objective.
        sampler: node of the sampler, built anew for every trial with its seed.
        seed: of the sampler.
        settings: stands for what is the same in all trials.

    Raises:
        UserError: the storage is no URL, or holds a password, which every run's card would keep.
    """

    folder: Path
    storage: str
    space: Mapping[str, BaseDistribution]
    n_trials: int
    direction: Literal["maximize", "minimize"]
    sampler: DictConfig
    seed: int
    settings: str

    def __post_init__(self) -> None:
        if "://" not in self.storage:
            raise UserError(
                f"hydra.sweeper.storage={self.storage} is no URL of a database; write one like "
                f"sqlite:///study.db or postgresql://HOST/DATABASE."
            )
        if urlsplit(self.storage).password:
            raise UserError(
                "hydra.sweeper.storage holds a password, which would be written into every run; "
                "leave it out of the URL and set PGPASSWORD or ~/.pgpass (MySQL: ~/.my.cnf)."
            )

    @property
    def name(self) -> str:
        """The study's name in its storage."""
        return self.folder.name


def open_storage(url: str) -> RDBStorage:
    """Return the database of studies, made if it is not there.

    Raises:
        UserError: it cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a failed trial has its record
    # Workers wait for each other's writes.
    patience = {"timeout": 120} if url.startswith("sqlite") else {}
    try:
        return RDBStorage(url, engine_kwargs={"connect_args": patience})
    except Exception as error:  # of SQLAlchemy, of the database's driver, of Alembic
        raise UserError(
            f"hydra.sweeper.storage={url} cannot be opened: {str(error).splitlines()[0]}"
        ) from error


def run_trials(search: Search, launch: Callable[[Trial], Record]) -> optuna.Study:
    """Make trials until there are enough and none runs, here or elsewhere; return the study.

    Args:
        search: what to search.
        launch: runs the trial with these parameters, and returns how it ended.

    Raises:
        UserError: the study was made with other settings.
    """
    lock = FileLock(search.folder / "study.lock")
    with lock:  # two processes that make the tables at once both fail
        study = optuna.create_study(
            storage=open_storage(search.storage),
            study_name=search.name,
            direction=search.direction,
            load_if_exists=True,
        )
        _check_settings(study, search)
    while True:
        with lock:
            busy = _bury_the_dead(study, search.folder)
            trial = _next_trial(study, search)
            alive = None if trial is None else _life(search.folder, trial.number).acquire()
        if trial is not None and alive is not None:
            with alive:
                _tell(study, trial, launch(trial))
        elif busy:
            time.sleep(0.5)
        else:
            return study


def _check_settings(study: optuna.Study, search: Search) -> None:
    before = study.user_attrs.get("settings")
    if before is None:
        study.set_user_attr("settings", search.settings)
    elif before != search.settings or study.direction.name.lower() != search.direction:
        raise UserError(
            f"{search.folder} holds a study with other settings than these; type the same as then "
            f"to go on with it, or begin another with name=NAME."
        )


def _life(folder: Path, number: int) -> FileLock:
    """Return the lock that the process of a trial holds."""
    place = folder / "jobs"
    place.mkdir(parents=True, exist_ok=True)
    return FileLock(place / f"trial_{number}.lock")


def _bury_the_dead(study: optuna.Study, folder: Path) -> bool:
    """Fail the trials of killed processes and ask for them again; return whether others live."""
    living = False
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        life = _life(folder, trial.number)
        if not Path(life.lock_file).exists():  # on a machine that does not share the folder
            continue
        try:
            with life.acquire(timeout=0):
                if study.get_trials(deepcopy=False)[trial.number].state == TrialState.RUNNING:
                    _repeat(study, trial)
        except Timeout:
            living = True
    return living


def _repeat(study: optuna.Study, trial: FrozenTrial) -> None:
    tries = trial.user_attrs.get("tries", 1)
    if tries < TRIES:
        study.enqueue_trial(trial.params, user_attrs={REPEATS: trial.number, "tries": tries + 1})
    study.tell(trial.number, state=TrialState.FAIL)


def _next_trial(study: optuna.Study, search: Search) -> Trial | None:
    trials = study.get_trials(deepcopy=False)
    repeated = {t.user_attrs[REPEATS] for t in trials if REPEATS in t.user_attrs}
    begun = [t for t in trials if t.state != TrialState.WAITING and t.number not in repeated]
    if len(begun) >= search.n_trials:
        return None
    seed = search.seed * 1_000_003 + len(trials)
    with _quiet():
        study.sampler = build(search.sampler, seed=seed % 2**32)
        return study.ask(dict(search.space))


def _tell(study: optuna.Study, trial: Trial, record: Record) -> None:
    if record.status == "pruned":
        study.tell(trial, state=TrialState.PRUNED)
    elif record.status == "finished" and record.objective is not None:
        study.tell(trial, record.objective)
    else:
        trial.set_user_attr(ERROR, record.error or "It measured nothing in validation.")
        study.tell(trial, state=TrialState.FAIL)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from announcing what is experimental in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the best trial that came to its end, None if there is none."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return study.best_trial if done else None


def parameters(trial: Trial | FrozenTrial) -> list[str]:
    """Return a trial's parameters as overrides."""
    return [f"{name}={value}" for name, value in trial.params.items()]


def describe(trial: FrozenTrial) -> str:
    """Return a trial in a few words: its parameters, floats to four digits."""
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in trial.params.items()
    )
