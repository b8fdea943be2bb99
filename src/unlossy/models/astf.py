"""ASTF: two restorations of a clip, one rich in texture and one calm, fused where each is better.

    x ── s ──┬── e1   trained on LPIPS alone: texture, which flickers where the picture is smooth
             └── e2   trained on Charbonnier + LPIPS: smooth and steady
    m = clamp(gain var(e2), 0, 1)     variance of luma in 3x3x3 blocks: high where there is texture
    f = m e1 + (1 - m) e2
    y = clamp(f + a (f - G3 f))       unsharp mask, G3 = [1 2 1]/4 by [1 2 1]/4

s, e1 and e2 are three trained copies of one network, see `conf/experiment/astf`; nothing here is
trained. "Adaptive Spatial-Temporal Fusion of Multi-Objective Networks for Compressed Video
Perceptual Enhancement", CVPR Workshops 2021. The mask's normalisation and the amount of sharpening
are ours: the first is calibrated (`fit`), the second makes y lose PSNR as the paper's does.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import NamedTuple, Self

import torch
from kornia.filters import filter2d_separable
from torch import Tensor, nn

from unlossy.errors import UserError
from unlossy.models.model import MEMORY, EnhancementModel, pad_to_multiple
from unlossy.models.stages import load_stage
from unlossy.models.weights import EMBEDDED
from unlossy.networks.variance_mask import VarianceMask
from unlossy.sample import Restored, Sample, to_float

# What f may lose against e2 in PSNR: in the paper e2 is 0.08 dB and f 0.14 dB below stage 1.
DROP_DB = 0.06
_HELD = 6  # floats a pixel that wait while e2's network works: the input and e1
_OCTAVES = 20.0  # the gain is looked for from 2^-20 to 2^20 of where it starts


class Blend(NamedTuple):
    """What the mean squared error of m e1 + (1 - m) e2 is made of, in each pixel of a clip.

    With d = e1 - e2 and r = e2 - clean it is mean |r|^2 + 2 m d r + m^2 |d|^2.
    """

    texture: Tensor  # (T, H, W), see `VarianceMask.texture`
    square: Tensor  # (T, H, W): mean over RGB of d^2
    product: Tensor  # (T, H, W): mean over RGB of d r
    error: Tensor  # (T,): mean of r^2

    def loss(self, gain: float) -> Tensor:
        """Return how many dB of PSNR f lies below e2 with this gain, mean over frames."""
        mask = (self.texture * gain).clamp(0, 1)
        change = (mask * (2 * self.product + mask * self.square)).mean((1, 2))
        fused, calm = (error.clamp(min=1e-10) for error in (self.error + change, self.error))
        return 10 * (fused / calm).log10().mean()


class ASTF(EnhancementModel):
    """Fuses what three networks, trained before, make of a clip, and sharpens it.

    `extras` holds s, e1, e2, f and the mask, all (B, T, 3, H, W); `estimate` is y.

    Args:
        network: of scale 1, needing nothing but frames, its options numbers and strings; there
            will be three copies of it.
        s_ckpt: a checkpoint of such a network, trained to restore what the medium kept.
        e1_ckpt: the same, trained to restore s, on LPIPS; give all three or none.
        e2_ckpt: the same, trained to restore s, on Charbonnier and LPIPS. `embedded` leaves the
            weights to the state dict that will be loaded.
        mask: None is a `VarianceMask` as it comes.
        sharpen: a, >= 0.

    Raises:
        UserError: a network that cannot be used, a checkpoint that is missing or of another one.
    """

    provides = frozenset({"s", "e1", "e2", "f", "mask"})
    outputs = ("s", "e1", "e2", "f", "y")
    pictures = ("mask",)
    assembled = True

    def __init__(
        self,
        network: EnhancementModel,
        s_ckpt: str | None = None,
        e1_ckpt: str | None = None,
        e2_ckpt: str | None = None,
        mask: VarianceMask | None = None,
        sharpen: float = 1.0,
    ) -> None:
        super().__init__()
        name = type(network).__name__
        if network.scale != 1 or network.needs or not (network.trainable and network.restores):
            raise UserError(
                f"ASTF cannot stack {name}: its network must learn to restore, have scale 1, and "
                "need nothing but frames; choose another model.network."
            )
        if sharpen < 0:
            raise UserError(f"ASTF got sharpen={sharpen}; use 0 for none, or more.")
        paths = {"s_ckpt": s_ckpt, "e1_ckpt": e1_ckpt, "e2_ckpt": e2_ckpt}
        absent = [key for key, path in paths.items() if path is None]
        if 0 < len(absent) < len(paths):
            raise UserError(
                f"ASTF lacks {' and '.join(absent)}; give all three checkpoints or none."
            )
        self.s, self.e1, self.e2 = network, deepcopy(network), deepcopy(network)
        for stage, (key, path) in zip((self.s, self.e1, self.e2), paths.items(), strict=True):
            if path is not None and path != EMBEDDED:
                load_stage(stage, path, key, "model.network")
        self.mask = VarianceMask() if mask is None else mask
        self.sharpen = sharpen
        self.drop: float | None = None  # dB that f lies below e2 on the clips of `fit`
        self.requires_grad_(False).train(False)
        self.multiple, self.window = network.multiple, network.window
        self.budget = int(1 / (1 / network.budget + 4 * _HELD / MEMORY))
        # One frame for the mask. Near a window's edge stage 2 reads frames of s that lack context
        # themselves; what they lack fades in both recurrences, so it is not paid for twice: random
        # weights make windows differ from the whole by 0.01-0.04 levels in the mean, 3 at most.
        self.context = network.context + 1
        self.reach = 2 * network.reach + 2  # two stages, the mask, the sharpening

    @property
    def label(self) -> str:
        """The gain in use, and how far f lies below e2 in PSNR where `fit` has measured it."""
        gain = f"gain {float(self.mask.gain):.4g}"
        if self.drop is None:
            return f"{gain}, drop not measured"
        return f"{gain}, f {self.drop:.3f} dB below e2 (wanted: {DROP_DB})"

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, batch: Sample) -> Restored:
        """Return y, and in `extras` what it was made of; all in [0, 1]."""
        s = self._stage(self.s, batch, batch["degraded"])
        # Stage 2 was trained on stored outputs of stage 1, which have 8 bits (data/restored.py).
        s = s.mul(255).round().div(255)
        e1, e2 = (self._stage(network, batch, s) for network in (self.e1, self.e2))
        with torch.autocast(s.device.type, enabled=False):  # 8 bits of mantissa would show
            mask = self.mask(e2)  # (B, T, 1, H, W)
            f = mask * e1 + (1 - mask) * e2
            y = unsharp(f, self.sharpen).clamp(0, 1)
        made = {"s": s, "e1": e1, "e2": e2, "f": f, "mask": mask.expand_as(f)}
        return Restored(estimate=y, extras=made)

    def restore_all(
        self, batch: Sample, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return s, e1, e2, f, y and the mask, each (B, T, 3, H, W) in [0, 1]."""
        height, width = batch["degraded"].shape[-2:]
        padded = pad_to_multiple(batch["degraded"], self.multiple)
        restored = self(Sample(**{**batch, "degraded": padded}))
        made = {**restored["extras"], "y": restored["estimate"]}
        return {key: made[key][..., :height, :width] for key in (*self.outputs, *self.pictures)}

    @torch.no_grad()
    def fit(self, batches: Iterable[Sample]) -> None:
        """Choose the mask's gain so that f is `DROP_DB` below e2 in PSNR, mean over clips.

        The first frames of each clip stand for it, as many as go through the networks at once.
        Where no gain costs that much, because e1 is about as good as e2, the gain stays. `label`
        tells what came of it; without clips nothing is chosen.

        Args:
            batches: whole validation clips, uint8, batch 1.
        """
        blends = [self._blend(batch) for batch in batches]
        if not blends:
            return

        def loss(octave: float) -> float:
            gain = start * 2.0**octave
            return float(torch.stack([blend.loss(gain) for blend in blends]).mean())

        start = float(self.mask.gain)
        low, high = -_OCTAVES, _OCTAVES
        self.drop = loss(0.0)
        if loss(high) <= DROP_DB:
            return
        # A little of e1 may help, and then the loss falls before it rises: one crossing is enough.
        for _ in range(24):
            middle = (low + high) / 2
            low, high = (middle, high) if loss(middle) < DROP_DB else (low, middle)
        self.mask.gain.fill_(start * 2.0**low)
        self.drop = loss(low)

    def _blend(self, batch: Sample) -> Blend:
        height, width = batch["degraded"].shape[-2:]
        some = slice(max(1, min(self.window, self.budget // (height * width))))
        device = self.mask.gain.device
        clip = Sample(
            name=batch["name"],
            degraded=batch["degraded"][:, some].to(device),
            clean=batch["clean"][:, some].to(device),
            t_in=batch["t_in"][:, some].to(device),
            t_out=batch["t_out"][:, some].to(device),
            side={},
            target={},
            bits=batch["bits"],
        )
        clip = to_float(clip)
        made = self.restore_all(clip)
        difference, error = made["e1"] - made["e2"], made["e2"] - clip["clean"]
        return Blend(
            texture=self.mask.texture(made["e2"])[0, :, 0],
            square=difference.square().mean(2)[0],
            product=(difference * error).mean(2)[0],
            error=error.square().mean((2, 3, 4))[0],
        )

    def _stage(self, network: nn.Module, batch: Sample, frames: Tensor) -> Tensor:
        restored: Restored = network(Sample(**{**batch, "degraded": frames}))
        return restored["estimate"].float().clamp(0, 1)


def unsharp(clip: Tensor, amount: float) -> Tensor:
    """Return f + amount (f - G3 f), (B, T, C, H, W), not clamped; borders are reflected."""
    frames = clip.flatten(0, 1)
    kernel = torch.tensor([[0.25, 0.5, 0.25]], device=clip.device)
    # A single row or column has nothing to reflect.
    border = "reflect" if min(frames.shape[-2:]) > 1 else "replicate"
    blurred = torch.as_tensor(filter2d_separable(frames, kernel, kernel, border)).view_as(clip)
    return clip + amount * (clip - blurred)
