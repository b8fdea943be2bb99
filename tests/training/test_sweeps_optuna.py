"""A search by several processes: exact counts, trials that fail or are killed, pruning."""

import multiprocessing
import os
import shutil
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import torch
from omegaconf import OmegaConf
from optuna.trial import TrialState

from hydra_plugins.unlossy_sweepers import OptunaSweeper
from unlossy.errors import UserError
from unlossy.training import sweeps
from unlossy.training.configs import build
from unlossy.training.pruning import SPARED, PrunedError, Pruning
from unlossy.training.studies import ERROR, TRIES, Search, best_trial, open_storage, run_trials
from unlossy.training.sweep_overrides import parse
from unlossy.training.sweeps import Record, Watched, keep, read_records

SAMPLER = OmegaConf.create(
    {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 4, "constant_liar": True}
)
PRUNER = OmegaConf.create({"_target_": "optuna.pruners.MedianPruner"})
LR = "optimizer.lr"


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    """A database without a study; to make one takes as long as five trials."""
    path = tmp_path_factory.mktemp("tables") / "study.db"
    open_storage(f"sqlite:///{path}")
    return path


@pytest.fixture(autouse=True)
def database(tables, tmp_path):
    shutil.copy(tables, tmp_path)


def search(folder: Path, trials: int, **changes) -> Search:
    told = {
        "folder": folder,
        "storage": f"sqlite:///{folder / 'study.db'}",
        "space": {LR: optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)},
        "n_trials": trials,
        "direction": "maximize",
        "sampler": SAMPLER,
        "pruner": PRUNER,
        "seed": 7,
        "settings": "model=ccdnet",
    }
    return Search(**{**told, **changes})


def record(trial, status: str = "finished", objective: float | None = None) -> Record:
    return Record(f"{trial.number:08x}", status, objective, "", 0.1, "", {}, [LR], trial.number)


def launch(trial) -> Record:
    """A cheap training: best at a rate of 1e-2, the fourth crashes and the sixth diverges."""
    if trial.number == 3:
        return record(trial, "failed")
    if trial.number == 5:
        return record(trial, "diverged")
    return record(trial, objective=30 - abs(trial.params[LR] - 1e-2))


def worker(folder: Path, trials: int, marks: Path) -> None:
    def noted(trial) -> Record:
        (marks / f"{os.getpid()}_{trial.number}").touch()
        return launch(trial)

    run_trials(search(folder, trials), noted)


def start(target, *arguments) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    return process


def test_two_processes_make_exactly_the_trials_asked_for(tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    (tmp_path / "study.db").unlink()  # they make its tables, too
    for process in [start(worker, tmp_path, 12, marks) for _ in range(2)]:
        process.join(timeout=60)
        assert process.exitcode == 0
    study = run_trials(search(tmp_path, 12), launch)
    trials = study.get_trials()
    assert [trial.number for trial in trials] == list(range(12))
    states = {trial.number: trial.state for trial in trials}
    assert {n for n, state in states.items() if state == TrialState.FAIL} == {3, 5}
    assert all(s == TrialState.COMPLETE for n, s in states.items() if n not in (3, 5))
    assert len({trial.params[LR] for trial in trials}) == 12  # nobody repeats another's draws
    assert sorted(int(mark.name.split("_")[1]) for mark in marks.iterdir()) == list(range(12))
    best = best_trial(study)
    assert best.value == max(t.value for t in trials if t.value is not None)
    assert trials[3].user_attrs["error"]


def test_the_trial_of_a_killed_process_is_asked_for_again(tmp_path):
    def dies(folder: Path) -> None:
        def killed(trial) -> Record:
            if trial.number == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return launch(trial)

        run_trials(search(folder, 3), killed)

    process = start(dies, tmp_path)
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL
    study = run_trials(search(tmp_path, 3), launch)
    trials = study.get_trials()
    assert [t.state.name for t in trials] == ["COMPLETE", "COMPLETE", "FAIL", "FAIL"]
    assert trials[3].params == trials[2].params  # the same run; as number 3 it is launched to fail
    assert trials[3].user_attrs["repeats"] == 2


class Killed(BaseException):
    """Leaves a trial as a kill does: running, its lock free."""


def test_a_trial_that_was_asked_for_and_never_begun_is_made(tmp_path):
    run_trials(search(tmp_path, 1), launch)
    study = optuna.load_study(study_name=tmp_path.name, storage=search(tmp_path, 1).storage)
    lost = study.ask(search(tmp_path, 1).space)  # killed before it could take its lock
    trials = run_trials(search(tmp_path, 2), launch).get_trials()
    assert [t.state.name for t in trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert trials[2].params == lost.params


def test_a_dead_trial_that_left_its_record_is_told_from_it(tmp_path):
    def ends(trial) -> Record:
        asked = {LR: str(trial.params[LR])}
        keep(Record("abc", "finished", 31.5, "", 1, "", asked, [LR], trial.number), tmp_path)
        raise Killed

    with pytest.raises(Killed):
        run_trials(search(tmp_path, 1), ends)
    (trial,) = run_trials(search(tmp_path, 1), launch).get_trials()
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 31.5)


def test_parameters_that_kill_are_given_up_and_those_that_got_on_are_not(tmp_path):
    lives = iter(["killed", "interrupted", "killed", "saved", *["killed"] * TRIES])

    def dies(trial) -> Record:
        life = next(lives)
        if life == "saved":
            trial.set_user_attr(SPARED, "saved step 4")
        raise KeyboardInterrupt if life == "interrupted" else Killed

    for _ in range(4 + TRIES):
        assert not read_records(tmp_path)
        with pytest.raises((Killed, KeyboardInterrupt)):
            run_trials(search(tmp_path, 1), dies)
    trials = run_trials(search(tmp_path, 1), launch).get_trials()
    assert next(lives, None) is None
    assert {t.state for t in trials} == {TrialState.FAIL}
    assert len({t.params[LR] for t in trials}) == 1
    (last,) = read_records(tmp_path)
    assert (last.trial, last.status) == (trials[-1].number, "failed")
    assert last.error == trials[-1].user_attrs[ERROR]
    assert f"killed {TRIES} times" in last.error


def test_workers_of_a_study_share_its_folder(tmp_path):
    here, there = tmp_path / "a" / "s", tmp_path / "b" / "s"
    here.mkdir(parents=True)
    there.mkdir(parents=True)
    shared = search(tmp_path, 1).storage
    run_trials(search(here, 1, storage=shared), launch)
    with pytest.raises(UserError, match="another folder"):
        run_trials(search(there, 1, storage=shared), launch)


class Sweeper(OptunaSweeper):
    """Composes nothing, and launches what it is told."""

    lives: list[str]

    def compose(self, jobs):
        return [OmegaConf.create({}) for _ in jobs]

    def alone(self):
        return True

    def launch(self, sweep, jobs, first):
        life = self.lives.pop(0)
        if life in ("lost", "killed"):
            (sweep.folder / "jobs").mkdir(exist_ok=True)
            (sweep.folder / "jobs" / "another.log").write_text(f"of another worker: {first}")
            if life == "killed":  # while it trained
                (sweep.folder / "jobs" / f"trial_{first}.begun").touch()
            return [], "The launcher gave up: TerminatedWorkerError: killed"
        job = Record(f"{first:08x}", "finished", 30, "", 1, "", {}, ["x"], sweep.trial["number"])
        keep(job, sweep.folder)
        return [job], ""


def test_a_launcher_that_gives_up_and_a_space_that_changes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sweeps, "objective_of", lambda cfg: Watched("val/psnr", "max"))
    sweeper = Sweeper({}, 3, None, SAMPLER, PRUNER, 0)
    sweeper.lives = ["lost"]  # nothing is known to work: nothing is tried, and no trial lost
    with pytest.raises(UserError, match="The launcher gave up: TerminatedWorkerError"):
        sweeper.run(tmp_path, parse(["x=interval(0,1)"]))
    assert not read_records(tmp_path)
    sweeper.lives = ["well", "lost", "well"]
    assert sweeper.run(tmp_path, parse(["x=interval(0,1)"])) == 0
    records = {record.trial: record for record in read_records(tmp_path)}
    assert [records[n].status for n in sorted(records)] == ["finished", "failed", "finished"]
    assert "TerminatedWorkerError" in (tmp_path / "sweep.csv").read_text()
    with pytest.raises(UserError, match="other settings"):
        sweeper.run(tmp_path, parse(["x=tag(log,interval(0.1,1))"]))


def test_a_first_trial_that_is_killed_ends_no_search_and_one_that_never_began_is_not_lost(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(sweeps, "objective_of", lambda cfg: Watched("val/psnr", "max"))

    def join(trials: int, *lives: str) -> int:
        worker = Sweeper({}, trials, None, SAMPLER, PRUNER, 0)
        worker.lives = list(lives)
        return worker.run(tmp_path, parse(["x=interval(0,1)"]))

    assert join(2, "killed", "well") == 0
    assert join(4, "killed", "well") == 0
    with pytest.raises(UserError, match="TerminatedWorkerError: killed; once it works"):
        join(6, "lost")
    records = sorted(read_records(tmp_path), key=lambda record: record.trial)
    assert [record.status for record in records] == ["failed", "finished"] * 2
    assert all("TerminatedWorkerError" in record.error for record in records[::2])


def test_a_search_that_goes_on_draws_what_an_unbroken_one_draws(tables, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder, counts in ((whole, (6,)), (parts, (2, 6))):
        folder.mkdir()
        shutil.copy(tables, folder)
        for count in counts:
            study = run_trials(search(folder, count), launch)
        assert len(study.get_trials()) == 6
        if folder == whole:
            expected = [trial.params for trial in study.get_trials()]
    assert [trial.params for trial in study.get_trials()] == expected


def test_a_study_is_not_continued_with_other_settings(tmp_path):
    run_trials(search(tmp_path, 1), launch)
    with pytest.raises(UserError, match="name=NAME"):
        run_trials(search(tmp_path, 2, settings="model=vrcnn"), launch)
    with pytest.raises(UserError, match="name=NAME"):
        run_trials(search(tmp_path, 2, direction="minimize"), launch)


@pytest.mark.parametrize(
    ("storage", "word"),
    [("postgresql://me:secret@host/db", "PGPASSWORD"), ("study.db", "sqlite:///")],
)
def test_a_storage_that_cannot_be_is_refused(tmp_path, storage, word):
    with pytest.raises(UserError, match=word) as refused:
        search(tmp_path, 1, storage=storage)
    assert "secret" not in str(refused.value)


def classed(target: str, **options: object):
    return OmegaConf.create({"_target_": target, **options})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        *(({"n_trials": n}, f"n_trials={n} does not") for n in (0, -1, "abc", None, True, 2.5)),
        *(({"seed": seed}, f"seed={seed} does not") for seed in ("abc", None, -1, 0.5)),
        ({"storage": 5}, "sqlite:///"),
        ({"sampler": None}, "sampler is None"),
        ({"sampler": "tpe"}, "sampler is tpe"),
        ({"sampler": PRUNER}, "does not take these options"),  # it has no seed
        ({"sampler": classed("optuna.samplers.TPE")}, "optuna.samplers.TPE: "),
        ({"sampler": classed("optuna.samplers.TPESampler", n_startup_trials="abc")}, "cannot draw"),
        pytest.param(  # which it misses once there is a trial to learn from
            *({"sampler": classed("optuna.samplers.CmaEsSampler"), "n_trials": 3}, "cmaes"),
            marks=pytest.mark.skipif(find_spec("cmaes") is not None, reason="cmaes is installed"),
        ),
        ({"sampler": classed("optuna.samplers.BruteForceSampler")}, "step must be given"),
        ({"pruner": "median"}, "pruner is median"),
        ({"pruner": classed("builtins.dict")}, "pruner is builtins.dict"),
        ({"pruner": classed("optuna.pruners.Median")}, "optuna.pruners.Median: "),
        ({"pruner": classed("optuna.pruners.MedianPruner", n_warmup_steps=-1)}, "negative"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_anything_is_made(
    tmp_path, monkeypatch, change, words
):
    monkeypatch.setattr(sweeps, "objective_of", lambda cfg: Watched("val/psnr", "max"))
    sound = {"n_trials": 1, "storage": None, "sampler": SAMPLER, "pruner": PRUNER, "seed": 0}
    sweeper = Sweeper({}, **{**sound, **change})
    with pytest.raises(UserError, match=words) as refused:
        sweeper.run(tmp_path / "s", parse(["x=interval(0,1)", "y=interval(0,1)"]))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "s").exists()


def test_a_sampler_with_nothing_left_to_draw_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps, "objective_of", lambda cfg: Watched("val/psnr", "max"))
    sweeper = Sweeper({}, 4, None, classed("optuna.samplers.BruteForceSampler"), PRUNER, 0)
    with pytest.raises(UserError, match=r"n_trials=4; ask for fewer, or use hydra/sweeper=grid"):
        sweeper.run(tmp_path, parse(["x=1,2,3"]))


def test_a_search_without_a_pruner_gives_nobody_up(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps, "objective_of", lambda cfg: Watched("val/psnr", "max"))
    pruners = []

    class Told(Sweeper):
        def launch(self, sweep, jobs, first):
            pruners.append(build(OmegaConf.create(sweep.trial["pruner"])))
            return super().launch(sweep, jobs, first)

    sweeper = Told({}, 1, None, SAMPLER, None, 0)
    sweeper.lives = ["well"]
    assert sweeper.run(tmp_path, parse(["x=interval(0,1)"])) == 0
    assert [type(pruner) for pruner in pruners] == [optuna.pruners.NopPruner]


def test_a_hopeless_trial_is_given_up_from_any_process(tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(
        storage=open_storage(url), study_name="s", direction="maximize",
        pruner=optuna.pruners.NopPruner(),
    )  # fmt: skip
    pruner = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 1}
    space = {LR: optuna.distributions.FloatDistribution(0, 1)}

    def validate(values: list[float]) -> int:
        number = study.ask(space).number
        node = {"storage": url, "study": "s", "number": number, "pruner": pruner}
        pruning = Pruning(OmegaConf.create(node), "val/psnr")
        for step, value in enumerate(values, 1):
            metrics = {"val/psnr": torch.tensor(value)}
            trainer = SimpleNamespace(
                callback_metrics=metrics, global_step=step, state=SimpleNamespace(fn="fit"),
                is_global_zero=True,
            )  # fmt: skip
            pruning.on_validation_end(trainer, None)
            pruning.on_save_checkpoint(trainer, None, {})
        study.tell(number, values[-1])
        return number

    good = validate([30.0, 31.0, 32.0])
    with pytest.raises(PrunedError, match=r"step 2 with val/psnr 29\.5"):
        validate([30.5, 29.5, 40.0])
    trials = study.get_trials()
    assert trials[good].intermediate_values == {1: 30.0, 2: 31.0, 3: 32.0}
    assert trials[good + 1].intermediate_values == {1: 30.5, 2: 29.5}
    assert trials[good].user_attrs[SPARED] == "saved step 1"


def test_the_command_of_the_best_trial_has_its_parameters_and_no_budget(monkeypatch):
    params = {"model": "ccdnet", "trainer.max_steps": 600, LR: "interval(0,1)"}
    sweeper = OptunaSweeper(params, 3, None, SAMPLER, PRUNER, 0)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    fixed = ["model=ccdnet", "trainer.max_steps=600", "sweep=x", "name=y", "~baselines"]
    fixed += ["test=false", "data.batch=4"]
    told = sweeper._command(fixed, [f"{LR}=0.5"])
    assert told == f"python train.py model=ccdnet '~baselines' data.batch=4 {LR}=0.5"
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/unlossy"])
    assert sweeper._command([], []) == "unlossy train"
