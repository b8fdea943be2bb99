from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from unlossy.inference.overlap import AHEAD, Abandoned, Check, ahead, behind


def threads() -> int:
    return sum(thread.name.startswith(("reader", "writer")) for thread in threading.enumerate())


@pytest.mark.parametrize("count", [0, 1, AHEAD, 100])
def test_everything_arrives_in_order(count):
    with ahead(iter(range(count))) as items:
        assert behind(lambda made, check: list(made), items) == list(range(count))
    assert threads() == 0


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_of_the_reader_is_raised_where_its_items_are_taken(error):
    def broken() -> Iterator[int]:
        yield from range(3)
        raise error("here")

    taken = []

    def take() -> None:
        with ahead(broken()) as items:
            for item in items:
                taken.append(item)  # noqa: PERF402

    with pytest.raises(error, match="here"):
        take()
    assert taken == [0, 1, 2]
    assert threads() == 0


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_writer_cleans_up_when_the_items_fail(error):
    def broken() -> Iterator[int]:
        yield 1
        raise error("there")

    left = []

    def consume(items: Iterator[int], check: Check) -> None:
        try:
            list(items)
        except Abandoned:
            left.append("cleaned")
            raise

    with pytest.raises(error, match="there"):
        behind(consume, broken())
    assert left == ["cleaned"]
    assert threads() == 0


def test_an_error_of_the_writer_ends_the_work_at_once():
    made = []

    def items() -> Iterator[int]:
        for k in range(10**9):
            made.append(k)
            yield k

    def consume(taken: Iterator[int], check: Check) -> None:
        next(taken)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        behind(consume, items())
    assert len(made) < 10_000
    assert threads() == 0


def test_the_writer_is_told_when_it_works_on_and_nobody_waits_for_it(monkeypatch):
    at_work, ended = threading.Event(), []

    def interrupted(future: Future, timeout: float | None = None) -> None:
        at_work.wait(5)
        raise KeyboardInterrupt

    def consume(items: Iterator[int], check: Check) -> None:
        taken = list(items)
        at_work.set()
        try:
            for _ in range(500):
                time.sleep(0.002)
                check()
        except Abandoned:
            ended.append(taken)
            raise

    monkeypatch.setattr(Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        behind(consume, iter(range(3)))
    assert ended == [[0, 1, 2]]
    assert threads() == 0


def test_a_reader_that_is_left_stops_and_is_no_further_than_the_queue():
    read = []

    def endless() -> Iterator[int]:
        k = 0
        while True:
            read.append(k)
            yield k
            k += 1

    with ahead(endless()) as items:
        assert next(items) == 0
        time.sleep(0.05)
        assert len(read) <= AHEAD + 2
    assert threads() == 0


def test_they_overlap():
    """Three stages of 20 items that sleep 5 ms each: 0.1 s and not 0.3 s."""

    def slowly(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            time.sleep(0.005)
            yield item

    start = time.perf_counter()
    with ahead(slowly(iter(range(20)))) as items:
        assert behind(lambda made, check: sum(slowly(made)), slowly(items)) == 190
    assert time.perf_counter() - start < 0.22
