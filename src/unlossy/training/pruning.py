"""Ends a trial that validates worse than the earlier ones of its Optuna study did by then.

    trial: {storage: sqlite:///..., study: NAME, number: 3, pruner: {_target_: optuna.pruners...}}

The study lives in its storage, so the trial may run in any process on any machine that reaches it.
"""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from unlossy import _torchvision  # noqa: F401
from unlossy.training.configs import build
from unlossy.training.ranks import from_first

from lightning import LightningModule, Trainer  # isort: skip
from lightning.pytorch.callbacks import Checkpoint  # isort: skip


# Attribute of a trial: why its death would not be its fault.
SPARED = "spared"


class PrunedError(Exception):
    """The study has given this trial up."""


class Pruning(Checkpoint):
    """Tells the study every validation of a fit, and ends the fit when its pruner says so.

    It is a `Checkpoint` because Lightning calls those last, in the order given: a trial that is
    given up has kept its last validation.

    Args:
        trial: the node described above.
        monitor: the validated value that the study is about.

    Raises:
        PrunedError: naming the step and the value.
    """

    def __init__(self, trial: DictConfig, monitor: str) -> None:
        import optuna  # an extra

        from unlossy.training.studies import open_storage

        self.monitor = monitor
        study = optuna.load_study(
            study_name=trial.study,
            storage=open_storage(trial.storage),
            pruner=build(trial.pruner),
        )
        (own,) = (one for one in study.get_trials() if one.number == trial.number)
        self._trial = optuna.trial.Trial(study, own._trial_id)
        self._saved = False

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say, on the first rank and once, that from now on its run would go on if killed."""
        if trainer.is_global_zero and not self._saved:
            self._trial.set_user_attr(SPARED, f"saved step {trainer.global_step}")
            self._saved = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, on the first rank, and hear whether to go on."""
        value = trainer.callback_metrics.get(self.monitor)
        if trainer.state.fn != "fit" or value is None:
            return
        step = trainer.global_step

        def hopeless() -> bool:
            self._trial.report(float(value), step)
            return self._trial.should_prune()

        if from_first(hopeless):
            raise PrunedError(f"given up at step {step} with {self.monitor} {float(value):.4g}")
