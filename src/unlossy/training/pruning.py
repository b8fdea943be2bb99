"""Ends a trial that validates worse than the earlier ones of its Optuna study did by then.

    trial: {storage: sqlite:///..., study: NAME, number: 3, pruner: {_target_: optuna.pruners...}}

The study lives in its storage, so the trial may run in any process on any machine that reaches it.
"""

from __future__ import annotations

from omegaconf import DictConfig

from unlossy import _torchvision  # noqa: F401
from unlossy.training.configs import build
from unlossy.training.ranks import from_first

from lightning import LightningModule, Trainer  # isort: skip
from lightning.pytorch.callbacks import Callback  # isort: skip


class PrunedError(Exception):
    """The study has given this trial up."""


class Pruning(Callback):
    """Tells the study every validation of a fit, and ends the fit when its pruner says so.

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
