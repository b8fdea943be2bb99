"""Luma of BT.601, which masks and measures of brightness go by."""

from __future__ import annotations

from torch import Tensor


def luma(rgb: Tensor) -> Tensor:
    """Return 0.299 R + 0.587 G + 0.114 B of (..., 3, H, W) as (..., H, W), in its range."""
    red, green, blue = rgb.unbind(-3)
    return 0.299 * red + 0.587 * green + 0.114 * blue
