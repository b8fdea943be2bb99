"""Several sources as one: the union of their clips; each clip keeps its own `source`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

from torch import Tensor

from unlossy.data.source import Source
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
        UserError: `weights` does not name exactly the parts, or two parts offer clips of one name.
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
        if self.weights is None:
            return self.parts[name].weight(clip)
        return self.weights[name] * self.parts[name].weight(clip) / self._total[name]

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
    def _total(self) -> dict[str, float]:
        return {
            name: sum(part.weight(clip) * clip.frames for clip in part.clips("train")) or 1.0
            for name, part in self.parts.items()
        }
