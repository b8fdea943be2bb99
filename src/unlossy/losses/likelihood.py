"""The code length of the clean frames under the distribution that a model gives them.

    CE = - mean log softmax(logits)[label]        label = round((levels - 1) * clean)        in nats

A mean over clips, frames, sub-pixels and pixels, so that a network which knows nothing of 256
levels scores ln 256 = 5.545 whatever the batch. The sum that pixel-recursive super-resolution
maximises (Dahl et al. 2017) is this times their number, and has the same optimum.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from unlossy.losses.objective import Term
from unlossy.networks.levels import to_levels
from unlossy.sample import Restored, Sample


class CrossEntropy(Term):
    """Cross-entropy of the clean levels.

    Args:
        of: key of the logits (B, T, colors, levels, H, W) in `extras`.
        detached: only measure it, whatever the weight: no gradient reaches the model.
    """

    def __init__(self, of: str = "logits", detached: bool = False) -> None:
        super().__init__()
        self.of = of
        self.needs = frozenset({of})
        self.detached = detached

    def forward(self, restored: Restored, batch: Sample) -> Tensor:
        """Return CE."""
        logits = restored["extras"][self.of]
        if self.detached:
            logits = logits.detach()
        labels = to_levels(batch["clean"], logits.shape[3])  # (B, T, colors, H, W)
        # Levels last, where networks that work channels last have them: nothing is copied.
        logits = logits.permute(0, 1, 4, 5, 2, 3).flatten(0, 4)
        labels = labels.permute(0, 1, 3, 4, 2).flatten()
        # Half precision would lose what a level among 256 weighs.
        return functional.cross_entropy(logits.float(), labels)
