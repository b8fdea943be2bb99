"""The GIF: few frames, few colours, no blending; what CCDNet undoes (section 1 of its specification).

    clean ──every D-th frame──► palette of at most N colours ──f_C, or error diffusion──► G, C

Each frame has its own palette, as in the published benchmark, or the whole clip has one. Without dither
G = f_C(clean) with f_C the exact nearest colour, hence f_C(G) = G. A frame of at most N colours is kept
as it is. Entries that no pixel uses are dropped, so the palette's size is the number of colours seen.

Departure from the benchmark: its frames were separate one-frame GIFs made by MATLAB; ours are one
animated GIF, whose bytes are the witness of what was kept and the count of its bits. Every frame is
stored whole; encoders that store only what changed make static scenes smaller, not different.
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
from unlossy.degradations.palettes import Bytes
from unlossy.errors import UserError
from unlossy.gif_file import write_gif
from unlossy.sample import Degraded

Palette = Literal["kmeans", "wu", "median_cut", "octree"]
Dither = Literal["none", "floyd_steinberg"]
Scope = Literal["frame", "global"]

_DELAY = (
    4  # 1/100 s per clean frame: 25 frames/s, what the packaged clips have; no pixel depends on it
)
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

    def __post_init__(self) -> None:
        if not 2 <= self.colors <= 256:
            raise UserError(
                f"{self.colors} colours asked for (degradation.colors), but a GIF palette holds 2 "
                "to 256; choose a number in that range."
            )
        if self.every < 1:
            raise UserError(f"degradation.every={self.every} keeps no frame; use 1 or more.")
        for field, choices in (("palette", Palette), ("dither", Dither), ("scope", Scope)):
            if getattr(self, field) not in get_args(choices):
                raise UserError(
                    f"degradation.{field}={getattr(self, field)} is unknown; choose one of "
                    f"{', '.join(get_args(choices))}."
                )

    def __call__(self, clip: Degraded, rng: torch.Generator) -> Degraded:
        """Return the GIF's frames, index, palettes and bytes; `reference` stays the clean clip."""
        kept = clip["frames"][:: self.every]
        frames = kept.permute(0, 2, 3, 1).contiguous().numpy()  # (S, h, w, 3)
        if self.scope == "global":
            tables = [self._find(frames.reshape(-1, 3))]
        else:
            tables = [self._find(frame.reshape(-1, 3)) for frame in frames]
        per_frame = tables * len(frames) if self.scope == "global" else tables
        if self.dither == "none":
            index = np.stack([palettes.nearest(*pair) for pair in zip(frames, per_frame)])
        else:
            index = floyd_steinberg(frames, per_frame)
        times = clip["t_in"][:: self.every]
        side = {key: value[:: self.every] for key, value in clip["side"].items()}
        thinned = Degraded(**{**clip, "frames": kept, "t_in": times, "side": side})
        return as_gif(thinned, index, tables, self.colors, self.every * _DELAY)

    def _find(self, pixels: Bytes) -> Bytes:
        exact = palettes.few(pixels, self.colors)
        if exact is not None:
            return exact
        # An odd stride, so that the sample does not run along the columns.
        sample = pixels[:: len(pixels) // _SAMPLE | 1] if len(pixels) > _SAMPLE else pixels
        return _FINDERS[self.palette](np.ascontiguousarray(sample), self.colors)


def as_gif(
    clip: Degraded, index: Bytes, tables: Sequence[Bytes], rows: int, delay: int
) -> Degraded:
    """Return `clip` as the GIF that shows these indices: its frames, side and bytes.

    Args:
        clip: gives name, times, other side entries and reference.
        index: (S, h, w).
        tables: palettes (P, 3), one per frame, or a single one for the clip. Entries that no pixel
            uses are dropped.
        rows: P of `side["palette"]`, padded with zeros.
        delay: of each frame, in 1/100 s.
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
    result = Degraded(
        **{
            **clip,
            "frames": torch.from_numpy(shown).permute(0, 3, 1, 2).contiguous(),
            "side": {**clip["side"], "palette": padded, "palette_size": sizes},
            "stream": write_gif(index, tables, repeat(delay)),
        }
    )
    result["index"] = torch.from_numpy(index)
    return result


def _used(index: Bytes, table: Bytes) -> tuple[Bytes, Bytes]:
    """Renumber the entries that occur."""
    used = np.bincount(index.reshape(-1), minlength=len(table)) > 0
    if used.all():
        return index, table
    return (np.cumsum(used) - 1).astype(np.uint8)[index], table[used]


_FINDERS = {
    "kmeans": palettes.kmeans,
    "wu": palettes.wu,
    "median_cut": palettes.median_cut,
    "octree": palettes.octree,
}
