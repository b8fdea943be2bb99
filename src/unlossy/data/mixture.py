"""Several sources as one: the union of their clips; each clip keeps its `source` and target."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

from torch import Tensor

from unlossy.data.source import EVERYWHERE, Area, Source
from unlossy.errors import UserError
from unlossy.sample import Clip, Split


@dataclass(frozen=True)
class Mixed(Source):
    """The union of `parts`.

    Args:
        parts: name -> source.
        weights: name -> share of the training samples, any scale; None draws every training frame
            of the union equally often.

    Raises:
        UserError: `weights` does not name exactly the parts, or two parts offer clips of one name;
            or, of `weight`, parts to train on have targets of other names.
    """

    parts: Mapping[str, Source]
    weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and set(self.weights) != set(self.parts):
            raise UserError(
                f"source.weights names {sorted(self.weights)}, the parts of the mixture are "
                f"{sorted(self.parts)}; give each part one weight."
            )

    def clips(self, split: Split) -> Sequence[Clip]:
        """Return the clips of all parts, part by part."""
        return [clip for part in self.parts.values() for clip in part.clips(split)]

    def read(self, clip: Clip, start: int, count: int) -> Tensor:
        """Return frames as the part that offers the clip does."""
        return self.parts[self._part_of[clip]].read(clip, start, count)

    def weight(self, clip: Clip) -> float:
        """Return the part's share, spread over its training frames."""
        name = self._part_of[clip]
        return self._share[name] * self.parts[name].weight(clip)

    def flips(self, clip: Clip) -> Collection[int]:
        """Return what the part that offers the clip does."""
        return self.parts[self._part_of[clip]].flips(clip)

    def target(
        self, clip: Clip, start: int, count: int, area: Area = EVERYWHERE
    ) -> dict[str, Tensor]:
        """Return what the part that offers the clip does."""
        return self.parts[self._part_of[clip]].target(clip, start, count, area)

    def version(self, clip: Clip) -> str:
        """Return the part's digest: mixing changes no frame."""
        return self.parts[self._part_of[clip]].version(clip)

    @cached_property
    def _part_of(self) -> dict[Clip, str]:
        found: dict[Clip, str] = {}
        for name, part in self.parts.items():
            for split in get_args(Split):
                for clip in part.clips(split):
                    if found.setdefault(clip, name) != name:
                        raise UserError(
                            f"Both {found[clip]} and {name} of the mixture offer a clip "
                            f"{clip.name}; leave one of them out."
                        )
        return found

    @cached_property
    def _share(self) -> dict[str, float]:
        """What the weight of a part's clips is multiplied by; only training asks for it."""
        train = {name: part.clips("train") for name, part in self.parts.items()}
        targets: dict[tuple[str, ...], str] = {}
        for name, clips in train.items():
            if clips:
                keys = tuple(sorted(self.parts[name].target(clips[0], 0, 1)))
                targets.setdefault(keys, name)
        if len(targets) > 1:
            named = [f"{name} has {', '.join(keys) or 'none'}" for keys, name in targets.items()]
            raise UserError(
                f"A batch takes clips with the same targets, but of the mixture "
                f"{' and '.join(named[:2])}; train on one of them."
            )
        if self.weights is None:
            return dict.fromkeys(self.parts, 1.0)
        total = {
            name: sum(self.parts[name].weight(clip) * clip.frames for clip in clips) or 1.0
            for name, clips in train.items()
        }
        return {name: self.weights[name] / total[name] for name in self.parts}
