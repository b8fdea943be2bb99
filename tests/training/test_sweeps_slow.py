"""Sweeps as typed: real commands, real processes, real launchers, tiny trainings."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import torch

ROOT = Path(__file__).parents[2]
TINY = [
    "logger=csv", "trainer=tiny", "trainer.accelerator=cpu", "data.crop=32", "data.batch=2",
    "metrics=pixel", "~baselines", "source=folder", "run_root=runs",
]  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def start(footage, tmp_path):
    """Start `train.py` with these arguments in an own process group; whatever is left ends."""
    started = []

    def run(*arguments: str, workers: int = 0, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "train.py"), *arguments, *TINY]
        command += [f"source.path={footage}", f"data.workers={workers}"]
        process = subprocess.Popen(
            command, cwd=tmp_path, start_new_session=True, text=True,
            env=os.environ | {"UNLOSSY_CACHE": str(tmp_path / "cache")} | environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, said = process.communicate(timeout=600)
    assert process.returncode == code, said[-3000:]
    return out, said


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_grid_that_is_killed_half_way_does_the_missing_jobs_only(start, tmp_path):
    grid = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "name=grid"]
    grid += ["loss=l1,grad", "model.steps=1,2", "model.channels=4,6", "checkpoint_every=2"]
    process = start(*grid)
    folder = tmp_path / "runs" / "grid"
    while len(list(folder.glob("jobs/*.json"))) < 3:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {path.parent: path.stat().st_mtime_ns for path in folder.glob("*/rows.csv")}
    assert 3 <= len(before) < 8
    out, said = finish(start(*grid))
    assert out.count("folder, gif: ") == 2  # the table of PSNR, and that of flicker
    for loss in ("l1", "grad"):
        for steps in (1, 2):
            for channels in (4, 6):
                named = f" ccdnet {loss} model.steps={steps} model.channels={channels} "
                assert named in out
    assert said.count("finished before") == len(before)
    found = rows(folder / "sweep.csv")
    assert len(found) == 8
    assert {row["status"] for row in found} == {"finished"}
    assert len({(r["loss"], r["model.steps"], r["model.channels"]) for r in found}) == 8
    after = {path.parent: path.stat().st_mtime_ns for path in folder.glob("*/rows.csv")}
    assert len(after) == 8
    assert before.items() <= after.items()  # what was finished was not touched


def test_a_job_of_a_grid_equals_the_single_run(start, tmp_path):
    """Its loader has a process, which loky's way of starting processes does not allow."""
    own = ["model.channels=4", "loss=grad"]
    finish(start("-m", "name=grid", "seed=0,1", *own, "hydra/launcher=joblib", workers=1))
    finish(start("name=single", "seed=1", *own, OMP_NUM_THREADS="1"))  # as joblib gives each

    def told(name: str) -> list[dict[str, str]]:
        (path,) = (p for p in (tmp_path / "runs" / name).glob("*/rows.csv"))
        return [row | {"seconds_per_frame": ""} for row in rows(path)]

    jobs = {row["seed"]: row["run"] for row in rows(tmp_path / "runs" / "grid" / "sweep.csv")}
    (tmp_path / "runs" / "alone").mkdir()
    (tmp_path / "runs" / "grid" / jobs["1"]).rename(tmp_path / "runs" / "alone" / "run")
    assert told("alone") == told("single")


LR, DECAY = "optimizer.lr", "optimizer.weight_decay"
CRASH, DIVERGES = {LR: 1e-3, DECAY: -1.0}, {LR: 1e30, DECAY: 1e-4}


def test_two_workers_search_with_a_crash_and_a_nan(start, tmp_path):
    """Twelve trials of the sampler that we ship, ten of them of its own choosing."""
    search = [
        "-m", "hydra/sweeper=optuna", "name=search", "hydra.sweeper.n_trials=12",
        f"{LR}=tag(log,interval(1e-4,1e-2))", f"{DECAY}=interval(0,0.01)", "model.channels=4,6",
        "trainer.max_steps=4", "trainer.val_check_interval=4",
    ]  # fmt: skip
    storage = f"sqlite:///{tmp_path / 'runs' / 'search' / 'study.db'}"
    (tmp_path / "runs" / "search").mkdir(parents=True)
    study = optuna.create_study(storage=storage, study_name="search", direction="maximize")
    for bad in (CRASH, DIVERGES):
        study.enqueue_trial(bad)
    workers = [start(*search), start(*search)]
    said = [finish(worker)[1] for worker in workers]
    found = rows(tmp_path / "runs" / "search" / "sweep.csv")
    assert sorted(int(row["trial"]) for row in found) == list(range(12))
    (crashed,) = (row for row in found if float(row[DECAY]) == -1)
    (diverged,) = (row for row in found if float(row[LR]) == 1e30)
    assert crashed["status"] == "failed"
    assert "Invalid weight_decay value" in crashed["error"]
    assert diverged["status"] == "diverged"
    assert "optimizer.lr" in diverged["error"]
    rest = [row for row in found if row not in (crashed, diverged)]
    assert {row["status"] for row in rest} == {"finished"}
    assert len({(row[LR], row[DECAY], row["model.channels"]) for row in rest}) == 10
    best = max(rest, key=lambda row: float(row["objective"]))
    for text in said:
        assert f"best: trial {best['trial']} with val/psnr" in text
        assert f" {LR}={best[LR]} " in text.rstrip().splitlines()[-1]
    assert not list((tmp_path / "runs" / "search").glob("*/rows.csv"))  # nobody saw the test split


def test_a_hopeless_trial_is_pruned_and_stays_pruned(start, tmp_path):
    search = [
        "-m", "hydra/sweeper=optuna", "name=search", f"{LR}=tag(log,interval(1e-4,1e-2))",
        "hydra.sweeper.pruner._target_=optuna.pruners.ThresholdPruner",
        "~hydra.sweeper.pruner.n_startup_trials", "+hydra.sweeper.pruner.lower=1000",
        "hydra.sweeper.pruner.n_warmup_steps=0",
        "model.channels=4", "trainer.max_steps=8", "trainer.val_check_interval=4",
    ]  # fmt: skip
    folder = tmp_path / "runs" / "search"
    said = finish(start(*search, "hydra.sweeper.n_trials=1"), 1)[1]
    assert "1 trials (1 pruned)" in said
    study = optuna.load_study(storage=f"sqlite:///{folder / 'study.db'}", study_name="search")
    (trial,) = study.get_trials()
    assert trial.state.name == "PRUNED"
    assert list(trial.intermediate_values) == [4]  # of 8
    (row,) = rows(folder / "sweep.csv")
    assert (row["status"], row["objective"]) == ("pruned", "")
    assert "given up at step 4 with val/psnr" in row["error"]
    last = torch.load(folder / row["run"] / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 4  # its last validation was kept
    study.enqueue_trial(trial.params)
    said = finish(start(*search, "hydra.sweeper.n_trials=2"), 1)[1]
    assert "pruned before" in said
    assert [t.state.name for t in study.get_trials()] == ["PRUNED"] * 2
    assert [row["trial"] for row in rows(folder / "sweep.csv")] == ["0", "1"]
    assert len(list(folder.glob("*/run.json"))) == 1


@pytest.mark.parametrize("launcher", ["submitit_local", "ray"])
def test_a_launcher_of_clusters_runs_two_jobs(start, tmp_path, launcher):
    pytest.importorskip({"submitit_local": "submitit", "ray": "ray"}[launcher])
    arguments = ["-m", f"hydra/launcher={launcher}", "name=far", "seed=0,1", "model.channels=4"]
    out, _ = finish(start(*arguments, HOME=str(tmp_path)))
    assert " ccdnet grad_gan (n=2) " in out
    found = rows(tmp_path / "runs" / "far" / "sweep.csv")
    assert sorted(row["seed"] for row in found) == ["0", "1"]
    assert {row["status"] for row in found} == {"finished"}
