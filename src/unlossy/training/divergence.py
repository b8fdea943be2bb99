"""A run whose loss is no longer a number ends at once, and says where it went wrong.

Every term that the objective and its players log is looked at where it is logged anyway, and before
each validation, which would otherwise keep a spoilt network as the best one. A check at every step
would wait for the device at every step.
"""

from __future__ import annotations

import math

from unlossy import _torchvision  # noqa: F401
from unlossy.errors import UserError

from lightning import LightningModule, Trainer  # isort: skip
from lightning.pytorch.callbacks import Callback  # isort: skip


class DivergedError(UserError):
    """A term of the loss became NaN or infinite."""


class Divergence(Callback):
    """Ends a training one of whose logged terms is NaN or infinite, on every rank alike.

    Raises:
        DivergedError: naming the step, the term and the remedy.
    """

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Look at the terms at the trainer's logging interval."""
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            _look(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look before the validation of a fit."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            _look(trainer)


def _look(trainer: Trainer) -> None:
    logged = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("train/")}
    lost = [f"{name} became {value}" for name, value in logged.items() if not math.isfinite(value)]
    if trainer.strategy.reduce_boolean_decision(bool(lost), all=False):
        found = lost[0] if lost else "a term on another process became NaN"
        wider = ", or trainer.precision=32-true" if "16" in str(trainer.precision) else ""
        raise DivergedError(
            f"Training diverged: {found} at step {trainer.global_step}; start again with a lower "
            f"optimizer.lr{wider}."
        )
