"""What a user has for nothing: the input itself and the classical filters, rows of every table.

    Identity        the degraded clip as it is
    Gaussian        every pixel averaged with its neighbours
    Undither        the same, but only with neighbours whose palette colours are neighbours too
    FFmpegFilter    FFmpeg's nlmeans, bilateral, deband, gradfun

None of them learns, but a filter of fixed strength would be a straw man: each comes with a short
list of settings, and `fit` takes the one with the highest mean PSNR on the validation clips.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn import functional

from unlossy.models.model import EnhancementModel
from unlossy.sample import Restored, Sample, to_float
from unlossy.video import filter_frames

Setting = TypeVar("Setting", float, str)


class Identity(EnhancementModel):
    """The input untouched: the model `input` of every table."""

    trainable = False

    def forward(self, batch: Sample) -> Restored:
        """Return the degraded frames, (B, S, 3, h, w)."""
        return Restored(estimate=batch["degraded"], extras={})


class _Tuned(EnhancementModel, Generic[Setting]):
    """A filter of one setting out of a list; the middle one until `fit` has chosen.

    Args:
        settings: from weak to strong.
    """

    trainable = False
    choice: Tensor

    def __init__(self, settings: Sequence[Setting]) -> None:
        super().__init__()
        self.settings = tuple(settings)
        self.register_buffer("choice", torch.tensor(len(self.settings) // 2))

    @property
    def label(self) -> str:
        """The setting in use."""
        return str(self.settings[int(self.choice)])

    def forward(self, batch: Sample) -> Restored:
        """Return the filtered frames, (B, S, 3, h, w)."""
        return Restored(estimate=self.apply(batch, self.settings[int(self.choice)]), extras={})

    @abstractmethod
    def apply(self, batch: Sample, setting: Setting) -> Tensor:
        """Return the frames of `batch["degraded"]` filtered, (B, S, 3, h, w) in [0, 1]."""

    def fit(self, batches: Iterable[Sample]) -> None:
        """Choose the setting with the highest PSNR, one frame of every clip, mean over clips.

        The middle frame of a clip stands for it; where the medium kept it exactly, it says nothing.
        """
        gains: list[list[float]] = []
        for batch in batches:
            frame = to_float(_middle_frame(batch))
            if torch.equal(frame["degraded"], frame["clean"]):
                continue
            filtered = [self.apply(frame, setting) for setting in self.settings]
            gains.append([_psnr(estimate, frame["clean"]) for estimate in filtered])
        if gains:
            self.choice.fill_(int(torch.tensor(gains).mean(0).argmax()))


class Gaussian(_Tuned[float]):
    """Gaussian smoothing.

    Args:
        settings: standard deviations in pixels, from weak to strong.
    """

    def apply(self, batch: Sample, setting: float) -> Tensor:
        """Return the frames smoothed by a standard deviation of `setting` pixels."""
        frames = batch["degraded"]
        size = 2 * math.ceil(3 * setting) + 1
        blurred = gaussian_blur2d(
            frames.flatten(0, 1), (size, size), (setting, setting), border_type="replicate"
        )
        return blurred.unflatten(0, frames.shape[:2])


class Undither(_Tuned[float]):
    """Gaussian smoothing of a GIF within sets of neighbouring palette colours.

    Two palette colours are neighbours when no third lies in the ball that has them as poles (the
    Gabriel graph of the palette): only between such two does a quantiser draw a contour, or a
    dither mix a shade. A pixel is averaged with the pixels around it whose colours are neighbours
    of its own; across any other pair there is an edge of the picture, which stays. The idea, with
    another test of similarity, is that of the tool `undither` by Kornel Lesiński.

    Args:
        settings: standard deviations in pixels, from weak to strong.
    """

    needs = frozenset({"palette", "palette_size"})

    def apply(self, batch: Sample, setting: float) -> Tensor:
        """Return the frames smoothed by at most a standard deviation of `setting` pixels."""
        frames = batch["degraded"]
        palettes = batch["side"]["palette"].flatten(0, 1)
        sizes = batch["side"]["palette_size"].flatten()
        smoothed = [
            _smooth_within(frame, palette[: int(size)], setting)
            for frame, palette, size in zip(frames.flatten(0, 1), palettes, sizes, strict=True)
        ]
        return torch.stack(smoothed).unflatten(0, frames.shape[:2])


class FFmpegFilter(_Tuned[str]):
    """A chain of FFmpeg filters, as its command line would run it on these frames.

    Args:
        settings: filter graphs in FFmpeg's syntax, from weak to strong.
    """

    def apply(self, batch: Sample, setting: str) -> Tensor:
        """Return the frames as the graph `setting` leaves them, rounded to 8 bits on the way."""
        frames = batch["degraded"]
        clips = frames.mul(255).round().to("cpu", torch.uint8)
        filtered = torch.stack([filter_frames(clip, setting) for clip in clips])
        return filtered.to(frames.device).to(frames.dtype).div(255)


def _smooth_within(frame: Tensor, palette: Tensor, sigma: float) -> Tensor:
    """Average (3, h, w) over the window of `sigma` with those of neighbouring palette colours."""
    height, width = frame.shape[-2:]
    near = _gabriel(palette)  # (P, P)
    index = _indices(frame, palette)  # (h, w)
    reach = math.ceil(2 * sigma)
    around = functional.pad(frame[None], (reach,) * 4, mode="replicate")[0]
    around_index = functional.pad(index[None, None].float(), (reach,) * 4, mode="replicate")[
        0, 0
    ].long()
    total, weights = frame.clone(), torch.ones_like(index, dtype=frame.dtype)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dy or dx:
                rows = slice(reach + dy, reach + dy + height)
                columns = slice(reach + dx, reach + dx + width)
                weight = math.exp(-(dy * dy + dx * dx) / (2 * sigma**2))
                counts = near[index, around_index[rows, columns]] * weight
                total += around[:, rows, columns] * counts
                weights += counts
    return total / weights


def _indices(frame: Tensor, palette: Tensor) -> Tensor:
    """Return the (h, w) palette rows whose bytes are those of the (3, h, w) pixels."""
    scale = torch.tensor([65536, 256, 1], device=frame.device)
    colors = (palette.mul(255).round().long() * scale).sum(-1)
    pixels = (frame.mul(255).round().long() * scale[:, None, None]).sum(0)
    ordered, order = colors.sort()
    return order[torch.searchsorted(ordered, pixels).clamp(max=len(ordered) - 1)]


def _gabriel(palette: Tensor) -> Tensor:
    """Return the (P, P) matrix, 1 where no colour c has (c - a) . (c - b) < 0."""
    colors = palette.mul(255).round()  # bytes: all products are exact in float32
    products = colors @ colors.mT
    least = torch.full_like(products, math.inf)
    for c in range(len(colors)):
        to_a = products[c, c] - products[c]  # c . (c - a)
        least = torch.minimum(least, to_a[:, None] - products[c][None])
    return (least + products >= 0).float()


def _middle_frame(batch: Sample) -> Sample:
    """Return the sample of the middle degraded frame of every clip and its clean frame."""
    t = batch["degraded"].shape[1] // 2
    side = {key: value[:, t, None] for key, value in batch["side"].items()}
    keys = ("degraded", "clean", "t_in", "t_out")
    return Sample(**{**batch, **{key: batch[key][:, t, None] for key in keys}, "side": side})


def _psnr(estimate: Tensor, clean: Tensor) -> float:
    error = float((estimate.clamp(0, 1) - clean).square().mean())
    return -10 * math.log10(max(error, 1e-10))
