"""Two processes are one run: the same weights, the same rows, one folder, one end."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from unlossy import cli
from unlossy.training import runs

STEPS = 20
# As `unlossy train ...` does it: the verb is no longer in sys.argv when others are started.
DOOR = "from unlossy.cli import main; main()"
SMALL = [
    "model=ccdnet", "model.channels=4", "data.crop=32", "data.workers=0", "metrics=pixel",
    "logger=csv", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false",
    f"trainer.max_steps={STEPS}", "trainer.val_check_interval=10", "trainer.log_every_n_steps=5",
    "checkpoint_every=5",
]  # fmt: skip
L1 = [
    *SMALL,
    "model.norm=none",
    "loss=l1",
    "~baselines.nlmeans",
    "~baselines.bilateral",
    "~baselines.undither",
]
GAN = [*SMALL, "loss=grad_gan", "schedule=constant", "data.batch=2", "trainer=ddp", "~baselines"]


@pytest.fixture(scope="module")
def source(footage, tmp_path_factory):
    """Three clips to train on, three to test on, and one to validate on: rank 1 has none."""
    folder = tmp_path_factory.mktemp("lists")
    lists = {"train": (0, 1, 2), "val": (3,), "test": (4, 5, 6)}
    for split, clips in lists.items():
        (folder / f"{split}.txt").write_text("".join(f"clip{clip}\n" for clip in clips))
    named = ", ".join(f"{split}: '{folder / split}.txt'" for split in lists)
    return ["source=folder", f"source.path={footage}", f"source.lists={{{named}}}"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def environment(monkeypatch, cache):
    monkeypatch.setenv("UNLOSSY_CACHE", str(cache))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def start(code: str, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [sys.executable, *prefix, *(("-c", code) if code else ()), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    try:
        _, errors = process.communicate(timeout=280)
    finally:
        process.kill()
    assert process.returncode == code, errors[-3000:]
    return errors


def here(verb: str, *overrides: str) -> Path:
    """Do what the door does, in this process."""
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose(verb, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    own = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    run = {"train": runs.train, "eval": runs.evaluate}[verb]
    return run(own, cfg.hydra.runtime.choices)


def table(folder: Path, name: str = "rows.csv") -> list[dict[str, str]]:
    with (folder / name).open() as file:
        return [row | {"seconds_per_frame": ""} for row in csv.DictReader(file)]


def checkpoint(folder: Path) -> dict:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def only(root: Path) -> Path:
    (folder,) = root.glob("*/*")
    return folder


def test_two_processes_train_and_test_as_one(source, tmp_path):
    pair = start(
        DOOR, "train", *L1, *source, "trainer=ddp", "data.batch=2", f"run_root={tmp_path}/two"
    )
    one = here("train", *L1, *source, "data.batch=4", "test=false", f"run_root={tmp_path}/one")
    said = finish(pair)
    two = only(tmp_path / "two")
    assert said.count("best checkpoint:") == 1
    ours, theirs = checkpoint(one)["state_dict"], checkpoint(two)["state_dict"]
    for name, value in ours.items():
        assert torch.allclose(value, theirs[name], rtol=0, atol=1e-4), name
    logs = [table(folder, "metrics.csv") for folder in (one, two)]
    logs = [[row for row in log if not row["name"].startswith("time/")] for log in logs]
    assert [(row["step"], row["name"]) for row in logs[0]] == [
        (row["step"], row["name"]) for row in logs[1]
    ]
    for mine, its in zip(*logs, strict=True):
        assert float(mine["value"]) == pytest.approx(float(its["value"]), rel=1e-4, abs=1e-4)
    # One process scores the checkpoint of two as the two did: every row, in the same order.
    best = two / "checkpoints" / "best.ckpt"
    leave_out = [override for override in L1 if override.startswith("~")]
    alone = here(
        "eval", *source, *leave_out, "metrics=pixel", f"ckpt={best}", f"run_root={tmp_path}/eval",
        "device=cpu",
    )  # fmt: skip
    assert table(alone) == table(two)
    assert [row["clip"] for row in table(two)][:3] == ["clip4", "clip5", "clip6"]
    pictures = {path.name for path in (two / "panels" / "test").iterdir()}
    assert pictures == {path.name for path in (alone / "panels" / "test").iterdir()}


# Patched into every process: ranks that took different steps would have other weights.
AGREE = """
from unlossy.training import ranks
from unlossy.training.enhancer import Enhancer
def agree(self):
    told = ranks.gathered([[p.detach().clone() for p in self.parameters()], self.taken.tolist()])
    assert all(a.equal(b) for a, b in zip(told[0], told[2])) and told[1] == told[3], told[1::2]
    assert 0 < min(told[1]) and ranks.world() == 2
Enhancer.on_train_end = agree
"""


@pytest.mark.slow
def test_a_gan_on_two_ranks_agrees_and_goes_on_bit_for_bit(source, tmp_path):
    shorter = [*GAN, *source, f"run_root={tmp_path}/killed", "trainer.max_steps=10"]
    unbroken = start(AGREE + DOOR, "train", *GAN, *source, f"run_root={tmp_path}/unbroken")
    finish(start(AGREE + DOOR, "train", *shorter, "test=false"))
    last = only(tmp_path / "killed") / "checkpoints" / "last.ckpt"
    finish(start(AGREE + DOOR, "train", *GAN, *source, f"ckpt={last}"))
    finish(unbroken)
    one, other = (only(tmp_path / name) for name in ("unbroken", "killed"))
    ours, theirs = checkpoint(one), checkpoint(other)
    assert ours["global_step"] == theirs["global_step"] == STEPS
    for name, value in ours["state_dict"].items():
        assert torch.equal(value, theirs["state_dict"][name]), name
    (first, second), (first_again, second_again) = ours["of_ranks"], theirs["of_ranks"]
    (pool,) = first
    assert not torch.equal(first[pool], second[pool])  # each has seen its own samples
    assert torch.equal(first[pool], first_again[pool])
    assert torch.equal(second[pool], second_again[pool])
    assert table(one) == table(other)


FAIL = """
import os
from unlossy.errors import UserError
from unlossy.training.enhancer import Enhancer
usual = Enhancer.on_train_batch_start
def fail(self, batch, number):
    if number == 3 and self.global_rank == 1:
        raise {error}
Enhancer.on_train_batch_start = fail
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "code"), [("UserError('This rank fails.')", 2), ("OSError('That one, too.')", 1)]
)
def test_a_rank_that_fails_ends_all(source, tmp_path, error, code):
    begun = time.monotonic()
    process = start(FAIL.format(error=error) + DOOR, "train", *GAN, *source, f"run_root={tmp_path}")
    said = finish(process, code)
    assert time.monotonic() - begun < 120
    assert ("error: This rank fails." in said) == (code == 2)
    assert ("OSError: That one, too." in said) == (code == 1)
    assert said.count("Traceback") == (code == 1)


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["child", "parent"])
def test_a_killed_process_leaves_none_hanging(source, tmp_path, whom):
    parent = start(DOOR, "train", *GAN, *source, f"run_root={tmp_path}", "trainer.max_steps=100000")
    while not list(tmp_path.glob("*/*/checkpoints/last.ckpt")):
        assert parent.poll() is None, parent.stderr.read()
        time.sleep(0.2)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    (child,) = [int(pid) for pid in children]
    os.kill(child if whom == "child" else parent.pid, signal.SIGKILL)
    _, said = parent.communicate(timeout=60)  # until both have closed their end
    assert parent.returncode == (1 if whom == "child" else -signal.SIGKILL)
    assert ("ended by signal 9" in said) == (whom == "child")


def as_slurm_task(rank: int) -> dict[str, str]:
    told = {
        **{"JOB_ID": "4321", "JOB_NAME": "job", "NTASKS": "2", "NTASKS_PER_NODE": "2"},
        **{"NNODES": "1", "NODEID": "0", "NODELIST": "localhost"},
        **{"PROCID": str(rank), "LOCALID": str(rank)},
    }
    return {f"SLURM_{key}": value for key, value in told.items()}


@pytest.mark.slow
def test_processes_started_elsewhere_make_one_run(source, tmp_path, monkeypatch):
    train = [*L1, *source, "data.batch=2", "test=false"]
    tasks = []
    for rank in (0, 1):
        with monkeypatch.context() as environment:
            for key, value in as_slurm_task(rank).items():
                environment.setenv(key, value)
            tasks.append(start(DOOR, "train", *train, "trainer=slurm", f"run_root={tmp_path}/a"))
    said = [finish(task) for task in tasks]
    assert ["run folder" in text for text in said] == [True, False]
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    doors = Path(__file__).parents[2]
    train_with = [str(doors / "train.py"), *train, "trainer=ddp", f"run_root={tmp_path}/b"]
    finish(start("", *train_with, prefix=torchrun))
    a, b = (only(tmp_path / name) for name in "ab")
    for name, value in checkpoint(a)["state_dict"].items():
        assert torch.equal(value, checkpoint(b)["state_dict"][name]), name
    score = [*source, "~baselines", "metrics=pixel", f"ckpt={a}/checkpoints/best.ckpt"]
    score += [f"run_root={tmp_path}/scored", "device=cpu"]
    finish(start("", str(doors / "eval.py"), *score, "devices=2", "name=two", prefix=torchrun))
    finish(start(DOOR, "eval", *score, "devices=2", "name=local"))
    finish(start(DOOR, "eval", *score, "name=one"))
    tables = [table(next((tmp_path / "scored" / n).iterdir())) for n in ("one", "two", "local")]
    assert tables[0] == tables[1] == tables[2]
    assert len(tables[0]) == 6


@pytest.mark.slow
def test_a_recipe_of_stages_is_trained_by_one_team(source, tmp_path):
    def second(stage: str, loss: str) -> str:
        parts = ["experiment=astf/small_stage2", f"loss={loss}", "monitor=val/psnr"]
        parts += ["~loss.terms.lpips", "start_ckpt=${trained.stage1}"]
        return f"stages.{stage}=[{','.join(repr(part) for part in parts)}]"

    recipe = [
        "experiment=astf/small", "trainer=ddp", "trainer.max_steps=4",
        "trainer.val_check_interval=2", "trainer.accelerator=cpu", "network.channels=4",
        "trainer.enable_progress_bar=no", "network.blocks=1", "data.crop=24", "data.batch=1",
        "data.workers=0", "metrics=pixel", "logger=csv", "degradation=hevc_intra", "~baselines",
        second("texture", "l1"), second("tradeoff", "charbonnier"), f"run_root={tmp_path}",
    ]  # fmt: skip
    said = finish(start(DOOR, "train", *recipe, *source))
    assert said.count("stage 1 of 3") == 1
    folder = only(tmp_path)
    stages = sorted(path.parent.parent.name for path in folder.glob("stages/*/*/run.json"))
    assert stages == ["stage1", "texture", "tradeoff"]
    rows = table(folder)
    models = ["input", "astf:s", "astf:e1", "astf:e2", "astf:f", "astf:y"]
    assert list(dict.fromkeys(row["model"] for row in rows)) == models
    assert [row["clip"] for row in rows] == ["clip4", "clip5", "clip6"] * 6
