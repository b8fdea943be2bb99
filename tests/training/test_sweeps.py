"""Jobs of a sweep: what each leaves, what the same command does again, what it refuses."""

import csv
import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from socket import socket

import optuna
import pytest
import torch
from filelock import FileLock
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf, open_dict
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from hydra_plugins import unlossy_sweepers
from unlossy import cli, refusals
from unlossy.errors import UserError
from unlossy.training import folder as folders
from unlossy.training import launching, ranks, sweep_overrides, sweeps, trainers
from unlossy.training.configs import resolved
from unlossy.training.divergence import DivergedError
from unlossy.training.pruning import PrunedError
from unlossy.training.step_log import StepLog
from unlossy.training.sweeps import Sweep, begun, conclude, read_records, run_job, write_csv

from lightning.pytorch.utilities import rank_zero_only  # isort: skip


class Trainings:
    """Stands for `stages.train`: leaves what a run leaves, or fails, as told per seed."""

    def __init__(self) -> None:
        self.done: list[tuple[int, str | None]] = []
        self.errors: dict[int, BaseException] = {}
        self.pause = 0.0

    def __call__(self, cfg, choices, overrides=()) -> Path:
        self.done.append((cfg.seed, cfg.ckpt))
        root, digest = Path(cfg.run_root), folders.config_hash(resolved(cfg))
        same, _ = folders.runs_of(root, cfg.name, digest, "run.json")
        run = same[-1] if same else folders.make(root, cfg.name, digest)
        (run / "run.json").write_text(json.dumps({"seed": cfg.seed}))
        (run / "checkpoints").mkdir(exist_ok=True)
        state = {"best_model_score": torch.tensor(30.0 + cfg.seed)}
        torch.save({"callbacks": {"best": state}}, run / "checkpoints" / "last.ckpt")
        print("a table")
        time.sleep(self.pause)
        if error := self.errors.get(cfg.seed):
            raise error
        (run / "run.json").write_text(json.dumps({"seed": cfg.seed, "seconds": 1.5}))
        return run


@pytest.fixture
def trainings(monkeypatch):
    fake = Trainings()
    monkeypatch.setattr(sweeps.stages, "train", fake)
    return fake


def job(folder: Path, seed: int, *, trial: int | None = None, **more):
    cfg = OmegaConf.create(
        {"seed": seed, "ckpt": None, "stages": {}, "name": "any", "run_root": "any"}
        | {"trainer": {}, **more}
    )
    told = None if trial is None else {"number": trial}
    sweep = Sweep(folder, ("seed",), 3, alone=True, trial=told)
    return run_job(sweep, cfg, {}, ["loss=l1", f"seed={seed}"], seed)


def test_a_job_leaves_a_run_and_a_record(trainings, tmp_path, capsys):
    record = job(tmp_path / "mine", 2)
    assert (record.status, record.objective, record.error) == ("finished", 32.0, "")
    (run,) = (tmp_path / "mine").glob("*/run.json")
    assert record.run == run.parent.name
    assert run.parent.name.endswith(f"_{record.job}")
    assert read_records(tmp_path / "mine") == [record]
    log = tmp_path / "mine" / "jobs" / f"{record.job}.log"
    assert "a table" in log.read_text()
    assert "a table" not in capsys.readouterr().out


def test_a_trial_that_has_begun_is_told_from_one_that_has_not(trainings, tmp_path):
    trainings.errors[0] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        job(tmp_path, 0, trial=4)
    assert begun(tmp_path, 4)
    assert not begun(tmp_path, 5)


def test_the_same_command_again_does_what_is_missing(trainings, tmp_path, capsys):
    for seed in (0, 1):
        job(tmp_path, seed)
    trainings.errors[2] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        job(tmp_path, 2)
    assert len(read_records(tmp_path)) == 2
    del trainings.errors[2]
    trainings.done.clear()
    again = [job(tmp_path, seed) for seed in range(3)]
    assert trainings.done == [(2, "last")]  # from its checkpoint, in its folder
    assert [record.status for record in again] == ["finished"] * 3
    assert len(list(tmp_path.glob("*/run.json"))) == 3
    assert capsys.readouterr().err.count("finished before") == 2


def test_a_run_that_ended_before_its_record_was_written_is_not_repeated(trainings, tmp_path):
    first = job(tmp_path, 1)
    (tmp_path / "jobs" / f"{first.job}.json").unlink()
    trainings.done.clear()
    again = job(tmp_path, 1)
    assert not trainings.done
    assert (again.status, again.objective, again.run) == ("finished", 31.0, first.run)


def test_a_finished_run_that_was_deleted_is_done_again(trainings, tmp_path):
    first = job(tmp_path, 1)
    (tmp_path / first.run / "run.json").unlink()
    assert job(tmp_path, 1).status == "finished"
    assert len(trainings.done) == 2


@pytest.mark.parametrize(
    ("error", "status", "said", "repeated"),
    [
        (UserError("No such loss."), "failed", "No such loss.", True),
        (RuntimeError("out of\nmemory"), "failed", "RuntimeError: out of (trace in jobs/", True),
        (DivergedError("NaN at step 3."), "diverged", "NaN at step 3.", False),
        (PrunedError("given up at step 3"), "pruned", "given up at step 3", False),
    ],
)
def test_a_job_that_goes_wrong_leaves_its_reason(
    trainings, tmp_path, error, status, said, repeated
):
    trainings.errors[1] = error
    record = job(tmp_path, 1)
    assert (record.status, record.objective) == (status, None)
    assert record.error.startswith(said)
    assert "\n" not in record.error
    assert read_records(tmp_path) == [record]
    log = (tmp_path / "jobs" / f"{record.job}.log").read_text()
    assert ("Traceback" in log) == isinstance(error, RuntimeError)
    trainings.errors.clear()
    assert job(tmp_path, 1).status == ("finished" if repeated else status)


def test_a_configuration_without_a_value_is_a_failed_job(trainings, tmp_path):
    record = job(tmp_path, 1, path="???")
    assert record.status == "failed"
    assert "path" in record.error
    assert not trainings.done


def test_a_job_that_another_process_is_at_is_left_to_it(trainings, tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps, "ORPHANS", 0.1)
    digest = job(tmp_path, 1).job
    (tmp_path / "jobs" / f"{digest}.json").unlink()
    for run in tmp_path.glob("*/run.json"):
        run.unlink()
    trainings.done.clear()
    with FileLock(tmp_path / "jobs" / f"{digest}.lock"):
        assert job(tmp_path, 1).status == "running"
    assert not trainings.done
    assert not read_records(tmp_path)


def test_a_trial_is_the_same_run_as_a_job_of_a_grid(trainings, tmp_path):
    assert job(tmp_path / "a", 1).job == job(tmp_path / "b", 1, trial=5).job


def test_trials_of_equal_parameters_are_one_run_and_a_record_each(trainings, tmp_path):
    """The second is asked for while the first is at it, by another worker."""
    trainings.pause = 0.3  # seconds
    with ThreadPoolExecutor(2) as workers:
        asked = [workers.submit(job, tmp_path, 1, trial=number) for number in range(2)]
        records = [one.result() for one in asked]
    assert len(trainings.done) == 1
    assert {record.objective for record in records} == {31.0}
    write_csv(tmp_path)
    with (tmp_path / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["trial"] for row in rows) == ["0", "1"]
    assert {(row["status"], row["objective"]) for row in rows} == {("finished", "31")}


def test_the_records_become_one_file_and_the_exit_code(trainings, tmp_path, capsys):
    trainings.errors[1] = DivergedError("train/total became nan at step 3.")
    records = [job(tmp_path, seed) for seed in range(3)]
    assert conclude(tmp_path, records) == 1
    with (tmp_path / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["job", "status", "objective", "run", "seconds", "error", "seed"]
    assert {row["seed"]: (row["status"], row["objective"]) for row in rows} == {
        "0": ("finished", "30"), "1": ("diverged", ""), "2": ("finished", "32"),
    }  # fmt: skip
    said = capsys.readouterr().err
    assert "diverged: seed=1: train/total became nan at step 3." in said
    assert str(tmp_path / "sweep.csv") in said.replace("\n", "")
    assert conclude(tmp_path, [records[0], records[2]]) == 0


def test_one_table_shows_all_runs(tmp_path, capsys):
    header = "model,loss,degradation,source,clip,frames,psnr,ssim,lpips_alex"
    config = {"trainer": {"max_steps": 1}, "model": {"steps": 1}}
    for k, steps in enumerate((1, 2)):
        run = tmp_path / f"2026-01-01_00000{k}_{k}"
        run.mkdir()
        config["model"]["steps"] = steps
        (run / "run.json").write_text(json.dumps({"config": config, "seed": 0}))
        rows = [f"input,,gif,bunny,c,2,20,{k},0.1", f"ccdnet,l1,gif,bunny,c,2,2{steps},0.9,0.1"]
        (run / "rows.csv").write_text("\n".join([header, *rows]))
    assert conclude(tmp_path, []) == 0
    out = capsys.readouterr().out
    assert out.count("bunny, gif") == 1
    assert "ccdnet l1 model.steps=1" in out
    assert "ccdnet l1 model.steps=2" in out


def parsed(*overrides: str):
    return OverridesParser.create().parse_overrides(list(overrides))


def test_every_combination_is_a_job():
    overrides = parsed("loss=l1,grad", "seed=range(0,3)", "~baselines", "data.crop=8")
    varied, jobs = sweep_overrides.combinations(overrides)
    assert varied == ("loss", "seed")
    assert len(jobs) == len({tuple(j) for j in jobs}) == 6
    assert ["loss=grad", "seed=2", "~baselines", "data.crop=8"] in jobs
    with pytest.raises(UserError, match=r"optimizer\.lr=interval\(1,2\).*hydra/sweeper=optuna"):
        sweep_overrides.combinations(parsed("optimizer.lr=interval(1,2)"))


def test_what_is_typed_wins_over_the_file():
    own = parsed("loss=l1,grad", "trainer.max_steps=1000", "seed=0")
    merged = sweep_overrides.merged(own, parsed("trainer=tiny", "seed=0,1"))
    assert [o.input_line for o in merged] == ["loss=l1,grad", "trainer=tiny", "seed=0,1"]


@pytest.mark.parametrize("typed", ["name=a,b", "run_root=a,b", "hydra.verbose=true,false"])
def test_what_belongs_to_the_whole_sweep_has_one_value(typed):
    with pytest.raises(UserError, match=f"{typed} has several values"):
        sweep_overrides.merged([], parsed("seed=0,1", typed))


def test_every_choice_of_a_search_is_tried_before_it_starts():
    typed = parsed("loss=l1,grad,nope", "model.channels=8,16", "optimizer.lr=interval(1,2)")
    space = {o.get_key_element(): sweep_overrides.distribution(o) for o in typed}
    assert sweep_overrides.examples(space) == [
        ["loss=l1", "model.channels=8", "optimizer.lr=1.0"],
        ["loss=grad", "model.channels=16", "optimizer.lr=1.0"],
        ["loss=nope", "model.channels=8", "optimizer.lr=1.0"],
    ]


def test_a_sweep_that_is_typed_again_has_its_folder():
    def folder(*overrides: str, chosen: str | None = None) -> Path:
        choices = {"runtime": {"choices": {"sweep": chosen}}}
        config = OmegaConf.create({"run_root": "runs", "name": "mine", "hydra": choices})
        return sweep_overrides.folder_of(config, parsed(*overrides))

    one = folder("loss=l1,grad", "seed=0,1")
    assert one == folder("seed=0,1", "loss=l1,grad", "logger=csv", "hydra/launcher=joblib")
    assert one != folder("loss=l1,grad", "seed=0,2")
    assert folder("loss=l1,grad", "name=mine") == Path("runs/mine")
    assert folder("sweep=ccdnet_loss", chosen="ccdnet_loss") == Path("runs/ccdnet_loss")


@pytest.mark.parametrize("name", ["..", "a/b", "/tmp/a", "a\\b", "", None, 1])
def test_a_sweep_has_a_name_that_a_single_run_could_have(name):
    choices = {"runtime": {"choices": {"sweep": "ccdnet_loss"}}}
    config = OmegaConf.create({"run_root": "runs", "name": name, "hydra": choices})
    with pytest.raises(UserError, match=r"^name=.* is no folder's name"):
        sweep_overrides.folder_of(config, parsed("seed=0,1", "name=any"))
    assert sweep_overrides.folder_of(config, parsed("seed=0,1")) == Path("runs/ccdnet_loss")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("x=tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("x=interval(0.5,2)", FloatDistribution(0.5, 2.0)),
        ("x=int(interval(4,64))", IntDistribution(4, 64)),
        ("x=range(8,33,8)", IntDistribution(8, 32, step=8)),
        ("x=l1,grad", CategoricalDistribution(["l1", "grad"])),
    ],
)
def test_what_is_searched_is_written_in_the_grammar_of_hydra(override, expected):
    (one,) = parsed(override)
    assert sweep_overrides.distribution(one) == expected


@pytest.mark.parametrize("nothing", ["tag(log,interval(0,1))", "interval(2,1)", "range(5,1)"])
def test_what_holds_nothing_to_search_is_one_sentence(nothing):
    (one,) = parsed(f"x={nothing}")
    with pytest.raises(UserError, match=r"^x=.* cannot be searched: [^\n]*\.$"):
        sweep_overrides.distribution(one)


@pytest.mark.parametrize(
    ("trainer", "launcher", "words"),
    [
        (
            {"devices": 2, "strategy": "ddp"},
            {"_target_": "x.BasicLauncher"},
            "hydra/launcher=slurm",
        ),
        ({"devices": 1, "num_nodes": 2}, {"_target_": "x.JoblibLauncher"}, "2 processes"),
        (
            {"devices": 4, "num_nodes": 2},
            {"_target_": "x.SlurmLauncher", "tasks_per_node": 1, "nodes": 2},
            "hydra.launcher.tasks_per_node=4 hydra.launcher.nodes=2",
        ),
    ],
)
def test_jobs_of_several_processes_need_a_launcher_that_starts_them(trainer, launcher, words):
    cfg = OmegaConf.create({"trainer": trainer})
    with pytest.raises(UserError, match=words):
        sweep_overrides.check_processes(cfg, OmegaConf.create(launcher))


def test_slurm_starts_as_many_processes_as_the_trainer_waits_for():
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        typed = ["hydra/launcher=slurm", "trainer=ddp", "trainer.devices=4", "+trainer.num_nodes=3"]
        cfg = compose("train", typed, return_hydra_config=True)
    launcher = cfg.hydra.launcher
    assert (launcher.tasks_per_node, launcher.nodes, launcher.gpus_per_node) == (4, 3, 4)
    sweep_overrides.check_processes(cfg, launcher)


def test_the_grid_of_experiment_01_is_made_of_its_single_runs():
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose("train", ["sweep=ccdnet_loss"], return_hydra_config=True)
        own = [f"{key}={value}" for key, value in cfg.hydra.sweeper.params.items()]
        _, jobs = sweep_overrides.combinations(parsed(*own))
        assert len(jobs) == 12
        one = next(j for j in jobs if {"loss=gan", "model.steps=3"} <= set(j))
        of_sweep = compose("train", ["sweep=ccdnet_loss", *one])
        typed = ["model=ccdnet", "loss=gan", "model.steps=3", "seed=0", "trainer.max_steps=1000"]
        assert of_sweep == compose("train", typed)


@pytest.fixture
def door(monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.train()
        return (ended.value.code, *capfd.readouterr())

    return run


def test_the_door_runs_a_grid_and_reports_what_failed(trainings, door, tmp_path):
    trainings.errors[1] = RuntimeError("no luck")
    code, _, said = door("-m", "name=mine", "seed=0,1", "logger=csv")
    assert code == 1
    assert "failed: seed=1: RuntimeError: no luck" in said
    assert "1 of 2 jobs: runs/mine/sweep.csv" in said.replace("\n", "")
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-m", "seed=0,1", "ckpt=last"], ["ckpt=last", "typed again"]),
        (["-m", "seed=0,1", "trainer=ddp"], ["hydra/launcher=slurm", "trainer.devices=1"]),
        (["sweep=wandb/ccdnet_grid"], ["wandb sweep", "ccdnet_grid.yaml, then wandb agent ID"]),
        (["-m", "seed=0,1", "name=../../out"], ["name=../../out", "without slashes"]),
        (["-m", "hydra/sweeper=optuna", "seed=1"], ["nothing to search"]),
        (["-m", "hydra/sweeper=optuna", "optimizer.lrr=interval(1,2)"], ["optimizer.lr"]),
    ],
)
def test_a_sweep_that_cannot_be_is_one_sentence(trainings, door, tmp_path, arguments, words):
    code, _, said = door(*arguments, "logger=csv")
    assert code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert all(word in said for word in words), said
    assert not trainings.done
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("launcher", ["joblib", "slurm", "ray"])
def test_what_is_not_installed_is_named(launcher):
    """As `refusals` says it: without its plugin a launcher is no choice of Hydra's."""
    missing = {"slurm": "submitit_slurm"}.get(launcher, launcher)
    error = MissingConfigException("no such file", f"hydra/launcher/{missing}", ["basic"])
    said = refusals.sentence(error, cli.CONF, "train", [f"hydra/launcher={launcher}"])
    assert f"pip install 'unlossy[{launcher}]'" in said


def test_optuna_that_is_not_installed_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(unlossy_sweepers, "find_spec", lambda name: None)
    sweeper = unlossy_sweepers.OptunaSweeper({}, 1, None, OmegaConf.create(), OmegaConf.create(), 0)
    with pytest.raises(UserError, match=r"pip install .unlossy\[optuna\]"):
        sweeper.run(tmp_path, [])


def test_hydra_starts_without_what_only_a_sweep_needs():
    script = (
        "import sys, hydra_plugins.unlossy_sweepers\n"
        "print({'torch', 'optuna', 'lightning', 'unlossy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def as_slurm_task(monkeypatch, number: int, port: int = 0) -> None:
    told = {"NTASKS": "2", "NTASKS_PER_NODE": "2", "NNODES": "1", "NODEID": "0"}
    told |= {"JOB_NAME": "job", "PROCID": str(number), "LOCALID": str(number)}
    for key, value in told.items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))


def in_two_processes(do: Callable[[int], object]) -> list[tuple[object, int | None]]:
    """Return what each of two forked processes got from `do(number)`, and its exit code."""
    fork = multiprocessing.get_context("fork")
    told = fork.SimpleQueue()
    processes = [
        fork.Process(target=lambda n: told.put((n, do(n))), args=(n,), daemon=True) for n in (0, 1)
    ]
    for process in processes:
        process.start()
    answers = dict(told.get() for _ in processes)
    for process in processes:
        process.join(30)
    return [(answers[n], processes[n].exitcode) for n in (0, 1)]


def test_a_task_of_slurm_that_is_a_worker_of_its_own_keeps_a_record(
    trainings, tmp_path, monkeypatch
):
    as_slurm_task(monkeypatch, 1)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")  # srun --ntasks says no more
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # as Lightning reads it off SLURM_PROCID
    record = job(tmp_path, 1, trainer={"devices": 1})
    assert read_records(tmp_path) == [record]
    StepLog(tmp_path).log_metrics({"a": 1.0}, 1)
    assert (tmp_path / "metrics.csv").exists()


def together(folder: Path, number: int, ending: Callable[[int], None], monkeypatch) -> str:
    """Do a job as one of two of SLURM's tasks; `ending(rank)` stands for the training's end."""

    def train(cfg, choices, overrides=()) -> Path:
        print("trained", ranks.world())
        ending(number)
        ranks.gathered([number])
        return folder

    as_slurm_task(monkeypatch, number, int((folder / "port").read_text()))
    monkeypatch.setattr(sweeps.stages, "train", train)
    monkeypatch.setattr(sweeps, "ORPHANS", 0.1)
    monkeypatch.setattr(launching, "GRACE", 0.5)
    leave = []
    monkeypatch.setattr(launching.atexit, "register", leave.append)
    record = job(folder, 1, trainer={"devices": 2, "max_steps": 1, "strategy": "ddp"})
    return f"{record.status} {record.error}".strip() + (" leaves" if leave else "")


@pytest.fixture
def team_of_two(tmp_path, monkeypatch):
    def run(ending: Callable[[int], None]) -> list[str]:
        with socket() as free:
            free.bind(("127.0.0.1", 0))
            (tmp_path / "port").write_text(str(free.getsockname()[1]))
        both = in_two_processes(lambda n: together(tmp_path, n, ending, monkeypatch))
        return [str(answer) for answer, _ in both]

    return run


def test_tasks_of_slurm_that_do_one_job_leave_it_together(team_of_two, tmp_path):
    assert team_of_two(lambda number: None) == ["finished"] * 2
    (record,) = read_records(tmp_path)
    with FileLock(tmp_path / "jobs" / f"{record.job}.lock"):
        assert team_of_two(lambda number: None) == ["running"] * 2
    log = tmp_path / "jobs" / f"{record.job}.log"
    assert log.read_text() == "trained 2\n"


@pytest.mark.parametrize("lone", [0, 1])
def test_a_task_that_fails_alone_says_why_and_ends_the_job(team_of_two, tmp_path, lone):
    def ending(number: int) -> None:
        if number == lone:
            raise UserError("That clip is broken.")

    answers = team_of_two(ending)
    assert answers[lone] == "failed That clip is broken. leaves"
    (record,) = read_records(tmp_path)
    assert (record.status, record.error) == ("failed", "That clip is broken.")


def test_what_all_tasks_meet_is_told_once(team_of_two, tmp_path, capfd):
    def ending(number: int) -> None:
        raise DivergedError("NaN at step 3.")

    assert team_of_two(ending) == ["diverged NaN at step 3."] * 2
    assert [record.status for record in read_records(tmp_path)] == ["diverged"]
    assert capfd.readouterr().err.count("diverged: NaN") == 1


def test_two_processes_look_through_one_finished_grid(trainings, tmp_path):
    for seed in range(3):
        job(tmp_path, seed)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("jobs/*.json")}

    def again(number: int) -> list[str]:
        statuses = [job(tmp_path, seed).status for _ in range(10) for seed in range(3)]
        write_csv(tmp_path)
        return statuses

    both = in_two_processes(again)
    assert both == [(["finished"] * 30, 0)] * 2
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_damaged_record_counts_as_none(trainings, tmp_path):
    first = job(tmp_path, 1)
    (tmp_path / "jobs" / f"{first.job}.json").write_text('{"job": ')
    with pytest.warns(UserWarning, match=rf"{first.job}\.json is no record of a job .*none"):
        assert read_records(tmp_path) == []
    with pytest.warns(UserWarning, match="no record"):
        assert job(tmp_path, 1).objective == 31.0
    assert len(read_records(tmp_path)) == 1


def test_a_record_that_another_process_takes_away_is_passed_over(trainings, tmp_path):
    first = job(tmp_path, 1)
    gone = tmp_path / "jobs" / "gone.json"
    gone.symlink_to(tmp_path / "nowhere")  # listed, and not there when it is looked at
    assert read_records(tmp_path) == [first]
    assert job(tmp_path, 2).status == "finished"
    with write_csv(tmp_path).open() as file:
        assert [row["seed"] for row in csv.DictReader(file)] == ["1", "2"]


def test_a_launcher_that_gives_up_names_what_is_missing(trainings, door, tmp_path, monkeypatch):
    usual = Plugins.instantiate_launcher

    def instantiate(*arguments, **more):
        launcher = usual(*arguments, **more)
        launch = launcher.launch

        def give_up(jobs, initial_job_idx):
            launch(jobs[:2], initial_job_idx=initial_job_idx)
            raise RuntimeError("a node was lost")

        launcher.launch = give_up
        return launcher

    monkeypatch.setattr(Plugins, "instantiate_launcher", instantiate)
    trainings.errors[1] = UserError("No luck.")
    code, _, said = door("-m", "name=mine", "seed=0,1,2", "logger=csv")
    assert code == 1
    assert "RuntimeError: a node was lost" in said
    assert "failed: seed=1: No luck." in said
    assert f"failed: seed=2: {sweeps.LOST}" in said
    assert "1 of 3 jobs:" in said


def test_what_runs_elsewhere_is_not_counted_as_done(trainings, tmp_path, capsys):
    records = [job(tmp_path, seed) for seed in (0, 1)]
    records.append(replace(records[1], status="running"))
    assert conclude(tmp_path, records) == 0
    assert "2 of 3 jobs, 1 running elsewhere: " in capsys.readouterr().err


def test_a_trial_is_given_up_after_its_checkpoints_were_written(tmp_path):
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db", study_name="s")
    study.ask()
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose("train", ["trainer.accelerator=cpu"])
    pruner = {"_target_": "optuna.pruners.NopPruner"}
    told = {"storage": f"sqlite:///{tmp_path}/study.db", "study": "s", "number": 0}
    with open_dict(cfg):
        cfg.trial = {**told, "pruner": pruner}
    best_in = trainers.Watched("val/psnr", "max")
    trainer, _ = trainers.make_trainer(cfg, tmp_path, StepLog(tmp_path), best_in)
    order = [type(callback).__name__ for callback in trainer.callbacks]
    assert order[-3:] == ["BestCheckpoint", "LastCheckpoint", "Pruning"]


def test_slurm_ends_a_job_one_of_whose_tasks_fails():
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose("train", ["hydra/launcher=slurm"], return_hydra_config=True)
    assert cfg.hydra.launcher.setup == ["export SLURM_KILL_BAD_EXIT=1"]
