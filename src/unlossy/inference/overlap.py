"""Decode, network and encode at the same time: iterators across threads, a few items ahead.

    reader thread            main thread           writer thread
    decode ──►[ queue ]──► network, tiles ──►[ queue ]──► encode

FFmpeg and torch release Python's lock, so the three do overlap. The network keeps the main thread,
where Ctrl-C arrives and ends it between two operations; the other two stop at their next item, the
writer also where it checks, and an error of any of them is raised in the main thread once all have
ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import Enum, auto
from queue import Full, Queue
from threading import Event
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
Check = Callable[[], None]
AHEAD = 8  # items that wait in a queue


class Abandoned(Exception):
    """Raised in a consumer whose producer has failed or was interrupted; never seen by users."""


class _End(Enum):
    END = auto()


@contextmanager
def ahead(items: Iterator[T]) -> Iterator[Iterator[T]]:
    """Run an iterator in a thread of its own, which ends with the block.

    Yields:
        Its items; whatever it raises is raised where they are taken.
    """
    waiting: Queue[T | _End] = Queue(AHEAD)
    left = Event()

    def run() -> None:
        try:
            for item in items:
                if not _put(waiting, item, left.is_set):
                    return
        finally:
            _put(waiting, _End.END, left.is_set)

    def taken() -> Iterator[T]:
        while not isinstance(item := waiting.get(), _End):
            yield item
        thread.result()

    with ThreadPoolExecutor(1, "reader") as pool:
        thread = pool.submit(run)
        try:
            yield taken()
        finally:
            left.set()


def behind(consume: Callable[[Iterator[T], Check], R], items: Iterator[T]) -> R:
    """Return `consume(items, check)`, which runs in a thread of its own while this one makes items.

    Where making them fails, or Ctrl-C comes before `consume` is done, `Abandoned` is raised in it,
    by its iterator or by `check`, so that it can clean up: it calls `check` now and then where it
    works on after the last item, and before what cannot be undone.
    """
    waiting: Queue[T | _End] = Queue(AHEAD)
    left = Event()

    def check() -> None:
        if left.is_set():
            raise Abandoned

    def received() -> Iterator[T]:
        while True:
            item = waiting.get()
            check()
            if isinstance(item, _End):
                return
            yield item

    with ThreadPoolExecutor(1, "writer") as pool:
        thread = pool.submit(consume, received(), check)
        try:
            for item in items:
                if not _put(waiting, item, thread.done):
                    break
            _put(waiting, _End.END, thread.done)
            return thread.result()
        finally:  # means nothing to a writer that is done
            left.set()
            _put(waiting, _End.END, thread.done)


def _put(waiting: Queue[T], item: T, given_up: Callable[[], bool]) -> bool:
    """Put an item as soon as there is room; False if the other side has given up before."""
    while not given_up():
        try:
            waiting.put(item, timeout=0.1)
        except Full:
            continue
        return True
    return False
