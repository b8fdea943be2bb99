"""SuperSloMo between two frames: seven at once against one, and against seven calls for one each.

    python benchmarks/superslomo.py [--flow spynet] [--channels 8] [--rounds 5]

one      the middle frame
seven    seven frames in one call: both flows once
each     the same seven in a call each, with flows of its own

Equal outputs, in inference mode, in turns in one process, of a pair of 320x180; times are medians.
What seven cost in ones must stay under 4. The flow is a SPyNet or, with `--flow unet`, the paper's
network of as many channels as the refinement; the paper's width is 32.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from unlossy.models.superslomo import SuperSloMo
from unlossy.networks.flow import SPyNet
from unlossy.networks.flow_unet import FlowUNet, PairFlow
from unlossy.sample import Sample

HEIGHT, WIDTH = 180, 320
SEVEN = [k / 8 for k in range(1, 8)]


def asked(pair: Tensor, times: list[float]) -> Sample:
    """A pair of frames (1, 2, 3, H, W), a frame of time apart, and when frames are wanted."""
    return Sample(
        name=["pair"],
        degraded=pair,
        t_in=torch.tensor([[0.0, 1.0]]),
        t_out=torch.tensor([times]),
        side={},
        target={},
        bits=torch.zeros(1),
    )


def medians(calls: dict[str, Callable[[], Tensor]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each call, taken in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--flow", choices=("spynet", "unet"), default="spynet")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    flow = SPyNet() if arguments.flow == "spynet" else PairFlow(arguments.channels)
    model = SuperSloMo(flow, FlowUNet(16, 5, arguments.channels), residual=True, cut=None).eval()
    pair = torch.rand(1, 2, 3, HEIGHT, WIDTH)
    calls: dict[str, Callable[[], Tensor]] = {
        "one": lambda: model.restore(asked(pair, [0.5])),
        "seven": lambda: model.restore(asked(pair, SEVEN)),
        "each": lambda: torch.cat([model.restore(asked(pair, [t])) for t in SEVEN], 1),
    }
    first = {name: call() for name, call in calls.items()}  # also warms up
    torch.testing.assert_close(first["seven"], first["each"], rtol=0, atol=1e-5)
    torch.testing.assert_close(first["seven"][:, 3:4], first["one"], rtol=0, atol=1e-5)
    taken = medians(calls, arguments.rounds)
    print(
        f"{WIDTH}x{HEIGHT}, flow={arguments.flow}, channels={arguments.channels}, "
        f"{torch.get_num_threads()} threads, median of {arguments.rounds}"
    )
    for name, frames in (("one", 1), ("seven", 7), ("each", 7)):
        print(f"  {name:6}{taken[name]:8.3f} s{taken[name] / frames:8.3f} s a frame")
    print(f"  seven cost {taken['seven'] / taken['one']:.2f} ones, wanted: under 4")
    print(f"  in one call {taken['each'] / taken['seven']:.2f} times as fast as in seven")


if __name__ == "__main__":
    main()
