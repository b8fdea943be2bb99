"""Damaged files: no traceback, no hang, no partial file, no memory that a header merely claims.

One worker process takes all cases; a watchdog ends it when a case takes too long, and names it.
"""

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits as in Linux")
WORKER = Path(__file__).with_name("fuzz_worker.py")
PATIENCE = 60  # seconds: a case takes a tenth of one on an idle machine
MOST_KB = 800_000  # 300,000 of them are torch; the most in 2,000 cases was 514,000


class Worker:
    """The process, started anew after a crash or a hang."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        command = [sys.executable, "-P", str(WORKER), str(folder)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            env=environment,
        )
        assert self._line() == "ready\n"

    def _line(self) -> str:
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        return self._process.stdout.readline() if ready else "hang"

    def ask(self, case: str) -> str | None:
        """What is wrong in a case."""
        self._process.stdin.write(f"{case}\n")
        line = self._line()
        if line in ("", "hang"):
            self.close()
            return "the worker died" if line == "" else f"no answer for {PATIENCE} s"
        told = json.loads(line)
        return told["wrong"] or (
            f"{told['peak_kb']} kB of memory" if told["peak_kb"] > MOST_KB else None
        )

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    @property
    def dead(self) -> bool:
        return self._process.poll() is not None


def failures(folder: Path, cases: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    worker = Worker(folder / "0")
    try:
        for number, case in enumerate(cases, 1):
            if worker.dead:
                worker = Worker(folder / str(number))
            if (wrong := worker.ask(case)) is not None:
                found[case] = wrong
    finally:
        worker.close()
    return found


def cases(count: int) -> list[str]:
    return [f"{kind} {seed}" for seed in range(count // 2) for kind in ("gif", "mp4")]


def test_sixty_damaged_files(tmp_path):
    assert failures(tmp_path, cases(60)) == {}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_hundred_damaged_files(tmp_path):
    assert failures(tmp_path, cases(500)) == {}
