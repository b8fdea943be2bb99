"""enhance.py on a GIF of 320x180: seconds per frame, peak memory, and where the time goes.

    python benchmarks/enhance.py [--model gif2video] [--factor 2] [--frames 300] [--to .mp4]
                                 [--rounds 1]

Two paths take turns: decode, network and encode one after the other in one thread, and in threads
beside each other as `enhance` has them. Shares are those of the first path; a share of decode and
encode is the most that threads can hide. Memory is the peak over what was there before, and must
not grow with the length: it is measured on a third of the GIF too. The networks are fresh, which
changes nothing about their speed.
"""

from __future__ import annotations

import argparse
import io
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from fractions import Fraction
from pathlib import Path
from typing import TypeVar
from unittest import mock

import av
import hydra
import torch
from hydra.utils import instantiate

from unlossy import assets, cli, video
from unlossy.degradations.gif import Gif
from unlossy.inference import enhance as door
from unlossy.inference.timeline import Timing
from unlossy.models.model import EnhancementModel
from unlossy.sample import pristine

FIRST = 480  # of the film
SIZE = (320, 180)
T = TypeVar("T")


def network(name: str) -> EnhancementModel:
    with hydra.initialize_config_dir(str(cli.CONF), version_base="1.3"):
        config = hydra.compose(f"model/{name}").model
    torch.manual_seed(0)
    return instantiate(config, _convert_="all").eval()


def gif(path: Path, frames: int) -> Path:
    clip = video.read_frames(assets.fetch("bunny"), FIRST, frames, SIZE)
    path.write_bytes(Gif(colors=32)(pristine("bunny", clip), torch.Generator())["stream"])
    return path


class Clock:
    """Sums up how long the items of an iterator take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def watching(self, make: Callable[..., Iterator[T]]) -> Callable[..., Iterator[T]]:
        """Return a function like `make`, whose items are timed."""

        def watched(*arguments, **options) -> Iterator[T]:
            items = iter(make(*arguments, **options))
            while True:
                start = time.perf_counter()
                try:
                    item = next(items)
                except StopIteration:
                    return
                finally:
                    self.seconds += time.perf_counter() - start
                yield item

        return watched


@contextmanager
def one_after_the_other() -> Iterator[tuple[Clock, Clock, Clock]]:
    """Let all happen in one thread; yields clocks: of decode, of it and the network, of all."""
    decode, network, everything = Clock(), Clock(), Clock()

    def behind(consume, items):
        start = time.perf_counter()
        result = consume(items, lambda: None)
        everything.seconds = time.perf_counter() - start
        return result

    with (
        mock.patch.object(door, "ahead", nullcontext),
        mock.patch.object(door, "behind", behind),
        mock.patch.object(door, "shown_frames", decode.watching(door.shown_frames)),
        mock.patch.object(door, "restored_frames", network.watching(door.restored_frames)),
    ):
        yield decode, network, everything


def enhanced(model: EnhancementModel, source: Path, target: Path, factor: int) -> float:
    start = time.perf_counter()
    with redirect_stderr(io.StringIO()):
        door.enhance(source, target, model=model, timing=Timing(factor=Fraction(factor)))
    return time.perf_counter() - start


def peak(run: Callable[[], float]) -> tuple[float, float]:
    """MB of resident memory over what was there before, and what `run` gives; Linux only."""
    status, before = Path("/proc/self/status"), 0.0

    def resident(key: str) -> int:
        line = next(x for x in status.read_text().splitlines() if x.startswith(key))
        return int(line.split()[1])

    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    result = run()
    return (resident("VmHWM") - before) / 1024, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gif2video", help="a file of conf/model")
    parser.add_argument("--factor", type=int, default=2)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--to", default=".mp4", help=".mp4, .webm or .gif")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"PyAV {av.__version__}; {arguments.model}, factor {arguments.factor}, "
        f"{arguments.frames} frames to {arguments.to}"
    )
    model = network(arguments.model)
    with tempfile.TemporaryDirectory() as folder:
        source, short = Path(folder) / "a.gif", Path(folder) / "short.gif"
        target = Path(folder) / f"b{arguments.to}"
        gif(short, max(1, arguments.frames // 3))
        gif(source, arguments.frames)
        out = arguments.factor * arguments.frames
        enhanced(model, short, target, arguments.factor)
        few, _ = peak(lambda: enhanced(model, short, target, arguments.factor))
        apart: list[float] = []
        together: list[float] = []
        for _ in range(arguments.rounds):
            with one_after_the_other() as (decode, restored, everything):
                enhanced(model, source, target, arguments.factor)
            apart.append(everything.seconds / out)
            many, seconds = peak(lambda: enhanced(model, source, target, arguments.factor))
            together.append(seconds / out)
        print(
            f"peak extra memory: {few:.0f} MB for a third of the GIF, {many:.0f} MB for all of it"
        )
        shares = {
            "decode": decode.seconds,
            "network": restored.seconds - decode.seconds,
            "encode": everything.seconds - restored.seconds,
        }
        print(", ".join(f"{k} {v / everything.seconds:.1%}" for k, v in shares.items()))
        one, three = statistics.median(apart), statistics.median(together)
        print(f"seconds per frame: one thread {one:.4f}, beside each other {three:.4f}", end="")
        print(f", {one / three:.2f} times as fast")


if __name__ == "__main__":
    main()
