"""The 70x70 PatchGAN discriminator: one logit for every overlapping patch of 70x70 pixels.

    x ─ conv s2 c ─ conv s2 2c ─ conv s2 4c ─ conv s1 8c ─ conv s1 1 ─► logits

All kernels are 4x4 with padding 1, LeakyReLU 0.2 between them, BatchNorm on the inner three.
Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017; here in
the widths and indices of GIF2Video's released state dicts.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from unlossy.networks.weights import load_tolerantly


class PatchGAN(nn.Sequential):
    """Map (N, in_channels, H, W), H and W >= 24, to logits (N, 1, h, w): 256 -> 30, 64 -> 6.

    Args:
        in_channels: 12 for GIF2Video's [condition, image, image gradients], 6 without gradients.
        channels: width c of the first layer, >= 1; the paper's is 64 (2.8 M parameters).
    """

    smallest = 24  # pixels a side that still give one logit

    def __init__(self, in_channels: int, channels: int = 64) -> None:
        c = channels
        super().__init__(
            nn.Conv2d(in_channels, c, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(c, 2 * c, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * c),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * c, 4 * c, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(4 * c),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(4 * c, 8 * c, 4, stride=1, padding=1, bias=False),
            nn.BatchNorm2d(8 * c),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(8 * c, 1, 4, stride=1, padding=1),
        )
        self.in_channels = in_channels

    @classmethod
    def from_weights(cls, weights: Mapping[str, Tensor]) -> PatchGAN:
        """Build the network that a state dict in official names belongs to, and load it.

        Raises:
            ValueError: the names or shapes are not this network's.
        """
        if "0.weight" not in weights:
            raise ValueError("these weights hold no '0.weight': not a PatchGAN discriminator.")
        channels, inputs = weights["0.weight"].shape[:2]
        network = cls(inputs, channels)
        load_tolerantly(network, weights)
        return network
