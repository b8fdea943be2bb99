"""Every sub-pixel of the large image has a distribution of its own, given the small image.

    p(y_i = k | x) = softmax(A_i(x))_k        i = (pixel, colour),  k = 0 .. levels - 1

    greedy    the most likely level of each       blurred, or torn where two are as likely
    sampled   each drawn by itself                speckled: neighbours do not know of each other

The cross-entropy baseline of Dahl et al., "Pixel Recursive Super Resolution", ICCV 2017, arXiv
1702.00783: what their conditioning network is without a prior.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unlossy.errors import UserError
from unlossy.models.conditioned import Conditioned, uniforms
from unlossy.models.model import MEMORY
from unlossy.networks.conditioning import Conditioning
from unlossy.networks.levels import code_length, draw, expected, to_values
from unlossy.sample import Restored, Sample


class PixelIndependent(Conditioned):
    """Distributions of single sub-pixels. `extras["logits"]` is (B, T, colors, levels, H, W).

    `estimate` is their mean, `restore` a draw.

    Args:
        conditioning: with colors * levels outputs, the levels of a colour next to each other.
        colors: >= 1.
        levels: >= 2.

    Raises:
        UserError: a network of other outputs, numbers out of range.
    """

    provides = frozenset({"logits"})
    outputs = ("greedy", "sampled")
    likelihoods = ("nll",)

    def __init__(self, conditioning: Conditioning, colors: int = 3, levels: int = 256) -> None:
        if colors < 1 or levels < 2:
            raise UserError(
                f"PixelIndependent got colors={colors}, levels={levels}; it needs at least 1 and 2."
            )
        super().__init__(conditioning, colors * levels, f"{colors} colours of {levels} levels")
        self.colors = colors
        self.levels = levels
        # For each level its logit, and in float64 a probability, their sums and a comparison.
        self.budget = MEMORY // (28 * colors * levels * self.scale**2)

    def forward(self, batch: Sample) -> Restored:
        """Return means (B, T, colors, scale h, scale w) in [0, 1]."""
        logits = self._of(self.conditioning(self.frames_of(batch["degraded"])), batch)
        return Restored(estimate=expected(logits), extras={"logits": logits})

    def restore(
        self, batch: Sample, *, generator: torch.Generator | None = None, samples: int = 1
    ) -> Tensor:
        """Return draws (samples * B, T, colors, H, W) in [0, 1], the first of every clip first."""
        logits = self._settled(batch).repeat(samples, 1, 1, 1, 1, 1)
        return to_values(draw(logits, self._uniforms(logits, generator), 1.0), self.levels)

    def restore_all(
        self, batch: Sample, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return the most likely clip and a draw."""
        logits = self._settled(batch)
        draws = self._uniforms(logits, generator)
        return {
            name: to_values(draw(logits, draws, temperature), self.levels)
            for name, temperature in zip(self.outputs, (0.0, 1.0), strict=True)
        }

    def bits(self, batch: Sample) -> dict[str, Tensor]:
        """Return `nll` of the clean frames, frame by frame for the sake of memory."""
        lengths = []
        for x, y in zip(batch["degraded"].unbind(1), batch["clean"].unbind(1), strict=True):
            one = Sample(**{**batch, "degraded": x[:, None]})
            logits = self._of(self.conditioning.settled(self.frames_of(one["degraded"])), one)
            lengths.append(code_length(logits, y[:, None]).mean((2, 3, 4)))
        return {"nll": torch.cat(lengths, 1)}

    def _settled(self, batch: Sample) -> Tensor:
        self.warn_if_untrained()
        return self._of(self.conditioning.settled(self.frames_of(batch["degraded"])), batch)

    def _of(self, outputs: Tensor, batch: Sample) -> Tensor:
        """Return what the network says (B * T, ...) as logits (B, T, colors, levels, H, W)."""
        shape = (*batch["degraded"].shape[:2], self.colors, self.levels)
        return outputs.view(*shape, *outputs.shape[2:])

    def _uniforms(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        clips, frames, colors, _, height, width = logits.shape
        return uniforms((clips, colors, height, width), frames, generator).to(logits.device)
