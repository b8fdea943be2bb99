"""The GIF that FFmpeg makes: `palettegen` and `paletteuse`, the pipeline that users are told of.

    clip ─┬─► palettegen ─► palette ─┐
          └──────────────────────────┴─► paletteuse ─► frames of at most N colours

Colours are told apart in FFmpeg's OkLab, not in RGB, so frames differ from f_C(clean) even without
dither. Its GIF muxer is not used: frames are stored by our writer, and bits compare with `Gif`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch

from unlossy import video
from unlossy.degradations import palettes
from unlossy.degradations.frames import keep_every
from unlossy.degradations.gif import Scope, as_gif
from unlossy.degradations.limits import check_choice, check_colors, check_every
from unlossy.sample import Degraded

FFmpegDither = Literal["none", "bayer", "floyd_steinberg", "sierra2_4a"]


@dataclass(frozen=True)
class GifFFmpeg:
    """Reduces a clip to a GIF with FFmpeg. Draws nothing from `rng`.

    Args:
        colors: palette entries, 2 to 256.
        dither: `sierra2_4a` is what FFmpeg does unless told otherwise.
        scope: a `global` palette for the clip is its habit; or one per `frame`.
        every: keep every D-th frame, the first included.

    Raises:
        UserError: an argument is out of its range.
    """

    colors: int = 32
    dither: FFmpegDither = "sierra2_4a"
    scope: Scope = "global"
    every: int = 1

    scale: ClassVar[int] = 1
    keeps: ClassVar[frozenset[str]] = frozenset({"palette", "palette_size"})

    def __post_init__(self) -> None:
        check_colors("colors", self.colors)
        check_every(self.every)
        check_choice("dither", self.dither, get_args(FFmpegDither))
        check_choice("scope", self.scope, get_args(Scope))

    def __call__(self, clip: Degraded, rng: torch.Generator) -> Degraded:
        """Return the GIF's frames, index, palettes and bytes; `reference` stays the clean clip."""
        kept = keep_every(clip, self.every)
        shown = video.filter_frames(kept["frames"], self.graph())
        frames = shown.permute(0, 2, 3, 1).contiguous().numpy()  # (S, h, w, 3)
        tables = [palettes.distinct(frame.reshape(-1, 3)) for frame in frames]
        if self.scope == "global":
            tables = [palettes.distinct(np.concatenate(tables))]
        per_frame = tables * len(frames) if self.scope == "global" else tables
        pairs = zip(frames, per_frame, strict=True)
        index = np.stack([palettes.nearest(frame, table) for frame, table in pairs])
        return as_gif(kept, index, tables, rows=self.colors)

    def graph(self) -> str:
        """Return the filter graph, in FFmpeg's syntax."""
        one = self.scope == "global"
        return (
            f"split[a][b];[a]palettegen=max_colors={self.colors}:reserve_transparent=0"
            f":stats_mode={'full' if one else 'single'}[p];"
            f"[b][p]paletteuse=dither={self.dither}:new={int(not one)}"
        )
