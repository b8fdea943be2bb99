"""The pair of pictures that tests/parity states golden values for, made from its formula."""

import numpy as np
import torch
from torch import Tensor


def formula_pair() -> tuple[Tensor, Tensor]:
    """Return (b, a): the eight-level picture and the clean one, uint8 (1, 3, 96, 128)."""
    y, x = np.mgrid[0:96, 0:128].astype(np.float64)
    c = np.arange(3.0)[:, None, None]
    smooth = 0.5 + 0.35 * np.sin(0.11 * (c + 1) * x + 0.07 * y)
    clean = np.clip(smooth + 0.15 * np.sin(0.9 * x - 0.6 * (c + 1) * y), 0, 1)
    clean = np.round(clean * 255) / 255
    levels = (np.minimum(np.floor(8 * clean), 7) + 0.5) / 8
    coarse, fine = (torch.from_numpy(np.round(v * 255).astype(np.uint8)) for v in (levels, clean))
    return coarse[None], fine[None]
