"""What models that make frames between frames share: whose turn it is, and what a cut means.

    t_in    0           D           2D            frames that the medium kept
    t_out   0   1   2   D   ...     2D            frames that are wanted
            │   └─┬─┘   │
            │     └── between(frame 0, frame 1, [1/D, 2/D])      once per pair, all times at once
            └──────── the key frame itself: nothing is estimated where something was kept

A clip of one frame, or of which nothing is missing, comes back as it is. Across a scene cut there
is no motion to follow, so `restore` holds the nearer frame there; `forward`, which losses read,
does not. Whether there is a cut is decided on whole frames: a tile of one would decide by itself.
Motion changes frames pixel by pixel as much as a cut does, but brings few new colours. Both
measures together find 127 of the 129 cuts between the shots of `source=footage`, and take 12 of
1,234 pairs of frames within its shots, four or eight apart, for cuts; the first alone all and 44.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional

from unlossy.errors import UserError
from unlossy.models.model import EnhancementModel
from unlossy.sample import SAME_TIME, Restored, Sample

_NEW_COLORS = 0.15  # share of the colours that a cut brings at least
_FLOWS = frozenset({"flow_to_first", "flow_to_last"})


class Interpolator(EnhancementModel):
    """Makes the frames at `t_out` from the two key frames around each.

    Class attributes (an instance may set its own):
        cut: mean |grey difference| at 96x54, of 255, above which two frames of different colours
            are of different scenes; None morphs whatever comes.
    """

    interpolates = True
    context = 1
    window = 4
    cut: float | None = 25.0

    @abstractmethod
    def between(
        self, first: Tensor, last: Tensor, times: Sequence[float]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Make the frames at `times`, each in (0, 1): the share of the way from first to last.

        Args:
            first: what `keys` made of a frame, (B, C, H, W).
            last: the same of the next frame.
            times: increasing; n of them.

        Returns:
            Frames (B, n, 3, H, W) in [0, 1], not clamped, and the extras of this pair. Of these,
            `flow_to_first` and `flow_to_last` are (B, n, 2, H, W) in pixels: where each pixel of
            the new frame lies in the first and in the last one.
        """

    def keys(self, batch: Sample) -> Tensor:
        """Return what is known at `t_in`, (B, S, C, H, W): the first 3 channels are the frames."""
        return batch["degraded"]

    def forward(self, batch: Sample) -> Restored:
        """Return frames at all `t_out`; beyond the first and last `t_in` the end frame holds.

        `extras` are those of the pair where there is just one, with flows for every `t_out`, zero
        at the key frames. In longer clips there are none.

        Raises:
            ValueError: the clips of the batch have different times.
            UserError: in training mode, the clips are no pairs of frames, or none lacks a frame.
        """
        t_in, t_out = _times(batch)
        places = [_place(t, t_in) for t in t_out]
        if self.training:
            self.check_lesson(batch)
        keys = self.keys(batch)
        frames = [keys[:, k, :3] for k, _ in places]
        extras: dict[str, Tensor] = {}
        for k, group in groupby(range(len(places)), key=lambda i: places[i][0]):
            wanted = [i for i in group if places[i][1] > 0]
            cut = self._cuts(batch, k + 1) if wanted else None
            if wanted and (cut is None or not cut.all()):
                times = [places[i][1] for i in wanted]
                made, found = self.between(keys[:, k], keys[:, k + 1], times)
                extras = _at_every_time(found, wanted, len(places)) if len(t_in) == 2 else {}
                for i, frame in zip(wanted, made.unbind(1), strict=True):
                    frames[i] = frame
            if cut is not None and cut.any():
                for i in wanted:
                    held = keys[:, k if places[i][1] <= 0.5 else k + 1, :3]
                    frames[i] = torch.where(cut[:, None, None, None], held, frames[i])
        return Restored(estimate=torch.stack(frames, 1), extras=extras)

    def restore(
        self, batch: Sample, *, generator: torch.Generator | None = None, samples: int = 1
    ) -> Tensor:
        """Return (B, T, 3, H, W) in [0, 1]; between two scenes the nearer frame holds."""
        return super().restore(self.surveyed(batch), generator=generator, samples=samples)

    def surveyed(self, batch: Sample) -> Sample:
        """Note in `side["cut"]`, bool (B, S), which frames begin a new scene."""
        frames = batch["degraded"]
        if self.cut is None or "cut" in batch["side"]:
            return batch
        begins = frames.new_zeros(frames.shape[:2], dtype=torch.bool)
        begins[:, 1:] = other_scene(frames[:, :-1], frames[:, 1:], self.cut)
        return Sample(**{**batch, "side": {**batch["side"], "cut": begins}})

    def _cuts(self, batch: Sample, k: int) -> Tensor | None:
        cut = batch["side"].get("cut")
        return None if cut is None else cut[:, k]

    def check_lesson(self, batch: Sample) -> None:
        """Refuse clips that are no pairs of frames, or pairs between which none is missing."""
        t_in, t_out = _times(batch)
        frames = len(t_in)
        if frames != 2:
            raise UserError(
                f"{type(self).__name__}: interpolators learn from pairs of frames, not from "
                f"{frames}; use data.frames=2."
            )
        if not any(_place(t, t_in)[1] for t in t_out):
            raise UserError(
                f"{type(self).__name__} learns from frames between those that are kept, and here "
                "none is missing; use a degradation that drops frames, as drop_frames does."
            )


def other_scene(first: Tensor, last: Tensor, cut: float) -> Tensor:
    """Return whether there is a cut between frames (B, S, 3, H, W) in [0, 1]: bool (B, S)."""
    differ: Tensor = grey_difference(first, last) > cut
    if differ.any():
        differ &= (_colors(first) - _colors(last)).abs().sum((2, 3)) / 6 > _NEW_COLORS
    return differ


def _colors(frames: Tensor) -> Tensor:
    """Return histograms (B, S, 3, 16) of frames at 96x54, each of sum 1."""
    small = functional.interpolate(frames.flatten(0, 1), (54, 96), mode="area")
    bins = (small * 16).long().clamp(0, 15).flatten(2)
    counts = torch.stack([(bins == k).float().mean(2) for k in range(16)], 2)
    return counts.view(*frames.shape[:2], 3, 16)


def grey_difference(first: Tensor, last: Tensor) -> Tensor:
    """Return the mean |difference| of grey at 96x54, of 255: (B, S) of frames (B, S, 3, H, W)."""
    weights = first.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    change = ((first - last) * weights).sum(2)  # (B, S, H, W)
    return 255 * functional.interpolate(change, (54, 96), mode="area").abs().mean((2, 3))


def _times(batch: Sample) -> tuple[list[float], list[float]]:
    """Return t_in and t_out of all clips, counted from their first frames."""
    relative = [(batch[key] - batch["t_in"][:, :1]).double() for key in ("t_in", "t_out")]
    if any((times - times[:1]).abs().max() > SAME_TIME for times in relative if times.numel()):
        raise ValueError(
            "the clips of this batch have frames at different times; wanted: the same t_in and "
            "t_out for all, counted from their first frames."
        )
    t_in, t_out = (times[0].tolist() for times in relative)
    return t_in, t_out


def _place(t: float, t_in: Sequence[float]) -> tuple[int, float]:
    """Return (k, share of the way from t_in[k] to the next); the share is 0 at a key frame."""
    k = bisect_right(t_in, t) - 1
    if k < 0:
        return 0, 0.0
    if k == len(t_in) - 1:
        return k, 0.0
    share = (t - t_in[k]) / (t_in[k + 1] - t_in[k])
    if share > 1 - SAME_TIME:
        return k + 1, 0.0
    return k, share if share > SAME_TIME else 0.0


def _at_every_time(extras: dict[str, Tensor], wanted: list[int], count: int) -> dict[str, Tensor]:
    """Spread the flows (B, n, ...) at the wanted times over all `count` times, zero elsewhere."""
    spread = dict(extras)
    for key in extras.keys() & _FLOWS:
        flow = extras[key]
        spread[key] = flow.new_zeros(len(flow), count, *flow.shape[2:])
        spread[key] = spread[key].index_copy(1, torch.tensor(wanted, device=flow.device), flow)
    return spread
