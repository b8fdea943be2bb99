"""The one protocol by which clips are scored, for training, evaluation and reports.

    frames rounded to 8 bits, RGB, no border crop
    per frame -> mean over the clip (one row) -> unweighted mean over clips

A frame that the medium kept exactly (a flat title card in a GIF) has an infinite PSNR before anyone
restored it. Such frames are counted in `exact` and left out of every mean but `psnr_all`; a clip of
such frames only has NaN in those columns, an empty cell in `rows.csv`.

    scores = VideoScores(lpips)
    clip = scores.start()
    for window in windows:
        clip.add(restored, clean, degraded)
    clip.row()   # {"frames": 217, "exact": 3, "psnr": 33.1, ...}

Distances between sets of frames (`fid.py`) need all clips of a model: `scores.start_set()`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean

import torch
from torch import Tensor

from unlossy.errors import UserError
from unlossy.metrics import pixel
from unlossy.metrics.fid import FeatureDistances, SetScores
from unlossy.networks.lpips import LPIPS

# +1 where higher is better, -1 where lower is.
DIRECTION = {"psnr": 1, "psnr_all": 1, "ssim": 1, "ssim_uniform7": 1, "lpips_alex": -1}


class VideoScores:
    """Scores restored clips against clean ones.

    Args:
        lpips: the distance of the column `lpips_alex`; None leaves it blank.
        distances: what to measure between the sets of restored and clean frames of a whole split,
            by any name.

    Raises:
        UserError: `lpips` runs on another trunk than AlexNet.
    """

    def __init__(
        self, lpips: LPIPS | None, distances: Mapping[str, FeatureDistances] | None = None
    ) -> None:
        if lpips is not None and lpips.trunk.layout.name != "alex":
            raise UserError(
                "The column lpips_alex needs the AlexNet trunk, metrics.lpips.asset=lpips_alex; "
                "lpips_vgg is for training."
            )
        self.lpips = lpips
        self.distances = distances or {}

    def start(self, device: torch.device | str = "cpu") -> ClipScores:
        """Return the empty scores of one clip, to be computed on `device`."""
        return ClipScores(self.lpips.to(device) if self.lpips else None, torch.device(device))

    def start_set(self, device: torch.device | str = "cpu") -> SetScores:
        """Return empty distances between sets of frames, for all models of one evaluation."""
        return SetScores(self.distances, torch.device(device))


class ClipScores:
    """The scores of one clip, gathered window by window; made by `VideoScores.start`."""

    def __init__(self, lpips: LPIPS | None, device: torch.device) -> None:
        self._lpips = lpips
        self._device = device
        self._exact: list[bool] = []
        self._values: dict[str, list[float]] = {name: [] for name in DIRECTION if name != "psnr"}

    def add(self, restored: Tensor, clean: Tensor, degraded: Tensor | None = None) -> None:
        """Score a window of consecutive frames.

        Args:
            restored: (T, 3, H, W), uint8, or float in [0, 1], which is rounded to 8 bits.
            clean: the same.
            degraded: what the medium kept of these frames. Frames that equal the clean ones are
                exact; None or frames of another size say that none is.

        Raises:
            ValueError: shapes differ, or a float leaves [0, 1].
        """
        restored = pixel.eight_bits(restored.to(self._device), "restored")
        clean = pixel.eight_bits(clean.to(self._device), "clean")
        if restored.shape != clean.shape or restored.ndim != 4:
            raise ValueError(
                f"restored {tuple(restored.shape)} and clean {tuple(clean.shape)} frames differ in "
                "shape; wanted: (T, 3, H, W) twice."
            )
        exact = [False] * len(clean)
        if degraded is not None and degraded.shape == clean.shape:
            kept = pixel.eight_bits(degraded.to(self._device), "degraded")
            exact = [torch.equal(a, b) for a, b in zip(kept, clean, strict=True)]
        self._exact += exact
        self._values["psnr_all"] += pixel.psnr(restored, clean)
        scored = [t for t, skip in enumerate(exact) if not skip]
        restored, clean = restored[scored], clean[scored]
        self._values["ssim"] += pixel.ssim(restored, clean, pixel.GAUSSIAN)
        self._values["ssim_uniform7"] += pixel.ssim(restored, clean, pixel.UNIFORM)
        self._values["lpips_alex"] += self._distances(restored, clean)

    def row(self) -> dict[str, float]:
        """Return `frames` and `exact` (counts) and the means of the columns of `DIRECTION`."""
        everything = self._values["psnr_all"]
        psnr = [value for value, skip in zip(everything, self._exact, strict=True) if not skip]
        means = {"psnr": psnr, **self._values}
        return {
            "frames": len(self._exact),
            "exact": sum(self._exact),
            **{name: fmean(means[name]) if means[name] else math.nan for name in DIRECTION},
        }

    def _distances(self, restored: Tensor, clean: Tensor) -> list[float]:
        if self._lpips is None or not len(clean) or min(clean.shape[-2:]) < self._lpips.smallest:
            return [math.nan] * len(clean)
        values: list[float] = []
        with torch.inference_mode():
            for start in range(0, len(clean), 8):
                pair = (frames[start : start + 8].float().div(255) for frames in (restored, clean))
                values += self._lpips(*pair).tolist()
        return values
