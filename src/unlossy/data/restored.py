"""Clips as a finished stage leaves them: what the next stage is trained to restore.

    clean ──degradation──► degraded ──model of a checkpoint──► uint8 ──► the next stage's input

A restoration is one more thing that happens to a clip, so this is a degradation like any other: the
cache computes it once per clip, whole clips and whole frames, and files it under what the medium is
and what the model is, wherever the checkpoint lies. The medium draws as it drew for the stage.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import ClassVar

import torch

from unlossy import checkpoint
from unlossy.data.cache import code_of, draws_of
from unlossy.data.digest import code
from unlossy.errors import UserError
from unlossy.inference.windows import restored_windows
from unlossy.models.model import EnhancementModel
from unlossy.sample import Degradation, Degraded, Sample

_PACKAGE = Path(__file__).parents[1]
_GONE = frozenset({"palette", "palette_size"})  # restored frames have other colours


@dataclass(frozen=True)
class RestoredClips:
    """Degrades a clip and restores it again; keeps the medium's bits, times and side information.

    Runs on the GPU where there is one, in the process that fills the cache.

    Args:
        degradation: the medium that the stage was trained on; it keeps every frame.
        ckpt: the stage's checkpoint, whose model sees no more than the medium keeps and gives
            frames of the clean size.

    Attributes:
        sha256: fingerprint of the model in the checkpoint; with `made_by`, digests of the code that
            degrades and restores, it stands for `ckpt` in the cache.

    Raises:
        UserError: the checkpoint is missing or none, or its model does not fit the medium.
    """

    degradation: Degradation
    ckpt: InitVar[str]
    sha256: str = field(init=False)
    made_by: tuple[str, str] = field(init=False)
    _model: EnhancementModel = field(init=False, repr=False, compare=False)

    scale: ClassVar[int] = 1
    every: ClassVar[int] = 1

    def __post_init__(self, ckpt: str) -> None:
        model, degradation = checkpoint.load(ckpt), self.degradation
        medium, holds = type(degradation).__name__, f"{ckpt} holds {type(model).__name__}"
        if missing := sorted(model.needs - degradation.keeps):
            raise UserError(
                f"{holds}, which needs {', '.join(map(repr, missing))}, and degradation {medium} "
                f"does not keep that; take the degradation that the stage was trained on."
            )
        if model.scale != degradation.scale:
            raise UserError(
                f"{holds} of scale {model.scale}, but degradation {medium} has scale "
                f"{degradation.scale}; take the degradation that the stage was trained on."
            )
        if degradation.every > 1:
            raise UserError(
                f"Degradation {medium} keeps one of {degradation.every} frames, and a stage "
                f"restores clips of which every frame is kept; set degradation.every=1."
            )
        restorers = (_PACKAGE / room for room in ("inference", "models", "networks"))
        known = {
            "sha256": checkpoint.fingerprint(ckpt),
            "made_by": (code_of(degradation), code(*restorers)),
            "_model": model.requires_grad_(False),  # forked workers share it
        }
        for name, value in known.items():
            object.__setattr__(self, name, value)

    @property
    def keeps(self) -> frozenset[str]:
        """What the medium keeps beside the frames, but for palettes."""
        return self.degradation.keeps - _GONE

    @property
    def in_process(self) -> bool:
        """Whether the cache must be filled in its own process: forked workers have no GPU."""
        return torch.cuda.is_available()

    def __call__(self, clip: Degraded, rng: torch.Generator) -> Degraded:
        """Return the restored clip; `rng` is not drawn from, see the head of this file."""
        kept = self.degradation(clip, draws_of(clip["name"], self.degradation))
        times = kept["t_in"][None]
        sample = Sample(
            name=[kept["name"]],
            degraded=kept["frames"][None],
            t_in=times,
            t_out=times,
            side={key: value[None] for key, value in kept["side"].items()},
            target={},
            bits=torch.zeros(1),
        )
        if torch.cuda.is_available():
            self._model.cuda()
        restored = torch.cat([frames for _, frames in restored_windows(self._model, sample)])
        return Degraded(
            name=kept["name"],
            frames=restored,
            t_in=kept["t_in"],
            side={key: value for key, value in kept["side"].items() if key not in _GONE},
            stream=kept["stream"],
            reference=kept["reference"],
        )
