"""The definition of sampling from a PixelCNN, one pass over the whole image for each sub-pixel.

The witness of `unlossy.networks.pixelcnn_sampling`, which has the same signature.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unlossy.networks.pixelcnn import PixelCNN


@torch.inference_mode()
def sample_naively(
    prior: PixelCNN, conditioning: Tensor, uniforms: Tensor, temperature: Tensor
) -> Tensor:
    """Return (N, colors, H, W) int64 levels."""
    levels = torch.zeros_like(uniforms, dtype=torch.int64)
    _, colors, height, width = uniforms.shape
    for i in range(height):
        for j in range(width):
            for c in range(colors):
                images = levels.to(conditioning.dtype) / (prior.levels - 1)
                logits = (prior(images) + conditioning)[:, c, :, i, j].double()
                warm = torch.where(temperature > 0, temperature.double(), 1)[:, None]
                cumulated = (logits / warm).softmax(1).cumsum(1)
                drawn = (cumulated < uniforms[:, c, i, j, None] * cumulated[:, -1:]).sum(1)
                levels[:, c, i, j] = torch.where(temperature > 0, drawn, logits.argmax(1))
    return levels
