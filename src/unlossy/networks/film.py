"""FILM's network: the frame half-way between two, from flows that it draws from it to both.

    frame ─ halved, levels times ─┬─ subtree ── conv conv │ halve, conv conv │ ... : maps 0, 1, ...
                                  └─ features of level i: map 0 of level i, map 1 of i - 1, ...

    flow at level i    v = up(2 v) + predictor_i(features_a, warp(features_b, up(2 v)))
    level i, aligned   [warp(first, t G), warp(last, (1 - t) F), t G, (1 - t) F]        t = 1/2
    fusion             coarse to fine: nearest x2, conv 2x2, beside aligned, conv conv; conv 1x1

Map k of a picture halved i times sees what map k + 1 of one halved i - 1 times sees: from level
`specialized_levels` on all levels have the same features, and share one predictor of the flow.
F and G are the flows from the first frame to the last and back, in pixels of their level, channel 0
to the right. A predictor is meant to look at the frame to come, so that t G says where each of its
pixels lies in the first frame.

Reda et al., "FILM: Frame Interpolation for Large Motion", ECCV 2022, arXiv 2202.04901, and its
TensorFlow code, whose results it gives: `tests/parity` asks for less than 1e-5 in the mean and 1e-4
in 99.9 % of the values. There t is always 1/2. Two departures in how, not in what: what depends on
one frame alone, the first convolution of a predictor over its own features included, is computed
once a frame (`Seen`); and flows, their resizing and the warps are float32 whatever autocast says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlossy.networks.flow import warp
from unlossy.networks.motion_filters import see_motion


class Seen(NamedTuple):
    """What a network needs to know of a frame, for each level from fine to coarse."""

    levels: list[Tensor]  # (N, 3 + C_i, H_i, W_i): the frame, halved i times, and its features
    halves: list[Tensor]  # features through their half of the predictor's first convolution


class Between(NamedTuple):
    """A frame between two others, and how it came about."""

    image: Tensor  # (N, 3, H, W), not clamped
    to_first: Tensor  # (N, 2, H, W): where each of its pixels lies in the first frame, in pixels
    to_last: Tensor
    warped_first: Tensor  # (N, 3, H, W): the first frame, sampled there
    warped_last: Tensor


class FILMNet(nn.Module):
    """Frames between two; 34,436,667 parameters in the published sizes, the defaults.

    Args:
        pyramid_levels: L; motion of about 2^(L - 1) * flow_convs[-1] pixels can be found.
        fusion_levels: levels that are warped and fused, 2..L.
        specialized_levels: finest levels with a predictor of their own, 0..L - 1.
        sub_levels: maps of a subtree, 1..specialized_levels + 1.
        filters: channels of a subtree's first map; each next one has twice as many.
        flow_convs: 3x3 convolutions of each predictor of one level, then of the shared one.
        flow_filters: their channels.

    Raises:
        ValueError: sizes that no such network has.
    """

    def __init__(
        self,
        pyramid_levels: int = 7,
        fusion_levels: int = 5,
        specialized_levels: int = 3,
        sub_levels: int = 4,
        filters: int = 64,
        flow_convs: Sequence[int] = (3, 3, 3, 3),
        flow_filters: Sequence[int] = (32, 64, 128, 256),
    ) -> None:
        super().__init__()
        if not (
            2 <= fusion_levels <= pyramid_levels
            and 0 <= specialized_levels < pyramid_levels
            and 1 <= sub_levels <= specialized_levels + 1
            and len(flow_convs) == len(flow_filters) == specialized_levels + 1
            and min(flow_convs) >= 1
            and min(flow_filters) >= 2
            and filters >= 1
        ):
            raise ValueError(
                f"no FILM has pyramid_levels={pyramid_levels}, fusion_levels={fusion_levels}, "
                f"specialized_levels={specialized_levels}, sub_levels={sub_levels}, "
                f"filters={filters}, flow_convs={list(flow_convs)}, "
                f"flow_filters={list(flow_filters)}; it fuses 2 levels or more and no more than it "
                "has, has a level for the shared predictor, no more sub_levels than "
                "specialized_levels + 1, and as many flow_convs and flow_filters as that"
            )
        self.pyramid_levels = pyramid_levels
        self.fusion_levels = fusion_levels
        depths = [min(level + 1, sub_levels) for level in range(pyramid_levels)]
        self.widths = [sum(filters << k for k in range(depth)) for depth in depths]
        self.extract = nn.ModuleList(
            _Pair(filters << (k - 1) if k else 3, filters << k) for k in range(sub_levels)
        )
        self.flow = nn.ModuleList(
            _Predictor(width, count, channels)
            for width, count, channels in zip(self.widths, flow_convs, flow_filters, strict=False)
        )
        aligned = [2 * (3 + width) + 4 for width in self.widths[:fusion_levels]]
        outputs = [filters << min(k, specialized_levels) for k in range(fusion_levels - 1)]
        inputs = [*outputs[1:], aligned[-1]]
        self.fusion = nn.ModuleList(map(_Fusion, inputs, aligned, outputs))
        self.out = nn.Conv2d(filters, 3, 1)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):  # as Keras does; torch's own shrink from layer to layer
                nn.init.xavier_uniform_(part.weight)
                assert part.bias is not None
                nn.init.zeros_(part.bias)

    @property
    def multiple(self) -> int:
        """What heights and widths must be multiples of, lest levels lose a row or a column."""
        return 1 << (self.pyramid_levels - 1)

    @torch.no_grad()
    def start_at_average(self) -> None:
        """Change fresh weights so that flows are zero and the frame is the average of both.

        Three channels of the finest fusion carry the average of what was warped through; the other
        weights stay as they were drawn, out of sight until the last convolution takes them up.
        Three channels of the features are the colours, in which the predictors see motion (see
        `motion_filters`).
        """
        for predictor in self.flow:
            assert isinstance(predictor, _Predictor)
            see_motion(predictor.first, (0, predictor.inputs), widths=(0.8,), gain=8.0)
            nn.init.zeros_(predictor.last.weight)
        finest = self.fusion[0]
        assert isinstance(finest, _Fusion)
        if finest.conv2.out_channels < 3:
            raise ValueError("to start at the average, FILM needs filters of at least 3")
        shallow = [part for part in self.extract[0].modules() if isinstance(part, nn.Conv2d)]
        for conv in (*shallow, finest.conv1, finest.conv2):
            conv.weight[:3] = 0
        nn.init.zeros_(self.out.weight)
        for color in range(3):
            for conv in shallow:
                conv.weight[color, color, 1, 1] = 1
            for place in (color, 3 + self.widths[0] + color):
                finest.conv1.weight[color, place, 1, 1] = 0.5
            finest.conv2.weight[color, color, 1, 1] = 1
            self.out.weight[color, color, 0, 0] = 1

    def forward(self, first: Tensor, last: Tensor, time: float = 0.5) -> Between:
        """Return the frame at `time` between two (N, 3, H, W) in [0, 1]; H, W >= `multiple`."""
        seen = self.see(first), self.see(last)
        return self.between(*seen, *self.flows(*seen), time)

    def see(self, frames: Tensor) -> Seen:
        """Return all that depends on these frames (N, 3, H, W) alone."""
        images = [frames]
        for _ in range(self.pyramid_levels - 1):
            images.append(functional.avg_pool2d(images[-1], 2))
        subtrees = []
        for level, x in enumerate(images):
            maps: list[Tensor] = []
            for k, pair in enumerate(self.extract[: self.pyramid_levels - level]):
                maps.append(pair(functional.avg_pool2d(maps[-1], 2) if k else x))
            subtrees.append(maps)
        levels = [
            torch.cat([x, *(subtrees[i - k][k] for k in range(min(i + 1, len(self.extract))))], 1)
            for i, x in enumerate(images)
        ]
        return Seen(levels, [self._predictor(i).own(x[:, 3:]) for i, x in enumerate(levels)])

    def flows(self, first: Seen, last: Seen) -> tuple[list[Tensor], list[Tensor]]:
        """Return the flows F to the last frame and G to the first, (N, 2, H_i, W_i), fine first."""
        pyramid: list[Tensor] = []  # coarse first, (2 N, 2, H_i, W_i): both directions at once
        for level in range(self.pyramid_levels - 1, -1, -1):
            predictor = self._predictor(level)
            half = torch.cat([first.halves[level], last.halves[level]])
            other = torch.cat([last.levels[level][:, 3:], first.levels[level][:, 3:]])
            if not pyramid:
                pyramid.append(predictor(half, other).float())
                continue
            flow = functional.interpolate(2 * pyramid[-1], half.shape[-2:], mode="bilinear")
            change = predictor(half, warp(other, flow, "border"))
            pyramid.append(flow + change.float())
        forward, backward = zip(*(flow.chunk(2) for flow in reversed(pyramid)), strict=True)
        return list(forward), list(backward)

    def between(
        self,
        first: Seen,
        last: Seen,
        forward: Sequence[Tensor],
        backward: Sequence[Tensor],
        time: float = 0.5,
    ) -> Between:
        """Return the frame at a time in [0, 1], as far along the flows; 0 is the first frame."""

        def aligned(level: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            to_first, to_last = time * backward[level], (1 - time) * forward[level]
            warped_first = warp(first.levels[level], to_first, "border")
            return warped_first, warp(last.levels[level], to_last, "border"), to_first, to_last

        finer, parts = self.fusion_levels - 1, aligned(self.fusion_levels - 1)
        net = torch.cat(parts, 1)
        while finer:
            finer -= 1
            parts = aligned(finer)
            net = self.fusion[finer](net, parts)
        warped_first, warped_last, to_first, to_last = parts
        image = self.out(net).float()
        return Between(image, to_first, to_last, warped_first[:, :3], warped_last[:, :3])

    def _predictor(self, level: int) -> _Predictor:
        predictor = self.flow[min(level, len(self.flow) - 1)]
        assert isinstance(predictor, _Predictor)
        return predictor


class _Activation(nn.LeakyReLU):
    """In place: what comes in is a convolution's result, which no gradient reads."""

    def __init__(self) -> None:
        super().__init__(0.2, inplace=True)


class _Pair(nn.Sequential):
    """Two convolutions 3x3, each with its activation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        super().__init__(conv1, _Activation(), conv2, _Activation())


class _Predictor(nn.Module):
    """A flow (N, 2, h, w) from features of one frame and the warped ones of the other."""

    def __init__(self, inputs: int, count: int, channels: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.first = nn.Conv2d(2 * inputs, channels, 3, padding=1)
        inner: list[nn.Module] = [_Activation()]
        for _ in range(count - 1):
            inner += [nn.Conv2d(channels, channels, 3, padding=1), _Activation()]
        self.inner = nn.Sequential(*inner, nn.Conv2d(channels, channels // 2, 1), _Activation())
        self.last = nn.Conv2d(channels // 2, 2, 1)

    def own(self, features: Tensor) -> Tensor:
        """Return the first convolution of a frame's own features, and of nothing beside them."""
        filters = self.first.weight[:, : self.inputs]
        return functional.conv2d(features, filters, self.first.bias, padding=1)

    def forward(self, half: Tensor, warped: Tensor) -> Tensor:
        rest = functional.conv2d(warped, self.first.weight[:, self.inputs :], padding=1)
        flow: Tensor = self.last(self.inner(half + rest))
        return flow


class _Fusion(nn.Module):
    """One level of the decoder: (N, inputs, h, w) to (N, outputs, H, W), the size of aligned."""

    def __init__(self, inputs: int, aligned: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.Conv2d(inputs, outputs, 2)
        self.conv1 = nn.Conv2d(aligned + outputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.activation = _Activation()

    def forward(self, net: Tensor, aligned: Sequence[Tensor]) -> Tensor:
        net = functional.interpolate(net, aligned[0].shape[-2:], mode="nearest-exact")
        net = self.up(functional.pad(net, (0, 1, 0, 1)))  # TensorFlow's "same": below and right
        net = self.activation(self.conv1(torch.cat([*aligned, net], 1)))
        fused: Tensor = self.activation(self.conv2(net))
        return fused
