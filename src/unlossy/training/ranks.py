"""Which of the processes of one run this is, and what they tell each other.

    rank 0   makes the run folder, writes every table, speaks
    rank r   trains on its samples, scores its clips (r, r + W, r + 2 W, ... of W ranks)

One process is rank 0 of 1, needs no process group, and gets back what it gives. Every function here
but `rank`, `world` and `first_rank` must be called by all ranks, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from torch import distributed, nn

T = TypeVar("T")


def rank() -> int:
    """Return this process's number among those of the run, from 0."""
    return distributed.get_rank() if _several() else 0


def world() -> int:
    """Return how many processes the run has."""
    return distributed.get_world_size() if _several() else 1


def first_rank() -> bool:
    """Return whether this is the process that writes and speaks."""
    return rank() == 0


def gathered(items: Sequence[T]) -> list[T]:
    """Return the items of all ranks, in rank order; they travel pickled."""
    if not _several():
        return list(items)
    everyones: list[list[T]] = [[] for _ in range(world())]
    distributed.all_gather_object(everyones, list(items))
    return [item for own in everyones for item in own]


def from_first(make: Callable[[], T]) -> T:
    """Call `make` on the first rank alone, and return what it made on every rank."""
    if not _several():
        return make()
    held = [make() if first_rank() else None]
    distributed.broadcast_object_list(held, src=0)
    return cast(T, held[0])


def share_buffers(module: nn.Module) -> None:
    """Give every rank the first one's buffers, such as the running statistics of a BatchNorm."""
    if _several():
        for buffer in module.buffers():
            distributed.broadcast(buffer, src=0)


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()
