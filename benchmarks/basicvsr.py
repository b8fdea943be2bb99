"""BasicVSR on a clip: the plain formulation against ours, bfloat16, and memory as a clip grows.

    python benchmarks/basicvsr.py [--frames 8] [--blocks 10] [--rounds 5] [--flow spynet]

plain    the network as published: a loop over frames, one pass of SPyNet for each pair and
         direction, torch's own convolutions in NCHW, nothing in place
ours     `BasicVSR`: all flows in one call with NNPACK's 7x7 convolutions, channels_last, in place

Same weights, equal outputs, both in inference mode, in turns in one process; times are medians. The
memory part restores clips of 30, 76 and 300 frames in windows of 60 with 8 of context on each side,
so that up to 76 are in flight, each in a fresh process: growth of the resident set's peak (Linux)
over what it was with the libraries loaded, 2 frames restored and the clip in memory. It is run with
`--memory-channels` and `--memory-blocks`, or 300 frames would take an hour.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlossy.inference.windows import restored_windows
from unlossy.models.basicvsr import BasicVSR
from unlossy.networks.flow import SPyNet, warp
from unlossy.sample import Sample

HEIGHT, WIDTH = 180, 320


def plain(model: BasicVSR, clip: Tensor) -> Tensor:
    """Return what `model` makes of (B, T, 3, h, w), at scale 1, written as in the paper."""

    def trunk(network: nn.Module, x: Tensor, h: Tensor) -> Tensor:
        first, _, blocks = network.main
        y = functional.leaky_relu(first(torch.cat([x, h], 1)), 0.1)
        for block in blocks:
            y = y + block.conv2(functional.relu(block.conv1(y)))
        return y

    frames, last = list(clip.unbind(1)), clip.shape[1] - 1
    h = clip.new_zeros(len(clip), model.channels, *clip.shape[-2:])
    later: list[Tensor] = []
    for t in range(last, -1, -1):
        if t < last and model.aligned:
            h = warp(h, plain_flow(model.spynet, frames[t], frames[t + 1]))
        h = trunk(model.backward_trunk, frames[t], h)
        later.insert(0, h)
    h, outputs = torch.zeros_like(h), []
    for t in range(last + 1):
        if t > 0 and model.aligned:
            h = warp(h, plain_flow(model.spynet, frames[t], frames[t - 1]))
        h = trunk(model.forward_trunk, frames[t], h)
        y = functional.leaky_relu(model.fusion(torch.cat([later[t], h], 1)), 0.1)
        y = functional.leaky_relu(model.conv_hr(y), 0.1)
        outputs.append(frames[t] + model.conv_last(y))
    return torch.stack(outputs, 1)


def plain_flow(network: SPyNet, ref: Tensor, supp: Tensor) -> Tensor:
    height, width = ref.shape[-2:]
    rounded = [-(-size // 32) * 32 for size in (height, width)]
    pyramids = []
    for frame in (ref, supp):
        frame = functional.interpolate(frame, rounded, mode="bilinear")
        levels = [(frame - network.mean) / network.std]
        for _ in range(5):
            levels.insert(0, functional.avg_pool2d(levels[0], 2))
        pyramids.append(levels)
    flow = ref.new_zeros(len(ref), 2, *pyramids[0][0].shape[-2:])
    for k, (here, there) in enumerate(zip(*pyramids, strict=True)):
        if k:
            flow = 2 * functional.interpolate(
                flow, scale_factor=2, mode="bilinear", align_corners=True
            )
        y = torch.cat([here, warp(there, flow, "border"), flow], 1)
        for layer in network.basic_module[k].basic_module:
            relu = isinstance(layer, nn.ReLU)
            y = y.relu() if relu else functional.conv2d(y, layer.weight, layer.bias, padding=3)
        flow = flow + y
    flow = functional.interpolate(flow, (height, width), mode="bilinear")
    scale = flow.new_tensor([width / rounded[1], height / rounded[0]])
    return flow * scale.view(1, 2, 1, 1)


def network(channels: int, blocks: int, flow: Literal["spynet", "zero"]) -> BasicVSR:
    """Random weights; flows of about a pixel and a visible change of the picture."""
    torch.manual_seed(0)
    model = BasicVSR(channels, blocks, flow=flow).eval()
    nn.init.normal_(model.conv_last.weight, std=0.02)
    if flow == "spynet":
        for level in model.spynet.basic_module:
            nn.init.normal_(level.basic_module[-1].weight, std=0.1)
    return model


def moving(frames: int) -> Tensor:
    """A smooth picture that drifts, (1, T, 3, h, w) in [0, 1]."""
    t, y, x = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float32) for n in (frames, HEIGHT, WIDTH)), indexing="ij"
    )
    waves = [torch.sin(0.13 * (c + 1) * (x + 1.5 * t) + 0.09 * (y - 0.7 * t)) for c in range(3)]
    return (torch.stack(waves, 1)[None] + 1) / 2


@torch.inference_mode()
def compare(frames: int, blocks: int, flow: Literal["spynet", "zero"], rounds: int) -> None:
    model, theirs, clip = network(64, blocks, flow), network(64, blocks, flow), moving(frames)
    model.to(memory_format=torch.channels_last)
    batch = {"degraded": clip}

    def ours(dtype: torch.dtype) -> Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            return model(batch)["estimate"]

    runs: dict[str, Callable[[], Tensor]] = {
        "plain float32": partial(plain, theirs, clip),
        "ours float32": partial(ours, torch.float32),
        "ours bfloat16": partial(ours, torch.bfloat16),
    }
    results = {name: run() for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append((time.perf_counter() - start) / frames)
    reference = statistics.median(seconds["plain float32"])
    for name, times in seconds.items():
        median = statistics.median(times)
        difference = (results[name] - results["ours float32"]).double()
        error = difference.square().mean().item()
        psnr = f", {-10 * math.log10(error):.1f} dB of ours float32" if error else ""
        print(
            f"{name:14s} {median:.3f} s a frame  {reference / median:.2f}x   "
            f"largest difference {difference.abs().max():.1e}{psnr}"
        )


def peak(frames: int, channels: int, blocks: int, flow: Literal["spynet", "zero"]) -> None:
    """Print the growth of the resident set over a clip's windows; run in a process of its own."""
    model = network(channels, blocks, flow)
    model.to(memory_format=torch.channels_last)
    list(restored_windows(model, sample(2)))  # libraries allocate on their first use
    clip, before = sample(frames), _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    start = time.perf_counter()
    for _ in restored_windows(model, clip):
        pass
    print(
        f"{frames:4d} frames: peak extra memory {(_resident('VmHWM') - before) / 1024:.0f} MB, "
        f"{(time.perf_counter() - start) / frames:.3f} s a frame"
    )


def sample(frames: int) -> Sample:
    """A clip that waits as bytes."""
    times = torch.arange(frames, dtype=torch.float32)[None]
    return Sample(
        name=["drift"],
        degraded=torch.cat([(moving(1) * 255).byte().roll(t, -1) for t in range(frames)], 1),
        t_in=times,
        t_out=times,
        side={},
        target={},
        bits=torch.zeros(1),
    )


def _resident(field: str) -> int:
    """Return a field of this process's memory in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--flow", choices=("spynet", "zero"), default="spynet")
    parser.add_argument("--memory-channels", type=int, default=16)
    parser.add_argument("--memory-blocks", type=int, default=1)
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)  # frames, in the child
    arguments = parser.parse_args()
    if arguments.peak_of:
        peak(arguments.peak_of, arguments.memory_channels, arguments.memory_blocks, arguments.flow)
        return
    print(
        f"{arguments.frames} frames of {WIDTH}x{HEIGHT}, 64 channels, {arguments.blocks} blocks, "
        f"flow={arguments.flow}, CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    compare(arguments.frames, arguments.blocks, arguments.flow, arguments.rounds)
    if sys.platform == "linux":
        print(f"memory, {arguments.memory_channels} channels, {arguments.memory_blocks} blocks:")
        for frames in (30, BasicVSR.window + 2 * BasicVSR.context, 300):
            subprocess.run([sys.executable, *sys.argv, "--peak-of", str(frames)], check=True)


if __name__ == "__main__":
    main()
