"""What a file is made of: frames with exact times, and what it declares about itself."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from torch import Tensor


class Frame(NamedTuple):
    """A frame as shown: composited, upright."""

    rgb: Tensor  # uint8 (3, H, W)
    alpha: Tensor | None  # uint8 (H, W); None where every pixel is opaque
    time: Fraction  # seconds since the start of the file
    duration: Fraction  # seconds; of a picture the delay as stored, 0 included


@dataclass(frozen=True)
class Probe:
    """What a file declares.

    Attributes:
        frames: number of frames; an estimate where not `exact` (WebM and MKV keep no count).
        exact: whether `frames` is a count.
        width: columns as shown, after rotation.
        height: rows as shown.
        rate: mean frames per second.
        time_base: seconds per tick of the file's clock.
        audio: codec of the sound track, None where there is none.
        alpha: whether a video has an alpha channel, were it opaque everywhere; False for pictures.
        loop: repeats of an animation, 0 for ever; None where the file asks for none.
        pictures: whether it is a GIF, an image or a folder of images, whose pixels are exact.
        even: whether all frames are shown equally long, as far as the file tells.
    """

    frames: int
    exact: bool
    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    audio: str | None = None
    alpha: bool = False
    loop: int | None = None
    pictures: bool = False
    even: bool = True


def shown_delay(delay: Fraction) -> Fraction:
    """Return the seconds for which a browser shows a frame: 10 ms and less mean 100 ms."""
    return delay if delay > Fraction(1, 100) else Fraction(1, 10)
