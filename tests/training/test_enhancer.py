"""One batch is one step, gates decide who moves, pairs that do not fit are refused."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from unlossy.degradations.gif import Gif
from unlossy.errors import UserError
from unlossy.losses.adversarial import Adversary
from unlossy.losses.likelihood import CrossEntropy
from unlossy.losses.objective import Objective, Term, Weighted
from unlossy.losses.pixel import PixelLoss
from unlossy.metrics.suite import VideoScores
from unlossy.models.baselines import Identity
from unlossy.models.ccdnet import CCDNet
from unlossy.networks.patchgan import PatchGAN
from unlossy.sample import Sample
from unlossy.training.enhancer import Enhancer, introduce, match

from lightning import Trainer  # isort: skip  (after the torchvision remedy)

STEPS = 4


def batch(seed: int) -> Sample:
    rng = torch.Generator().manual_seed(seed)
    clean = torch.rand(2, 1, 3, 32, 32, generator=rng)
    return Sample(
        name=["a", "b"],
        degraded=(clean * 3).round() / 3,
        clean=clean,
        t_in=torch.zeros(2, 1),
        t_out=torch.zeros(2, 1),
        side={
            "palette": torch.rand(2, 1, 8, 3, generator=rng),
            "palette_size": torch.full((2, 1), 8),
        },
        target={},
        bits=torch.zeros(2),
    )


def objective(gate=None) -> Objective:
    adversary = gate and Adversary(
        PatchGAN(12, 4), partial(torch.optim.Adam, lr=1e-3), pool_size=4, gate=gate
    )
    return Objective({"pixel": Weighted(100.0, PixelLoss())}, adversary or None)


def fit(gate, steps=STEPS, schedule=None):
    torch.manual_seed(0)
    optimizer = partial(torch.optim.SGD, lr=1e-3)
    enhancer = Enhancer(
        CCDNet(2, 4), objective(gate), optimizer, schedule, VideoScores(lpips=None), {}, seed=3
    )
    before = {name: value.clone() for name, value in enhancer.named_parameters()}
    trainer = Trainer(
        max_steps=steps, max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    batches = [batch(k) for k in range(2 * STEPS)]
    trainer.fit(enhancer, DataLoader(batches, batch_size=None))
    moved = {n for n, value in enhancer.named_parameters() if not torch.equal(value, before[n])}
    return trainer, enhancer, moved


@pytest.mark.parametrize(
    ("gate", "model_moves", "player_moves"),
    [
        (None, True, False),
        ((-1.0, 2.0), True, True),
        ((2.0, 2.0), False, True),
        ((-1.0, -1.0), True, False),
    ],
)
def test_one_batch_is_one_step_whoever_steps(gate, model_moves, player_moves):
    trainer, _, moved = fit(gate)
    assert trainer.global_step == STEPS
    assert trainer.fit_loop.epoch_loop.batch_progress.total.completed == STEPS
    assert any(name.startswith("model.") for name in moved) == model_moves
    assert any(name.startswith("objective.") for name in moved) == player_moves


@pytest.mark.parametrize("gate", [None, (-1.0, 2.0), (2.0, 2.0)])
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_the_schedule_goes_on_once_per_batch(gate):
    schedule = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    trainer, _, _ = fit(gate, schedule=schedule)
    rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
    assert rates == [1e-3 * 0.5**STEPS]


def test_the_player_leaves_no_gradient_of_its_own_pass_to_the_model():
    """The player's step reads a detached restoration: the model's gradient is the total's."""
    objective_ = objective((-1.0, 2.0))
    model = CCDNet(2, 4)
    nn.init.normal_(model.base.outconv.weight)
    restored = model(batch(0))
    player = objective_.players()["adversary"]
    player.loss(restored, batch(0), torch.Generator())["loss"].backward()
    assert all(p.grad is None for p in model.parameters())


def test_a_term_that_the_model_does_not_provide_for_is_named():
    class Warp(Term):
        needs = frozenset({"flow"})

    with pytest.raises(UserError, match="'warp' needs 'flow', which CCDNet does not provide"):
        introduce(CCDNet(2, 4), Objective({"warp": Weighted(1.0, Warp())}))


def test_a_model_that_reads_the_clean_clip_is_trained_on_its_likelihood():
    class Reader(Identity):
        trainable = teacher_forced = True
        provides = frozenset({"logits"})

    with pytest.raises(UserError, match=r"must learn its likelihood.*loss=nll"):
        introduce(Reader(), objective())
    introduce(Reader(), Objective({"ce": Weighted(1.0, CrossEntropy())}))


def test_a_classical_filter_is_not_trained():
    with pytest.raises(UserError, match="nothing to train"):
        introduce(Identity(), objective())


def test_a_medium_without_a_palette_is_refused_for_a_model_that_reads_one():
    class Plain:
        scale, every, keeps = 1, 1, frozenset()

    with pytest.raises(UserError, match="needs 'palette', 'palette_size', which degradation Plain"):
        match(CCDNet(2, 4), Plain())
    match(CCDNet(2, 4, embed_quantizer=False), Plain())


def test_dropped_frames_are_refused_for_a_model_that_does_not_interpolate():
    with pytest.raises(UserError, match="keeps one of 4"):
        match(CCDNet(2, 4), Gif(every=4))
