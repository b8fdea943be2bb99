"""A residual network that reads a small image and says something of each pixel of a large one.

    x ─ 1x1 ─ [block] blocks times ─ { transposed 3x3, stride 2 ─ ReLU ─ [block] blocks times }
                                       doublings times ─ 1x1 ─► outputs

    block: x + BN(conv 3x3(ReLU(BN(conv 3x3(x)))))

What is said is whatever the loss asks for: logits of intensities, or an image. Dahl, Norouzi,
Shlens, "Pixel Recursive Super Resolution", ICCV 2017, arXiv 1702.00783. The 1x1 stem and the ReLU
after each transposed convolution are those of public implementations. Departures: batch statistics
move by `momentum`, fast enough for short runs; the last layer starts a tenth as large as the rest,
so that untrained logits are almost equal.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Conditioning(nn.Module):
    """Map (N, colors, h, w) in [0, 1] to (N, outputs, scale h, scale w) in the input's dtype.

    Args:
        outputs: values per pixel of the large image, >= 1.
        channels: width, >= 1.
        blocks: residual blocks at each size, >= 0; 6 for faces in public implementations.
        colors: planes of the small image, >= 1.
        doublings: d >= 0; `scale` is 2^d.
        momentum: share of a batch's statistics in the running ones, in (0, 1].

    Raises:
        ValueError: numbers out of range.
    """

    def __init__(
        self,
        outputs: int,
        channels: int = 32,
        blocks: int = 6,
        colors: int = 3,
        doublings: int = 2,
        momentum: float = 0.01,
    ) -> None:
        super().__init__()
        if min(outputs, channels, colors) < 1 or min(blocks, doublings) < 0:
            raise ValueError(
                f"Conditioning got outputs={outputs}, channels={channels}, colors={colors}, "
                f"blocks={blocks}, doublings={doublings}; the first three must be at least 1, the "
                "others at least 0."
            )
        if not 0 < momentum <= 1:
            raise ValueError(f"Conditioning got momentum={momentum}; it must be in (0, 1].")
        self.outputs = outputs
        self.colors = colors
        self.blocks = blocks
        self.scale = 2**doublings
        self.body = nn.Sequential(
            nn.Conv2d(colors, channels, 1), *(_Block(channels, momentum) for _ in range(blocks))
        )
        for _ in range(doublings):
            self.body.append(
                # Doubles exactly; a transposed convolution of TensorFlow's "same" kind.
                nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1)
            )
            self.body.append(nn.ReLU())
            self.body.extend([_Block(channels, momentum) for _ in range(blocks)])
        self.head = nn.Conv2d(channels, outputs, 1)
        nn.init.normal_(self.head.weight, std=0.1 / channels**0.5)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, scale h, scale w)."""
        y: Tensor = self.head(self.body(x - 0.5))
        return y.to(x.dtype)  # float32 under autocast, too

    @torch.no_grad()
    def settled(self, x: Tensor) -> Tensor:
        """Do so with the running statistics, whatever the mode, and without gradient."""
        was_training = self.training
        y: Tensor = self.eval()(x)
        self.train(was_training)
        return y

    @property
    def untrained(self) -> bool:
        """Whether some running statistics have never seen a batch."""
        norms = (m for m in self.modules() if isinstance(m, nn.BatchNorm2d))
        return any(norm.num_batches_tracked == 0 for norm in norms)


class _Block(nn.Module):
    def __init__(self, channels: int, momentum: float) -> None:
        super().__init__()
        # With biases, which the normalisation undoes: as published, for the same count of weights.
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(channels, eps=1e-3, momentum=momentum)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels, eps=1e-3, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu_()))
        return x + change
