"""VGG-19 up to conv5_2, as FILM's losses see it: with average pools in place of max pools.

    conv1_2 ─ conv2_2 ─ conv3_2 ─ conv4_2 ─ conv5_2       the five maps, behind their ReLU
    64        128       256       512       512           channels; half the size each, rounded up

Simonyan and Zisserman, ICLR 2015; average pools after Gatys et al., CVPR 2016. The weights are
nobody's parameters and enter no checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Norm = Literal["torchvision", "caffe"]

# Place in torchvision's `features` -> channels in and out; nothing behind conv5_2 is needed.
_CONVS = {
    **{0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256)},
    **dict.fromkeys((12, 14, 16), (256, 256)),
    **{19: (256, 512)},
    **dict.fromkeys((21, 23, 25, 28, 30), (512, 512)),
}
_POOLS = (4, 9, 18, 27)
_TAPS = (2, 7, 12, 21, 30)  # conv1_2, conv2_2, conv3_2, conv4_2, conv5_2
# What is taken off (R, G, B) and what they are then divided by, of pictures in [0, 1].
_NORMS: Mapping[Norm, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "torchvision": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,) * 3),
}


class VGG19(nn.Module):
    """Five feature maps of pictures of any size.

    Args:
        state: `features.N.weight` and `features.N.bias` as torchvision names them; others are
            ignored.
        norm: how the pictures were scaled that the weights were trained on: torchvision's, or
            Caffe's and MatConvNet's, whose features are on the scale of 0..255.

    Raises:
        ValueError: a weight is missing or of another shape.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, state: Mapping[str, Tensor], norm: Norm = "torchvision") -> None:
        super().__init__()
        for name, values in zip(("mean", "std"), _NORMS[norm], strict=True):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        for place, (inputs, outputs) in _CONVS.items():
            for part, shape in (("weight", (outputs, inputs, 3, 3)), ("bias", (outputs,))):
                value = state.get(f"features.{place}.{part}")
                if value is None or tuple(value.shape) != shape:
                    found = "nothing" if value is None else tuple(value.shape)
                    raise ValueError(f"features.{place}.{part} is {found}, VGG-19's is {shape}")
                self.register_buffer(f"{part}_{place}", value.float(), persistent=False)

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Return the five maps, finest first, of (N, 3, H, W) in [0, 1]."""
        x = (frames - self.mean) / self.std
        maps = []
        for place in range(_TAPS[-1] + 1):
            if place in _POOLS:
                # TensorFlow's "same": what lies outside is not counted.
                x = functional.avg_pool2d(x, 2, ceil_mode=True)
            elif place in _CONVS:
                weight, bias = getattr(self, f"weight_{place}"), getattr(self, f"bias_{place}")
                x = functional.conv2d(x, weight, bias, padding=1).relu()
                if place in _TAPS:
                    maps.append(x)
        return maps
