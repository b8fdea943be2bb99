"""GIFs as users have them: any number of colours, dithered or not, one palette or many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch.nn import functional

from unlossy.degradations.gif import Dither, Gif, Palette, Scope
from unlossy.degradations.limits import check_choice, check_colors, check_every
from unlossy.errors import UserError
from unlossy.sample import Degraded


@dataclass(frozen=True)
class GifAny:
    """Draws the `Gif` of each clip from `rng`: colours log-uniform, dither and scope by coin.

    Args:
        fewest: colours of the smallest palette, at least 2.
        most: colours of the largest, at most 256; `side["palette"]` has as many rows.
        palette: how colours are chosen; see `palettes`.
        every: keep every D-th frame, the first included.

    Raises:
        UserError: an argument is out of its range.
    """

    fewest: int = 16
    most: int = 256
    palette: Palette = "kmeans"
    every: int = 1

    scale: ClassVar[int] = 1
    keeps: ClassVar[frozenset[str]] = frozenset({"palette", "palette_size"})

    def __post_init__(self) -> None:
        check_colors("fewest", self.fewest)
        check_colors("most", self.most)
        check_every(self.every)
        check_choice("palette", self.palette, get_args(Palette))
        if self.fewest > self.most:
            raise UserError(
                f"degradation.fewest={self.fewest} is above most={self.most}; swap the two."
            )

    def __call__(self, clip: Degraded, rng: torch.Generator) -> Degraded:
        """Return a GIF of one of the kinds."""
        result = self.draw(rng)(clip, rng)
        palette = result["side"]["palette"]
        palette = functional.pad(palette, (0, 0, 0, self.most - palette.shape[1]))
        result["side"] = {**result["side"], "palette": palette}
        return result

    def draw(self, rng: torch.Generator) -> Gif:
        """Draw a kind of GIF."""
        size, dithered, shared = torch.rand(3, generator=rng).tolist()
        colors = round(self.fewest * (self.most / self.fewest) ** size)
        dither: Dither = "floyd_steinberg" if dithered < 0.5 else "none"
        scope: Scope = "global" if shared < 0.5 else "frame"
        return Gif(colors, self.palette, dither, scope, self.every)
