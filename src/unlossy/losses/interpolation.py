"""What frames between frames are judged by, and the flows that made them.

    L_warp   = |warp(T_1, F01) - T_0| + |warp(T_0, F10) - T_1|
             + mean over t of |warp(T_1, F_t1) - T_t| + |warp(T_0, F_t0) - T_t|      in [-1, 1]
    L_smooth = mean |D(F01)| + mean |D(F10)|                                         in pixels
    L_vgg    = mean over t of (phi(I_t) - phi(T_t))^2       phi: VGG16's conv4_3, after its ReLU

|.| is the mean over pixels and channels, T the clean frames, F_t0 and F_t1 the flows at t before
any refinement (`networks/slomo.py`), D backward differences. Any other term counts on the made
frames alone, or on the two ends of the clip alone, by `OnFrames`.

Jiang et al., "Super SloMo", CVPR 2018, section 3.2: 204, 0.005, 102 and 1 times the four for frames
in [0, 1] in its common re-implementation. Wang et al., GIF2Video, CVPR 2019, whose L_warp and
L_smooth these are too. phi differs from the original's in the ReLU behind it and in the input,
scaled as the trunk was trained. GIF2Video's gate, which skips a step of the model where L_warp is
far above its last epoch's mean, is left out: the shots listed for bunny and footage end at
cuts. Clips of source=folder may hold some, and a pair across one teaches what no motion explains:
split such films at their cuts first.
"""

from __future__ import annotations

from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from unlossy import assets
from unlossy.errors import UserError
from unlossy.losses.objective import Term
from unlossy.losses.pixel import image_gradients
from unlossy.networks.flow import warp
from unlossy.networks.lpips import Trunk
from unlossy.networks.slomo import intermediate_flows
from unlossy.sample import Restored, Sample

_CONV4_3 = 3  # of the trunk's five levels


class OnFrames(Term):
    """A term on some frames of a pair's clip: those made `between`, or its two `ends`.

    Args:
        which: `between` or `ends`.
        term: of the estimate alone.

    Raises:
        UserError: an unknown choice of frames.
    """

    def __init__(self, which: Literal["between", "ends"], term: Term) -> None:
        super().__init__()
        if which not in ("between", "ends"):
            raise UserError(f"OnFrames got which={which!r}; use 'between' or 'ends'.")
        self.which = which
        self.term = term
        self.needs = term.needs

    def forward(self, restored: Restored, batch: Sample) -> Tensor:
        """Return the term of the chosen frames.

        Raises:
            UserError: there is no frame between.
        """
        inside = range(1, _count_between(batch) + 1)
        chosen = [0, len(inside) + 1] if self.which == "ends" else list(inside)
        some = Restored(estimate=restored["estimate"][:, chosen], extras={})
        cut = Sample(**{**batch, "t_out": batch["t_out"][:, chosen]})
        cut["clean"] = batch["clean"][:, chosen]
        value: Tensor = self.term(some, cut)
        return value


class WarpLoss(Term):
    """How far clean frames warped by the flows between the ends are from those they lead to."""

    needs = frozenset({"flow01", "flow10"})

    def forward(self, restored: Restored, batch: Sample) -> Tensor:
        """Return L_warp.

        Raises:
            UserError: there is no frame between.
        """
        n = _count_between(batch)
        flow01, flow10 = (restored["extras"][key].float() for key in ("flow01", "flow10"))
        clean = batch["clean"].float() * 2 - 1  # (B, T, 3, H, W)
        first, inside, last = clean[:, 0], clean[:, 1:-1], clean[:, -1]
        t = batch["t_out"].to(flow01)
        t = (t[:, 1:-1] - t[:, :1]) / (t[:, -1:] - t[:, :1])  # (B, n)
        to_first, to_last = intermediate_flows(
            flow01[:, None], flow10[:, None], t[:, :, None, None, None]
        )  # (B, n, 2, H, W)
        total = _distance(last, flow01, first) + _distance(first, flow10, last)
        for source, flows in ((first, to_first), (last, to_last)):
            repeated = source[:, None].expand(-1, n, -1, -1, -1)
            total = total + _distance(*(x.flatten(0, 1) for x in (repeated, flows, inside)))
        return total


class SmoothnessLoss(Term):
    """How much the flows between the ends change from pixel to pixel; needs H, W >= 2."""

    needs = frozenset({"flow01", "flow10"})

    def forward(self, restored: Restored, batch: Sample) -> Tensor:
        """Return L_smooth."""
        flows = (restored["extras"][key].float() for key in ("flow01", "flow10"))
        return torch.stack([image_gradients(flow).abs().mean() for flow in flows]).sum()


class VGG16Loss(Term):
    """The squared distance of frames in VGG16's conv4_3; of less than 16 pixels a side, refused.

    Args:
        asset: the trunk in the asset table.

    Raises:
        UserError: the asset is neither cached nor reachable.
    """

    def __init__(self, asset: str = "lpips_vgg") -> None:
        super().__init__()
        self.trunk = Trunk(load_file(assets.fetch(asset)))

    def forward(self, restored: Restored, batch: Sample) -> Tensor:
        """Return L_vgg."""
        estimate, clean = restored["estimate"].flatten(0, 1), batch["clean"].flatten(0, 1)
        with torch.autocast(estimate.device.type, enabled=False):
            with torch.no_grad():
                wanted = self.trunk(clean.float())[_CONV4_3]
            found: Tensor = self.trunk(estimate.float())[_CONV4_3]
            distance: Tensor = (found - wanted).square().mean()
            return distance


def _distance(source: Tensor, flow: Tensor, target: Tensor) -> Tensor:
    return (warp(source, flow, "border") - target).abs().mean()


def _count_between(batch: Sample) -> int:
    """Return how many frames lie between the two of a pair."""
    inside = batch["t_out"].shape[1] - 2
    if inside < 1:
        raise UserError(
            "A loss on frames between frames needs a medium that drops some and pairs of what is "
            "left: use degradation=drop_frames data.frames=2."
        )
    return inside
