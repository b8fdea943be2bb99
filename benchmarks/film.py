"""Seven frames between two by FILM: the network afresh for each against features used again.

    python benchmarks/film.py [--model film] [--height 128] [--width 192] [--rounds 5]

afresh    every midpoint by a call of the network on the two frames beside it
reused    `FILM.between`: what depends on a frame alone is computed once (`Seen`)

Both in inference mode, in turns in one process; times are medians. `--model film` is the published
configuration with random weights, `film_small` (the default) the one for two cores, of which a
training step (batch 8, crops of 64, forward, backward, Adam) is timed too. `--device cuda` works.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor

from unlossy.checkpoint import build
from unlossy.models.film import FILM

CONF = Path(__file__).parents[1] / "conf" / "model"


def configured(name: str) -> FILM:
    config = OmegaConf.load(CONF / "film.yaml")
    if name != "film":
        config = OmegaConf.merge(config, OmegaConf.load(CONF / f"{name}.yaml"))
    options = {
        key: value for key, value in OmegaConf.to_container(config).items() if key != "defaults"
    }
    model = build(options)
    assert isinstance(model, FILM)
    return model


def afresh(model: FILM, first: Tensor, last: Tensor, depth: int) -> list[Tensor]:
    """The authors' recursion as they write it: 2^depth - 1 frames in order."""
    if not depth:
        return []
    middle = model.network(first, last).image
    return [
        *afresh(model, first, middle, depth - 1),
        middle,
        *afresh(model, middle, last, depth - 1),
    ]


def timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    start = time.perf_counter()
    result = work()
    result.flatten()[0].item()  # a GPU has to be waited for
    return time.perf_counter() - start, result


@torch.inference_mode()
def compare(model: FILM, height: int, width: int, rounds: int, device: str) -> None:
    first, last = torch.rand(2, 1, 3, height, width, device=device)
    ways: dict[str, Callable[[], Tensor]] = {
        "afresh": lambda: torch.stack(afresh(model, first, last, 3), 1),
        "reused": lambda: model.between(first, last, [k / 8 for k in range(1, 8)])[0],
    }
    results = {name: way() for name, way in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(timed(way)[0])
    slow, fast = (statistics.median(seconds[name]) for name in ("afresh", "reused"))
    error = (results["afresh"] - results["reused"]).abs().max().item()
    print(
        f"7 frames of {width}x{height}: afresh {slow:.2f} s, reused {fast:.2f} s, "
        f"{slow / fast:.2f}x; they differ by {error:.1e} at most"
    )


def step(model: FILM, rounds: int, device: str) -> None:
    model.to(memory_format=torch.channels_last)  # as the trainer has it
    first, last, truth = torch.rand(3, 8, 3, 64, 64, device=device)
    optimizer = torch.optim.Adam(model.parameters())

    def work() -> Tensor:
        optimizer.zero_grad()
        loss = (model.between(first, last, [0.5])[0][:, 0] - truth).abs().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    work()
    median = statistics.median(timed(work)[0] for _ in range(rounds))
    print(f"a training step, batch 8 of 64x64: {median:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["film", "film_small"], default="film_small")
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = configured(arguments.model).to(arguments.device)
    where = f"CPU, {torch.get_num_threads()} threads"
    if arguments.device != "cpu":
        where = torch.cuda.get_device_name(arguments.device)
    weights = sum(part.numel() for part in model.parameters())
    print(f"{arguments.model}, {weights:,} weights, {where}, torch {torch.__version__}")
    compare(model, arguments.height, arguments.width, arguments.rounds, arguments.device)
    if arguments.model == "film_small":
        step(model, arguments.rounds, arguments.device)


if __name__ == "__main__":
    main()
