"""The GIF: few frames, few colours, no blending; what CCDNet undoes.

    clean ──every D-th frame──► palette of at most N colours ──f_C, or error diffusion──► G, C

Y. Wang et al., "GIF2Video: Color Dequantization and Temporal Interpolation of GIF Images", CVPR
2019. Each frame has its own palette, as in that benchmark, or the whole clip has one. Without
dither G = f_C(clean) with f_C the exact nearest colour, hence f_C(G) = G. A frame of at most N
colours is kept as it is. Entries that no pixel uses are dropped, so that the palette's size is the
number of colours seen.

Departure: the benchmark's frames are one-frame GIFs made by MATLAB. Ours are one animated GIF,
whose bytes are the witness of what was kept and the count of its bits. It stores every frame whole,
where optimising encoders store what changed: the same pixels in fewer bytes when little moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import ClassVar, Literal, get_args

import numpy as np
import torch

from unlossy.degradations import palettes
from unlossy.degradations.dither import floyd_steinberg
from unlossy.degradations.frames import keep_every
from unlossy.degradations.limits import check_choice, check_colors, check_every
from unlossy.degradations.palettes import Bytes
from unlossy.gif_file import write_gif
from unlossy.sample import Degraded

Palette = Literal["kmeans", "wu", "median_cut", "octree"]
Dither = Literal["none", "floyd_steinberg"]
Scope = Literal["frame", "global"]

DELAY = 4  # 1/100 s per clean frame, as at 25 frames/s; nothing but the file's clock depends on it
_SAMPLE = 1 << 20  # a palette is found from at most this many pixels, evenly spread


@dataclass(frozen=True)
class Gif:
    """Reduces a clip to a GIF. Draws nothing from `rng`.

    Args:
        colors: palette entries per frame, 2 to 256.
        palette: how they are chosen; see `palettes`.
        dither: `floyd_steinberg` diffuses the error of each pixel to its unvisited neighbours.
        scope: a palette per `frame`, or a `global` one for the clip.
        every: keep every D-th frame, the first included.

    Raises:
        UserError: an argument is out of its range.
    """

    colors: int = 32
    palette: Palette = "kmeans"
    dither: Dither = "none"
    scope: Scope = "frame"
    every: int = 1

    scale: ClassVar[int] = 1
    keeps: ClassVar[frozenset[str]] = frozenset({"palette", "palette_size"})

    def __post_init__(self) -> None:
        check_colors("colors", self.colors)
        check_every(self.every)
        check_choice("palette", self.palette, get_args(Palette))
        check_choice("dither", self.dither, get_args(Dither))
        check_choice("scope", self.scope, get_args(Scope))

    def __call__(self, clip: Degraded, rng: torch.Generator) -> Degraded:
        """Return the GIF's frames, index, palettes and bytes; `reference` stays the clean clip."""
        kept = keep_every(clip, self.every)
        frames = kept["frames"].permute(0, 2, 3, 1).contiguous().numpy()  # (S, h, w, 3)
        if self.scope == "global":
            tables = [self._find(frames.reshape(-1, 3))]
            per_frame = tables * len(frames)
        else:
            tables = per_frame = [self._find(frame.reshape(-1, 3)) for frame in frames]
        if self.dither == "none":
            pairs = zip(frames, per_frame, strict=True)
            index = np.stack([palettes.nearest(frame, table) for frame, table in pairs])
        else:
            index = floyd_steinberg(frames, per_frame)
        return as_gif(kept, index, tables, rows=self.colors)

    def _find(self, pixels: Bytes) -> Bytes:
        exact = palettes.few(pixels, self.colors)
        if exact is not None:
            return exact
        # An odd stride, so that the sample does not run along columns.
        sample = np.ascontiguousarray(pixels[:: len(pixels) // _SAMPLE | 1])
        match self.palette:
            case "kmeans":
                return palettes.kmeans(sample, self.colors)
            case "wu":
                return palettes.wu(sample, self.colors)
            case "median_cut":
                return palettes.median_cut(sample, self.colors)
            case "octree":
                return palettes.octree(sample, self.colors)


def as_gif(clip: Degraded, index: Bytes, tables: Sequence[Bytes], *, rows: int) -> Degraded:
    """Return `clip` as the GIF that shows these indices: its frames, side entries and bytes.

    Args:
        clip: gives name, times (the file's clock follows them), other side entries and reference.
        index: (S, h, w).
        tables: palettes (P, 3), one per frame, or a single one for the clip. Entries that no pixel
            uses are dropped.
        rows: P of `side["palette"]`, padded with zeros.
    """
    if len(tables) == 1:
        index, table = _used(index, tables[0])
        tables, per_frame = [table], [table] * len(index)
    else:
        pairs = [_used(one, table) for one, table in zip(index, tables, strict=True)]
        index = np.stack([one for one, _ in pairs])
        tables = per_frame = [table for _, table in pairs]
    padded = torch.zeros(len(index), rows, 3)
    for row, table in zip(padded, per_frame, strict=True):
        row[: len(table)] = torch.from_numpy(table) / 255.0
    sizes = torch.tensor([len(table) for table in per_frame])
    shown = np.stack([table[one] for one, table in zip(index, per_frame, strict=True)])
    return Degraded(
        name=clip["name"],
        frames=torch.from_numpy(shown).permute(0, 3, 1, 2).contiguous(),
        t_in=clip["t_in"],
        side={**clip["side"], "palette": padded, "palette_size": sizes},
        stream=write_gif(index, tables, repeat(_delay(clip["t_in"]))),
        reference=clip["reference"],
        index=torch.from_numpy(index),
    )


def _delay(times: torch.Tensor) -> int:
    """Return how long each frame stays, in 1/100 s; media keep frames at even distances."""
    return DELAY * (round(float(times[1] - times[0])) if len(times) > 1 else 1)


def _used(index: Bytes, table: Bytes) -> tuple[Bytes, Bytes]:
    """Renumber the entries that occur."""
    used = np.bincount(index.reshape(-1), minlength=len(table)) > 0
    if used.all():
        return index, table
    return (np.cumsum(used) - 1).astype(np.uint8)[index], table[used]
