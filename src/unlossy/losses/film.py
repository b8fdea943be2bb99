"""FILM's losses: pixels, features, and the textures that make frames sharp.

    L1     mean |I - T|                                                          in [0, 1]
    VGG    sum_l a_l mean |F_l(I) - F_l(T)|
    style  sum_l a_l mean (G_l(I) - G_l(T))^2      G_l(x) = F_l(x)^T F_l(x) / (H_l W_l), (C_l, C_l)

    weights by step       L1: (1, -, -)    VGG: (1, 1, -) -> (1, 1/4, -)
                          style: (1, 1, 0) -> (1, 1/4, 40), behind half of the steps

F_l are maps of VGG-19 behind conv1_2, ..., conv5_2, on the scale of pictures in [0, 1]: divided by
255 where the network sees 0..255, and times torchvision's standard deviation of 0.226 where it sees
them divided by that. Means are over all that there is, the C_l x C_l of a Gram matrix included.

Only frames that the model had to make are looked at; key frames are right by construction, and VGG
costs more than a small network. Where every frame is a key frame all are. Features of I and T are
computed once a step for both terms, in float32, and are noted in `extras` for that; gradients reach
I alone, which is not clamped.

Reda et al., "FILM", ECCV 2022, and its code. Departure: the authors' VGG-19 is in no package. Give
its path, in torchvision's layout; without one, a stated substitute is taken, torchvision's VGG16
with max pools (the LPIPS trunk) behind conv1_2, conv2_2, conv3_3, conv4_3 and conv5_3. The a_l are
those of VGG-19 for both, and the numbers of one cannot be compared with those of the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from unlossy import assets
from unlossy.errors import UserError
from unlossy.losses.objective import Term
from unlossy.networks.lpips import Trunk
from unlossy.networks.vgg19 import VGG19, Norm
from unlossy.sample import SAME_TIME, Restored, Sample

_SHARES = (1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5)  # a_l
_SCALES = {"caffe": 1 / 255, "torchvision": 0.226}


class PixelL1(Term):
    """Mean |I - T| of the frames that were made, in [0, 1]."""

    def forward(self, restored: Restored, batch: Sample) -> Tensor:
        """Return L1."""
        estimate, clean = _made(restored, batch)
        return (estimate - clean).abs().mean()


class _VGGTerm(Term):
    """A term over the features of VGG.

    Args:
        vgg19: a file of VGG-19's weights, `.safetensors` or torch's, with torchvision's names; None
            takes the substitute, torchvision's VGG16.
        norm: of `vgg19`, see `VGG19`.

    Raises:
        UserError: the file is missing or not VGG-19's; without one, the substitute is neither
            cached nor reachable.
    """

    def __init__(self, vgg19: str | None = None, norm: Norm = "torchvision") -> None:
        super().__init__()
        if norm not in get_args(Norm) or (vgg19 is None and norm != "torchvision"):
            raise UserError(
                f"FILM's losses got vgg19={vgg19}, norm={norm!r}; use norm=torchvision, or caffe "
                "for a VGG-19 that was trained on pictures of 0..255."
            )
        self.vgg: nn.Module
        if vgg19 is None:
            self.vgg = Trunk(load_file(assets.fetch("lpips_vgg")))
        else:
            self.vgg = _read_vgg19(vgg19, norm)
        self.scale = _SCALES[norm]
        self.key = f"{type(self.vgg).__name__} {vgg19} {norm}"

    def maps(self, restored: Restored, batch: Sample) -> list[tuple[Tensor, Tensor]]:
        """Return F_l of the estimate and of the truth, (N, C_l, H_l, W_l), for each of five l."""
        extras = restored["extras"]
        key = f"{self.key}{' with gradients' if torch.is_grad_enabled() else ''}"
        if f"{key} 0" not in extras:
            estimate, clean = _made(restored, batch)
            with torch.autocast(estimate.device.type, enabled=False):
                with torch.no_grad():
                    wanted = self.vgg(clean)
                found = self.vgg(estimate)
            extras |= {f"{key} {k}": x * self.scale for k, x in enumerate([*found, *wanted])}
        return [(extras[f"{key} {k}"], extras[f"{key} {5 + k}"]) for k in range(5)]


class VGGLoss(_VGGTerm):
    """The distance of features."""

    def forward(self, restored: Restored, batch: Sample) -> Tensor:
        """Return the VGG loss."""
        maps = zip(_SHARES, self.maps(restored, batch), strict=True)
        return torch.stack([share * (f - g).abs().mean() for share, (f, g) in maps]).sum()


class StyleLoss(_VGGTerm):
    """The squared distance of Gram matrices, of textures whatever their place."""

    def forward(self, restored: Restored, batch: Sample) -> Tensor:
        """Return the style loss."""
        maps = zip(_SHARES, self.maps(restored, batch), strict=True)
        with torch.autocast(restored["estimate"].device.type, enabled=False):
            return torch.stack(
                [share * (_gram(f) - _gram(g)).square().mean() for share, (f, g) in maps]
            ).sum()


def _made(restored: Restored, batch: Sample) -> tuple[Tensor, Tensor]:
    """Return estimates and truth of the frames not kept, (N, 3, H, W), or else of all frames."""
    far = (batch["t_out"][:, :, None] - batch["t_in"][:, None]).abs() > SAME_TIME  # (B, T, S)
    made = far.all(2)
    if not made.any():
        made = torch.ones_like(made)
    return restored["estimate"][made].float(), batch["clean"][made].float()


def _gram(maps: Tensor) -> Tensor:
    """Return (N, C, C) of (N, C, H, W)."""
    flat = maps.flatten(2)
    return flat @ flat.mT / flat.shape[2]


def _read_vgg19(path: str, norm: Norm) -> VGG19:
    if not Path(path).is_file():
        raise UserError(f"There is no VGG-19 at {path}; give the path of its weights, or null.")
    try:
        safe = path.endswith(".safetensors")
        return VGG19(load_file(path) if safe else torch.load(path, weights_only=True), norm)
    except Exception as error:  # a damaged archive fails in any of torch's ways
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UserError(
            f"{path} holds no VGG-19 ({reason}); give torchvision's state dict, as .safetensors "
            "or written by torch.save."
        ) from error
