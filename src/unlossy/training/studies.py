"""A search: trials of an Optuna study, made by any number of processes on one storage.

    lock: bury the dead trials · enough trials? · ask · hold the trial's own lock
    then, unlocked: run · tell

Exactly `n_trials` are made in all, whoever makes them. One rule says what became of a trial: it is
alive while its process holds its lock file, and dead if it is `RUNNING` with that free. A dead one
that left its record is told from it; another's parameters are asked for again, so that its run goes
on from where it was. All processes therefore share the sweep's folder.

The sampler is seeded by (seed, trial), because processes with one seed would all draw the same
first trials, and a resumed one its own again.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from uuid import uuid4

import optuna
from filelock import FileLock, Timeout
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from unlossy.errors import UserError
from unlossy.training.configs import build
from unlossy.training.pruning import SPARED
from unlossy.training.sweeps import Record, keep, read_record, record_path

REHEARSED = 12  # made-up trials: a sampler that learns from some begins to, and finds what it lacks

# Attributes of a trial:
REPEATS = "repeats"  # the number of the dead one whose parameters it has
DEATHS = "deaths"  # of its parameters in a row, each before a checkpoint was saved
ERROR = "error"  # why it failed
TRIES = 3  # deaths that are one's own fault


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
        pruner: node of the pruner, built within every trial.
        seed: of the sampler.
        settings: stands for the space as it was typed, and what is the same in all trials.

    Raises:
        UserError: a number is out of range or none; a node makes no sampler or pruner, or a sampler
            that cannot draw from the space; the storage is no URL, or holds a password, which every
            run's card would keep.
    """

    folder: Path
    storage: str
    space: Mapping[str, BaseDistribution]
    n_trials: int
    direction: Literal["maximize", "minimize"]
    sampler: DictConfig
    pruner: DictConfig
    seed: int
    settings: str

    def __post_init__(self) -> None:
        for key, least in (("n_trials", 1), ("seed", 0)):
            value = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UserError(
                    f"hydra.sweeper.{key}={value} does not work; use a whole number from {least} "
                    f"on."
                )
        if not isinstance(self.storage, str) or "://" not in self.storage:
            raise UserError(
                f"hydra.sweeper.storage={self.storage} is no URL of a database; write one like "
                f"sqlite:///study.db or postgresql://HOST/DATABASE."
            )
        if urlsplit(self.storage).password:
            raise UserError(
                "hydra.sweeper.storage holds a password, which would be written into every run; "
                "leave it out of the URL and set PGPASSWORD or ~/.pgpass (MySQL: ~/.my.cnf)."
            )
        with _quiet():
            _part("pruner", self.pruner)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        rehearsal = optuna.create_study()  # in memory
        for number in range(min(REHEARSED, self.n_trials)):
            trial = _ask(rehearsal, self, number)
            try:
                rehearsal.tell(trial, float(number))
            except RuntimeError as error:  # it would stop the study
                raise UserError(
                    f"{self.sampler._target_} has fewer trials to draw than hydra.sweeper.n_trials="
                    f"{self.n_trials}; ask for fewer, or use hydra/sweeper=grid."
                ) from error

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
        UserError: the study was made with other settings, or in another folder.
    """
    lock = FileLock(search.folder / "study.lock")
    with lock:  # two processes that make the tables at once both fail
        study = optuna.create_study(
            storage=open_storage(search.storage),
            study_name=search.name,
            direction=search.direction,
            load_if_exists=True,
        )
        _check(study, search)
    while True:
        with lock:
            busy = _bury_the_dead(study, search)
            trial = _next_trial(study, search)
            alive = None if trial is None else _life(search.folder, trial.number).acquire()
        if trial is not None and alive is not None:
            with alive:
                try:
                    record = launch(trial)
                except KeyboardInterrupt:
                    trial.set_user_attr(SPARED, "interrupted")
                    raise
                _tell(study, trial, record)
        elif busy:
            time.sleep(0.5)
        else:
            return study


def failed_trial(search: Search, trial: Trial | FrozenTrial, why: str) -> Record:
    """Return the record of a trial that left none, and keep it."""
    asked = {key: str(value) for key, value in trial.params.items()}
    record = Record("", "failed", None, "", 0.0, why, asked, list(search.space), trial.number)
    keep(record, search.folder)
    return record


def _check(study: optuna.Study, search: Search) -> None:
    """Refuse a study of other settings, and one whose trials hold their locks elsewhere."""
    mark = search.folder / "study.id"
    if not mark.exists():
        mark.write_text(uuid4().hex, encoding="utf-8")
    own = {"settings": search.settings, "folder": mark.read_text(encoding="utf-8")}
    for key in own.keys() - study.user_attrs.keys():
        study.set_user_attr(key, own[key])
    before = study.user_attrs
    if before["folder"] != own["folder"]:
        raise UserError(
            f"The storage has a study {search.name} of another folder than {search.folder}; its "
            f"workers share one folder, and another search is begun with name=NAME."
        )
    if before["settings"] != own["settings"] or study.direction.name.lower() != search.direction:
        raise UserError(
            f"{search.folder} holds a study with other settings than these; type the same as then "
            f"to go on with it, or begin another with name=NAME."
        )


def _life(folder: Path, number: int) -> FileLock:
    """Return the lock that the process of a trial holds."""
    path = record_path(folder, "", number).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def _bury_the_dead(study: optuna.Study, search: Search) -> bool:
    """End the trials of dead processes; return whether any is alive."""
    living = False
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        try:
            with _life(search.folder, trial.number).acquire(timeout=0):
                now = study.get_trials(deepcopy=False)[trial.number]
                if now.state == TrialState.RUNNING:
                    _bury(study, now, search)
        except Timeout:
            living = True
    return living


def _bury(study: optuna.Study, trial: FrozenTrial, search: Search) -> None:
    """Tell a dead trial's record, else ask for its parameters again, unless they kill."""
    record = read_record(record_path(search.folder, "", trial.number))
    asked = {key: str(value) for key, value in trial.params.items()}
    if record is not None and asked.items() <= record.overrides.items():
        _tell(study, trial, record)
        return
    deaths = 0 if SPARED in trial.user_attrs else trial.user_attrs.get(DEATHS, 0) + 1
    if deaths == TRIES:
        why = f"Its process was killed {TRIES} times before it had saved a checkpoint."
        _tell(study, trial, failed_trial(search, trial, why))
        return
    again = (t.user_attrs.get(REPEATS) for t in study.get_trials(deepcopy=False))
    if trial.number not in again:  # else this process's predecessor was killed right here
        study.enqueue_trial(trial.params, user_attrs={REPEATS: trial.number, DEATHS: deaths})
    _fail(study, trial, "Its process was killed; its parameters are asked for again.")


def _next_trial(study: optuna.Study, search: Search) -> Trial | None:
    trials = study.get_trials(deepcopy=False)
    repeated = {t.user_attrs[REPEATS] for t in trials if REPEATS in t.user_attrs}
    begun = [t for t in trials if t.state != TrialState.WAITING and t.number not in repeated]
    if len(begun) >= search.n_trials:
        return None
    return _ask(study, search, len(trials))


def _ask(study: optuna.Study, search: Search, number: int) -> Trial:
    seed = (search.seed * 1_000_003 + number) % 2**32
    with _quiet():
        study.sampler = _part("sampler", search.sampler, seed=seed)
        try:
            return study.ask(dict(search.space))
        except (TypeError, ValueError, ImportError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise UserError(f"{search.sampler._target_} cannot draw a trial: {reason}.") from error


def _part(key: Literal["sampler", "pruner"], node: DictConfig, **extra: int) -> Any:
    """Build a node of the sweeper; whatever was typed may stand in its place."""
    part = build(node, **extra) if isinstance(node, DictConfig) else None
    if not isinstance(part, {"sampler": BaseSampler, "pruner": BasePruner}[key]):
        given = node.get("_target_") if isinstance(node, DictConfig) else node
        raise UserError(
            f"hydra.sweeper.{key} is {given}, which is no {key} of Optuna's; choose one by "
            f"hydra.sweeper.{key}._target_=optuna.{key}s.NAME."
        )
    return part


def _tell(study: optuna.Study, trial: Trial | FrozenTrial, record: Record) -> None:
    if record.status == "pruned":
        study.tell(trial.number, state=TrialState.PRUNED)
    elif record.status == "finished" and record.objective is not None:
        study.tell(trial.number, record.objective)
    else:
        _fail(study, trial, record.error or "It measured nothing in validation.")


def _fail(study: optuna.Study, trial: Trial | FrozenTrial, why: str) -> None:
    study._storage.set_trial_user_attr(trial._trial_id, ERROR, why)
    study.tell(trial.number, state=TrialState.FAIL)


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
