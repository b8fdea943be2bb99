"""LPIPS v0.1: how far apart two pictures are in the features of an ImageNet network.

    f_k = unit(trunk_k(x)), g_k = unit(trunk_k(y))      unit length over channels, at every place
    LPIPS(x, y) = sum_k mean_places  w_k . (f_k - g_k)^2                      k = 1..5

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018,
eq. 1. The trained heads w_k and the input scaling come from the authors' `lpips` package. Its own
constructor would first draw a whole random classifier (138 million numbers for VGG16), so the trunk
is built here from the weights handed in, whose norms must be those of the ImageNet ones: distances
through a random or another network are plausible numbers that mean nothing.

Three departures, none of which moves a value: nothing here is a parameter or enters a checkpoint,
nothing is computed with gradients for the clean picture, and a place whose features are all zero
has the gradient zero where the package's has NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlossy import _torchvision  # noqa: F401  (lpips imports torchvision)

import lpips  # isort: skip


@dataclass(frozen=True)
class _Layout:
    """The convolutions of a torchvision `features` stack and where LPIPS looks at it."""

    name: str  # of the heads' file in the lpips package
    convs: Mapping[int, tuple[int, int]]  # place in `features` -> (stride, padding)
    pools: tuple[int, ...]  # places of the max pools
    pool: int  # their kernel; stride 2
    taps: tuple[int, ...]  # places of the ReLUs that are read
    norms: tuple[float, ...]  # Frobenius norm of every kernel as trained on ImageNet
    smallest: int  # height or width under which the last tap is empty


ALEX = _Layout(
    name="alex",
    convs={0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)},
    pools=(2, 5),
    pool=3,
    taps=(1, 4, 7, 9, 11),
    norms=(17.8302, 26.1446, 28.6388, 26.1367, 20.5030),
    smallest=31,
)
VGG16 = _Layout(
    name="vgg",
    convs=dict.fromkeys((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), (1, 1)),
    pools=(4, 9, 16, 23),
    pool=2,
    taps=(3, 8, 15, 22, 29),
    norms=(
        *(10.4271, 10.7264, 13.4921, 14.7896, 17.2723, 18.8699, 19.4904),
        *(23.4525, 25.1694, 25.1087, 26.6279, 26.1314, 24.7111),
    ),
    smallest=16,
)


class Trunk(nn.Module):
    """AlexNet's or VGG16's convolutions, told apart by their first kernel: 11x11 or 3x3.

    Args:
        state: `features.N.weight` and `features.N.bias` as torchvision names them; other keys are
            ignored.

    Raises:
        ValueError: a kernel is missing, or is not the one trained on ImageNet.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        first = state.get("features.0.weight")
        if first is None:
            raise ValueError("the trunk has no 'features.0.weight'; wanted torchvision's names.")
        self.layout = ALEX if first.shape[-1] == 11 else VGG16
        scaling = lpips.ScalingLayer()
        self.register_buffer("shift", scaling.shift, persistent=False)
        self.register_buffer("scale", scaling.scale, persistent=False)
        for place, norm in zip(self.layout.convs, self.layout.norms, strict=True):
            for part in ("weight", "bias"):
                value = state.get(f"features.{place}.{part}")
                if value is None:
                    raise ValueError(f"the {self.layout.name} trunk lacks features.{place}.{part}.")
                value = value.float()
                if part == "weight":  # half the time of AlexNet's strided kernels on a CPU
                    value = value.contiguous(memory_format=torch.channels_last)
                self.register_buffer(f"{part}_{place}", value, persistent=False)
            found = float(state[f"features.{place}.weight"].float().norm())
            if abs(found / norm - 1) > 1e-3:
                raise ValueError(
                    f"features.{place}.weight of the {self.layout.name} trunk has norm "
                    f"{found:.4g}, trained on ImageNet it has {norm:.4g}: not the LPIPS trunk."
                )

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Return the five tapped feature maps, finest first, of (N, 3, H, W) in [0, 1]."""
        if min(frames.shape[-2:]) < self.layout.smallest:
            raise ValueError(
                f"{self.layout.name} features need frames of at least {self.layout.smallest} "
                f"pixels a side, not {tuple(frames.shape[-2:])}."
            )
        x = (2 * frames - 1 - self.shift) / self.scale  # the one place that knows [-1, 1]
        features = []
        for place in range(self.layout.taps[-1]):
            if place in self.layout.convs:
                stride, padding = self.layout.convs[place]
                weight, bias = (getattr(self, f"{part}_{place}") for part in ("weight", "bias"))
                x = functional.conv2d(x, weight, bias, stride=stride, padding=padding).relu()
                if place + 1 in self.layout.taps:
                    features.append(x)
            elif place in self.layout.pools:
                x = functional.max_pool2d(x, self.layout.pool, stride=2)
        return features


class LPIPS(nn.Module):
    """The distance, per picture; lower is better, 0 for equal pictures.

    Args:
        state: the trunk's weights, see `Trunk`.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.trunk = Trunk(state)
        path = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{self.trunk.layout.name}.pth"
        heads = torch.load(path, map_location="cpu", weights_only=True)
        for k in range(5):
            self.register_buffer(f"head_{k}", heads[f"lin{k}.model.1.weight"], persistent=False)

    @property
    def smallest(self) -> int:
        """The smallest height or width that has a distance, in pixels."""
        return self.trunk.layout.smallest

    def forward(self, prediction: Tensor, clean: Tensor) -> Tensor:
        """Return (N,) distances between (N, 3, H, W) pictures in [0, 1].

        Gradients reach the prediction alone; while it carries one it may leave [0, 1].

        Raises:
            ValueError: a picture leaves [0, 1] or is smaller than `smallest`.
        """
        _unit_range(clean, "clean")
        if not prediction.requires_grad:
            _unit_range(prediction, "prediction")
        with torch.no_grad():
            wanted = self.features(clean)
        return self.between(self.features(prediction), wanted)

    def features(self, frames: Tensor) -> list[Tensor]:
        """Return the five f_k (N, C_k, H_k, W_k) of (N, 3, H, W) pictures in [0, 1].

        A picture that stands in several pairs needs them once: `forward` is `between` of two.
        """
        return [_unit(features) for features in self.trunk(frames)]

    def between(self, features: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        """Return (N,) distances between the pictures whose `features` these are."""
        distances = [
            functional.conv2d((f - g).square(), getattr(self, f"head_{k}")).mean((1, 2, 3))
            for k, (f, g) in enumerate(zip(features, others, strict=True))
        ]
        return torch.stack(distances).sum(0)


def _unit(features: Tensor) -> Tensor:
    return functional.normalize(features, dim=1, eps=1e-10)


def _unit_range(frames: Tensor, key: str) -> None:
    low, high = float(frames.detach().min()), float(frames.detach().max())
    if not (low >= 0.0 and high <= 1.0):  # NaN fails both comparisons
        raise ValueError(f"LPIPS wants its {key} in [0, 1]; it spans {low:.3g}..{high:.3g}.")
