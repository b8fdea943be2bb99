"""A sub-pixel as one of K levels: level k stands for the value k / (K - 1) in [0, 1].

Logits are (..., K, H, W); sub-pixels, levels and uniforms are (..., H, W).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def to_levels(values: Tensor, levels: int) -> Tensor:
    """Return the nearest level of values in [0, 1], int64."""
    return values.mul(levels - 1).round().long()


def to_values(indices: Tensor, levels: int) -> Tensor:
    """Return the float32 values that levels stand for."""
    return indices.float() / (levels - 1)


def expected(logits: Tensor) -> Tensor:
    """Return the mean value under the distribution of each sub-pixel."""
    levels = logits.shape[-3]
    values = torch.linspace(0, 1, levels, dtype=logits.dtype, device=logits.device)
    return (logits.softmax(-3) * values[:, None, None]).sum(-3)


def code_length(logits: Tensor, values: Tensor) -> Tensor:
    """Return - log2 of the probability of each sub-pixel's level, in bits."""
    chosen = to_levels(values, logits.shape[-3]).unsqueeze(-3)
    return (logits.logsumexp(-3) - logits.gather(-3, chosen).squeeze(-3)) / math.log(2)


def draw(logits: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
    """Draw a level of each sub-pixel, independently, from softmax(logits / temperature).

    Args:
        logits: any precision; probabilities are float64, where 256 of them still add up.
        uniforms: in [0, 1), float64: the first level whose cumulated probability reaches it.
        temperature: >= 0; 0 stands for the most likely level.
    """
    if temperature == 0:
        return logits.argmax(-3)
    cumulated = (logits.double() / temperature).softmax(-3).cumsum(-3)
    return (cumulated < (uniforms * cumulated[..., -1, :, :]).unsqueeze(-3)).sum(-3)
