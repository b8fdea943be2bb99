"""What a GIF looks like: its colours, the scope of its palettes, whether it is dithered.

A palette here is the set of colours of a frame as shown: later frames of a GIF update parts of
earlier ones, so that no single colour table describes what is on the screen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from unlossy.video import Frame, Probe, shown_frames

# A GIF frame has up to 256 colours; partial updates with tables of their own can add up to more.
# Beyond this a picture has no palette: nearest-colour search over it would say nothing.
MOST_COLORS = 1024
# Share of pixels between two equal ones of another colour, along rows. On six shots at 4 to 256
# colours: at most 0.076 undithered, at least 0.117 with Floyd-Steinberg.
DITHERED = 0.1
_LOOKED_AT = 16  # frames whose colours are counted
_BLOCK = 1 << 20  # pixels sorted together: a photograph shows in the first that it has no palette


@dataclass(frozen=True)
class Look:
    """What a first pass over a file tells.

    Attributes:
        frames: how many there are.
        colors: most colours in a frame, or None where some frame has more than `MOST_COLORS`.
        scope: `global` where all frames looked at share 256 colours, else `frame`.
        dithered: a guess.
        alpha: whether any frame has transparent pixels.
    """

    frames: int
    colors: int | None
    scope: Literal["global", "frame"]
    dithered: bool
    alpha: bool

    def __str__(self) -> str:
        """All but alpha, for the screen."""
        one = self.frames == 1
        frames = "1 frame" if one else f"{self.frames} frames"
        if self.colors is None:
            return f"{frames}, more than {MOST_COLORS} colours"
        counted = "1 colour" if self.colors == 1 else f"{self.colors} colours"
        colors = counted if one else f"up to {counted} each"
        scope = "a palette per frame" if self.scope == "frame" else "one palette"
        return f"{frames}, {colors}, {scope}, {'looks' if self.dithered else 'not'} dithered"


def look_at(path: Path, media: Probe) -> Look:
    """Decode an image, GIF or folder once, before the work starts; damage shows here."""
    step = max(1, media.frames // _LOOKED_AT)
    frames, alpha, colors, alternating = 0, False, 0, 0.0
    shared = torch.empty(0, dtype=torch.int32)
    for index, frame in enumerate(shown_frames(path)):
        frames += 1
        alpha |= frame.alpha is not None
        if index % step == 0:
            packed = _packed(frame)
            found = _distinct(packed[_opaque(frame)])
            colors = max(colors, len(found))
            if len(shared) <= 256:
                shared = torch.unique(torch.cat((shared, found)))
            alternating = max(alternating, _alternating(packed))
    return Look(
        frames=frames,
        colors=colors if colors <= MOST_COLORS else None,
        scope="global" if len(shared) <= 256 else "frame",
        dithered=colors <= 256 and alternating > DITHERED,
        alpha=alpha,
    )


def has_alpha(path: Path, media: Probe) -> bool:
    """Return whether any frame of a video has transparent pixels; decodes up to the first."""
    return media.alpha and any(frame.alpha is not None for frame in shown_frames(path))


def palette_of(frame: Frame) -> tuple[Tensor, Tensor] | None:
    """Return the colours of a frame and its picture with transparent pixels filled in.

    Returns:
        Palette (P, 3) uint8 and picture (3, H, W) uint8, whose see-through pixels got the most
        frequent colour; None where there are more than `MOST_COLORS`.
    """
    packed, opaque = _packed(frame), _opaque(frame)
    found, counts = torch.unique(packed[opaque], return_counts=True)
    if len(found) > MOST_COLORS:
        return None
    if not len(found):  # nothing to see
        return torch.zeros(1, 3, dtype=torch.uint8), torch.zeros_like(frame.rgb)
    palette = torch.stack((found >> 16, found >> 8 & 255, found & 255), 1).to(torch.uint8)
    filler = palette[counts.argmax()][:, None, None]
    return palette, torch.where(opaque, frame.rgb, filler)


def trained_colors(training: Mapping[str, Any]) -> int | None:
    """Return how many colours the GIFs had that a checkpoint was trained on; None for no GIFs."""
    counts = [v for k, v in _settings(training.get("degradation")) if k in ("colors", "most")]
    return max((int(count) for count in counts if isinstance(count, int)), default=None)


def unlike(look: Look, training: Mapping[str, Any]) -> str | None:
    """Return in which way an input is unlike the training data, in words; None where it is not."""
    settings = list(_settings(training.get("degradation")))
    trained, ways = trained_colors(training), []
    if trained is not None and look.colors is not None and look.colors > 1.5 * trained:
        ways.append(f"has up to {look.colors} colours a frame (trained on {trained})")
    draws_dither = any(k == "most" for k, _ in settings)
    if look.dithered and not draws_dither and ("dither", "none") in settings:
        ways.append("looks dithered (trained on GIFs that are not)")
    return " and ".join(ways) or None


def _settings(config: object) -> Iterator[tuple[str, object]]:
    """All leaves of a nested configuration, such as a chain of degradations."""
    pairs = config.items() if isinstance(config, Mapping) else ()
    items = config if isinstance(config, list) else ()
    for key, value in pairs:
        yield (str(key), value)
        yield from _settings(value)
    for value in items:
        yield from _settings(value)


def _packed(frame: Frame) -> Tensor:
    """Colours as int32 (H, W), 0xRRGGBB."""
    planes = frame.rgb.to(torch.int32)
    return planes[0] << 16 | planes[1] << 8 | planes[2]


def _distinct(packed: Tensor) -> Tensor:
    """Different ones of colours (N,); not all of them where they are more than `MOST_COLORS`."""
    found = packed[:0]
    for block in torch.split(packed, _BLOCK):
        found = torch.unique(torch.cat((found, block)))
        if len(found) > MOST_COLORS:
            break
    return found


def _opaque(frame: Frame) -> Tensor:
    if frame.alpha is None:
        return torch.ones(frame.rgb.shape[1:], dtype=torch.bool)
    return frame.alpha > 0


def _alternating(packed: Tensor) -> float:
    """Share of pixels that differ from both neighbours in the row, which are equal."""
    if packed.shape[1] < 3:
        return 0.0
    left, centre, right = packed[:, :-2], packed[:, 1:-1], packed[:, 2:]
    return float(((left == right) & (left != centre)).float().mean())
