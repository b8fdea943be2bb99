"""GIF2Video: a GIF's colours restored, and the frames between its frames made.

    G_k ──► A ──► I_k                    A: colours, frozen where it was trained before
    G_0, G_1 ──► B ──► F01, F10          parallel: beside A;  sequential: B sees I_0, I_1
    I_0, I_1, F01, F10, t ──► C ──► I_t

The key frames of the result are A's, not the quantised ones. B and C are a `SuperSloMo`.

Wang et al., "GIF2Video: Color Dequantization and Temporal Interpolation of GIF images", CVPR 2019,
arXiv 1901.02840, section 4 and its released code. A is any network that restores frames where they
are; the paper's is CCDNet2, and its B and C were trained beside a frozen CCDNet1. Departure: where
no `colors_ckpt` is given A learns together with B and C; and these may start from a SuperSloMo that
knows motion already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lcm
from typing import Any, Self

import torch
from torch import Tensor

from unlossy.errors import UserError
from unlossy.models.ccdnet import CCDNet
from unlossy.models.interpolator import Interpolator
from unlossy.models.model import EnhancementModel
from unlossy.models.stages import load_stage
from unlossy.models.superslomo import SuperSloMo
from unlossy.models.weights import EMBEDDED, state_in
from unlossy.sample import Restored, Sample


class GIF2Video(Interpolator):
    """Restore key frames and interpolate between them; `extras` are those of `SuperSloMo`.

    Args:
        colors: A, of scale 1.
        slomo: B and C.
        sequential: let B see what A restored instead of the GIF.
        colors_ckpt: a checkpoint of A, which then is frozen; `embedded` freezes it and leaves its
            weights to the state dict that will be loaded.
        slomo_ckpt: a checkpoint of B and C, of model=superslomo, to start from; or `embedded`.

    Raises:
        UserError: a network that cannot be A; a checkpoint that is missing or of another one.
    """

    window = 8  # the last key frame of a window has its colours restored in the next one again

    def __init__(
        self,
        colors: EnhancementModel,
        slomo: SuperSloMo,
        sequential: bool = False,
        colors_ckpt: str | None = None,
        slomo_ckpt: str | None = None,
    ) -> None:
        super().__init__()
        able = colors.trainable and colors.restores and not colors.interpolates
        if colors.scale != 1 or colors.teacher_forced or not able:
            raise UserError(
                f"GIF2Video cannot restore colours by {type(colors).__name__}: that network must "
                "learn to restore frames where they are, at scale 1; choose another model.colors."
            )
        self.colors, self.slomo, self.sequential = colors, slomo, sequential
        self.frozen = colors_ckpt is not None
        if colors_ckpt is not None:
            if colors_ckpt != EMBEDDED:
                load_stage(colors, colors_ckpt, "colors_ckpt", "model.colors")
            colors.requires_grad_(False).eval()
        if slomo_ckpt is not None and slomo_ckpt != EMBEDDED:
            load_stage(slomo, slomo_ckpt, "slomo_ckpt", "model.slomo")
        self.provides, self.needs = slomo.provides, colors.needs
        self.multiple = lcm(colors.multiple, slomo.multiple)
        self.context = slomo.context + colors.context
        self.reach = slomo.reach + colors.reach
        self.budget = min(slomo.budget, colors.budget)
        self.cut = slomo.cut

    @classmethod
    def from_official(
        cls,
        base: Mapping[str, Any],
        slomo: Mapping[str, Any],
        refine: Mapping[str, Any] | None = None,
        sequential: bool = False,
    ) -> Self:
        """Build from the authors' files or their state dicts; A is frozen.

        Args:
            base: of a `ccdnet1_*` file.
            slomo: of a `gif2video_*` file.
            refine: of a `ccdnet2_*` file; None gives A = CCDNet1.
            sequential: as in the `gif2video_*.seq.*` file.

        Raises:
            UserError: names or shapes that are not theirs.
        """
        second = None if refine is None else state_in(refine)
        colors = CCDNet.from_official(state_in(base), second)
        return cls(colors, SuperSloMo.from_official(slomo), sequential, EMBEDDED)

    def train(self, mode: bool = True) -> Self:
        """Keep a frozen A in evaluation mode: its BatchNorm must not drift."""
        super().train(mode)
        if self.frozen:
            self.colors.eval()
        return self

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return B and C as `SuperSloMo` has them, and A, unless it is frozen, as A has it."""
        groups = [*self.slomo.param_groups(lr), *self.colors.param_groups(lr)]
        return [group for group in groups if group["params"]]

    def keys(self, batch: Sample) -> Tensor:
        """Return A's frames and the GIF's, (B, S, 3 + 3, H, W)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            restored: Restored = self.colors(Sample(**{**batch, "t_out": batch["t_in"]}))
        return torch.cat([restored["estimate"], batch["degraded"]], 2)

    def between(
        self, first: Tensor, last: Tensor, times: Sequence[float]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Blend A's frames by the flows between the GIF's."""
        restored, gif = ((first[:, part], last[:, part]) for part in (slice(3), slice(3, 6)))
        return self.slomo.blend(restored, restored if self.sequential else gif, times)
