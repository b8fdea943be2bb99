"""SuperSloMo: a frame at any time between two, from the flows of the two to each other.

    F_t0 = -t (1-t) F01 + t^2 F10        F_t1 = (1-t)^2 F01 - t (1-t) F10
    W_k  = warp(I_k, F_tk)
    [a, b, v] = tanh C([I_0, I_1, W_0, W_1, F_t0 / m, F_t1 / m])           2 + 2 + 1 channels
    F_t0' = m a,  F_t1' = m b            as published: C's flows replace the approximation
    F_t0' = F_t0 + 4 t (1-t) m a, ...    residual: they correct it, less and less towards a frame
    V_0 = (1 + v) / 2,  V_1 = 1 - V_0
    I_t = [(1-t) V_0 warp(I_0, F_t0') + t V_1 warp(I_1, F_t1')] / [(1-t) V_0 + t V_1 + 1e-8]

Flows are in pixels, m is the largest that C can say. The residual form starts at what F01 and F10
are worth, passes gradients straight on to them, and gives I_0 as t -> 0 whatever C says. Wang et
al., GIF2Video, CVPR 2019, as released; Jiang et al., Super SloMo, CVPR 2018, eq. 4 and 5, whose
residual form has no factor 4 t (1-t) and whose C also sees F01 and F10.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from unlossy.networks.flow import warp


class Made(NamedTuple):
    """What comes of a pair of frames at n times."""

    frames: Tensor  # (N, n, 3, H, W) in [0, 1]
    to_first: Tensor  # (N, n, 2, H, W) in pixels: F_t0'
    to_last: Tensor  # (N, n, 2, H, W) in pixels: F_t1'
    visibility: Tensor  # (N, n, 1, H, W) in [0, 1]: V_0


def intermediate_flows(flow01: Tensor, flow10: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return F_t0 and F_t1; linear motion, and what moves at t is taken to move alike nearby.

    Args:
        flow01: (..., 2, H, W).
        flow10: the same shape.
        t: in [0, 1], of a shape that broadcasts against theirs.
    """
    return t * (t * flow10 - (1 - t) * flow01), (1 - t) * ((1 - t) * flow01 - t * flow10)


def interpolated(
    refine: nn.Module,
    first: Tensor,
    last: Tensor,
    flows: tuple[Tensor, Tensor],
    t: Tensor,
    max_flow: float,
    residual: bool,
) -> Made:
    """Make the frames at times t, all at once and in float32.

    Args:
        refine: C, (N, 16, H, W) -> (N, 5, H, W), in float32.
        first: I_0, (N, 3, H, W) in [0, 1].
        last: I_1.
        flows: F01 and F10, (N, 2, H, W) in pixels.
        t: (n,) in (0, 1).
        max_flow: m, in pixels.
        residual: whether C's flows correct the approximation, or replace it.
    """
    clips, n = len(first), len(t)
    t = t.view(n, 1, 1, 1)
    rough = torch.cat(intermediate_flows(flows[0][:, None], flows[1][:, None], t), 2).flatten(0, 1)
    pair = torch.cat([first, last], 1)[:, None].expand(-1, n, -1, -1, -1).flatten(0, 1)
    seen = [pair * 2 - 1, _warped(pair, rough) * 2 - 1, rough / max_flow]
    told = refine(torch.cat(seen, 1)).tanh()  # (N n, 5, H, W)
    t = t.repeat(clips, 1, 1, 1)
    refined = max_flow * told[:, :4]
    if residual:
        refined = rough + 4 * t * (1 - t) * refined
    visible = (1 + told[:, 4:]) / 2
    of_first, of_last = (1 - t) * visible, t * (1 - visible)
    warped0, warped1 = _warped(pair, refined).chunk(2, 1)
    frames = (of_first * warped0 + of_last * warped1) / (of_first + of_last + 1e-8)
    made = (frames, refined[:, :2], refined[:, 2:], visible)
    return Made(*(part.unflatten(0, (clips, n)) for part in made))


def _warped(pair: Tensor, flows: Tensor) -> Tensor:
    """Warp I_0 by the first flow and I_1 by the second: (N, 6, H, W) by (N, 4, H, W)."""
    parts = zip(pair.chunk(2, 1), flows.chunk(2, 1), strict=True)
    return torch.cat([warp(image, flow, "border") for image, flow in parts], 1)
