"""Distances between the set of restored and the set of clean frames, in a network's features.

    FD  = |m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2))                Heusel et al. 2017, eq. 6
    KID = mean_{i != j} k(x_i, x_j) + k(y_i, y_j) - 2 k(x_i, y_j),  k(x, y) = (x.y / D + 1)^3
                                                                           Binkowski et al. 2018
    column       features x, y, per frame
    fid          Inception's 2048, which no Python package carries: needs a file, else `unavailable`
    kid_vgg16    VGG16 conv5_3 after its ReLU, mean over places (512): the offline companions, which
    fd_vgg16     are not FID and cannot be compared with it

A restored frame and its clean frame are a pair. The usual KID estimator takes sets drawn apart: it
keeps the pairs i = j in its last term and falls below zero as a restoration becomes perfect. The
U-statistic above (Gretton et al. 2012, Lemma 6) leaves them out and is exactly zero for equal sets.
All three shrink as frames are added, hence the frame count beside them and the least count of FID.

tr (C_x C_y)^(1/2) is the sum of the singular values of R_x R_y^T / (n - 1), with X - m_x = Q_x R_x:
equal to the usual eigenvalues of C_x C_y, in milliseconds instead of seconds a model.
"""

from __future__ import annotations

import hashlib
import math
import pickle
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from unlossy import _torchvision  # noqa: F401  (torchmetrics imports torchvision)
from unlossy.errors import UserError
from unlossy.metrics.pixel import eight_bits
from unlossy.networks.lpips import Trunk

from torchmetrics.image.fid import FrechetInceptionDistance  # isort: skip

Cell = float | int | str
# Model -> number of the distance -> features of restored and of clean frames, each (N, D).
Features = dict[str, dict[int, tuple[Tensor, Tensor]]]


class FeatureDistances(Protocol):
    """Which features to read, of how many frames, and what to say about two sets of them."""

    every: int  # of the frames of a split, every n-th is looked at

    def features(self, frames: Tensor) -> Tensor:
        """Return (N, D) features on the CPU of uint8 (N, 3, H, W); (0, D) where there are none."""
        ...

    def compare(self, restored: Tensor, clean: Tensor) -> dict[str, Cell]:
        """Return the columns for two sets (N, D), in pairs."""
        ...


class Vgg16Distances:
    """`kid_vgg16`, `fd_vgg16` and `frames_vgg16`.

    Args:
        trunk: VGG16's convolutions.
        every: look at every n-th frame; one costs 0.2 s at 320x180 on two cores, per model.

    Raises:
        UserError: the trunk is not VGG16's.
    """

    def __init__(self, trunk: Trunk, every: int = 1) -> None:
        if trunk.layout.name != "vgg":
            raise UserError("kid_vgg16 needs the VGG16 trunk: give the asset lpips_vgg instead.")
        self.trunk = trunk
        self.every = every

    def features(self, frames: Tensor) -> Tensor:
        """Return the (N, 512) means over places; none for frames under 16 pixels a side."""
        if min(frames.shape[-2:]) < self.trunk.layout.smallest:
            return torch.empty(0, 512)
        trunk = self.trunk.to(frames.device)
        with torch.inference_mode():
            return torch.cat([trunk(f[None].float() / 255)[-1].mean((2, 3)).cpu() for f in frames])

    def compare(self, restored: Tensor, clean: Tensor) -> dict[str, Cell]:
        """Return the three columns; NaN under two frames."""
        return {
            "kid_vgg16": kernel_distance(restored, clean),
            "fd_vgg16": frechet_distance(restored, clean),
            "frames_vgg16": len(clean),
        }


class InceptionDistance:
    """`fid` and `frames_fid`, through torchmetrics' Inception of 2048 features.

    The frames are resized as TensorFlow 1 did, without antialiasing, which is what published FIDs
    and torch-fidelity do (torchmetrics' own default is otherwise).

    Args:
        weights: torch-fidelity's Inception file (`weights-inception-2015-12-05-6726825d.pth`); None
            makes the column `unavailable`.
        minimum: frames under which FID is refused; 2 asks for it all the same.
        every: look at every n-th frame.

    Raises:
        UserError: the file is missing, or does not hold Inception's tensors.
    """

    def __init__(
        self, weights: str | Path | None = None, minimum: int = 2048, every: int = 1
    ) -> None:
        self.minimum = minimum
        self.every = every
        self.network = None if weights is None else _inception(Path(weights))

    def features(self, frames: Tensor) -> Tensor:
        """Return (N, 2048) features, or none without the file."""
        if self.network is None:
            return torch.empty(0, 2048)
        with torch.inference_mode():
            return torch.as_tensor(self.network.to(frames.device)(frames)).cpu()

    def compare(self, restored: Tensor, clean: Tensor) -> dict[str, Cell]:
        """Return both columns; `fid` is a word where it is not a number."""
        if self.network is None:
            return {"fid": "unavailable", "frames_fid": 0}
        if len(clean) < self.minimum:
            return {"fid": f"refused under {self.minimum} frames", "frames_fid": len(clean)}
        return {"fid": frechet_distance(restored, clean), "frames_fid": len(clean)}


class SetScores:
    """Gathers the frames of one evaluation, all models side by side; made by `VideoScores`.

    The features of a clean frame are computed once, whichever model asks.
    """

    def __init__(self, distances: Mapping[str, FeatureDistances], device: torch.device) -> None:
        self._distances = tuple(distances.values())
        self._device = device
        self._seen: defaultdict[str, int] = defaultdict(int)
        self._sets: dict[str, list[tuple[list[Tensor], list[Tensor]]]] = {}
        self._known: list[dict[bytes, Tensor]] = [{} for _ in distances]

    def add(self, model: str, restored: Tensor, clean: Tensor) -> None:
        """Add a window of `model`: (T, 3, H, W) uint8, or float in [0, 1], restored and clean."""
        restored, clean = eight_bits(restored, "restored"), eight_bits(clean, "clean")
        start = self._seen[model]
        self._seen[model] += len(clean)
        sets = self._sets.setdefault(model, [([], []) for _ in self._distances])
        for distance, known, (ours, theirs) in zip(self._distances, self._known, sets, strict=True):
            for t in range(-start % distance.every, len(clean), distance.every):
                ours.append(distance.features(restored[t, None].to(self._device)))
                key = hashlib.blake2b(clean[t].cpu().numpy().tobytes()).digest()
                if key not in known:
                    known[key] = distance.features(clean[t, None].to(self._device))
                theirs.append(known[key])

    def go_to(self, frame: int) -> None:
        """Say which frame of the split comes next, where other processes add those before it."""
        self._seen = defaultdict(lambda: frame)

    def features(self) -> Features:
        """Return what this process has gathered, for `compute`."""
        return {
            model: {
                number: (torch.cat(ours), torch.cat(theirs))
                for number, (ours, theirs) in enumerate(sets)
                if ours
            }
            for model, sets in self._sets.items()
        }

    def compute(self, everyones: Sequence[Features] = ()) -> dict[str, dict[str, Cell]]:
        """Return the columns of every model, in the order in which the models came.

        Args:
            everyones: the `features` of all processes, this one among them; none for it alone.
        """
        parts = everyones or [self.features()]
        results: dict[str, dict[str, Cell]] = {}
        for model in dict.fromkeys(model for part in parts for model in part):
            results[model] = {}
            for number, distance in enumerate(self._distances):
                found = [part[model][number] for part in parts if number in part.get(model, {})]
                if found:
                    ours, theirs = (torch.cat(side) for side in zip(*found, strict=True))
                    results[model] |= distance.compare(ours, theirs)
        return results


def frechet_distance(restored: Tensor, clean: Tensor) -> float:
    """Return FD between two sets (N, D) and (M, D); NaN where a set has fewer than two members."""
    if min(len(restored), len(clean)) < 2:
        return math.nan
    (mean_x, x), (mean_y, y) = _normal(restored), _normal(clean)
    cross = torch.linalg.svdvals(x @ y.mT).sum()
    distance = (mean_x - mean_y).square().sum() + x.square().sum() + y.square().sum() - 2 * cross
    return max(0.0, float(distance))  # rounding alone makes it negative


def _normal(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (D,) and a root R of the sample covariance, C = R^T R, of (N, D) features."""
    values = features.double()
    mean = values.mean(0)
    root = torch.linalg.qr(values - mean, mode="r").R
    return mean, root / math.sqrt(len(values) - 1)


def kernel_distance(restored: Tensor, clean: Tensor) -> float:
    """Return KID between two paired sets (N, D); NaN under two pairs, 0 for equal sets."""
    count, dimensions = clean.shape
    if count < 2:
        return math.nan
    x, y = restored.double(), clean.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.mT / dimensions + 1) ** 3

    h = kernel(x, x) + kernel(y, y) - kernel(x, y) - kernel(y, x)
    return float((h.sum() - h.trace()) / (count * (count - 1)))


def _inception(path: Path) -> torch.nn.Module:
    wanted = "give torch-fidelity's Inception file as metrics.distances.inception.weights"
    try:
        # torch-fidelity unpickles whatever it is given: look first.
        torch.load(path, map_location="cpu", weights_only=True)
        metric = FrechetInceptionDistance(feature_extractor_weights_path=str(path), antialias=False)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, TypeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"FID cannot read its weights {path} ({reason}); {wanted}.") from error
    return metric.inception
