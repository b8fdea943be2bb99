"""Pixel-recursive super-resolution: one of the images that the small one leaves possible.

    p(y_i | x, y_<i) = softmax(A_i(x) + B_i(y_<i))        i: rows, pixels, colours

    x ─ conditioning network ─ A ┐
                                 + ─ draw y_i ┐           A: what is where
      ┌── gated PixelCNN ───── B ┘            │           B: what goes together
      └────────────────────◄──────────────────┘

    loss     CE(A + B) + CE(A)      teacher forcing: B reads the true pixels
    draw     softmax((A + B) / t)   t = 1 as learnt, t < 1 closer to the most likely, greedy t -> 0

Dahl, Norouzi, Shlens, "Pixel Recursive Super Resolution", ICCV 2017, arXiv 1702.00783. The second
term of the loss (`conf/loss/nll.yaml`) is theirs: without it B, which sees true neighbours, is
enough to explain nearly everything, and A is not learnt. With it A alone is the pixel-independent
model. Drawing is exact and cached (`networks/pixelcnn_sampling`).

The model is of small images of one size. Others are drawn in tiles that do not know of each other.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from torch import Tensor

from unlossy.errors import UserError
from unlossy.models.conditioned import Conditioned, uniforms
from unlossy.models.model import MEMORY, pad_to_multiple
from unlossy.networks.conditioning import Conditioning
from unlossy.networks.levels import code_length, draw, expected, to_levels, to_values
from unlossy.networks.pixelcnn import PixelCNN
from unlossy.networks.pixelcnn_sampling import sample
from unlossy.sample import Restored, Sample


class PixelSR(Conditioned):
    """Draw large images, each frame by itself.

    `extras` holds `logits` (A + B), `logits_conditioning` (A) and `logits_prior` (B), all
    (B, T, colors, levels, H, W) float32; `estimate` is the mean under A + B. `restore` draws with
    the last temperature. Where there is more than one way to draw, `restore_all` does all of them
    with the same uniforms: `a_greedy`, `a_sampled`, `greedy`, `t0.8`, `t1`.

    Args:
        conditioning: A, with colors * levels outputs, the levels of a colour next to each other.
        prior: B.
        temperatures: > 0.
        greedy: take the most likely level of each sub-pixel, too.
        alone: draw from A without B, too: the pixel-independent model.
        side: of the square small images that it is trained on, >= 1.

    Raises:
        UserError: networks that do not fit, numbers out of range, or nothing to draw.
    """

    provides = frozenset({"logits", "logits_conditioning", "logits_prior"})
    likelihoods = ("nll", "nll_conditioning", "nll_prior")
    teacher_forced = True
    window = 64

    def __init__(
        self,
        conditioning: Conditioning,
        prior: PixelCNN,
        temperatures: Sequence[float] = (1.0,),
        greedy: bool = False,
        alone: bool = False,
        side: int = 8,
    ) -> None:
        wanted = prior.colors * prior.levels
        super().__init__(conditioning, wanted, f"{prior.colors} colours of {prior.levels} levels")
        if not all(0 < t < math.inf for t in temperatures):
            raise UserError(
                f"PixelSR got temperatures={list(temperatures)}; they must be above 0, and what 0 "
                "would mean is greedy=true."
            )
        if not (temperatures or greedy):
            raise UserError(
                "PixelSR has nothing to draw; give at least one of temperatures, or greedy=true."
            )
        if side < 1:
            raise UserError(f"PixelSR got side={side}; it must be at least 1.")
        self.prior = prior
        self.side = self.multiple = side
        self.reach = 0
        self.alone = {"a_greedy": 0.0, "a_sampled": 1.0} if alone else {}
        self.draws = {"greedy": 0.0} if greedy else {}
        self.draws |= {f"t{t:g}": float(t) for t in temperatures}
        names = (*self.alone, *self.draws)
        self.outputs = names if len(names) > 1 else ()

    def forward(self, batch: Sample) -> Restored:
        """Return means (B, T, colors, H, W) in [0, 1] where B has read `batch["clean"]`."""
        shape = batch["degraded"].shape[:2]
        outputs = self.conditioning(self.frames_of(batch["degraded"]))
        joint, a, b = (
            logits.view(*shape, *logits.shape[1:])
            for logits in self._logits(outputs, batch["clean"].flatten(0, 1))
        )
        extras = {"logits": joint, "logits_conditioning": a, "logits_prior": b}
        return Restored(estimate=expected(joint), extras=extras)

    def restore(
        self, batch: Sample, *, generator: torch.Generator | None = None, samples: int = 1
    ) -> Tensor:
        """Return draws (samples * B, T, colors, H, W) in [0, 1], the first of every clip first."""
        main = list(self.draws)[-1]
        return self._drawn(batch, {main: self.draws[main]}, {}, generator, samples)[main]

    def restore_all(
        self, batch: Sample, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return one draw in every way; without a generator it is always the same."""
        drawn = self._drawn(batch, self.draws, self.alone, generator, 1)
        return drawn if self.outputs else {"": next(iter(drawn.values()))}

    @torch.no_grad()
    def bits(self, batch: Sample) -> dict[str, Tensor]:
        """Return `nll` under A + B, `nll_conditioning` under A and `nll_prior` under B.

        Of larger images tile by tile, as they would be drawn.
        """
        self.frames_of(batch["degraded"])
        clips, frames, _, height, width = batch["clean"].shape
        x, y = self._tiles(batch["degraded"], self.side), self._tiles(batch["clean"], self._large)
        parts = []
        for some_x, some_y in zip(
            *(torch.split(tiles, self._at_once) for tiles in (x, y)), strict=True
        ):
            logits = self._logits(self.conditioning.settled(some_x), some_y)
            parts.append(torch.stack([code_length(each, some_y) for each in logits]))
        lengths = torch.cat(parts, 1)  # (3, tiles, colors, side, side)
        return {
            name: self._whole(each, clips, frames, height, width).mean((2, 3, 4))
            for name, each in zip(self.likelihoods, lengths, strict=True)
        }

    @torch.no_grad()
    def _drawn(
        self,
        batch: Sample,
        draws: Mapping[str, float],
        alone: Mapping[str, float],
        generator: torch.Generator | None,
        samples: int,
    ) -> dict[str, Tensor]:
        """Return clips by name: temperatures of A + B in `draws`, of A in `alone`."""
        self.frames_of(batch["degraded"])
        self.warn_if_untrained()
        degraded = batch["degraded"].repeat(samples, 1, 1, 1, 1)
        clips, frames, _, height, width = degraded.shape
        if (height, width) != (self.side, self.side):
            warnings.warn(
                f"PixelSR draws images of {self.side}x{self.side} and got {height}x{width}: it "
                f"draws tiles of {self.side}x{self.side}, whose seams may show.",
                stacklevel=3,
            )
        x = self._tiles(degraded, self.side)
        rows, columns = (-(-length // self.side) * self._large for length in (height, width))
        numbers = uniforms((clips, self.prior.colors, rows, columns), frames, generator)
        u = self._tiles(numbers, self._large).to(x.device)
        ways, at_once = len(draws), max(1, self._at_once // len(draws))
        temperatures = torch.tensor(list(draws.values()), dtype=torch.float64, device=x.device)
        parts = []
        for some_x, some_u in zip(*(torch.split(tiles, at_once) for tiles in (x, u)), strict=True):
            a = self._by_level(self.conditioning.settled(some_x))
            levels = sample(
                self.prior,
                a.repeat(ways, 1, 1, 1, 1),
                some_u.repeat(ways, 1, 1, 1),
                temperatures.repeat_interleave(len(a)),
            )
            parts.append([*(draw(a, some_u, t) for t in alone.values()), *levels.chunk(ways)])
        size = (height * self.scale, width * self.scale)
        return {
            name: self._whole(to_values(torch.cat(tiles), self.prior.levels), clips, frames, *size)
            for name, *tiles in zip((*alone, *draws), *parts, strict=True)
        }

    def _logits(self, outputs: Tensor, clean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return A + B, A and B, all (N, colors, levels, H, W)."""
        a = self._by_level(outputs)
        # What drawing feeds back, whatever precision `clean` was stored in.
        levels = self.prior.levels
        b: Tensor = self.prior(to_values(to_levels(clean, levels), levels))
        return a + b, a, b

    def _by_level(self, outputs: Tensor) -> Tensor:
        return outputs.view(-1, self.prior.colors, self.prior.levels, *outputs.shape[2:])

    @property
    def _large(self) -> int:
        return self.side * self.scale

    @property
    def _at_once(self) -> int:
        """How many large images may be worked on at once: six copies of their logits."""
        return max(1, MEMORY // (24 * self.conditioning.outputs * self._large**2))

    @staticmethod
    def _tiles(clips: Tensor, side: int) -> Tensor:
        """Cut clips (B, T, C, H, W), padded, into (B * T * rows * columns, C, side, side)."""
        padded = pad_to_multiple(clips, side)
        pattern = "b t c (i h) (j w) -> (b t i j) c h w"
        return rearrange(padded, pattern, h=side, w=side)

    def _whole(self, tiles: Tensor, clips: int, frames: int, height: int, width: int) -> Tensor:
        """Put large tiles together again: (B, T, C, height, width)."""
        rows = -(-height // self._large)
        pattern = "(b t i j) c h w -> b t c (i h) (j w)"
        return rearrange(tiles, pattern, b=clips, t=frames, i=rows)[..., :height, :width]
