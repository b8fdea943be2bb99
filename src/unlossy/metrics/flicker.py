"""Flicker: what changes from frame to frame in a restored clip, and not in the clean one.

y restored, g clean, 8 bits; b = 0.299 R + 0.587 G + 0.114 B in 0..255; means over pairs (t, t + 1):

    warp_error  10^4 mean over V_t and RGB of (y_t(p) - y_{t+1}(p + u_t(p)))^2, y in [0, 1]
    warp_floor  the same of g: what is left by noise, light, and errors of the flow
    tof         mean |w_t - u_t| in pixels, w_t the flow of y
    tlp         100 |LPIPS(y_t, y_{t+1}) - LPIPS(g_t, g_{t+1})|, AlexNet
    mabd        (B_t(y) - B_t(g))^2 in levels^2, B_t(y) = mean |b(y_{t+1}) - b(y_t)|
    flicker_F   mean over F of |(b(y_{t+1}) - b(y_t)) - (b(g_{t+1}) - b(g_t))| in levels of 255

u_t, w_t    Farneback's flow from frame t to t + 1, on b rounded to 8 bits
V_t         |u_t + v_t(p + u_t)|^2 <= 0.01 (|u_t|^2 + |v_t(p + u_t)|^2) + 0.5, v_t the flow back,
            |grad u_t|^2 <= 0.01 |u_t|^2 + 0.002, and p + u_t lies within the frame
F           flat: where the deviation of the 3x3x3 rounded b(g) around (t, p) is at or below its
            median over the clip; textured: all else. Edges are repeated, and so are the frames at
            a cut; the mean is over all p, t

A pair with a cut between (mean |b(g_{t+1}) - b(g_t)| > 0.15 * 255) counts nowhere. A blurred clip
has a low warp_error, below the floor: never rank by it alone.

warp_error: Lai et al., "Learning Blind Video Temporal Consistency", ECCV 2018, whose formula sums
over RGB where we average, and has no 10^4: ours is 10^4 / 3 of it. V_t: Sundaram et al., "Dense
Point Trajectories", ECCV 2010. tof, tlp: Chu et al., "Learning Temporal Coherence via
Self-Supervision for GAN-based Video Generation" (TecoGAN), 2020; its code drops the first and last
two frames and crops to multiples of 32, we keep all of short clips and small frames. mabd: Jiang
and Zheng, "Learning to See Moving Objects in the Dark", ICCV 2019. flicker_F is ours.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from unlossy.networks.flow import warp
from unlossy.networks.luma import luma

Grey = npt.NDArray[np.uint8]
Flow = npt.NDArray[np.float32]
COLUMNS = ("warp_error", "warp_floor", "tof", "tlp", "mabd", "flicker_flat", "flicker_textured")
DEVIATIONS = 27 * 128 + 1  # 27 times the deviation of 27 numbers in -128..127, rounded down


@dataclass(frozen=True)
class Motion:
    """The clean side of the pairs of a run of frames; n pairs have no cut between them."""

    firsts: list[int]  # which frames of the run they start from
    flow: Tensor  # (n, 2, H, W), u_t
    visible: Tensor  # (n, H, W) bool, V_t
    flat: Tensor  # (n, H, W) bool
    change: Tensor  # (n, H, W), b(g_{t+1}) - b(g_t)
    floors: list[float]


@dataclass(frozen=True)
class Flicker:
    """What to measure of consecutive frames.

    Args:
        cut: mean |difference of luma| of two clean frames, of 1, above which they are not
            consecutive.
    """

    cut: float = 0.15

    def flat(self, clean: Tensor, device: torch.device) -> Tensor:
        """Return where a clip, uint8 (T, 3, H, W), is flat: bool of (T, H, W) on `device`."""
        deviations = torch.empty((len(clean), *clean.shape[2:]), dtype=torch.int16, device=device)
        counts = torch.zeros(DEVIATIONS, dtype=torch.long, device=device)
        luma = brightness(clean[:1].to(device))
        before = now = after = _sums(luma)
        for t in range(len(clean)):
            joined = False  # a cut repeats frames as the ends of the clip do
            if t + 1 < len(clean):
                coming = brightness(clean[t + 1 : t + 2].to(device))
                after, joined = _sums(coming), bool(self._joined(coming - luma))
                luma = coming
            total, squares = before + now + (after if joined else now)
            deviations[t] = (27 * squares - total.square()).sqrt()
            counts += torch.bincount(deviations[t].flatten().int(), minlength=DEVIATIONS)
            before, now = now if joined else after, after
        median = int((2 * counts.cumsum(0) < deviations.numel()).sum())
        return deviations <= median

    def motion(self, clean: Tensor, flat: Tensor) -> Motion:
        """Return the clean side of the pairs of consecutive frames.

        Args:
            clean: uint8 (n + 1, 3, H, W).
            flat: bool (n + 1, H, W), part of what `flat` returned.
        """
        luma = brightness(clean)
        change = luma[1:] - luma[:-1]
        firsts = self._joined(change).nonzero().flatten().tolist()
        seconds = [t + 1 for t in firsts]
        grey = luma.round().to(torch.uint8)
        # Both ways in one call, so that its threads share the pairs of a block.
        both = farneback(grey[firsts + seconds], grey[seconds + firsts])
        flow, back = both.chunk(2) if firsts else (both, both)
        seen = visible(flow, back)
        floors = warp_errors(clean[firsts], clean[seconds], flow, seen)
        return Motion(firsts, flow, seen, flat[firsts], change[firsts], floors)

    def _joined(self, change: Tensor) -> Tensor:
        """Return which of the pairs, by their change of luma (n, H, W), have no cut in between."""
        return change.abs().mean((1, 2), dtype=torch.float64) <= self.cut * 255


class FlickerScores:
    """The sums of one restored clip, gathered run by run."""

    def __init__(self) -> None:
        self._pairs: dict[str, list[float]] = {name: [] for name in COLUMNS[:5]}
        self._flat = [0.0, 0]  # sum of differences, count of places
        self._textured = [0.0, 0]

    def add(self, frames: Tensor, motion: Motion, moved: Tensor) -> None:
        """Compare the pairs of a run of frames with the clean ones'.

        Args:
            frames: uint8 (n + 1, 3, H, W), the run that `motion` was made of.
            motion: the clean side.
            moved: (n,) how much farther apart in LPIPS the frames of a pair are than the clean
                ones, or nearer (negative); empty where there is no LPIPS.
        """
        firsts, pairs = motion.firsts, self._pairs
        seconds = [t + 1 for t in firsts]
        if not firsts:
            return
        luma = brightness(frames)
        change = luma[seconds] - luma[firsts]
        grey = luma.round().to(torch.uint8)
        flow = farneback(grey[firsts], grey[seconds])
        pairs["warp_floor"] += motion.floors
        pairs["warp_error"] += warp_errors(
            frames[firsts], frames[seconds], motion.flow, motion.visible
        )
        # norm(dim=1) takes forty times as long
        lengths = (flow - motion.flow).square().sum(1).sqrt()
        pairs["tof"] += lengths.mean((1, 2), dtype=torch.float64).tolist()
        if len(moved):
            pairs["tlp"] += moved[firsts].abs().mul(100).tolist()
        steps = [c.abs().mean((1, 2), dtype=torch.float64) for c in (change, motion.change)]
        pairs["mabd"] += (steps[0] - steps[1]).square().tolist()
        apart = (change - motion.change).abs()
        for sums, region in ((self._flat, motion.flat), (self._textured, ~motion.flat)):
            sums[0] += float((apart * region).sum(dtype=torch.float64))
            sums[1] += int(region.sum())

    def means(self) -> dict[str, float]:
        """Return the columns; NaN where no pair has one."""
        known = {n: [v for v in found if not math.isnan(v)] for n, found in self._pairs.items()}
        means = {name: fmean(found) if found else math.nan for name, found in known.items()}
        for name, (total, count) in zip(COLUMNS[5:], (self._flat, self._textured), strict=True):
            means[name] = total / count if count else math.nan
        return means


def brightness(frames: Tensor) -> Tensor:
    """Return b (T, H, W), float in 0..255, of uint8 (T, 3, H, W)."""
    return luma(frames.float())


def farneback(first: Tensor, second: Tensor) -> Tensor:
    """Return Farneback's flows (n, 2, H, W), in pixels, of uint8 pairs (n, H, W)."""
    if not len(first):
        return torch.zeros(0, 2, *first.shape[1:], device=first.device)
    grey = first.cpu().numpy(), second.cpu().numpy()
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # OpenCV itself uses one core
        flows = list(pool.map(_farneback, *grey))
    return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).contiguous().to(first.device)


def _farneback(first: Grey, second: Grey) -> Flow:
    flow = cv2.calcOpticalFlowFarneback(
        first,
        second,
        np.empty((*first.shape, 2), np.float32),
        pyr_scale=0.5,
        levels=3,
        winsize=15,
        iterations=3,
        poly_n=5,
        poly_sigma=1.2,
        flags=0,
    )
    return np.asarray(flow, np.float32)


def visible(flow: Tensor, back: Tensor) -> Tensor:
    """Return V_t, bool (n, H, W), of the flows there and back, both (n, 2, H, W)."""
    returned = warp(back, flow, "border")
    lengths = flow.square().sum(1)
    seen = (flow + returned).square().sum(1) <= 0.01 * (lengths + returned.square().sum(1)) + 0.5
    slopes = sum(_slope(flow, axis).square().sum(1) for axis in (2, 3))
    seen &= slopes <= 0.01 * lengths + 0.002
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device) + flow[:, 0]
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1]
    return seen & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def _slope(flow: Tensor, axis: int) -> Tensor:
    """Central differences, one-sided at the edges; zero along an axis of one pixel."""
    if flow.shape[axis] < 2:
        return torch.zeros_like(flow)
    (slope,) = torch.gradient(flow, dim=axis)
    return slope


def warp_errors(first: Tensor, second: Tensor, flow: Tensor, seen: Tensor) -> list[float]:
    """Return the warping error of each pair; NaN where nothing is visible.

    Args:
        first: uint8 (n, 3, H, W), y_t.
        second: the same of y_{t+1}.
        flow: (n, 2, H, W), u_t.
        seen: bool (n, H, W), V_t.
    """
    squares = (first.float() - warp(second.float(), flow)).square().sum(1)
    totals = (squares * seen).sum((1, 2), dtype=torch.float64)
    return (totals / (3 * seen.sum((1, 2))) * (1e4 / 255**2)).tolist()


def _sums(luma: Tensor) -> Tensor:
    """Return the sums of b and b^2, less its middle, over 3x3 places: (2, H, W) of b (1, H, W).

    Whole numbers, 27 of which float32 holds exactly: what is flat does not depend on the device.
    """
    grey = luma.round() - 128
    planes = functional.pad(torch.stack([grey, grey.square()]), (1, 1, 1, 1), mode="replicate")
    return functional.avg_pool2d(planes, 3, stride=1, divisor_override=1)[:, 0]
