"""A sweep: many runs of one command, each an ordinary run, with a record each and one table.

    runs/<sweep>/
        <date>_<time>_<hash>/    the run folder of a job
        jobs/<hash>.json         its record, written by the job when it ends, however it ends
        jobs/trial_<n>.json      that of a trial: several of a study may be the same job
        jobs/<hash>.log          what it printed, and the trace of an error
        sweep.csv                all records

A job is known by the hash of its configuration. The same command again leaves alone what is
finished, goes on with what was killed, and tries once more what failed. What diverged or was pruned
would do so again. A job that another process is at is left to it; a trial waits for it, and has its
value.
"""

from __future__ import annotations

import csv
import json
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from omegaconf import DictConfig, open_dict

from unlossy.errors import UserError
from unlossy.models.weights import read_weights
from unlossy.report.rows import collect
from unlossy.report.table import print_table, spread
from unlossy.training import folder as folders
from unlossy.training import ranks, stages
from unlossy.training.configs import build, resolved
from unlossy.training.divergence import DivergedError
from unlossy.training.launching import Team, end_badly, joined, team
from unlossy.training.pruning import PrunedError
from unlossy.training.secrets import redacted
from unlossy.training.trainers import Watched, console, say, watched

Status = Literal["finished", "failed", "diverged", "pruned", "running"]  # the last: elsewhere
FINAL = ("diverged", "pruned")  # would end the same way again
COLUMNS = ("job", "status", "objective", "run", "seconds", "error")
LOST = "It left no record: it was killed, or its launcher left it running."
# The loader's workers of a killed process hold its lock until they notice, at most 5 s later.
ORPHANS = 10  # seconds


@dataclass(frozen=True)
class Sweep:
    """What the jobs of one command have in common; travels to them pickled.

    Args:
        folder: where everything of the sweep lies.
        varied: the overrides in which jobs differ.
        jobs: how many there are.
        alone: whether one runs at a time, on this terminal: what it says is shown then.
        trial: of an Optuna study, for the run's `trial`.
    """

    folder: Path
    varied: tuple[str, ...]
    jobs: int
    alone: bool
    trial: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Record:
    """How a job ended.

    Args:
        job: its hash; "" for a trial that never told it.
        status: see `Status`.
        objective: the best validated value of what the run monitors; None where nothing was.
        run: name of the run folder, "" if there is none.
        seconds: that the job took, of the last attempt only.
        error: one sentence, "" if it finished.
        overrides: what it was asked for, override -> value.
        varied: those of them in which the jobs of its sweep differ.
        trial: its number in the study, None in a grid.
    """

    job: str
    status: Status
    objective: float | None
    run: str
    seconds: float
    error: str
    overrides: dict[str, str]
    varied: list[str]
    trial: int | None

    @property
    def label(self) -> str:
        """The job in the words of the command line."""
        return " ".join(f"{k}={_short(self.overrides.get(k, ''))}" for k in self.varied) or self.job


def _short(value: str) -> str:
    """Return what a person reads of a number."""
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return value


def run_job(
    sweep: Sweep, cfg: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str], number: int
) -> Record:
    """Do one job of a sweep, or what is left of it; whatever goes wrong ends up in its record.

    Args:
        sweep: to which it belongs.
        cfg: a composed `conf/train.yaml`.
        choices: the name chosen in each group.
        overrides: what it was composed from.
        number: of the job, from 0.
    """
    asked = redacted(dict(override.partition("=")[::2] for override in overrides))
    trial = None if sweep.trial is None else sweep.trial["number"]
    cfg = deepcopy(cfg)
    with open_dict(cfg):
        cfg.name, cfg.run_root, cfg.trial = sweep.folder.name, str(sweep.folder.parent), sweep.trial
    try:
        digest, together, wrong = folders.config_hash(resolved(cfg)), team(cfg.trainer), None
    except UserError as error:
        digest, together, wrong = folders.config_hash(asked), Team(1), error
    record = Record(digest, "failed", None, "", 0.0, "", asked, list(sweep.varied), trial)
    place = record_path(sweep.folder, digest, trial)
    place.parent.mkdir(parents=True, exist_ok=True)
    if trial is not None:
        _begun_path(sweep.folder, trial).touch()
    name = f"job {number + 1} of {sweep.jobs}: {record.label}"
    log, first, started = place.with_name(f"{digest}.log"), True, time.monotonic()
    status: Status = "failed"
    with ExitStack() as held:
        try:
            with joined(together):
                first = ranks.first_rank()
                known = ranks.from_first(lambda: _known(held, place, sweep.folder, record))
                if known is not None:
                    where = "elsewhere" if known.status == "running" else "before"
                    say(f"{name}: {known.status} {where}")
                    return known
                say(name)
                with _logged(log, sweep.alone):
                    _train(cfg, choices, overrides, digest, wrong)
            status, why = "finished", ""
        except DivergedError as error:
            status, why = "diverged", str(error)
        except PrunedError as error:
            status, why = "pruned", str(error)
        except UserError as error:
            why = str(error)
        except Exception as error:
            with log.open("a", encoding="utf-8") as file:
                file.write(traceback.format_exc())
            sentence = (str(error).splitlines() or [""])[0]
            why = f"{type(error).__name__}: {sentence} (trace in jobs/{digest}.log)"
        run = _newest(sweep.folder, digest)
        record = replace(
            record,
            status=status,
            objective=best_validated(run) if run and status == "finished" else None,
            run=run.name if run else "",
            seconds=round(time.monotonic() - started, 1),
            error=why,
        )
        tell = first
        if status == "failed" and ranks.world() > 1:
            # The first to end has the cause; it is another's where a collective was broken off.
            tell = not place.exists()
            if first or tell:
                end_badly()
        if tell:
            keep(record, sweep.folder)
            console.print(f"{name}: {status}{f': {why}' if why else ''}")
    return record


def _train(
    cfg: DictConfig,
    choices: Mapping[str, Any],
    overrides: Sequence[str],
    digest: str,
    wrong: UserError | None,
) -> None:
    """Run the job's training, from its last checkpoint if there is one."""
    if wrong is not None:
        raise wrong
    holding = "stages" if cfg.stages else "checkpoints/last.ckpt"
    if folders.runs_of(Path(cfg.run_root), cfg.name, digest, holding)[0]:
        cfg.ckpt = "last"
    stages.train(cfg, choices, overrides)


def _known(held: ExitStack, place: Path, folder: Path, record: Record) -> Record | None:
    """Take a job, unless it need not be run, or another process has it: then return its record."""
    patience = ORPHANS if record.trial is None else -1
    try:
        held.enter_context(FileLock(place.with_name(f"{record.job}.lock"), timeout=patience))
    except Timeout:
        return replace(record, status="running")
    if (before := _ended(folder, record.job)) is None:
        place.unlink(missing_ok=True)  # of an attempt that failed; what is killed leaves none
        return None
    found = replace(record, **{key: getattr(before, key) for key in COLUMNS})
    if found != read_record(place):
        keep(found, folder)
    return found


def _ended(folder: Path, digest: str) -> Record | None:
    """Return the record of a job that need not run, made anew if it was killed before writing."""
    before = next((r for r in reversed(read_records(folder)) if r.job == digest), None)
    if before is not None and before.status in FINAL:
        return before
    for run in reversed(folders.runs_of(folder.parent, folder.name, digest, "run.json")[0]):
        card = json.loads((run / "run.json").read_text(encoding="utf-8"))
        if "seconds" in card:
            if before is not None and before.status == "finished":
                return before
            best = best_validated(run)
            return Record(digest, "finished", best, run.name, card["seconds"], "", {}, [], None)
    return None


def record_path(folder: Path, digest: str, trial: int | None) -> Path:
    """Return where a sweep's folder has the record of a job, or of a trial."""
    return folder / "jobs" / f"{digest if trial is None else f'trial_{trial}'}.json"


def keep(record: Record, folder: Path) -> None:
    """Write a record into its sweep's folder."""
    folders.write_json(record_path(folder, record.job, record.trial), asdict(record))


def read_record(path: Path) -> Record | None:
    """Return a record, None if there is none that can be read."""
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        warnings.warn(f"{path} is no record of a job ({error}); it counts as none.", stacklevel=2)
        return None


def _newest(folder: Path, digest: str) -> Path | None:
    """Return the newest run folder of a job."""
    runs, _ = folders.runs_of(folder.parent, folder.name, digest, "run.json")
    return runs[-1] if runs else None


def best_validated(run: Path) -> float | None:
    """Return the best validated value of what a run monitored, None if it was not trained."""
    last = run / "checkpoints" / "last.ckpt"
    if not last.exists():
        return None
    states = read_weights(last).get("callbacks", {}).values()
    best = [state["best_model_score"] for state in states if "best_model_score" in state]
    return float(best[0]) if best and best[0] is not None else None


@contextmanager
def _logged(path: Path, alone: bool) -> Iterator[None]:
    """Send what a job prints to a file, and if it is not alone on the terminal, what it says."""
    if not ranks.first_rank():  # SLURM keeps what the others say
        yield
        return
    with ExitStack() as stack:
        log = stack.enter_context(path.open("a", encoding="utf-8", buffering=1))
        stack.enter_context(redirect_stdout(log))
        if not alone:
            stack.enter_context(redirect_stderr(log))
        yield


def read_records(folder: Path) -> list[Record]:
    """Return the records of all jobs of a sweep, in the order in which they ended."""
    times = {}
    for path in (folder / "jobs").glob("*.json"):
        with suppress(FileNotFoundError):  # another process tries again what failed
            times[path] = path.stat().st_mtime_ns
    paths = sorted(times, key=lambda path: times[path])
    return [record for path in paths if (record := read_record(path)) is not None]


def begun(folder: Path, trial: int) -> bool:
    """Whether a launcher brought a trial to its start, however it ended."""
    return _begun_path(folder, trial).exists()


def _begun_path(folder: Path, trial: int) -> Path:
    return record_path(folder, "", trial).with_suffix(".begun")


def write_csv(folder: Path) -> Path:
    """Write `sweep.csv`: a line per job, in the columns of the varied overrides what it had."""
    records = read_records(folder)
    varied = list(dict.fromkeys(key for record in records for key in record.varied))
    trial = ["trial"] if any(record.trial is not None for record in records) else []
    path = folder / "sweep.csv"
    with folders.replacing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *trial, *varied])
        for record in records:
            cells = [getattr(record, column) for column in (*COLUMNS, *trial)]
            cells[2] = "" if record.objective is None else f"{record.objective:.6g}"
            writer.writerow([*cells, *(record.overrides.get(key, "") for key in varied)])
    return path


def left_by(folder: Path, varied: Sequence[str], jobs: Sequence[Sequence[str]]) -> list[Record]:
    """Return the records of jobs whose launcher gave up; one that left none counts as failed."""
    there = {
        json.dumps(record.overrides, sort_keys=True): record for record in read_records(folder)
    }
    found = []
    for job in jobs:
        asked = redacted(dict(override.partition("=")[::2] for override in job))
        lost = Record("", "failed", None, "", 0.0, LOST, asked, list(varied), None)
        found.append(there.get(json.dumps(asked, sort_keys=True), lost))
    return found


def conclude(folder: Path, records: Sequence[Record]) -> int:
    """Print the table of a sweep's runs, what failed, and where the records are.

    Args:
        folder: of the sweep.
        records: of the jobs of this command.

    Returns:
        1 if any of them failed or diverged, else 0.
    """
    path = write_csv(folder)
    if any(folder.glob("*/rows.csv")):
        print_table([], spread(collect(folder)))
    failed = [record for record in records if record.status in ("failed", "diverged")]
    for record in failed:
        console.print(f"{record.status}: {record.label}: {record.error}", style="red")
    elsewhere = sum(record.status == "running" for record in records)
    done = f"{len(records) - len(failed) - elsewhere} of {len(records)} jobs"
    console.print(f"{done}{f', {elsewhere} running elsewhere' if elsewhere else ''}: {path}")
    return 1 if failed else 0


def objective_of(cfg: DictConfig) -> Watched:
    """Return what the runs of a configuration are best in."""
    return watched(cfg.monitor, build(cfg.model), build(cfg.metrics))
