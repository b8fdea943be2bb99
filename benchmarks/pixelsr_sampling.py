"""Sampling 32x32 images from the PixelCNN prior: pass by pass against cached, and as images grow.

    python benchmarks/pixelsr_sampling.py [--layers 20] [--channels 32] [--rounds 5] [--device cpu]

naive     one pass of the network over the whole image for each of the 3,072 sub-pixels; one pass is
          measured, times 3,072
cached    `unlossy.networks.pixelcnn_sampling.sample`, whole images, folding of the weights included

Both in inference mode, in turns in one process; times are medians. `drawn again` is the share of
the sub-pixels that one pass over the finished images, with the same uniforms, draws as they are:
the two round differently in float32, and a uniform may lie within that of a level's edge.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from naive_sampling import sample_naively
from torch import Tensor

from unlossy.networks.pixelcnn import PixelCNN
from unlossy.networks.pixelcnn_sampling import sample

SIDE, COLORS, LEVELS = 32, 3, 256


def inputs(batch: int, height: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Conditioning, uniforms and temperatures."""
    generator = torch.Generator().manual_seed(0)
    conditioning = torch.randn(batch, COLORS, LEVELS, height, SIDE, generator=generator)
    uniforms = torch.rand(batch, COLORS, height, SIDE, generator=generator, dtype=torch.float64)
    return conditioning.to(device), uniforms, torch.ones(batch)


def timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    start = time.perf_counter()
    result = work()
    result.flatten()[0].item()  # a GPU has to be waited for
    return time.perf_counter() - start, result


def drawn_again(prior: PixelCNN, levels: Tensor, conditioning: Tensor, uniforms: Tensor) -> float:
    logits = prior(levels / (LEVELS - 1)) + conditioning
    cumulated = logits.double().softmax(2).cumsum(2)
    thresholds = uniforms.to(levels.device)[:, :, None] * cumulated[:, :, -1:]
    return ((cumulated < thresholds).sum(2) == levels).double().mean().item()


def compare(prior: PixelCNN, batch: int, rounds: int, device: str) -> None:
    arguments = inputs(batch, SIDE, device)
    levels = sample(prior, *arguments)
    prior(levels / (LEVELS - 1))
    passes, images = [], []
    for _ in range(rounds):
        passes.append(timed(lambda: prior(levels / (LEVELS - 1)))[0])
        images.append(timed(lambda: sample(prior, *arguments))[0])
    one, cached = statistics.median(passes), statistics.median(images)
    naive = one * SIDE * SIDE * COLORS
    print(
        f"batch {batch:3d}: naive {one:.4f} s a pass, so {naive:.0f} s ({naive / batch:.1f} s an "
        f"image); cached {cached:.2f} s ({cached / batch:.3f} s an image): {naive / cached:.0f}x; "
        f"drawn again {drawn_again(prior, levels, *arguments[:2]):.4%}"
    )


def grow(prior: PixelCNN, rounds: int, device: str) -> None:
    seconds: dict[int, list[float]] = {height: [] for height in (SIDE, 2 * SIDE, 4 * SIDE)}
    work = {height: inputs(1, height, device) for height in seconds}
    for _ in range(rounds):
        for height, times in seconds.items():
            times.append(timed(lambda height=height: sample(prior, *work[height]))[0])
    for height, times in seconds.items():
        pixel = statistics.median(times) / (height * SIDE)
        print(f"{height:4d}x{SIDE}, batch 1: cached {1e6 * pixel:.0f} us a pixel")


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    prior = PixelCNN(arguments.layers, arguments.channels).to(arguments.device)
    where = f"CPU, {torch.get_num_threads()} threads"
    if arguments.device != "cpu":
        where = torch.cuda.get_device_name(arguments.device)
    print(
        f"{arguments.layers} layers, {arguments.channels} channels, {where}, "
        f"torch {torch.__version__}"
    )
    few = [part.to(arguments.device) for part in inputs(2, 2, arguments.device)]
    equal = (sample_naively(prior, *few) == sample(prior, *few)).double().mean().item()
    print(f"two images of 2x{SIDE}, every pass done: {equal:.4%} of the levels are equal")
    for batch in (1, 16):
        compare(prior, batch, arguments.rounds, arguments.device)
    grow(prior, arguments.rounds, arguments.device)


if __name__ == "__main__":
    main()
