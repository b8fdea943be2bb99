"""What a batch is: every datum is a clip (B, T, C, H, W) with its times, an image one of one frame.

    source ──clean──► degradation ──degraded──► model ──restored──► objective, metrics

Time is carried, not implied: `t_in` says where the degraded frames sit and `t_out` where frames are
wanted, both in clean-frame units. That makes dequantisation (t_out = t_in), super-resolution and
interpolation (t_out denser than t_in) one task. RGB is in [0, 1] in a batch, uint8 in storage.
There are three channels everywhere, but for the digits of `source=two_corners`, which have one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NotRequired, Protocol, TypedDict

import torch
from torch import Tensor

Split = Literal["train", "val", "test"]

SAME_TIME = 1e-4  # as near to a key frame, in frames or in shares of a gap, is the key frame


class Sample(TypedDict):
    """One batch of clips: what the medium kept, and (but for a user's own file) what it was."""

    name: list[str]  # clip id; result rows are keyed by it
    degraded: Tensor  # (B, S, 3, h, w) in [0, 1]: what the medium kept
    t_in: Tensor  # (B, S) where each degraded frame sits, in clean-frame units
    t_out: Tensor  # (B, T) where a frame is wanted
    clean: NotRequired[Tensor]  # (B, T, 3, H, W) in [0, 1]
    side: dict[str, Tensor]  # what a decoder knows: palette (B, S, P, 3), palette_size (B, S), ...
    target: dict[str, Tensor]  # what only training may see beside clean: flow, occlusion, ...
    bits: Tensor  # (B,) size of the degraded clip in bits


class Restored(TypedDict):
    """What a model returns: the clip at `t_out`, and by-products for losses and pictures."""

    estimate: Tensor  # (B, T, 3, H, W), aligned with t_out, not clamped
    extras: dict[str, Tensor]  # keys announced in `EnhancementModel.provides`


class Degraded(TypedDict):
    """A whole clip on its way through a degradation, in storage precision."""

    name: str  # clip id, so that a degradation can name what it refuses
    frames: Tensor  # uint8 (S, 3, h, w)
    t_in: Tensor  # (S,) float32, increasing, in clean-frame units
    side: dict[str, Tensor]  # per degraded frame: palette (S, P, 3) float32 in [0, 1], ...
    stream: bytes | None  # what the medium stores; bits = 8 * len
    reference: Tensor  # uint8 (T, 3, H, W): the clean clip as this medium's pixel format holds it
    index: NotRequired[Tensor]  # uint8 (S, h, w) with frames[s] = palette[s][index[s]], for GIFs


class Degradation(Protocol):
    """A lossy medium, deterministic given configuration, clip and `rng`; composes by `Chain`."""

    scale: int  # clean height / degraded height
    every: int  # clean frames per kept frame; above 1, a model must interpolate
    keeps: frozenset[str]  # keys that it writes into `side`

    def __call__(self, clip: Degraded, rng: torch.Generator) -> Degraded:
        """Return what the medium keeps of `clip`."""
        ...


@dataclass(frozen=True)
class Clip:
    """A clip that a source offers. `source` names where it comes from, for tables of mixtures."""

    name: str
    frames: int
    height: int
    width: int
    source: str


def to_float(sample: Sample) -> Sample:
    """Return the sample with `degraded` and `clean` as float32 in [0, 1].

    In storage, in loader workers and while waiting for their window, frames are uint8, a quarter of
    the memory; this is the one place where they become numbers to compute with.
    """
    converted = Sample(**{**sample, "degraded": _unit(sample["degraded"])})
    if "clean" in sample:
        converted["clean"] = _unit(sample["clean"])
    return converted


def _unit(frames: Tensor) -> Tensor:
    return frames.to(torch.float32).div_(255.0) if frames.dtype == torch.uint8 else frames


def pristine(name: str, frames: Tensor) -> Degraded:
    """Wrap a clean clip, uint8 (T, 3, H, W), as the input of a degradation."""
    times = torch.arange(len(frames), dtype=torch.float32)
    return Degraded(name=name, frames=frames, t_in=times, side={}, stream=None, reference=frames)


def check(sample: Sample) -> None:
    """Assert ranks, shapes, ranges and increasing times.

    Raises:
        ValueError: naming the offending key, what it holds and what it should hold.
    """
    batch = len(sample["name"])
    _rank(sample["degraded"], "degraded", "B S 3 h w")
    _rank(sample["t_in"], "t_in", "B S")
    _rank(sample["t_out"], "t_out", "B T")
    _rank(sample["bits"], "bits", "B")
    batched = {"degraded": sample["degraded"], "bits": sample["bits"]}
    times = {"t_in": sample["t_in"], "t_out": sample["t_out"]}
    for key, value in (batched | times).items():
        if len(value) != batch:
            _refuse(key, f"has {len(value)} clips", f"'name' lists {batch}")
    _unit_range(sample["degraded"], "degraded")
    if sample["t_in"].shape[1] != sample["degraded"].shape[1]:
        _refuse("t_in", f"has shape {tuple(sample['t_in'].shape)}", "one time per degraded frame")
    for key, value in times.items():
        if (value.diff(dim=1) <= 0).any():
            _refuse(key, "does not increase", "strictly increasing times")
    if "clean" in sample:
        _rank(sample["clean"], "clean", "B T 3 H W")
        _unit_range(sample["clean"], "clean")
        if sample["clean"].shape[:2] != sample["t_out"].shape:
            _refuse("clean", f"has shape {tuple(sample['clean'].shape)}", "a frame per t_out")
    if "palette" in sample["side"]:
        _rank(sample["side"]["palette"], "side.palette", "B S P 3")
        _unit_range(sample["side"]["palette"], "side.palette")
        size = sample["side"].get("palette_size")
        if size is None or size.shape != sample["t_in"].shape:
            _refuse("side.palette_size", "is missing or misshapen", "(B, S) beside a palette")


def _rank(value: Tensor, key: str, axes: str) -> None:
    if value.ndim != len(axes.split()):
        _refuse(key, f"has shape {tuple(value.shape)}", f"({axes.replace(' ', ', ')})")


def _unit_range(value: Tensor, key: str) -> None:
    low, high = float(value.min()), float(value.max())
    if not (low >= 0.0 and high <= 1.0):  # NaN fails both comparisons
        _refuse(key, f"spans {low:.3g}..{high:.3g}", "values in [0, 1]")


def _refuse(key: str, found: str, wanted: str) -> None:
    raise ValueError(f"sample[{key!r}] {found}; wanted: {wanted}.")
