"""FILM: frames between two, by halving gaps; every new frame is an end of the gaps beside it.

    asked: 1/4 1/2 3/4           0 ────────── 1/2 ────────── 1
                                 0 ── 1/4 ── 1/2 ── 3/4 ── 1
    asked: 1/3 2/3               0 ───── 1/3 ─────────────── 1
                                 0 ───── 1/3 ───── 2/3 ───── 1

A gap is split at the time asked for that is nearest to its middle. The network was made for middles
and its flows are scaled for other times (t to the first, 1 - t to the last), which misplaces what
moves unevenly or is covered; so a gap whose times all lie in its outer quarters is halved first,
with a frame that nobody asked for. Every frame is made for its exact time; for 2^n - 1 evenly
spaced times this is the authors' recursion, on frames that are not clamped in between.

Gaps are filled from left to right, so that what the network knows of a frame (`Seen`) is computed
once, serves all gaps at whose ends it is, and is held for one frame of each level of the recursion.

Reda et al., "FILM: Frame Interpolation for Large Motion", ECCV 2022, arXiv 2202.04901. Departures:
frames are padded to what the pyramid can halve by repeating their edge, where the authors' code
takes zeros; and see `starts_at_average`.

Tiles do not quite fit together: `reach` is four cells of the coarsest level, and what that level
finds, or what leaves a tile, wanders further, from gap to gap. Three frames between two of which
trained film_small, in tiles of 288: up to 0.012 levels of 255 in the mean, more than 1 in 0.03 % to
0.2 % of the values, 8 at most. In the published sizes tiles are at least 1152 wide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

from unlossy.errors import UserError
from unlossy.models.interpolator import Interpolator
from unlossy.models.model import MEMORY
from unlossy.networks.film import Between, FILMNet, Seen
from unlossy.networks.film_weights import film_network
from unlossy.networks.flow import warp
from unlossy.sample import Sample

_OUTER = 0.25  # share of a gap, at either end, in which no frame is made directly


class FILM(Interpolator):
    """Interpolate; `extras` are those of `Between` at every time between the two frames.

    `flow_to_first`, `flow_to_last` are (B, n, 2, H, W) in pixels, from each new frame to the two
    ends of the whole gap; `warped_first`, `warped_last` (B, n, 3, H, W) the two frames that it was
    fused from, which in a gap that was split before are not those ends.

    Args:
        network: of any sizes.
        cut: see `Interpolator`.
        starts_at_average: let a fresh network start with zero flow and the average of both frames,
            where the authors' starts with noise. In minutes on a CPU flow is learned from the one
            and not from the other.

    Raises:
        UserError: the network is too narrow to start at the average.
    """

    provides = frozenset({"flow_to_first", "flow_to_last", "warped_first", "warped_last"})

    def __init__(
        self, network: FILMNet, cut: float | None = 25.0, starts_at_average: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self.cut = cut
        self.multiple = network.multiple
        self.reach = 4 * network.multiple
        # One pair is gone through at a time. Three frames between, in floats a pixel: 630 measured
        # for film_small, which has 37 features a pixel over all levels, 1,260 for film with 160.
        features = sum(width / 4**level for level, width in enumerate(network.widths))
        self.budget = (self.window + 2 * self.context) * int(MEMORY / (4 * (300 + 8 * features)))
        if starts_at_average:
            try:
                network.start_at_average()
            except ValueError as error:
                raise UserError(f"This FILM cannot be made: {error}.") from error

    @classmethod
    def from_official(cls, weights: Mapping[str, Any], pyramid_levels: int = 7) -> Self:
        """Build from the variables of the authors' models or a state dict of the PyTorch port.

        Args:
            weights: TensorFlow's variables by name, as tensors or arrays (of an .npz); or what
                `torch.jit.load(path).state_dict()` gives of the port's files.
            pyramid_levels: which the weights do not tell.

        Raises:
            UserError: names or shapes that are not a FILM's.
        """
        try:
            return cls(film_network(weights, pyramid_levels))
        except (ValueError, TypeError, RuntimeError) as error:
            raise UserError(
                f"This is no official FILM: {error}; give all variables of the authors' model or "
                "the port's whole state dict."
            ) from error

    def restore(
        self, batch: Sample, *, generator: torch.Generator | None = None, samples: int = 1
    ) -> Tensor:
        """Return (B, T, 3, H, W) in [0, 1]; between two scenes the nearer frame holds."""
        # Without the base's padding, which is not centred.
        estimate: Tensor = self(self.surveyed(batch))["estimate"]
        return estimate.clamp(0.0, 1.0)

    def between(
        self, first: Tensor, last: Tensor, times: Sequence[float]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Make frames (B, n, 3, H, W) at the shares `times` of the way; see `Interpolator`."""
        height, width = first.shape[-2:]
        top, left = (-height % self.multiple) // 2, (-width % self.multiple) // 2
        bottom, right = -height % self.multiple - top, -width % self.multiple - left
        ends = [
            _End(time, self.network.see(functional.pad(x, (left, right, top, bottom), "replicate")))
            for time, x in ((0.0, first), (1.0, last))
        ]
        made = dict(self._filled(ends[0], ends[1], times))
        image, *extras = (
            torch.stack(parts, 1)[..., top : top + height, left : left + width]
            for parts in zip(*(made[time] for time in times), strict=True)
        )
        names = ("flow_to_first", "flow_to_last", "warped_first", "warped_last")
        return image, dict(zip(names, extras, strict=True))

    def _filled(
        self, left: _End, right: _End, times: Sequence[float]
    ) -> Iterator[tuple[float, Between]]:
        """Yield the frames at `times` inside a gap, in no order."""
        if not times:
            return
        gap = right.time - left.time
        middle = left.time + gap / 2
        # Rounded: of two that are equally near, the earlier one.
        time = min(times, key=lambda t: round(abs(t - middle), 6))
        if abs(time - middle) > (0.5 - _OUTER) * gap:
            time = middle
        flows = self.network.flows(left.seen, right.seen)
        share = (time - left.time) / gap
        made = self.network.between(left.seen, right.seen, *flows, share)
        made = made._replace(
            to_first=_followed(made.to_first, left.to_first),
            to_last=_followed(made.to_last, right.to_last),
        )
        if time in times:
            yield time, made
        before, after = [t for t in times if t < time], [t for t in times if t > time]
        if before or after:
            new = _End(time, self.network.see(made.image), made.to_first, made.to_last)
            yield from self._filled(left, new, before)
            yield from self._filled(new, right, after)


class _End(NamedTuple):
    """A frame at an end of a gap."""

    time: float
    seen: Seen
    to_first: Tensor | None = None  # flows to the ends of the whole gap; None for an end itself
    to_last: Tensor | None = None


def _followed(flow: Tensor, further: Tensor | None) -> Tensor:
    """Return where a flow and then the flow found there lead."""
    return flow if further is None else flow + warp(further, flow, "border")
