"""Real pictures in known motion: clips whose optical flow is exact, to train flow networks on.

    x_k(t) = c + z^t R(a t) (p - c) + v t        where layer k of frame t looks up its picture
    frame_t(p) = picture_k(x_k(t))               k: the topmost layer at p
    flow_t^s(p) = x_k(s)^-1 (x_k(t)(p)) - p      frame_s(p + flow_t^s(p)) = frame_t(p)

Each clip takes one frame of another source as its picture. The background shows it shifted, turned
and zoomed at a steady pace; a few discs of the mirrored picture move over it on their own, so that
there are motion boundaries and pixels that are covered in another frame. Beyond its edges a picture
goes on as its reflection, which makes the flow right up to the border.

Of a window of frames a..b the target holds, float32 (N, 2, H, W) in pixels and bool (N, 1, H, W):

    flow                           visible                        from t to t + 1, for t = a..b-1
    flow_to_first, flow_to_last    seen_in_first, seen_in_last    from t to a and to b, for t = a..b

The second of each is False where the pixel is covered in the frame that the flow leads to.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import functional

from unlossy.data.digest import code, digest
from unlossy.data.frame_store import mapped, stored
from unlossy.data.source import EVERYWHERE, Area, Source
from unlossy.errors import UserError
from unlossy.sample import Clip, Split


@dataclass(frozen=True)
class SyntheticMotion(Source):
    """Moves single frames of another source; a clip is a pure function of its name and these.

    Args:
        base: where the pictures come from, all of one size.
        variants: split -> clips made of each clip of `base`, from frames evenly spread over it.
        frames: length of a clip, >= 2.
        speed: pixels per frame that no point moves much faster than; > 0.
        patches: discs that move on their own, >= 0.
        turn: the share of `speed` that a layer may reach by turning, where it is farthest from its
            centre; >= 0.
        zoom: the same by growing or shrinking. Shifting has the rest: a pan has 0 and 0.

    Raises:
        UserError: one of these numbers is out of range; or, of `clips`, sizes differ.
    """

    base: Source
    variants: Mapping[Split, int]
    frames: int = 3
    speed: float = 8.0
    patches: int = 2
    turn: float = 0.25
    zoom: float = 0.25

    def __post_init__(self) -> None:
        enough = min(self.variants.get(split, 0) for split in get_args(Split)) >= 1
        if not (enough and self.frames >= 2 and self.speed > 0 and self.patches >= 0):
            raise UserError(
                f"Synthetic motion got frames={self.frames}, speed={self.speed}, "
                f"patches={self.patches} and variants={dict(self.variants)}; use 2 frames or more, "
                "a speed above 0, no negative patches, and 1 variant or more for each split."
            )
        if not (self.turn >= 0 and self.zoom >= 0 and self.turn + self.zoom <= 1):
            raise UserError(
                f"Synthetic motion got turn={self.turn} and zoom={self.zoom}, shares of its speed; "
                "use numbers from 0 on that sum to 1 or less."
            )

    def clips(self, split: Split) -> Sequence[Clip]:
        """Return the clips made of the base's clips of that split, named clip/variant."""
        return [clip for clip, (_, _, own) in self._pictures.items() if own == split]

    def read(self, clip: Clip, start: int, count: int) -> Tensor:
        """Return frames as a view of those that the first call makes for all clips."""
        first = self._first[clip] + start
        return mapped(self._file)[first : first + count]

    def version(self, clip: Clip) -> str:
        """Return the digest of the picture, the motion, and the code that moves it."""
        base, frame, _ = self._pictures[clip]
        numbers = (self.frames, self.speed, self.patches, self.turn, self.zoom)
        return digest(clip.name, self.base.version(base), frame, numbers, self._code)

    def target(
        self, clip: Clip, start: int, count: int, area: Area = EVERYWHERE
    ) -> dict[str, Tensor]:
        """Return the flows of the module's docstring for `count` frames from `start` on."""
        layers, points = self._layers(clip), _grid(clip.height, clip.width)[:, *area]
        times = range(start, start + count)
        owners = {t: _topmost(layers, t, points) for t in times}
        found: dict[str, Tensor] = {}
        for flow, seen, pairs in (
            ("flow", "visible", [(t, t + 1) for t in times[:-1]]),
            ("flow_to_first", "seen_in_first", [(t, times[0]) for t in times]),
            ("flow_to_last", "seen_in_last", [(t, times[-1]) for t in times]),
        ):
            found[flow] = points.new_zeros(len(pairs), *points.shape)
            found[seen] = torch.ones(len(pairs), 1, *points.shape[1:], dtype=torch.bool)
            for n, (t, s) in enumerate(pairs):
                if t != s:
                    there = _followed(layers, t, s, points, owners[t])
                    found[flow][n] = there - points
                    found[seen][n, 0] = _topmost(layers, s, there) == owners[t]
        return found

    @cached_property
    def _pictures(self) -> dict[Clip, tuple[Clip, int, Split]]:
        """Clip -> clip of the base, frame of it, split."""
        found: dict[Clip, tuple[Clip, int, Split]] = {}
        sizes: dict[tuple[int, int], str] = {}
        for split in get_args(Split):
            count = self.variants[split]
            for base in self.base.clips(split):
                sizes.setdefault((base.width, base.height), base.name)
                for k in range(count):
                    size = (self.frames, base.height, base.width)
                    clip = Clip(f"{base.name}/{k}", *size, base.source)
                    found[clip] = (base, (2 * k + 1) * base.frames // (2 * count), split)
        if len(sizes) > 1:
            named = [f"{name} has {width}x{height}" for (width, height), name in sizes.items()]
            raise UserError(
                f"Synthetic motion takes pictures of one size, but {' and '.join(named[:2])}; "
                "leave one of them out, or give their sources one size."
            )
        return found

    @cached_property
    def _first(self) -> dict[Clip, int]:
        return {clip: self.frames * position for position, clip in enumerate(self._pictures)}

    @cached_property
    def _code(self) -> str:
        return code(Path(__file__))

    @cached_property
    def _file(self) -> Path:
        key = digest([self.version(clip) for clip in self._pictures])
        total = self.frames * len(self._pictures)
        return stored("synthetic_motion", key, self._make, total)

    def _make(self) -> Iterator[Tensor]:
        for clip, (base, frame, _) in self._pictures.items():
            picture, layers = self.base.read(base, frame, 1)[0].float(), self._layers(clip)
            for t in range(self.frames):
                yield _shown(picture, layers, t)

    def _layers(self, clip: Clip) -> list[_Layer]:
        """Return the background, then the discs, each above those before it."""
        name = f"{clip.name} {self.speed} {self.patches}"
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
        draws = torch.Generator().manual_seed(seed)
        layers = [self._layer(clip, draws, center=(0.5, 0.5), radius=math.inf)]
        for _ in range(self.patches):
            x, y, size = torch.rand(3, generator=draws).tolist()
            layers.append(self._layer(clip, draws, (x, y), clip.height * (0.1 + 0.15 * size)))
        return layers

    def _layer(
        self, clip: Clip, draws: torch.Generator, center: tuple[float, float], radius: float
    ) -> _Layer:
        """Draw a steady motion: a shift, a turn and a growth that sum to `speed` or less."""
        along, shift, turn, zoom = torch.rand(4, generator=draws, dtype=torch.float64).tolist()
        reach = min(radius, math.hypot(clip.width, clip.height) / 2)
        angle = (2 * turn - 1) * self.turn * self.speed / reach
        growth = (2 * zoom - 1) * self.zoom * self.speed / reach
        x, y = center[0] * clip.width, center[1] * clip.height
        pixels = shift * (1 - self.turn - self.zoom) * self.speed
        step = (pixels * math.cos(2 * math.pi * along), pixels * math.sin(2 * math.pi * along))
        poses = torch.eye(3, dtype=torch.float64).repeat(self.frames, 1, 1)
        for t in range(self.frames):
            time = t + 0.5  # no frame is the picture itself, which would be sharper than the others
            size = math.exp(growth * time)
            a, b = size * math.cos(angle * time), size * math.sin(angle * time)
            shifted = (x - a * x + b * y + step[0] * time, y - b * x - a * y + step[1] * time)
            poses[t, :2] = torch.tensor([[a, -b, shifted[0]], [b, a, shifted[1]]])
        return _Layer(poses, torch.tensor([x, y]), radius)


class _Layer(NamedTuple):
    poses: Tensor  # (frames, 3, 3) float64: (x, y, 1) in a frame to (x, y, 1) in the picture
    center: Tensor  # (2,) in the picture
    radius: float  # opaque within that distance of the centre


def _grid(height: int, width: int) -> Tensor:
    """Return the pixels' (x, y), float32 (2, H, W)."""
    y, x = torch.arange(float(height)), torch.arange(float(width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"))


def _moved(pose: Tensor, points: Tensor) -> Tensor:
    """Apply a pose, composed in float64, to points (2, ...)."""
    x, y = points
    (a, b, c), (d, e, f) = pose[:2].tolist()
    return torch.stack([a * x + b * y + c, d * x + e * y + f])


def _topmost(layers: Sequence[_Layer], t: int, points: Tensor) -> Tensor:
    """Return the index (...) of the layer that is seen at each point (2, ...) of frame t."""
    owner = torch.zeros(points.shape[1:], dtype=torch.uint8)
    for k, layer in enumerate(layers[1:], 1):
        x, y = _moved(layer.poses[t], points)
        away = (x - layer.center[0]).square() + (y - layer.center[1]).square()
        owner.masked_fill_(away < layer.radius**2, k)
    return owner


def _followed(layers: Sequence[_Layer], t: int, s: int, points: Tensor, owner: Tensor) -> Tensor:
    """Return where in frame s lies what is seen at each point of frame t; both (2, ...)."""
    steps = [torch.linalg.inv(layer.poses[s]) @ layer.poses[t] for layer in layers]
    there = _moved(steps[0], points)
    for k, step in enumerate(steps[1:], 1):
        own = owner == k
        if own.any():  # most crops lack most of the discs
            there[:, own] = _moved(step, points[:, own])
    return there


def _shown(picture: Tensor, layers: Sequence[_Layer], t: int) -> Tensor:
    """Return frame t, uint8 (3, H, W), of a picture in 0..255."""
    height, width = picture.shape[-2:]
    points = _grid(height, width)
    owner = _topmost(layers, t, points)
    frame = torch.empty_like(picture)
    last = torch.tensor([max(width - 1, 1), max(height - 1, 1)])
    for k, layer in enumerate(layers):
        texture = picture if k == 0 else picture.flip(-1)
        places = _moved(layer.poses[t], points[:, owner == k]).T  # (n, 2)
        frame[:, owner == k] = functional.grid_sample(
            texture[None],
            (2 * places / last - 1)[None, None],
            mode="bicubic",  # bilinear would blur by as much as the motion is off the grid
            padding_mode="reflection",
            align_corners=True,
        )[0, :, 0]
    return frame.round().clamp(0, 255).to(torch.uint8)
