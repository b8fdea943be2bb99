"""The one protocol by which clips are scored, for training, evaluation and reports.

    frames rounded to 8 bits, RGB, no border crop
    per frame -> mean over the clip (one row) -> unweighted mean over clips

A frame that the medium kept exactly (a flat title card in a GIF) has an infinite PSNR before anyone
restored it. Such frames are counted in `exact` and left out of every mean but `psnr_all`; a clip of
such frames only has NaN in those columns, an empty cell in `rows.csv`. So where a medium drops
frames, the means are over the frames that nobody has seen, unless it changed the others as well.

`psnr_clip` is what interpolation has been measured by (GIF2Video, Table 2): one mean squared error
over all frames from a kept one to the next, both included, in dB; then the mean over those runs.

    scores = VideoScores(lpips)
    truth = scores.reference(clean, degraded)     # the clean side, for all models
    clip = scores.start(truth)                    # one model
    for window in windows:
        clip.add(restored)
    clip.row()   # {"frames": 217, "exact": 3, "psnr": 33.1, ...}

What compares consecutive frames (`flicker.py`) treats exact frames as any other, and is blank for a
clip of one frame. `psnr_std` is the deviation over the frames whose mean is `psnr`. What only
pictures are asked for (`stills.py`) is blank in the suite for video. What a model says of its own
distribution, `nll` and `diversity`, is for who runs it to fill in (`training/scoring.py`).
Distances between sets of frames (`fid.py`) need all clips of a model: `scores.start_set()`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev

import torch
from torch import Tensor

from unlossy.errors import UserError
from unlossy.metrics import pixel, stills
from unlossy.metrics.fid import FeatureDistances, SetScores
from unlossy.metrics.flicker import Flicker, FlickerScores
from unlossy.metrics.reference import BLOCK, Reference
from unlossy.networks.lpips import LPIPS

# +1 where higher is better, -1 where lower is, 0 for what ranks nobody.
DIRECTION = {
    **{"psnr": 1, "psnr_all": 1, "ssim": 1, "ssim_uniform7": 1, "lpips_alex": -1},
    **{"warp_error": 0, "warp_floor": 0, "tof": -1, "tlp": -1, "mabd": -1},
    **{"flicker_flat": -1, "flicker_textured": -1, "psnr_std": -1},
    **{"nll": -1, "nll_conditioning": -1, "nll_prior": -1},
    **{"consistency": -1, "msssim_scaled": 1, "msssim2": 1, "diversity": 0},
    **{"psnr_clip": 1},
}


class VideoScores:
    """Scores restored clips against clean ones.

    Args:
        lpips: the distance of the columns `lpips_alex` and `tlp`; None leaves them blank.
        distances: what to measure between the sets of restored and clean frames of a whole split,
            by any name; one that is None is left out.
        flicker: what to measure of consecutive frames; None leaves its columns blank.
        pictures: whether to measure MS-SSIM and consistency; False leaves their columns blank.
        samples: draws of every clip for `diversity`; 1 leaves it blank. The others score the first.

    Raises:
        UserError: `lpips` runs on another trunk than AlexNet, or there is no sample.
    """

    def __init__(
        self,
        lpips: LPIPS | None,
        distances: Mapping[str, FeatureDistances | None] | None = None,
        flicker: Flicker | None = None,
        pictures: bool = False,
        samples: int = 1,
    ) -> None:
        if lpips is not None and lpips.trunk.layout.name != "alex":
            raise UserError(
                "The column lpips_alex needs the AlexNet trunk, metrics.lpips.asset=lpips_alex; "
                "lpips_vgg is for training."
            )
        if samples < 1:
            raise UserError(
                f"metrics.samples={samples} draws nothing; give 1, or more for diversity."
            )
        self.lpips = lpips
        self.distances = {k: made for k, made in (distances or {}).items() if made is not None}
        self.flicker = flicker
        self.pictures = pictures
        self.samples = samples

    def for_validation(self) -> VideoScores:
        """Return the same without its dearer parts, to be run while a model trains."""
        return VideoScores(self.lpips, self.distances)

    def reference(
        self,
        clean: Tensor,
        degraded: Tensor | None = None,
        device: torch.device | str = "cpu",
        kept: Sequence[int] | None = None,
    ) -> Reference:
        """Return the clean side of one clip, to be computed on `device`; see `Reference`.

        Raises:
            UserError: the frames are not RGB, and not PSNR and SSIM alone are wanted.
        """
        parts = (self.lpips, self.flicker, self.pictures)
        truth = Reference(clean, degraded, kept, *parts, torch.device(device))
        if clean.shape[1] != 3 and (self.lpips or self.flicker or self.distances):
            raise UserError(
                f"LPIPS, flicker and distances between sets read RGB, and these frames have "
                f"{clean.shape[1]} channel(s); score them with metrics=pixel."
            )
        return truth

    def start(self, truth: Reference) -> ClipScores:
        """Return the empty scores of one restored clip."""
        return ClipScores(truth)

    def start_set(self, device: torch.device | str = "cpu") -> SetScores:
        """Return empty distances between sets of frames, for all models of one evaluation."""
        return SetScores(self.distances, torch.device(device))


class ClipScores:
    """The scores of one restored clip, gathered window by window; made by `VideoScores.start`."""

    def __init__(self, truth: Reference) -> None:
        self._truth = truth
        self._mean_squares: list[float] = []
        self._values: dict[str, list[float]] = {
            name: [] for name in ("ssim", "ssim_uniform7", "lpips_alex", *stills.COLUMNS)
        }
        self._flicker = FlickerScores()
        self._waiting = truth.clean[:0].to(truth.device)  # frames of a block that is not complete
        self._before = self._waiting  # the last frame of the block before
        self._features: list[Tensor] = []  # of that frame

    def add(self, restored: Tensor) -> None:
        """Score the next frames.

        Args:
            restored: (n, 3, H, W), uint8, or float in [0, 1], which is rounded to 8 bits.

        Raises:
            ValueError: the frames are not the clean clip's in shape or number, or a float leaves
                [0, 1].
        """
        clean = self._truth.clean
        done = len(self._mean_squares) + len(self._waiting)
        if restored.shape[1:] != clean.shape[1:] or done + len(restored) > len(clean):
            raise ValueError(
                f"restored {tuple(restored.shape)} after {done} frames does not fit into the clean "
                f"{tuple(clean.shape)}; wanted: its frames in order, of its shape."
            )
        restored = pixel.eight_bits(restored.to(self._truth.device), "restored")
        self._waiting = torch.cat([self._waiting, restored])
        complete = done + len(restored) == len(clean)
        while len(self._waiting) >= (1 if complete else BLOCK):
            self._score(self._waiting[:BLOCK])
            self._waiting = self._waiting[BLOCK:]

    @torch.inference_mode()
    def _score(self, frames: Tensor) -> None:
        truth, start = self._truth, len(self._mean_squares)
        block = truth.block(start // BLOCK)
        self._mean_squares += pixel.mean_squares(frames, block.clean)
        scored = [t for t in range(len(frames)) if not truth.exact[start + t]]
        for name, window in (("ssim", pixel.GAUSSIAN), ("ssim_uniform7", pixel.UNIFORM)):
            self._values[name] += pixel.ssim(frames[scored], block.clean[scored], window)
        if truth.pictures:
            kept = None if block.kept is None else block.kept[scored]
            found = stills.compare(frames[scored], block.clean[scored], kept)
            for name, values in found.items():
                self._values[name] += values
        moved = block.moved
        if (lpips := truth.lpips) is not None:
            features = lpips.features(frames.float().div(255))
            self._values["lpips_alex"] += lpips.between(features, block.features)[scored].tolist()
            if block.motion is not None:
                before = self._features or [f[:0] for f in features]
                run = [torch.cat(pair) for pair in zip(before, features, strict=True)]
                moved = lpips.between([f[:-1] for f in run], [f[1:] for f in run]) - moved
                self._features = [f[-1:] for f in features]
        if block.motion is not None:
            self._flicker.add(torch.cat([self._before, frames]), block.motion, moved)
            self._before = frames[-1:]

    def row(self) -> dict[str, float]:
        """Return `frames` and `exact` (counts) and the columns of `DIRECTION`, NaN where blank.

        Raises:
            ValueError: frames are missing.
        """
        exact, squares = self._truth.exact, self._mean_squares
        if len(squares) < len(exact):
            done = len(squares) + len(self._waiting)
            raise ValueError(f"{done} of {len(exact)} frames were added; add the others first.")
        every_psnr = [pixel.decibels(mean) for mean in squares]
        psnr = [value for value, skip in zip(every_psnr, exact, strict=True) if not skip]
        runs = [fmean(squares[first : last + 1]) for first, last in self._truth.gaps]
        values = {
            "psnr": psnr,
            "psnr_all": every_psnr,
            "psnr_clip": [pixel.decibels(mean) for mean in runs],
            **self._values,
        }
        means = {name: fmean(found) if found else math.nan for name, found in values.items()}
        return {
            **{"frames": len(exact), "exact": sum(exact)},
            **dict.fromkeys(DIRECTION, math.nan),
            **means,
            **self._flicker.means(),
            "psnr_std": pstdev(psnr) if len(psnr) > 1 else math.nan,
        }
