"""The one LightningModule: introduces a model, an objective and an optimiser to each other.

    automatic    total = objective(model(batch)); one optimiser                    (no players)
    adversarial  restored = model(batch)
                 each player: loss on the detached restoration, backward, step if its gate opens
                 total = objective(restored) with the just-updated players, backward,
                 step if every gate lets the model step                            (manual)

One batch is one step, whoever stepped: Lightning would count every optimiser's step under manual
optimisation (and none where the gate is shut), which halves `max_steps` and bends schedules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from unlossy import _torchvision  # noqa: F401
from unlossy.errors import UserError
from unlossy.losses.objective import Objective
from unlossy.metrics.suite import VideoScores
from unlossy.models.model import EnhancementModel
from unlossy.sample import Degradation, Restored, Sample, check
from unlossy.training import ranks
from unlossy.training.scoring import (
    mean_code_lengths,
    outputs_of,
    score_clip,
    shown_frame,
    truth_of,
)

from lightning import LightningModule  # isort: skip  (after the torchvision remedy)
from lightning.pytorch.core.optimizer import LightningOptimizer, do_nothing_closure  # isort: skip


# Columns that a validation logs under `val/`, as far as rows have them.
VALIDATED = ("psnr", "ssim", "lpips_alex", "nll", "nll_conditioning", "nll_prior")


class Enhancer(LightningModule):
    """Trains `model` on `objective` and scores it on validation clips.

    Args:
        model: what is trained.
        objective: what it is trained on.
        optimizer: called with the model's parameter groups.
        schedule: called with the optimiser; stepped once per batch. None keeps the rate constant.
        scores: the metric suite of validation.
        card: plain containers that go into every checkpoint (see `unlossy.checkpoint`).
        seed: of the players' draws; with the step and the rank it determines them. Also of what
            the model draws in validation.

    """

    taken: Tensor

    def __init__(
        self,
        model: EnhancementModel,
        objective: Objective,
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        schedule: Callable[[Optimizer], LRScheduler] | None,
        scores: VideoScores,
        card: Mapping[str, Any],
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        # In a tuple: its LPIPS trunk is no part of this module's state.
        self.scores = (scores.for_validation(),)
        self.card = dict(card)
        self.seed = seed
        self.rows: list[dict[str, Any]] = []
        self._to_take_back: dict[str, Any] = {}
        self._make_optimizer = optimizer
        self._make_schedule = schedule
        # Steps taken by the model, then by each player: the gates shut now and then.
        self.register_buffer("taken", torch.zeros(1 + len(objective.players()), dtype=torch.long))
        self.automatic_optimization = not objective.players()
        # A fifth of the step on two cores; the layout that tensor cores want, too.
        self.to(memory_format=torch.channels_last)

    def forward(self, batch: Sample) -> Restored:
        """Restore a batch without clamping."""
        return cast(Restored, self.model(batch))

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor | None:
        """Take one step and return the total loss (automatic), or None (adversarial)."""
        restored = self(batch)
        if self.automatic_optimization:
            terms = self.objective(restored, batch, self.global_step)
            self._log_terms(terms)
            return cast(Tensor, terms["total"])
        self._step_with_players(restored, batch)
        return None

    def _step_with_players(self, restored: Restored, batch: Sample) -> None:
        model_optimizer, *player_optimizers = self._silent_optimizers()
        draws = torch.Generator().manual_seed(_mix(self.seed, self.global_step, self.global_rank))
        model_may_step = True
        players = self.objective.players()
        for k, (name, player) in enumerate(players.items(), 1):
            optimizer = player_optimizers[k - 1]
            played = player.loss(restored, batch, draws)
            optimizer.zero_grad()
            self.manual_backward(played["loss"])
            accuracy = float(self.trainer.strategy.reduce(played["accuracy"], reduce_op="mean"))
            player_steps, model_steps = player.gate(accuracy)
            if player_steps:
                optimizer.step()
                self.taken[k] += 1
            model_may_step &= model_steps
            for key, value in played.items():
                self.log(f"train/{name}_{key}", value.detach(), sync_dist=True)
        terms = self.objective(restored, batch, self.global_step)
        model_optimizer.zero_grad()
        self.manual_backward(terms["total"])
        if model_may_step:
            model_optimizer.step()
            self.taken[0] += 1
        for schedule in self._schedules():
            schedule.step()
        self._log_terms(terms)
        self._count_one_step()
        for name, taken in zip(("model", *players), self.taken.tolist(), strict=True):
            self.log(f"train/{name}_share_of_steps", taken / self.global_step)

    def _silent_optimizers(self) -> list[LightningOptimizer]:
        """Return all optimisers, kept from counting; Lightning rebinds the hooks every batch."""
        optimizers = cast(list[LightningOptimizer], self.optimizers())
        for optimizer in optimizers:
            optimizer._on_before_step = optimizer._on_after_step = do_nothing_closure
        return optimizers

    def _count_one_step(self) -> None:
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.increment_ready()
        progress.increment_completed()

    def _schedules(self) -> list[LRScheduler]:
        schedules = self.lr_schedulers()
        if schedules is None:
            return []
        return cast(list[LRScheduler], schedules if isinstance(schedules, list) else [schedules])

    def _log_terms(self, terms: Mapping[str, Tensor]) -> None:
        for name, value in terms.items():
            shown = name == "total"
            self.log(f"train/{name}", value.detach(), prog_bar=shown, sync_dist=True)

    def on_validation_epoch_start(self) -> None:
        """Start a new table of validation rows, by the model that the first rank would keep."""
        self.rows = []
        ranks.share_buffers(self)

    def validation_step(self, sample: Sample | None, batch_idx: int) -> dict[str, Tensor]:
        """Score one whole clip; its `shown_frame`, restored, uint8 (3, H, W), is for pictures.

        A model that is trained on likelihood alone is validated on it, without a restoration: to
        draw all clips, sub-pixel by sub-pixel, would take longer than the training between.
        None comes where there are more ranks than clips.
        """
        if sample is None:
            return {}
        if self.model.teacher_forced:
            row = {"clip": sample["name"][0], **mean_code_lengths(self.model, sample)}
            self.rows.append(row)
            return {}
        main = outputs_of(self.model)[-1]
        scores, of_clip = self.scores[0], shown_frame(sample)
        seen: list[Tensor] = []

        def look(where: slice, made: Mapping[str, Tensor]) -> None:
            if of_clip in range(where.start, where.stop):
                seen.append(made[main][of_clip - where.start])

        truth = truth_of(scores, sample, self.device)
        self.rows.append(score_clip(self.model, sample, truth, scores, look, self.seed)[main])
        return {"shown": seen[0]}

    def on_validation_epoch_end(self) -> None:
        """Log the unweighted mean over the clips of all ranks of every metric."""
        self.rows = ranks.gathered(self.rows)
        for name in VALIDATED:
            values = self._column(name)
            if name == "psnr" and not values:  # every GIF is exact: best is what leaves it so
                values = self._column("psnr_all")
            if values:
                shown = name in ("psnr", "nll")
                self.log(f"val/{name}", fmean(values), prog_bar=shown, sync_dist=True)

    def _column(self, name: str) -> list[float]:
        cells = (row.get(name, math.nan) for row in self.rows)
        return [cell for cell in cells if not math.isnan(cell)]

    def configure_optimizers(self) -> Any:
        """Return the model's optimiser with its schedule, then one optimiser per player."""
        lr = _learning_rate(self._make_optimizer)
        optimizer = self._make_optimizer(self.model.param_groups(lr))
        first: dict[str, Any] = {"optimizer": optimizer}
        if self._make_schedule is not None:
            schedule = self._make_schedule(optimizer)
            first["lr_scheduler"] = {"scheduler": schedule, "interval": "step"}
        players = self.objective.players().values()
        return [first, *({"optimizer": player.make_optimizer()} for player in players)]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the card that lets `unlossy.load` rebuild the model, and what each rank has kept."""
        checkpoint["unlossy"] = self.card
        if ranks.world() > 1:
            checkpoint["of_ranks"] = ranks.gathered([self._kept()])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember what each rank had kept, if there were as many."""
        of_ranks = checkpoint.get("of_ranks", [])
        if len(of_ranks) == ranks.world():
            self._to_take_back = of_ranks[ranks.rank()]

    def on_train_start(self) -> None:
        """Take it back: the state dict was the first rank's."""
        for name, state in self._to_take_back.items():
            self.get_submodule(name).set_extra_state(state)

    def _kept(self) -> dict[str, Any]:
        """Return what is no parameter or buffer: the images that a discriminator has been shown."""
        return {
            name: module.get_extra_state()
            for name, module in self.named_modules()
            if type(module).get_extra_state is not nn.Module.get_extra_state
        }


def introduce(model: EnhancementModel, objective: Objective) -> None:
    """Refuse a pair that cannot be trained together.

    Raises:
        UserError: the model has nothing to train, lacks what a loss term reads, or reads the clean
            clip under a loss that is no likelihood.
    """
    name = type(model).__name__
    if model.assembled or not model.trainable:
        raise UserError(
            f"Model {name} has nothing to train; run it with eval.py, or choose another model."
        )
    for term, needs in objective.needs.items():
        if missing := sorted(needs - model.provides):
            raise UserError(
                f"Loss term '{term}' needs {', '.join(map(repr, missing))}, which {name} does not "
                f"provide; choose another loss or model."
            )
    if model.teacher_forced and not any(objective.needs.values()):
        raise UserError(
            f"{name} reads the clean clip while it trains and must learn its likelihood, or what "
            "it draws is noise; choose loss=nll, or another model."
        )


@torch.no_grad()
def rehearse(model: EnhancementModel, objective: Objective, batch: Sample) -> None:
    """Take a batch through model and objective as a step would, changing neither.

    Raises:
        UserError: the batch is malformed, or its clips do not suit the model or the objective.
    """
    modes = [(module, module.training) for module in (*model.modules(), *objective.modules())]
    try:
        check(batch)
        model.check_lesson(batch)
        objective.eval()(model.eval()(batch), batch, 0)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"A first batch does not pass: {error} Another data.crop may.") from error
    finally:
        for module, training in modes:
            module.training = training


def match(model: EnhancementModel, degradation: Degradation) -> None:
    """Refuse a model that wants side information or a scale which the degradation does not give.

    Raises:
        UserError: naming what is missing.
    """
    name, medium = type(model).__name__, type(degradation).__name__
    if missing := sorted(model.needs - degradation.keeps):
        raise UserError(
            f"Model {name} needs {', '.join(map(repr, missing))}, which degradation {medium} does "
            f"not keep; choose another degradation or switch the need off in the model's options."
        )
    if degradation.every > 1 and not model.interpolates:
        raise UserError(
            f"Model {name} makes no frames between those it sees, but degradation {medium} keeps "
            f"one of {degradation.every}; set degradation.every=1 or take one that does."
        )
    if model.scale != degradation.scale:
        raise UserError(
            f"Model {name} has scale {model.scale}, but degradation {medium} has scale "
            f"{degradation.scale}; choose a pair with equal scales."
        )


def _learning_rate(make_optimizer: Callable[..., Optimizer]) -> float:
    return float(getattr(make_optimizer, "keywords", {})["lr"])


def _mix(seed: int, step: int, rank: int) -> int:
    """Return one seed for a (seed, step, rank), far apart for neighbours."""
    return ((seed * 1_000_003 + step) * 1_000_003 + rank) & 0x7FFF_FFFF_FFFF_FFFF
