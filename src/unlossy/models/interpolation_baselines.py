"""Frames between frames without learning: rows of every table where a medium drops frames.

    Identity        the nearest frame (`baselines.py`)
    FrameAverage    (1 - t) a + t b
    Minterpolate    FFmpeg's minterpolate: blocks follow their motion, overlapped (mi_mode=mci)

Neither looks out for cuts by our measure: the average of two scenes is a cross-fade, and FFmpeg has
a measure of its own, at which it repeats frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

import torch
from einops import rearrange
from torch import Tensor

from unlossy.models.interpolator import Interpolator
from unlossy.sample import Sample
from unlossy.video import filter_frames

RATE = Fraction(25)  # of the frames handed to FFmpeg; only its ratio to the output's counts
FINEST = 64  # parts of the way between two frames at which FFmpeg is asked for frames, at most


class FrameAverage(Interpolator):
    """Fades from one frame to the next: what has moved is seen twice."""

    trainable = False
    reach = 0
    cut = None

    def between(
        self, first: Tensor, last: Tensor, times: Sequence[float]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted means (B, n, 3, H, W)."""
        share = first.new_tensor(times).view(-1, 1, 1, 1)
        return torch.lerp(first[:, None], last[:, None], share), {}


class Minterpolate(Interpolator):
    """FFmpeg's motion-compensated conversion of the frame rate, as its command line would run it.

    FFmpeg makes frames at n even steps from each frame to the next, n the least number that meets
    all wanted times, at most 64, beyond which the nearest step stands for a time. It looks at the
    frames before and after a pair as well. Frames that the medium kept stay as they are, although
    FFmpeg's come back a little changed, by a trip through YUV.

    Args:
        options: of the filter, in FFmpeg's syntax.

    Raises:
        UserError: FFmpeg refuses them.
    """

    trainable = False
    context = 2  # an interval is made of four frames
    window = 8
    cut = None

    def __init__(self, options: str = "mi_mode=mci") -> None:
        super().__init__()
        self.options = options
        self._between(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), 2)

    def keys(self, batch: Sample) -> Tensor:
        """Return (B, S, 3 n, H, W): each frame, then those made between it and the next one."""
        frames, parts = batch["degraded"], _parts(batch)
        if parts == 1:
            return frames
        stored = frames.mul(255).round().to("cpu", torch.uint8)
        made = torch.stack([self._between(clip, parts) for clip in stored])  # (B, S, n, 3, H, W)
        steps = made.to(frames.device).to(frames.dtype).div(255)
        steps[:, :, 0] = frames
        return steps.flatten(2, 3)

    def between(
        self, first: Tensor, last: Tensor, times: Sequence[float]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what `keys` has made after the first frame, (B, n, 3, H, W)."""
        steps = rearrange(first, "b (n c) h w -> b n c h w", c=3)
        parts = steps.shape[1]
        return steps[:, [min(max(1, round(t * parts)), parts - 1) for t in times]], {}

    def _between(self, clip: Tensor, parts: int) -> Tensor:
        """Return (S, parts, 3, H, W), uint8, of (S, 3, H, W); the last frame is only repeated."""
        # One frame is lost at the end: S + 1 frames come out as S - 1 intervals and their end.
        padded = torch.cat([clip, clip[-1:]])
        graph = f"minterpolate=fps={RATE * parts}:{self.options}"
        made = filter_frames(padded, graph, RATE, count=parts * (len(clip) - 1) + 1)
        rest = made[-1:].expand(parts - 1, -1, -1, -1)
        return rearrange(torch.cat([made, rest]), "(s n) c h w -> s n c h w", n=parts)


def _parts(batch: Sample) -> int:
    """Return into how many even steps all wanted times divide the way between two frames."""
    t_in, t_out = (batch[key][0].contiguous() for key in ("t_in", "t_out"))
    if len(t_in) == 1:
        return 1
    after = torch.searchsorted(t_in, t_out, right=True).clamp(1, len(t_in) - 1)
    share = (t_out - t_in[after - 1]) / (t_in[after] - t_in[after - 1])
    inside = share[(share > 0) & (share < 1)].tolist()
    return min(FINEST, lcm(*(Fraction(t).limit_denominator(FINEST).denominator for t in inside)))
