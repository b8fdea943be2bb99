"""The toy that no pixel-independent network can solve: a digit in one of two corners.

    y = [d .]  or  [. .]      one channel, twice the digit's side, `levels` values of grey
        [. .]      [. d]

`degradation=corners` shows the digit in both and hides which, a fair coin: the best possible
model needs ln 2 nats for a picture. Dahl et al. ("Pixel Recursive Super Resolution", ICCV 2017)
tried this with MNIST and do not say how large; the canvas is ours.

The digits are those of scikit-learn, 8x8 in 17 levels, read from its file (importing it takes a
second), or MNIST by path, averaged down to 14x14. They are shuffled and split: the splits share
writers, but no digit. To train on, every digit comes in both corners; a held-out one has tossed its
coin once for all.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unlossy.data.digest import code, digest
from unlossy.data.photos import installed
from unlossy.data.source import Source
from unlossy.errors import UserError
from unlossy.sample import Clip, Split

GROUP = 50  # pictures of a clip
_SIDE = 14  # of MNIST's digits on a canvas of MNIST's own size
_SEED = 0  # of the shuffle and the coins: not the run's, or two seeds would be tested on other ones


@dataclass(frozen=True)
class TwoCorners(Source):
    """Digits, each in the upper left or the lower right corner of an empty canvas.

    Args:
        path: a file of MNIST's pictures (`train-images-idx3-ubyte`, also as .gz); None for the
            digits that scikit-learn brings.
        levels: of grey, 2 to 256, from black to white.
        val: digits for validation.
        test: digits for testing; training gets the rest.

    Raises:
        UserError: no such file, another kind of file, or a number out of its range.
    """

    path: str | None = None
    levels: int = 8
    val: int = 100
    test: int = 500

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= 256:
            raise UserError(f"source.levels={self.levels} is impossible; choose 2 to 256.")
        if self.path is not None and not Path(self.path).expanduser().is_file():
            raise UserError(
                f"{self.path} does not exist; set source.path to MNIST's train-images-idx3-ubyte, "
                "or to null for the digits of scikit-learn."
            )
        if min(self.val, self.test) < 0 or self.val + self.test >= len(self._digits):
            raise UserError(
                f"source.val={self.val} and source.test={self.test} leave nothing to train on of "
                f"{len(self._digits)} digits; choose fewer."
            )

    def clips(self, split: Split) -> Sequence[Clip]:
        """Return groups of pictures, named two_corners/split/number."""
        return [clip for clip, (own, _) in self._place.items() if own == split]

    def read(self, clip: Clip, start: int, count: int) -> Tensor:
        """Return pictures, uint8 (T, 1, H, W)."""
        split, first = self._place[clip]
        shown = self._shown[split]
        which = slice(first + start, first + min(start + count, clip.frames))
        digits = self._digits[shown.digit[which]]  # (T, h, w)
        lower = shown.lower[which]
        height, width = digits.shape[-2:]
        canvas = digits.new_zeros(len(digits), 1, 2 * height, 2 * width)
        canvas[~lower, 0, :height, :width] = digits[~lower]
        canvas[lower, 0, height:, width:] = digits[lower]
        return canvas

    def flips(self, clip: Clip) -> Collection[int]:
        """Return none: they would take digits to other corners."""
        return ()

    def version(self, clip: Clip) -> str:
        """Return the digest of all digits, of the split and of the code that pastes them."""
        return digest(clip, self.val, self.test, self._fingerprint)

    @cached_property
    def _fingerprint(self) -> str:
        pixels = hashlib.sha256(self._digits.numpy().tobytes()).hexdigest()
        return digest(pixels, code(Path(__file__)))

    @cached_property
    def _digits(self) -> Tensor:
        """All digits in a fixed random order, uint8 (N, h, w) of `levels` values."""
        unit = _packaged() if self.path is None else _mnist(Path(self.path).expanduser())
        order = torch.randperm(len(unit), generator=torch.Generator().manual_seed(_SEED))
        steps = (unit[order] * (self.levels - 1)).round()
        return (steps * (255 / (self.levels - 1))).round().to(torch.uint8)

    @cached_property
    def _shown(self) -> dict[Split, _Shown]:
        numbers = torch.arange(len(self._digits))
        test, val = numbers[: self.test], numbers[self.test : self.test + self.val]
        train = numbers[self.test + self.val :]
        coins = torch.randint(
            2, numbers.shape, generator=torch.Generator().manual_seed(_SEED + 1)
        ).bool()
        both = torch.tensor([False, True]).repeat(len(train))
        return {
            "train": _Shown(train.repeat_interleave(2), both),
            "val": _Shown(val, coins[val]),
            "test": _Shown(test, coins[test]),
        }

    @cached_property
    def _place(self) -> dict[Clip, tuple[Split, int]]:
        """Clip -> split, and its first picture among those of the split."""
        found: dict[Clip, tuple[Split, int]] = {}
        height, width = self._digits.shape[-2:]
        for split in get_args(Split):
            total = len(self._shown[split].digit)
            for number, first in enumerate(range(0, total, GROUP)):
                size = (min(GROUP, total - first), 2 * height, 2 * width)
                name = f"two_corners/{split}/{number:03d}"
                found[Clip(name, *size, "two_corners")] = (split, first)
        return found


class _Shown(NamedTuple):
    """The pictures of a split."""

    digit: Tensor  # (n,) which one
    lower: Tensor  # (n,) bool: in the lower right corner


def _packaged() -> Tensor:
    """Return scikit-learn's digits, (1797, 8, 8) in [0, 1]."""
    path = installed("sklearn/datasets/data/digits.csv.gz")
    rows = np.loadtxt(path, np.float32, delimiter=",")  # 64 pixels in 0..16, then the digit
    return torch.from_numpy(rows[:, :64]).view(-1, 8, 8) / 16


def _mnist(path: Path) -> Tensor:
    """Return the pictures of an idx file, averaged down to (N, 14, 14), in [0, 1]."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        kind, count, height, width = struct.unpack_from(">4I", content)
        if kind != 0x803 or len(content) != 16 + count * height * width:
            raise ValueError(f"it begins with {kind:#x}")
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise UserError(
            f"{path} is no whole idx file of pictures ({error}); set source.path to MNIST's "
            "train-images-idx3-ubyte."
        ) from error
    pixels = torch.frombuffer(bytearray(content[16:]), dtype=torch.uint8)
    pictures = pixels.view(count, 1, height, width).float() / 255
    return functional.interpolate(pictures, (_SIDE, _SIDE), mode="area")[:, 0]
