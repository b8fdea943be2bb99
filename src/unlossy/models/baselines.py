"""What a user has for nothing: the input itself and the classical filters, rows of every table.

    Identity        the degraded clip as it is: pixels repeated where the clean one is larger, the
                    nearest frame held where it has more
    Bicubic         enlarged as every program enlarges
    Gaussian        every pixel averaged with its neighbours
    Undither        the same, the less the better the palette could have shown the average
    FFmpegFilter    FFmpeg's nlmeans, bilateral, deband, gradfun, deblock, atadenoise

None of them learns, but a filter of fixed strength would be a straw man: each but the first two
comes with a short list of settings, and `fit` takes the one with the highest mean PSNR on the
validation clips.
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

from unlossy.errors import UserError
from unlossy.models.model import EnhancementModel
from unlossy.sample import Restored, Sample, to_float
from unlossy.video import filter_frames

Setting = TypeVar("Setting", float, str)


class Enlarged(EnhancementModel):
    """A filter that makes every frame larger by a whole factor, or keeps its size.

    Args:
        scale: output height / degraded height, at least 1.

    Raises:
        UserError: it is not.
    """

    trainable = False

    def __init__(self, scale: int) -> None:
        super().__init__()
        if scale < 1:
            raise UserError(f"{type(self).__name__} got scale={scale}; give 1 or more.")
        self.scale = scale


class Identity(Enlarged):
    """The input untouched: the model `input` of every table.

    At a time between two frames it shows the nearer one, half-way the first.

    Args:
        scale: each pixel is repeated this often along both axes.
    """

    interpolates = True
    context = 1
    reach = 0

    def __init__(self, scale: int = 1) -> None:
        super().__init__(scale)

    def forward(self, batch: Sample) -> Restored:
        """Return the degraded frames, (B, T, 3, h * scale, w * scale)."""
        frames = batch["degraded"]
        if not torch.equal(batch["t_in"], batch["t_out"]):
            apart = (batch["t_out"][:, :, None] - batch["t_in"][:, None]).abs()  # (B, T, S)
            nearest = apart.argmin(2)  # of equally near ones the first
            frames = torch.stack([f[n] for f, n in zip(frames, nearest, strict=True)])
        if self.scale > 1:
            frames = frames.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)
        return Restored(estimate=frames, extras={})


class Bicubic(Enlarged):
    """Cubic convolution with a = -0.5 (Keys 1981), Pillow's and Matlab's, not torch's usual -0.75.

    Args:
        scale: output height / degraded height.
    """

    reach = 2

    def __init__(self, scale: int = 4) -> None:
        super().__init__(scale)

    def forward(self, batch: Sample) -> Restored:
        """Return the enlarged frames, (B, S, 3, h * scale, w * scale); they overshoot at edges."""
        frames = batch["degraded"]
        size = [length * self.scale for length in frames.shape[-2:]]
        # Enlarging there is nothing to filter, but torch keeps a = -0.5 for its antialiased kernel.
        larger = functional.interpolate(
            frames.flatten(0, 1), size, mode="bicubic", align_corners=False, antialias=True
        )
        return Restored(estimate=larger.reshape(*frames.shape[:2], *larger.shape[1:]), extras={})


class Tuned(EnhancementModel, Generic[Setting]):
    """A filter of one setting out of a list; the middle one until `fit` has chosen.

    Args:
        settings: from weak to strong.

    Raises:
        UserError: no setting, or a standard deviation that is not positive.
    """

    trainable = False
    choice: Tensor

    def __init__(self, settings: Sequence[Setting]) -> None:
        super().__init__()
        if not settings or any(isinstance(value, float | int) and value <= 0 for value in settings):
            raise UserError(
                f"{type(self).__name__} got settings={list(settings)}; give at least one, and "
                "standard deviations above zero."
            )
        self.settings: tuple[Setting, ...] = tuple(settings)
        self.register_buffer("choice", torch.tensor(len(self.settings) // 2))

    @property
    def label(self) -> str:
        """The setting in use."""
        return str(self.settings[int(self.choice)])

    def forward(self, batch: Sample) -> Restored:
        """Return the filtered frames, (B, S, 3, h, w)."""
        return Restored(estimate=self.smooth(batch, self.settings[int(self.choice)]), extras={})

    @abstractmethod
    def smooth(self, batch: Sample, setting: Setting) -> Tensor:
        """Return the frames of `batch["degraded"]` filtered, (B, S, 3, h, w) in [0, 1]."""

    def fit(self, batches: Iterable[Sample]) -> None:
        """Choose the setting with the highest PSNR, one frame of every clip, mean over clips.

        The middle frame of a clip stands for it, restored with the neighbours that the filter looks
        at; where the medium kept it exactly, it says nothing.
        """
        gains: list[list[float]] = []
        for batch in batches:
            middle = batch["degraded"].shape[1] // 2
            first = max(0, middle - self.context)
            near = to_float(_frames(batch, slice(first, middle + self.context + 1)))
            t = middle - first
            clean = near["clean"][:, t]
            if torch.equal(near["degraded"][:, t], clean):
                continue
            filtered = [self.smooth(near, setting)[:, t] for setting in self.settings]
            gains.append([_psnr(estimate, clean) for estimate in filtered])
        if gains:
            self.choice.fill_(int(torch.tensor(gains).mean(0).argmax()))


class Gaussian(Tuned[float]):
    """Gaussian smoothing.

    Args:
        settings: standard deviations in pixels, from weak to strong.
    """

    def smooth(self, batch: Sample, setting: float) -> Tensor:
        """Return the frames smoothed by a standard deviation of `setting` pixels."""
        frames = batch["degraded"]
        size = 2 * math.ceil(3 * setting) + 1
        blurred = gaussian_blur2d(
            frames.flatten(0, 1), (size, size), (setting, setting), border_type="replicate"
        )
        return torch.as_tensor(blurred).reshape(frames.shape)


class Undither(Tuned[float]):
    """Gaussian smoothing of a GIF where its palette had nothing better to offer.

    The weight of a neighbour is multiplied by how far the palette misses the mean m of the two
    palette colours a and b, relative to how far a and b themselves are from it:

        likeness(a, b) = min_c |c - m|^2 / |a - m|^2        c over the palette, m = (a + b) / 2

    1 where no third colour lies in the ball with poles a and b: only between such two does a
    quantiser draw a contour through a smooth shade, or a dither mix one. 0 where m is in the
    palette: the step was meant, and stays. The idea is that of the tool `undither` by Kornel
    Lesiński, whose weights fall in steps where ours are this ratio.

    Args:
        settings: standard deviations in pixels, from weak to strong.
    """

    needs = frozenset({"palette", "palette_size"})

    def smooth(self, batch: Sample, setting: float) -> Tensor:
        """Return the frames smoothed by at most a standard deviation of `setting` pixels."""
        frames = batch["degraded"]
        palettes = batch["side"]["palette"].flatten(0, 1)
        sizes = batch["side"]["palette_size"].flatten()
        smoothed = [
            _smooth_within(frame, palette[: int(size)], setting)
            for frame, palette, size in zip(frames.flatten(0, 1), palettes, sizes, strict=True)
        ]
        return torch.stack(smoothed).reshape(frames.shape)


class FFmpegFilter(Tuned[str]):
    """A chain of FFmpeg filters, as its command line would run it on these frames.

    Args:
        settings: filter graphs in FFmpeg's syntax, from weak to strong.
        context: frames before and after one that the filter looks at to restore it.

    Raises:
        UserError: FFmpeg refuses one of them, or the context is negative.
    """

    def __init__(self, settings: Sequence[str], context: int = 0) -> None:
        super().__init__(settings)
        if context < 0:
            raise UserError(f"FFmpegFilter got context={context}; give 0 or a number of frames.")
        self.context = context
        for graph in settings:
            filter_frames(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), graph)

    def smooth(self, batch: Sample, setting: str) -> Tensor:
        """Return the frames as the graph `setting` leaves them, rounded to 8 bits on the way."""
        frames = batch["degraded"]
        clips = frames.mul(255).round().to("cpu", torch.uint8)
        filtered = torch.stack([filter_frames(clip, setting) for clip in clips])
        return filtered.to(frames.device).to(frames.dtype).div(255)


def _smooth_within(frame: Tensor, palette: Tensor, sigma: float) -> Tensor:
    """Average (3, h, w) with its neighbours, weighted by distance and by `_likeness`."""
    height, width = frame.shape[-2:]
    likeness = _likeness(palette)  # (P, P)
    index = _indices(frame, palette)  # (h, w)
    reach = max(1, round(2 * sigma))
    margin = (reach, reach, reach, reach)
    around = functional.pad(frame[None], margin, mode="replicate")[0]
    # Replicating needs floats, which hold 256 indices exactly.
    around_index = functional.pad(index[None, None].float(), margin, mode="replicate")[0, 0].long()
    total, weights = frame.clone(), torch.ones_like(frame[0])
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dy or dx:
                rows = slice(reach + dy, reach + dy + height)
                columns = slice(reach + dx, reach + dx + width)
                near = math.exp(-(dy * dy + dx * dx) / (2 * sigma**2))
                weight = likeness[index, around_index[rows, columns]] * near
                total += around[:, rows, columns] * weight
                weights += weight
    return total / weights


def _indices(frame: Tensor, palette: Tensor) -> Tensor:
    """Return the (h, w) palette rows whose bytes are those of the (3, h, w) pixels."""
    scale = torch.tensor([65536, 256, 1], device=frame.device)
    colors = (palette.mul(255).round().long() * scale).sum(-1)
    pixels = (frame.mul(255).round().long() * scale[:, None, None]).sum(0)
    ordered, order = colors.sort()
    return order[torch.searchsorted(ordered, pixels).clamp(max=len(ordered) - 1)]


def _likeness(palette: Tensor) -> Tensor:
    """Return the (P, P) matrix of min_c |c - m|^2 / |a - m|^2, 1 for equal colours."""
    colors = palette.mul(255).round()  # bytes: all products are exact in float32
    products = colors @ colors.mT
    squares = products.diagonal()
    radius = (squares[:, None] + squares - 2 * products) / 4  # |a - m|^2
    # |c - m|^2 - |a - m|^2 = (c - a) . (c - b) = c . (c - a) - c . b + a . b
    least = torch.full_like(products, math.inf)
    for c in range(len(colors)):
        to_a = products[c, c] - products[c]
        least = torch.minimum(least, to_a[:, None] - products[c])
    return torch.where(radius > 0, 1 + (least + products) / radius.clamp(min=0.25), 1.0)


def _frames(batch: Sample, seen: slice) -> Sample:
    """Return the sample of some of its frames; a filter has one clean frame per degraded one."""
    return Sample(
        name=batch["name"],
        degraded=batch["degraded"][:, seen],
        clean=batch["clean"][:, seen],
        t_in=batch["t_in"][:, seen],
        t_out=batch["t_out"][:, seen],
        side={key: value[:, seen] for key, value in batch["side"].items()},
        target={},
        bits=batch["bits"],
    )


def _psnr(estimate: Tensor, clean: Tensor) -> float:
    error = float((estimate.clamp(0, 1) - clean).square().mean())
    return -10 * math.log10(max(error, 1e-10))
