"""The processes of one run: started here, or by torchrun or SLURM, and met before they begin.

    train.py trainer=ddp    checks everything, fills the cache,
                            starts itself again as ranks 1, 2, ... ──┐
                            rank 0 ──────────────────────────────────┴─► group ─► run folder
    torchrun, srun          all ranks at once ──────────────────────────► group ─► run folder

The process group comes first, before a folder or a trainer: what one rank decides (the run folder,
the checkpoint to go on from) it can then tell the others, however they were started. Lightning
finds the group and the environment variables of a launcher, and starts nothing itself. ADR 13.

A failure that every rank meets is told by rank 0, which ends the others. A rank that fails alone
tells it itself, and its end is the end of all.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from omegaconf import DictConfig, ListConfig
from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from unlossy import _torchvision  # noqa: F401
from unlossy.errors import UserError
from unlossy.training import ranks

from lightning.fabric.plugins import ClusterEnvironment  # isort: skip
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment  # isort: skip
from lightning.fabric.plugins.environments.torchelastic import (  # isort: skip
    TorchElasticEnvironment,
)
from lightning.fabric.utilities.rank_zero import rank_zero_only  # isort: skip

# Longer than the longest clip of a validation may keep the others waiting. That a process has died
# is noticed otherwise, and at once.
PATIENCE = timedelta(hours=4)
GRACE = 3.0  # seconds in which the first rank says what all have met, and a dying one ends


@dataclass(frozen=True)
class Team:
    """How many processes a configuration asks for: one for each device of each node."""

    devices: int
    nodes: int = 1

    @property
    def size(self) -> int:
        """All of them."""
        return self.devices * self.nodes


def team(cfg: DictConfig) -> Team:
    """Return the processes that `devices` and `num_nodes` of a trainer or an evaluation ask for.

    Raises:
        UserError: there can be no such number, or the trainer is not made for several.
    """
    asked, nodes = cfg.get("devices", 1), cfg.get("num_nodes", 1)
    if isinstance(asked, ListConfig):
        devices = len(asked)
    elif asked in ("auto", -1):
        devices = max(1, torch.cuda.device_count()) if cfg.get("accelerator") != "cpu" else 1
    else:
        devices = asked
    for key, value in {"devices": devices, "num_nodes": nodes}.items():
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{key}={value} does not work; use a whole number from 1 on.")
    found = Team(devices, nodes)
    if found.size > 1 and "max_steps" in cfg and "strategy" not in cfg:
        raise UserError(
            f"trainer.devices={devices} on a trainer made for one process; use trainer=ddp "
            f"trainer.devices={devices}, and your own settings after it."
        )
    return found


def cluster(team: Team) -> ClusterEnvironment | None:
    """Return what torchrun or SLURM says about this process; None where neither started it.

    A task of SLURM's that is a run of its own, such as a worker of a sweep, is told nothing either.
    SLURM's signal is left to who asked for it: Lightning would write a second checkpoint, into a
    folder that a requeued run does not look into. `ckpt=last` goes on from ours.

    Raises:
        UserError: SLURM was not told how many tasks each node gets.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if team.size > 1 and SLURMEnvironment.detect() and int(os.environ["SLURM_NTASKS"]) > 1:
        if "SLURM_NTASKS_PER_NODE" not in os.environ:
            raise UserError(
                "SLURM was asked for --ntasks, which does not say how many of them share a node; "
                "ask for --nodes and --ntasks-per-node instead (docs/distributed.md)."
            )
        return SLURMEnvironment(auto_requeue=False)
    return None


@contextmanager
def joined(team: Team) -> Iterator[None]:
    """Be a team within: start the others, unless they are there, and leave together.

    Within another `joined` it does nothing: the stages of a recipe are trained by one team.

    Raises:
        UserError: the launcher started another number of processes than the configuration wants.
        SystemExit: another process failed; it has said why.
    """
    if distributed.is_available() and distributed.is_initialized():
        _check(team, ranks.world())
        yield
        return
    outside = cluster(team)
    if team.size == 1 and outside is None:
        rank_zero_only.rank = 0  # type: ignore[attr-defined]  # whichever of SLURM's tasks it is
        yield
        return
    if outside is not None:
        _check(team, outside.world_size())
    if outside is None and team.nodes > 1:
        raise UserError(
            f"num_nodes={team.nodes} needs a launcher on each of them; start with torchrun or srun "
            "(docs/distributed.md)."
        )
    others: list[subprocess.Popen[bytes]] = []
    parent, over = os.getppid(), threading.Event()
    store: TCPStore | None = None
    if outside is None and "LOCAL_RANK" not in os.environ:
        store, others = _start_others(team)
    elif outside is None:
        store = TCPStore("127.0.0.1", int(os.environ["MASTER_PORT"]), team.size)
    started_here = outside is None and not others

    def lost() -> int | str:
        orphaned = started_here and os.getppid() != parent
        return "error: the first process of this run has ended." if orphaned else _verdict(others)

    threading.Thread(target=_watch, args=(lost, over), daemon=True).start()
    try:
        _meet(team, outside, store)
        yield
        ranks.gathered([None])  # nobody leaves while another still writes
        distributed.destroy_process_group()
        _wait(others)
    except BaseException as error:
        if ranks.rank() > 0:
            time.sleep(GRACE)
        elif "gloo" in str(error) or isinstance(error, distributed.DistError):
            _leave_with(others)  # a collective was broken off, by one who takes a while to end
        for other in others:
            other.kill()  # Lightning answers SIGTERM by a collective
        raise
    finally:
        over.set()


def end_badly() -> None:
    """Let this process, which has failed, end with exit code 1 once it has told what it returns.

    SLURM then ends the others, which may wait for it in a collective. The first rank leaves last:
    what all have met, all can tell.
    """
    patience = 2 * GRACE if ranks.first_rank() else 0.0

    def leave() -> None:
        time.sleep(patience)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(1)

    atexit.register(leave)


def _check(team: Team, found: int) -> None:
    if team.size != found:
        raise UserError(
            f"{found} processes were started, and the configuration asks for {team.size} (devices "
            f"times num_nodes); make the two agree, as docs/distributed.md shows."
        )


def _start_others(team: Team) -> tuple[TCPStore, list[subprocess.Popen[bytes]]]:
    """Start this very command again for each further rank; return where all will meet, and them."""
    store = TCPStore("127.0.0.1", 0, team.size, is_master=True, wait_for_workers=False)
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "NODE_RANK": "0"}
    os.environ |= {**told, "WORLD_SIZE": str(team.size), "LOCAL_RANK": "0"}
    # Not sys.argv, from which `unlossy train` has taken its verb.
    command = [sys.executable, *sys.orig_argv[1:]]
    return store, [
        subprocess.Popen(command, env={**os.environ, "LOCAL_RANK": str(number)})
        for number in range(1, team.size)
    ]


def _meet(team: Team, outside: ClusterEnvironment | None, store: TCPStore | None) -> None:
    """Form the process group: gloo for objects and CPUs, NCCL for what lies on GPUs."""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if outside is None:
        number = int(os.environ["LOCAL_RANK"])
    else:
        number = outside.global_rank()
        os.environ["MASTER_ADDR"] = outside.main_address
        os.environ["MASTER_PORT"] = str(outside.main_port)
    distributed.init_process_group(
        backend, store=store, rank=number, world_size=team.size, timeout=PATIENCE
    )
    rank_zero_only.rank = number  # type: ignore[attr-defined]
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // team.devices))


def _verdict(others: Sequence[subprocess.Popen[bytes]]) -> int | str:
    """Return what to leave with: another's exit code, or how it was ended; 0 while all is well."""
    failed = [code for other in others if (code := other.poll())]
    if not failed or failed[0] > 0:
        return failed[0] if failed else 0
    return f"error: another process of this run was ended by signal {-failed[0]}."


def _watch(lost: Callable[[], int | str], over: threading.Event) -> None:
    """End this process, which may wait in a collective, when another has come to a bad end.

    Args:
        lost: what to leave with, 0 while all is well.
        over: set when there is nothing to wait for any more.
    """
    while not over.wait(0.5):
        if verdict := lost():
            if not over.wait(2 * GRACE):
                sys.stderr.write(f"{verdict}\n" if isinstance(verdict, str) else "")
                os._exit(verdict if isinstance(verdict, int) else 1)
            return


def _wait(others: Sequence[subprocess.Popen[bytes]]) -> None:
    for other in others:
        other.wait()
    _leave_with(others)


def _leave_with(others: Sequence[subprocess.Popen[bytes]]) -> None:
    """End as another rank did, if one fails within a while."""
    until = time.monotonic() + 10 * GRACE
    while not _verdict(others) and time.monotonic() < until:
        if all(other.poll() == 0 for other in others):
            return
        time.sleep(0.05)
    if verdict := _verdict(others):
        for other in others:
            other.kill()
        raise SystemExit(verdict)
