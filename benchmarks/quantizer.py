"""f_C against the authors' way: seconds of both in turn, and the memory that ours takes beside.

    python benchmarks/quantizer.py [--size 256] [--batch 8] [--rounds 7]

The authors' way loops over images and builds the whole pixel x colour distance matrix. Both run in
one process, in turns; times are medians. Peak memory is the growth of the resident set (Linux)
during one call in a fresh process, result included.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from unlossy.networks.quantizer import quantize


def whole_matrix(x: Tensor, palette: Tensor, size: Tensor) -> Tensor:
    """Quantise as the authors do; for palettes without padding."""
    images = []
    for image, colors in zip(x, palette, strict=True):
        pixels = image.flatten(1).T  # (HW, 3)
        distance = pixels.square().sum(1, keepdim=True) + colors.square().sum(1)
        distance = distance - 2 * pixels @ colors.T  # (HW, P)
        images.append(colors[distance.argmin(1)].T.reshape(image.shape))
    return torch.stack(images)


def inputs(batch: int, size: int, colors: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x = torch.rand(batch, 3, size, size) * 2 - 1
    palette = torch.randint(0, 256, (batch, colors, 3)) / 127.5 - 1
    return x, palette, torch.full((batch,), colors)


def compare(batch: int, size: int, colors: int, rounds: int) -> None:
    data = inputs(batch, size, colors)
    differ = (quantize(*data) != whole_matrix(*data)).any(1).float().mean().item()
    seconds: dict[str, list[float]] = {"authors": [], "ours": []}
    for _ in range(rounds):
        for name, run in (("authors", whole_matrix), ("ours", quantize)):
            start = time.perf_counter()
            run(*data)
            seconds[name].append(time.perf_counter() - start)
    theirs, ours = (statistics.median(times) for times in seconds.values())
    print(
        f"{colors:4d} colours: authors {theirs:.3f} s, ours {ours:.3f} s, {theirs / ours:.1f}x "
        f"faster; pixels that differ (equally near colours): {differ:.1e}"
    )


def peak(batch: int, size: int, colors: int) -> None:
    """Print the growth of the resident set during one call; run in a process of its own."""
    quantize(*inputs(1, 16, 2))  # libraries allocate on their first use
    data = inputs(batch, size, colors)
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    quantize(*data)
    print(f"{colors:4d} colours: peak extra memory {(_resident('VmHWM') - before) / 1024:.0f} MB")


def _resident(field: str) -> int:
    """Return a field of this process's memory in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)  # colours, in the child
    arguments = parser.parse_args()
    if arguments.peak_of:
        peak(arguments.batch, arguments.size, arguments.peak_of)
        return
    print(
        f"batch {arguments.batch} of {arguments.size}x{arguments.size}, CPU, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    for colors in (32, 256):
        compare(arguments.batch, arguments.size, colors, arguments.rounds)
    if sys.platform == "linux":
        for colors in (32, 256):
            subprocess.run([sys.executable, *sys.argv, "--peak-of", str(colors)], check=True)


if __name__ == "__main__":
    main()
