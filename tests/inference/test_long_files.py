"""Long files at constant memory, and Ctrl-C in their midst: each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unlossy.gif_file import Indexed, gif_parts

PALETTE = np.random.default_rng(0).integers(0, 256, (32, 3)).astype(np.uint8)
pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")

# Tells its own memory (without pages of files) in kB at the frames named, and goes on.
ENHANCE = """
import re
import signal
import sys
import time
from pathlib import Path
from unlossy.cli import refusing
from unlossy.inference import enhance as door
from unlossy.models.baselines import Identity

signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
at = [int(text) for text in sys.argv[3:]]
plain = door.shown_frames

def counted(*arguments):
    for number, frame in enumerate(plain(*arguments)):
        if number in at:
            status = Path("/proc/self/status").read_text()
            print(re.search(r"RssAnon:\\s+(\\d+) kB", status)[1], flush=True)
        if number > at[-1]:
            time.sleep(0.02)  # or the file is done before the signal is there
        yield frame

door.shown_frames = counted
with refusing():
    door.enhance(Path(sys.argv[1]), Path(sys.argv[2]), model=Identity())
"""


def long_gif(path: Path, frames: int, height: int, width: int) -> Path:
    """Noise of 32 colours: ten pictures over and over."""
    pictures = np.random.default_rng(0).integers(0, 32, (10, height, width)).astype(np.uint8)
    indexed = (Indexed(pictures[k % 10], PALETTE, 4) for k in range(frames))
    with path.open("wb") as file:
        file.writelines(gif_parts(indexed, shared=True))
    return path


def started(source: Path, target: Path, *at: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", ENHANCE, str(source), str(target), *map(str, at)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_memory_stays_and_ctrl_c_leaves_no_file(tmp_path):
    """A frame kept by mistake is 9 kB; its floats are 37 kB."""
    source, target = long_gif(tmp_path / "a.gif", 1500, 48, 64), tmp_path / "b.mp4"
    target.write_bytes(b"what was there")
    with started(source, target, 200, 1000) as process:
        first, last = (int(process.stdout.readline()) for _ in range(2))
        assert list(tmp_path.glob(".b.mp4.*"))  # there is something to leave behind
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert (last - first) / 800 < 2  # kB a frame
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "b.mp4"]
    assert target.read_bytes() == b"what was there"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["b.mp4", "b.webm", "b.gif"])
def test_ten_thousand_frames_in_constant_memory(tmp_path, name):
    source, target = long_gif(tmp_path / "a.gif", 10_000, 48, 64), tmp_path / name
    with started(source, target, 1000, 9999) as process:
        first, last = (int(line) for line in process.stdout)
    assert process.returncode == 0
    print(f"{name}: {(last - first) / 9:.0f} bytes a frame")
    assert (last - first) / 9000 < 1  # kB a frame
