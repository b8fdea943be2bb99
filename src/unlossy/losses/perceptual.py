"""LPIPS as a term: what a restored frame lacks in the features of an ImageNet network.

    L_lpips = mean over clips and frames of LPIPS(I_t, T_t)

The trunk is VGG16 for training, so that the AlexNet distance of the tables stays one that nobody
was trained on. It has no parameters, is no part of a checkpoint, computes the features of clean
frames once and without gradients, and always works in float32. The prediction is not clamped: a
pixel beyond white must feel a gradient that brings it back. Of a model that returns
`extras["steps"]` only the last is looked at; VGG16 costs more than most networks it judges.

Zhang et al., CVPR 2018; see `networks/lpips.py`.
"""

from __future__ import annotations

import torch
from safetensors.torch import load_file
from torch import Tensor

from unlossy import assets
from unlossy.errors import UserError
from unlossy.losses.objective import Term
from unlossy.networks.lpips import LPIPS
from unlossy.sample import Restored, Sample


class LPIPSTerm(Term):
    """The mean LPIPS distance of the frames; a frame of less than 16 pixels a side is refused.

    Args:
        asset: the trunk in the asset table, `lpips_vgg` or `lpips_alex`.
        frames: how many frames of a window to look at, evenly spread over it, the first of them
            by where the window starts; None looks at all.

    Raises:
        UserError: the asset is neither cached nor reachable; `frames` is less than 1.
    """

    def __init__(self, asset: str = "lpips_vgg", frames: int | None = None) -> None:
        super().__init__()
        if frames is not None and frames < 1:
            raise UserError(f"LPIPSTerm got frames={frames}; use 1 or more, or null for all.")
        self.frames = frames
        self.lpips = LPIPS(load_file(assets.fetch(asset)))

    def forward(self, restored: Restored, batch: Sample) -> Tensor:
        """Return L_lpips.

        Raises:
            ValueError: frames are smaller than the trunk can look at.
        """
        estimate, clean = restored["estimate"], batch["clean"]  # (B, T, 3, H, W)
        if self.frames is not None and self.frames < estimate.shape[1]:
            # By the window's place: the choice changes from step to step and survives a resume.
            length, first = estimate.shape[1], int(batch["t_out"][:, 0].sum())
            chosen = [(first + k * length // self.frames) % length for k in range(self.frames)]
            estimate, clean = estimate[:, chosen], clean[:, chosen]
        with torch.autocast(estimate.device.type, enabled=False):
            with torch.no_grad():
                wanted = self.lpips.features(clean.flatten(0, 1).float())
            found = self.lpips.features(estimate.flatten(0, 1).float())
            return self.lpips.between(found, wanted).mean()
