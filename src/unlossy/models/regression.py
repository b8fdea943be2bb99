"""L2 regression of the large image: the pixel-independent Gaussian, and so the blurred mean.

    y = 1/2 + C(x)        log p(y | x) = - |y - C(x)|^2 / (2 s^2) + const

A baseline of Dahl et al., "Pixel Recursive Super Resolution", ICCV 2017, arXiv 1702.00783. What
minimises its loss is the mean of all images that the input leaves possible: where a digit may be in
either of two corners, half of one in both.
"""

from __future__ import annotations

from unlossy.models.conditioned import Conditioned
from unlossy.networks.conditioning import Conditioning
from unlossy.sample import Restored, Sample


class Regression(Conditioned):
    """Predict every sub-pixel by its mean.

    Args:
        conditioning: with as many outputs as colours.

    Raises:
        UserError: a network of other outputs.
    """

    def __init__(self, conditioning: Conditioning) -> None:
        super().__init__(conditioning, conditioning.colors, "the colours of a pixel")

    def forward(self, batch: Sample) -> Restored:
        """Return (B, T, colors, scale h, scale w), not clamped."""
        clips = batch["degraded"]
        estimate = 0.5 + self.conditioning(self.frames_of(clips))
        return Restored(estimate=estimate.unflatten(0, clips.shape[:2]), extras={})
