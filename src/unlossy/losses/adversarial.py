"""A conditional patch discriminator as a further player, with the stabilisers of GIF2Video.

    sees    [G, X, D(X)]: the GIF, an image (true or restored) and its gradients, all in [-1, 1];
            where the medium dropped that frame G is the kept one nearest in time
    gan     player: (BCE(real, 1) + BCE(fake, 0)) / 2      model: BCE(fake, 1)
    lsgan   the same with the squared error on raw outputs
    gate    the player steps while its accuracy < 0.75, the model while it is > 0.25
    pool    the player's fakes are, half of the time, older ones out of 60

Accuracy is the mean of the fractions of real logits above and fake logits below 0.5, a threshold on
raw logits in both forms. Real and fake images pass in separate calls, each with its own BatchNorm
statistics. Wang et al., GIF2Video, CVPR 2019, and its released training code; pool: Shrivastava et
al., CVPR 2017. GIF2Video shows its discriminator a GIF of the dropped frames too, which the medium
here has not made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlossy.errors import UserError
from unlossy.losses.objective import Player
from unlossy.losses.pixel import image_gradients
from unlossy.networks.patchgan import PatchGAN
from unlossy.sample import Restored, Sample

ACCURACY_THRESHOLD = 0.5  # on raw logits; probability 0.62 for `gan`, a quirk kept for its effect


class ImagePool(nn.Module):
    """Images shown before, so that the discriminator does not forget what the model used to do.

    Contents (half precision) travel in the state dict as extra state: their size is known only when
    the first batch comes, and buffers of a late size cannot be loaded.

    Args:
        size: images kept, >= 0; 0 always shows the newest.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.images = torch.empty(0, dtype=torch.float16)  # (n <= size, C, H, W)

    def forward(self, images: Tensor, draws: torch.Generator) -> Tensor:
        """Return as many images as given, (N, C, H, W), detached: each the new one or an older one.

        Filled first; afterwards with probability one half a stored image is shown and replaced.
        The pool starts anew when the image size changes.
        """
        images = images.detach()
        if self.images.shape[1:] != images.shape[1:]:
            self.images = images.new_empty((0, *images.shape[1:]), dtype=torch.float16)
        self.images = self.images.to(images.device)
        space = self.size - len(self.images)
        if space > 0:
            with torch.autocast(images.device.type, enabled=False):  # it refuses half on a CPU
                self.images = torch.cat([self.images, images[:space].half()])
        shown = images.clone()
        for k in range(max(space, 0), len(images)):
            if self.size and torch.rand((), generator=draws) < 0.5:
                place = int(torch.randint(self.size, (), generator=draws))
                shown[k] = self.images[place].to(images.dtype)
                self.images[place] = images[k].half()
        return shown

    def get_extra_state(self) -> Tensor:
        """Return the images for the state dict."""
        return self.images

    def set_extra_state(self, state: Tensor) -> None:
        """Take the images back."""
        self.images = state.clone()


class Adversary(Player):
    """A PatchGAN discriminator that learns to tell restored from clean, and the term that fools it.

    Args:
        network: 12 input channels with `use_gradient`, 6 without.
        form: `gan` or `lsgan`.
        weight: of the model's adversarial term, >= 0.
        use_gradient: whether the discriminator sees D(X).
        pool_size: images in the pool, >= 0.
        gate: accuracy (above which the model steps, below which the player steps).
        optimizer: parameters -> optimiser; carries the player's own rate as keyword `lr`.

    Raises:
        UserError: an unknown form, a network of the wrong width, or a gate that would stop both.
    """

    def __init__(
        self,
        network: PatchGAN,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        form: Literal["gan", "lsgan"] = "gan",
        weight: float = 1.0,
        use_gradient: bool = True,
        pool_size: int = 60,
        gate: Sequence[float] = (0.25, 0.75),
    ) -> None:
        super().__init__()
        if form not in ("gan", "lsgan"):
            raise UserError(f"loss.adversary.form is {form!r}; use 'gan' or 'lsgan'.")
        wanted = 12 if use_gradient else 6
        if network.in_channels != wanted:
            raise UserError(
                f"loss.adversary.network.in_channels is {network.in_channels}; with "
                f"use_gradient={use_gradient} it must be {wanted}."
            )
        if len(gate) != 2 or gate[0] > gate[1]:
            raise UserError(
                f"loss.adversary.gate is {list(gate)}; give two accuracies, the lower first."
            )
        if pool_size < 0:
            raise UserError(f"loss.adversary.pool_size is {pool_size}; give 0 or more images.")
        self.network = network
        self.optimizer = optimizer
        self.form = form
        self.weight = weight
        self.use_gradient = use_gradient
        self.pool = ImagePool(pool_size)
        self.model_above, self.player_below = gate

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Return the discriminator's optimiser."""
        return self.optimizer(self.network.parameters())

    def forward(self, restored: Restored, batch: Sample) -> Tensor:
        """Return how far the discriminator is from taking the last output for real."""
        seen = self._seen(restored["estimate"], batch)
        # Gradients pass through the discriminator here, none may stay in it.
        self.network.requires_grad_(False)
        logits = self.network(seen)
        self.network.requires_grad_(True)
        return self._distance(logits, 1.0)

    def loss(self, restored: Restored, batch: Sample, draws: torch.Generator) -> dict[str, Tensor]:
        """Return the discriminator's loss and accuracy on clean against pooled restored frames."""
        fake = self.network(self.pool(self._seen(restored["estimate"].detach(), batch), draws))
        real = self.network(self._seen(batch["clean"], batch))
        found = (real > ACCURACY_THRESHOLD).float().mean()
        caught = (fake < ACCURACY_THRESHOLD).float().mean()
        return {
            "loss": (self._distance(real, 1.0) + self._distance(fake, 0.0)) / 2,
            "accuracy": (found + caught) / 2,
        }

    def gate(self, accuracy: float) -> tuple[bool, bool]:
        """Return (accuracy < player_below, accuracy > model_above)."""
        return accuracy < self.player_below, accuracy > self.model_above

    def _distance(self, logits: Tensor, label: float) -> Tensor:
        target = torch.full_like(logits, label, dtype=torch.float32)
        if self.form == "lsgan":
            return functional.mse_loss(logits.float(), target)
        return functional.binary_cross_entropy_with_logits(logits.float(), target)

    def _seen(self, clip: Tensor, batch: Sample) -> Tensor:
        """Concatenate [G, X, D(X)] of every frame: (B T, 12 or 6, H, W)."""
        kept = _nearest_kept(batch, clip.shape[1])
        if kept.shape != clip.shape:
            raise UserError(
                "loss.adversary compares frames of one size, but the degraded ones are "
                f"{tuple(kept.shape)} and the restored {tuple(clip.shape)}; "
                "use a loss without an adversary."
            )
        if min(clip.shape[-2:]) < PatchGAN.smallest:
            raise UserError(
                f"loss.adversary needs crops of at least {PatchGAN.smallest} pixels; set data.crop."
            )
        condition, images = (x.flatten(0, 1) * 2 - 1 for x in (kept, clip))
        parts = [condition, images]
        if self.use_gradient:
            parts.append(functional.pad(image_gradients(images), (1, 0, 1, 0)))
        return torch.cat(parts, dim=1)


def _nearest_kept(batch: Sample, frames: int) -> Tensor:
    """Return for each of the `frames` at `t_out` the degraded one nearest in time."""
    if batch["degraded"].shape[1] == frames:
        return batch["degraded"]
    nearest = (batch["t_out"][:, :, None] - batch["t_in"][:, None]).abs().argmin(2)  # (B, T)
    clips = zip(batch["degraded"], nearest, strict=True)
    return torch.stack([clip[places] for clip, places in clips])  # (B, T, 3, h, w)
