"""What two processes tell each other, and which number of them a configuration may ask for."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, distributed, nn

from unlossy.data.samples import Steps
from unlossy.errors import UserError
from unlossy.metrics.fid import SetScores
from unlossy.training import launching, ranks
from unlossy.training.launching import Team, joined, team


def of_two(tell: Callable[[int], object], folder: Path) -> list[object]:
    """Return what `tell(rank)` returns in each of two forked processes that form a group."""
    fork = multiprocessing.get_context("fork")
    told = fork.SimpleQueue()

    def one(rank: int) -> None:
        distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/met", rank=rank, world_size=2
        )
        told.put((rank, tell(rank)))
        distributed.destroy_process_group()

    processes = [fork.Process(target=one, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    answers = dict(told.get() for _ in processes)
    for process in processes:
        process.join()
    return [answers[0], answers[1]]


def test_one_process_gets_back_what_it_gives():
    assert (ranks.rank(), ranks.world(), ranks.first_rank()) == (0, 1, True)
    assert ranks.gathered(("a", "b")) == ["a", "b"]
    assert ranks.from_first(lambda: "made") == "made"
    layer = nn.BatchNorm2d(2)
    ranks.share_buffers(layer)
    assert layer.running_var.tolist() == [1, 1]


def test_two_processes_agree(tmp_path):
    def tell(rank: int) -> object:
        layer = nn.BatchNorm2d(1)
        layer.running_mean.fill_(10 + rank)
        ranks.share_buffers(layer)
        clips = ranks.gathered([f"clip{n}" for n in range(rank, 3, 2)])
        folder = ranks.from_first(lambda: f"made by {rank}")
        where = (ranks.rank(), ranks.world(), ranks.first_rank())
        return where, clips, folder, layer.running_mean.item()

    first, second = of_two(tell, tmp_path)
    assert first == ((0, 2, True), ["clip0", "clip2", "clip1"], "made by 0", 10)
    assert second == ((1, 2, False), ["clip0", "clip2", "clip1"], "made by 0", 10)


def test_two_ranks_see_in_a_step_what_one_process_sees_at_twice_the_batch():
    one = list(Steps(3, 6, batch=4))
    pair = [list(Steps(3, 6, batch=2, rank=rank, world=2)) for rank in (0, 1)]
    assert [left + right for left, right in zip(*pair, strict=True)] == one


class Brightness:
    """Features: the first pixel. Columns: those of all frames that were looked at, sorted."""

    every = 3

    def features(self, frames: Tensor) -> Tensor:
        return frames[:, 0, 0, :1].float()

    def compare(self, restored: Tensor, clean: Tensor) -> dict[str, object]:
        return {"restored": sorted(restored[:, 0].tolist()), "clean": sorted(clean[:, 0].tolist())}


def test_sets_look_at_the_same_frames_whoever_restores_them():
    clips = [torch.randint(0, 256, (length, 3, 2, 2), dtype=torch.uint8) for length in (4, 1, 5, 7)]
    starts = [0, 4, 5, 10]

    def scored(places: range, told: bool) -> SetScores:
        sets = SetScores({"brightness": Brightness()}, torch.device("cpu"))
        for place in places:
            if told:
                sets.go_to(starts[place])
            sets.add("input", 255 - clips[place][:2], clips[place][:2])  # two windows
            sets.add("input", 255 - clips[place][2:], clips[place][2:])
        return sets

    alone = scored(range(4), told=False).compute()
    everyones = [scored(range(rank, 4, 2), told=True).features() for rank in (0, 1)]
    for_all = SetScores({"brightness": Brightness()}, torch.device("cpu")).compute(everyones)
    assert for_all == alone
    assert len(alone["input"]["clean"]) == 6  # frames 0, 3, 6, ... of 17


def of(**trainer: object) -> Team:
    return team(OmegaConf.create(trainer))


def test_how_many_processes_a_configuration_asks_for():
    assert of(max_steps=1) == Team(1, 1)
    assert of(devices=[2, 3], strategy="x", max_steps=1) == Team(2, 1)
    assert of(devices="auto", accelerator="cpu") == Team(1, 1)
    assert of(devices=4, num_nodes=2).size == 8


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ({"devices": 0}, "devices=0"),
        ({"devices": "two"}, "devices=two"),
        ({"num_nodes": 0}, "num_nodes=0"),
        ({"devices": 2, "max_steps": 1}, "trainer=ddp"),
    ],
)
def test_a_number_of_processes_that_cannot_be(trainer, words):
    with pytest.raises(UserError, match=words):
        of(**trainer)


def test_a_launcher_that_started_another_number_is_refused(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "some")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match=r"3 processes were started.*asks for 2"), joined(Team(2)):
        pass
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    with pytest.raises(UserError, match="torchrun or srun"), joined(Team(1, nodes=2)):
        pass


def test_under_slurm_its_signal_is_left_alone(monkeypatch):
    from unlossy.training.launching import cluster

    slurm = {"NTASKS": "2", "NTASKS_PER_NODE": "2", "JOB_NAME": "job", "PROCID": "1"}
    for key, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    found = cluster(Team(2))
    assert (found.world_size(), found.global_rank(), found.auto_requeue) == (2, 1, False)
    assert cluster(Team(1)) is None  # a worker of its own
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert cluster(Team(2)) is None


def test_a_process_that_has_failed_tells_what_it_returns_and_leaves_with_1(monkeypatch, tmp_path):
    monkeypatch.setattr(launching, "GRACE", 0.0)
    fork = multiprocessing.get_context("fork")

    def fail() -> None:
        launching.atexit._clear()  # those of the tests
        launching.end_badly()
        (tmp_path / "returned").touch()
        launching.atexit._run_exitfuncs()

    process = fork.Process(target=fail)
    process.start()
    process.join()
    assert (process.exitcode, (tmp_path / "returned").exists()) == (1, True)
