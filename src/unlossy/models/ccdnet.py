"""CCDNet: undo a GIF's palette in steps that look at what the palette makes of the estimate.

    G ──► U1 ──► I^1 ──► f_C ──► G_1 ┐                          f_C: nearest palette colour
    │            │                   ▼
    ├────────────┼──► [I^1, G, G_1, G - G_1] ──► U2 ──► I^2 ──► f_C ──► G_2 ...  ──► I^K
    └─► (every step)                              (one U2 for all steps 2..K)

    residual:  I^1 = G + U1(G)      I^{t+1} = I^t + U2(z)         last convolutions start at zero
    tanh:      I^1 = tanh(U1(G))    I^{t+1} = tanh(I^t + U2(z))   as published

U2 is a learned Lucas-Kanade step: near the solution of f_C(I) = G the best correction is a function
of G - f_C(I^t). Images are in [-1, 1] inside and in [0, 1] outside; f_C passes no gradient.

Wang et al., "GIF2Video: Color Dequantization and Temporal Interpolation of GIF images", CVPR 2019,
arXiv 1901.02840, section 3. Departures: `residual` (the network starts at its input, while `tanh`
must first learn the inverse of tanh), `norm=none`, and U1 trained together with U2 where no
`base_ckpt` is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import torch
from einops import rearrange
from torch import Tensor, nn

from unlossy.errors import UserError
from unlossy.models.model import EnhancementModel
from unlossy.models.weights import EMBEDDED, read_weights
from unlossy.networks.quantizer import quantize
from unlossy.networks.unet import Norm, UNet
from unlossy.networks.weights import load_tolerantly
from unlossy.sample import Restored, Sample

# Of one U-Net, where a tile ends at a multiple of 16: two blocks of two 3x3 convolutions at each of
# the sizes 1, 1/2, 1/4, 1/8 and one at 1/16 make 2 * 2 * (1 + 2 + 4 + 8) + 2 * 16 = 92, and pooling
# rounds that up to a multiple of 16.
_REACH = 96
_FOREIGN = (ValueError, TypeError, AttributeError)  # weights of other shapes, or none at all


class CCDNet(EnhancementModel):
    """Restore the colours of GIF frames, each frame by itself.

    `extras["steps"]` (B, K, T, 3, H, W) in [0, 1], not clamped, holds the outputs that losses
    average over: I^1..I^K, or I^2..I^K where the base is frozen.

    Args:
        steps: K >= 1; 1 is U1 alone (CCDNet1), which needs no palette.
        channels: width of both U-Nets, >= 1; the paper's is 64 (29.6 M parameters at K > 1).
        embed_quantizer: False leaves f_C out: U2 then sees [I^t, G] only (the authors' choice for
            dithered GIFs).
        update: `residual` or `tanh`, see above.
        norm: `batch` as published, or `none`.
        base_ckpt: a checkpoint of ours or a released CCDNet1 file whose U1 is taken and frozen;
            `embedded` freezes U1 and leaves its weights to the state dict that will be loaded.
            Needs steps > 1.

    Raises:
        UserError: numbers out of range; a base that is missing or of another shape.
    """

    provides = frozenset({"steps"})
    multiple = 16

    def __init__(
        self,
        steps: int = 2,
        channels: int = 64,
        embed_quantizer: bool = True,
        update: Literal["residual", "tanh"] = "residual",
        norm: Norm = "batch",
        base_ckpt: str | None = None,
    ) -> None:
        super().__init__()
        if steps < 1 or channels < 1:
            raise UserError(
                f"CCDNet got steps={steps}, channels={channels}; both must be at least 1."
            )
        if update not in ("residual", "tanh"):
            raise UserError(f"CCDNet got update={update!r}; use 'residual' or 'tanh'.")
        if norm not in ("batch", "none"):
            raise UserError(f"CCDNet got norm={norm!r}; use 'batch' or 'none'.")
        if base_ckpt and steps == 1:
            raise UserError(
                "CCDNet with steps=1 and a frozen base_ckpt has nothing to train; use steps=2."
            )
        self.steps = steps
        self.reach = _REACH * steps
        self.update = update
        self.embed_quantizer = embed_quantizer and steps > 1
        self.needs = frozenset({"palette", "palette_size"} if self.embed_quantizer else ())
        self.base = UNet(3, 3, channels, norm)
        if steps > 1:
            self.refine = UNet(12 if embed_quantizer else 6, 3, channels, norm)
        if update == "residual":
            for network in self.children():
                assert isinstance(network, UNet)
                for last in network.outconv.parameters():
                    nn.init.zeros_(last)
        self.frozen = base_ckpt is not None
        if base_ckpt is not None:
            if base_ckpt != EMBEDDED:
                self._take_base(base_ckpt)
            self.base.requires_grad_(False).eval()

    @classmethod
    def from_official(
        cls, base: Mapping[str, Tensor], refine: Mapping[str, Tensor] | None = None, steps: int = 2
    ) -> Self:
        """Build from the authors' state dicts; the shapes tell the variant.

        Args:
            base: U1 (CCDNet1), 3 input channels.
            refine: U2, 12 input channels with f_C, 6 without; None gives CCDNet1.
            steps: K, read only with `refine`.

        Raises:
            UserError: names or shapes that are not a CCDNet's.
        """
        try:
            first = UNet.from_weights(base)
            second = None if refine is None else UNet.from_weights(refine)
        except _FOREIGN as error:
            raise UserError(f"This is no official CCDNet: {error}") from error
        channels, inputs = base["inconv.0.weight"].shape[:2]
        if inputs != 3:
            raise UserError(
                f"The first network has {inputs} input channels: it is a refinement network (U2); "
                "give a CCDNet1 file first and this one second."
            )
        if refine is None or second is None:
            model = cls(1, channels, update="tanh")
        else:
            width, inputs = refine["inconv.0.weight"].shape[:2]
            if inputs not in (6, 12) or width != channels or steps < 2:
                raise UserError(
                    f"The second network has {inputs} input channels and width {width}, for "
                    f"steps={steps}; wanted: 12 (with f_C) or 6 (without), the first network's "
                    f"width {channels}, and steps of at least 2."
                )
            model = cls(steps, channels, inputs == 12, update="tanh")
            model.refine = second
        model.base = first
        return model

    def train(self, mode: bool = True) -> Self:
        """Keep a frozen base in evaluation mode: its BatchNorm must not drift."""
        super().train(mode)
        if self.frozen:
            self.base.eval()
        return self

    def forward(self, batch: Sample) -> Restored:
        """Return I^K as (B, T, 3, H, W) in [0, 1], not clamped; H, W >= 16."""
        clips = len(batch["degraded"])
        gif = batch["degraded"].flatten(0, 1) * 2 - 1  # (B T, 3, H, W)
        first = self.base(gif).to(gif.dtype)
        estimate = self._bound(gif + first if self.update == "residual" else first)
        outputs = [] if self.frozen else [estimate]
        for _ in range(1, self.steps):
            seen = [estimate, gif]
            if self.embed_quantizer:
                requantized = self._quantize(estimate, batch["side"])  # (B T, 3, H, W)
                seen += [requantized, gif - requantized]
            estimate = self._bound(estimate + self.refine(torch.cat(seen, dim=1)))
            outputs.append(estimate)
        steps = rearrange((torch.stack(outputs) + 1) / 2, "k (b t) c h w -> b k t c h w", b=clips)
        return Restored(estimate=steps[:, -1], extras={"steps": steps})

    def _bound(self, total: Tensor) -> Tensor:
        return total.tanh() if self.update == "tanh" else total

    def _quantize(self, estimate: Tensor, side: Mapping[str, Tensor]) -> Tensor:
        palette = side["palette"].flatten(0, 1) * 2 - 1  # (B T, P, 3)
        return quantize(estimate, palette, side["palette_size"].flatten())

    def _take_base(self, path: str | Path) -> None:
        """Load U1 from a checkpoint of ours or from a released file."""
        content = read_weights(path)
        weights: Mapping[str, Tensor] = content.get("model_netG", content)
        update: object = "tanh"
        match content:
            case {"unlossy": {"model": dict(config)}, "state_dict": dict(state)}:
                prefix = "model.base."
                weights = {
                    key.removeprefix(prefix): value
                    for key, value in state.items()
                    if isinstance(key, str) and key.startswith(prefix)
                }
                update = config.get("update", "residual")
        if update != self.update:
            raise UserError(
                f"The base {path} was trained with update={update}; set model.update={update}."
            )
        try:
            load_tolerantly(self.base, weights)
        except _FOREIGN as error:
            raise UserError(
                f"The base {path} is no CCDNet base of this width and norm; set model.channels and "
                "model.norm to the base's."
            ) from error
