"""The same command twice, on a CPU: every column of every row but the time, and every weight.

The weights must not depend on how many processes load the data either, nor does the run's hash.
"""

import csv
import sys
from pathlib import Path

import pytest
import torch

from unlossy import cli

COMMAND = [
    "train.py", "logger=csv", "trainer=tiny", "trainer.accelerator=cpu", "model.channels=4",
    "trainer.max_steps=3", "trainer.val_check_interval=2", "trainer.enable_progress_bar=false",
    "checkpoint_every=2", "data.crop=32", "data.batch=2", "source=folder",
]  # fmt: skip
FEW = ["metrics=pixel", *(f"~model@baselines.{n}" for n in ("undither", "bilateral", "nlmeans"))]


@pytest.fixture
def trained(tmp_path, footage, monkeypatch):
    """Run a training through its door; return the run folder."""
    monkeypatch.chdir(tmp_path)

    def run(into: str, *arguments: str) -> Path:
        # Each with a cache of its own: the degraded clips are made twice, too.
        monkeypatch.setenv("UNLOSSY_CACHE", str(tmp_path / into / "cache"))
        root = tmp_path / into / "runs"
        monkeypatch.setattr(
            sys, "argv", [*COMMAND, f"source.path={footage}", f"run_root={root}", *arguments]
        )
        cli.train()
        (folder,) = root.glob("*/*")
        return folder

    return run


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "rows.csv").open() as file:
        return [row | {"seconds_per_frame": ""} for row in csv.DictReader(file)]


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """Return the model and what it was trained against: an adversary's networks and pool."""
    state = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
    return dict(state)


def assert_same_run(one: Path, other: Path) -> None:
    assert one.name.split("_")[-1] == other.name.split("_")[-1]  # the configuration's hash
    assert rows(one) == rows(other)
    assert {row["model"] for row in rows(one)} >= {"input", "ccdnet"}
    for name in ("best", "last"):
        mine, theirs = weights(one, name), weights(other, name)
        assert list(mine) == list(theirs)
        differ = [key for key, value in mine.items() if not torch.equal(value, theirs[key])]
        assert differ == []


@pytest.mark.parametrize("loss", ["grad", "grad_gan"])
def test_the_same_command_twice_gives_the_same_rows_and_weights(trained, loss):
    more = (f"loss={loss}", *FEW)
    one = trained("one", *more, "data.workers=0")
    assert_same_run(one, trained("other", *more, "data.workers=2"))
    if loss == "grad_gan":
        assert any(key.startswith("objective.") for key in weights(one, "best"))


@pytest.mark.slow
@pytest.mark.assets("lpips_alex", "lpips_vgg")
@pytest.mark.parametrize("loss", ["grad", "grad_gan"])
@pytest.mark.parametrize("workers", [0, 2])
def test_so_does_every_other_metric_and_filter(trained, loss, workers):
    more = (f"loss={loss}", f"data.workers={workers}", "metrics=default")
    one = trained("one", *more)
    assert_same_run(one, trained("other", *more))
    scores = next(row for row in rows(one) if row["model"] == "ccdnet")
    assert scores["lpips_alex"]
    assert scores["warp_error"]


@pytest.mark.slow
def test_another_seed_gives_other_weights(trained):
    more = ("loss=grad", "data.workers=0", "test=false")
    mine = weights(trained("one", *more), "last")
    theirs = weights(trained("other", *more, "seed=1"), "last")
    assert any(not torch.equal(value, theirs[key]) for key, value in mine.items())
