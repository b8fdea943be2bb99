from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from unlossy.data.source import Source
from unlossy.errors import UserError
from unlossy.sample import Clip, Degraded, Split


@dataclass(frozen=True)
class Drift(Source):
    """Noise, another per clip; in memory."""

    frames: int = 5
    height: int = 40
    width: int = 48
    train: int = 3

    def clips(self, split: Split) -> Sequence[Clip]:
        count = {"train": self.train, "val": 1, "test": 2}[split]
        size = (self.frames, self.height, self.width)
        return [Clip(f"{split}/{i}", *size, "drift") for i in range(count)]

    def read(self, clip: Clip, start: int, count: int) -> Tensor:
        seed = sum(clip.name.encode())
        size = (clip.frames, 3, clip.height, clip.width)
        draws = torch.Generator().manual_seed(seed)
        return torch.randint(256, size, generator=draws, dtype=torch.uint8)[start : start + count]


@dataclass(frozen=True)
class Grey:
    """Keeps green as indices of a palette of greys, whose length differs by clip."""

    shift: int = 0
    scale: ClassVar[int] = 1
    keeps: ClassVar[frozenset[str]] = frozenset({"palette", "palette_size"})

    def __call__(self, clip: Degraded, rng: torch.Generator) -> Degraded:
        if clip["name"] == "refused":
            raise UserError("refused has 300 colours; choose fewer.")
        colors = 8 + len(clip["name"])
        levels = (torch.arange(colors) * 255 // (colors - 1)).to(torch.uint8)
        index = (clip["frames"][:, 1].int() * (colors - 1) // 255).to(torch.uint8)
        count = len(index)
        table = levels[:, None].expand(colors, 3).float() / 255
        side = {
            "palette": table.expand(count, colors, 3),
            "palette_size": torch.full((count,), colors),
        }
        frames = levels[index.int()][:, None].expand(-1, 3, -1, -1)
        return Degraded(
            **{**clip, "frames": frames, "index": index, "side": side, "stream": b"abc"}
        )


@dataclass(frozen=True)
class Half:
    """Averages 2x2 blocks and keeps every `every`-th frame; writes no stream."""

    every: int = 1
    scale: ClassVar[int] = 2
    keeps: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, clip: Degraded, rng: torch.Generator) -> Degraded:
        small = halved(clip["frames"])[:: self.every]
        return Degraded(**{**clip, "frames": small, "t_in": clip["t_in"][:: self.every]})


def halved(frames: Tensor) -> Tensor:
    """Box average, uint8 (..., H, W) to (..., H/2, W/2)."""
    pairs = frames.float().unflatten(-1, (-1, 2)).mean(-1).unflatten(-2, (-1, 2)).mean(-2)
    return pairs.to(torch.uint8)


@pytest.fixture(autouse=True)
def cache_folder(request, tmp_path, monkeypatch):
    """Every test its own cache, but those that need the fetched assets."""
    if request.node.get_closest_marker("assets") is None:
        monkeypatch.setenv("UNLOSSY_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def drift():
    return Drift


@pytest.fixture
def grey():
    return Grey


@pytest.fixture
def half():
    return Half


@pytest.fixture(name="halved")
def halved_():
    return halved
