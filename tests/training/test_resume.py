"""A run killed with SIGKILL at any moment and continued equals an unbroken one, bit for bit."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
STEPS = 40
ARGUMENTS = [
    "model=ccdnet", "model.channels=4", "source=folder", "trainer=tiny", "logger=csv",
    f"trainer.max_steps={STEPS}", "trainer.val_check_interval=12", "checkpoint_every=5",
    "trainer.enable_progress_bar=false", "trainer.accelerator=cpu", "data.crop=32", "data.batch=2",
    "data.workers=2", "metrics=pixel", "ema=0.9", "~baselines",
]  # fmt: skip


def start(loss: str, run_root: Path, footage: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "train.py"), f"loss={loss}", *ARGUMENTS, *more]
    command += [f"source.path={footage}", f"run_root={run_root}"]
    environment = os.environ | {"UNLOSSY_CACHE": str(footage.parent / "cache")}
    return subprocess.Popen(
        command, env=environment, start_new_session=True, cwd=run_root.parent,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors.decode()[-3000:]


def kill_within_training(
    process: subprocess.Popen[bytes], run_root: Path, rng: random.Random
) -> int:
    """Kill the process group at a random step after the first checkpoint; return that step."""
    goal = rng.randrange(6, STEPS - 2)
    while process.poll() is None:
        logs = list(run_root.glob("*/*/metrics.csv"))
        last = list(run_root.glob("*/*/checkpoints/last.ckpt"))
        step = _last_step(logs[0]) if logs else 0
        if last and step >= goal:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return step
        time.sleep(0.005)
    raise AssertionError(f"ended before the kill: {process.stderr.read().decode()[-3000:]}")


def _last_step(log: Path) -> int:
    lines = log.read_text().splitlines()
    complete = [line.split(",")[0] for line in lines[1:] if line.count(",") == 2]
    return int(complete[-1]) if complete else 0


def outcome(run_root: Path) -> tuple[dict, list, list]:
    (folder,) = run_root.glob("*/*")
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    with (folder / "rows.csv").open() as file:
        rows = [r | {"seconds_per_frame": ""} for r in csv.DictReader(file)]
    log = (folder / "metrics.csv").read_text().splitlines()
    return state, rows, [line for line in log if ",time/" not in line]


def assert_same(one: object, other: object, where: str = "") -> None:
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for key, value in one.items():
            assert_same(value, other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for k, value in enumerate(one):
            assert_same(value, other[k], f"{where}[{k}]")
    else:
        assert one == other, where


KEPT = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers")


def kill_and_compare(loss: str, tmp_path: Path, footage: Path, kills: int) -> None:
    whole = tmp_path / "whole"
    finish(start(loss, whole, footage))
    expected, rows, log = outcome(whole)
    assert [line for line in log if line.startswith(f"{STEPS - 1},train/")]
    for attempt in range(kills):
        root = tmp_path / f"killed{attempt}"
        step = kill_within_training(start(loss, root, footage), root, random.Random(attempt))
        finish(start(loss, root, footage, "ckpt=last"))
        state, found_rows, found_log = outcome(root)
        for key in KEPT:
            assert_same(expected[key], state[key], f"killed at {step}: {key}")
        assert found_rows == rows
        assert found_log == log


def test_an_adversarial_run_survives_a_kill(tmp_path, footage):
    kill_and_compare("grad_gan", tmp_path, footage, kills=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("loss", ["grad", "grad_gan"])
def test_five_kills_change_nothing(loss, tmp_path, footage):
    kill_and_compare(loss, tmp_path, footage, kills=5)
