"""Before and after in one picture: left what the medium showed at that time, right the result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from unlossy.inference.outputs import VIDEOS, Clip
from unlossy.inference.streaming import Result
from unlossy.video import Frame, VideoWriter

GAP = 4  # columns between the two, white
BEHIND = 128  # grey under what is transparent


def comparison_of(target: Path) -> Path:
    """Return where the comparison goes: beside `target`, as a video."""
    suffix = target.suffix.lower()
    return target.with_name(f"{target.stem}.compare{suffix if suffix in VIDEOS else '.mp4'}")


@contextmanager
def comparing(target: Path, clip: Clip) -> Iterator[VideoWriter]:
    """Open the writer of a comparison; the file is there once the block has ended well."""
    with VideoWriter(
        comparison_of(target),
        2 * clip.width + GAP,
        clip.height,
        clip.rate,
        time_base=clip.time_base,
    ) as writer:
        yield writer


def side_by_side(result: Result) -> Frame:
    """Return one frame of both; each pixel of the input is repeated where the result is larger."""
    after = _opaque(result.after)
    before = _opaque(result.before)
    scale = after.shape[1] // before.shape[1]
    before = before.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    gap = after.new_full((3, after.shape[1], GAP), 255)
    return result.after._replace(rgb=torch.cat((before, gap, after), 2), alpha=None)


def _opaque(frame: Frame) -> Tensor:
    if frame.alpha is None:
        return frame.rgb
    share = frame.alpha.float() / 255
    return torch.lerp(torch.tensor(float(BEHIND)), frame.rgb.float(), share).round().byte()
