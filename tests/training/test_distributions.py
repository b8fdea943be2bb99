"""Models of a distribution: how they are validated, what their rows hold, what they are beside."""

import csv
import json
import math
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from unlossy import cli
from unlossy.errors import UserError
from unlossy.inference.windows import clip_generator
from unlossy.losses.likelihood import CrossEntropy
from unlossy.losses.objective import Objective, Weighted
from unlossy.metrics.suite import VideoScores
from unlossy.models.baselines import Identity
from unlossy.models.ccdnet import CCDNet
from unlossy.models.model import EnhancementModel
from unlossy.sample import Restored, Sample, to_float
from unlossy.training.callbacks import Panels
from unlossy.training.enhancer import Enhancer
from unlossy.training.scoring import score_clip
from unlossy.training.trainers import watched

from lightning import Trainer  # isort: skip

LEVELS = 4


class Dice(EnhancementModel):
    """One distribution for all sub-pixels; two temperatures, of which one draws nothing."""

    provides = frozenset({"logits"})
    teacher_forced = True
    outputs = ("likeliest", "drawn")
    likelihoods = ("nll",)
    window = 2

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(LEVELS))
        self.drew = 0

    def forward(self, batch: Sample) -> Restored:
        clean = batch["clean"]
        logits = self.logits.view(1, 1, 1, -1, 1, 1).expand(*clean.shape[:3], -1, *clean.shape[3:])
        return Restored(estimate=clean, extras={"logits": logits})

    def restore_all(
        self, batch: Sample, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        self.drew += 1
        frames = batch["degraded"]
        drawn = [torch.randint(LEVELS, frames.shape[2:], generator=generator) for _ in frames[0]]
        values = torch.stack(drawn)[None] / (LEVELS - 1)
        return {"likeliest": torch.ones_like(values), "drawn": values}

    def bits(self, batch: Sample) -> dict[str, Tensor]:
        assert not self.training
        labels = (batch["clean"] * (LEVELS - 1)).round().long()
        return {"nll": -self.logits.log_softmax(0)[labels].mean((2, 3, 4)) / math.log(2)}


def sample(name: str = "a", frames: int = 5) -> Sample:
    """A clip whose sub-pixels are three times of four the darkest level, else the brightest."""
    draws = torch.Generator().manual_seed(frames)
    bright = torch.rand(1, frames, 3, 12, 12, generator=draws) > 0.75
    times = torch.arange(frames)[None].float()
    return Sample(
        name=[name],
        degraded=bright.byte() * 200,
        clean=bright.byte() * 255,
        t_in=times,
        t_out=times,
        side={},
        target={},
        bits=torch.zeros(1),
    )


def rows(model: EnhancementModel, samples: int, seed: int = 0) -> dict[str, dict[str, float]]:
    scores, clip = VideoScores(None, samples=samples), sample()
    truth = scores.reference(clip["clean"][0], clip["degraded"][0])
    return score_clip(model, clip, truth, scores, lambda where, made: None, seed)


def test_the_code_length_stands_in_the_row_of_the_last_output() -> None:
    model = Dice().train()
    found = rows(model, 1)
    assert found["drawn"]["nll"] == pytest.approx(2.0)  # four levels, all alike
    assert math.isnan(found["likeliest"]["nll"])
    assert math.isnan(found["drawn"]["diversity"])
    assert math.isnan(found["drawn"]["nll_prior"])
    assert model.training
    assert model.drew == 3  # windows


def test_diversity_is_that_of_further_draws_and_the_first_is_scored() -> None:
    one, three = rows(Dice(), 1, seed=8), rows(Dice(), 3, seed=8)
    assert one["drawn"]["psnr"] == three["drawn"]["psnr"] != rows(Dice(), 1)["drawn"]["psnr"]
    draws = clip_generator("a", 8)
    clips = [
        torch.stack([torch.randint(LEVELS, (3, 12, 12), generator=draws) for _ in range(5)]) / 3
        for _ in range(3)
    ]
    pairs = [(clips[i] - clips[j]).abs().mean().item() for i, j in ((0, 1), (0, 2), (1, 2))]
    assert three["drawn"]["diversity"] == pytest.approx(np.mean(pairs), abs=1e-3)
    assert three["likeliest"]["diversity"] == 0.0


def test_a_model_that_draws_nothing_runs_once() -> None:
    class Once(Identity):
        runs = 0

        def forward(self, batch: Sample) -> Restored:
            self.runs += 1
            return super().forward(batch)

    model = Once()
    assert math.isnan(rows(model, 8)[""]["diversity"])
    assert model.runs == 1


def test_it_is_validated_by_likelihood_without_a_draw(tmp_path: Path) -> None:
    model = Dice()
    enhancer = Enhancer(
        model,
        Objective({"cross_entropy": Weighted(1.0, CrossEntropy())}),
        partial(torch.optim.Adam, lr=0.5),
        None,
        VideoScores(None),
        {},
    )
    trainer = Trainer(
        max_steps=20, max_epochs=-1, val_check_interval=20, check_val_every_n_epoch=None,
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, callbacks=[Panels(tmp_path / "panels")],
    )  # fmt: skip
    clips = [sample("a", 3), sample("b", 5)]
    batches = DataLoader([to_float(sample("t", 2))] * 20, batch_size=None)
    trainer.fit(enhancer, batches, DataLoader(clips, batch_size=None))
    assert model.drew == 0
    assert not (tmp_path / "panels").exists()
    assert set(trainer.callback_metrics) >= {"val/nll", "train/cross_entropy"}
    assert not {"val/psnr", "val/ssim"} & set(trainer.callback_metrics)
    logs = model.logits.log_softmax(0).detach() / math.log(2)
    shares = [float((clip["clean"] > 0).float().mean()) for clip in clips]
    wanted = [-(share * logs[-1] + (1 - share) * logs[0]).item() for share in shares]
    assert [row["clip"] for row in enhancer.rows] == ["a", "b"]
    assert [row["nll"] for row in enhancer.rows] == pytest.approx(wanted, abs=1e-5)
    assert trainer.callback_metrics["val/nll"].item() == pytest.approx(np.mean(wanted), abs=1e-5)
    assert np.mean(wanted) < 1  # it has learnt: 0.81 is the entropy, 2 the start


def test_what_the_best_checkpoint_is_best_in() -> None:
    none, dice, network = VideoScores(None), Dice(), CCDNet(2, 4)
    assert watched(None, dice, none) == watched("val/nll", dice, none) == ("val/nll", "min")
    assert watched(None, network, none) == ("val/psnr", "max")
    with pytest.raises(UserError, match=r"monitor=val/psnr is not .*; use one of val/nll\.$"):
        watched("val/psnr", dice, none)
    with pytest.raises(UserError, match=r"use one of val/psnr, val/ssim\.$"):
        watched("val/nll", network, none)
    dice.teacher_forced = False  # as the pixel-independent model: cheap to restore
    assert watched(None, dice, none) == ("val/nll", "min")
    assert watched("val/psnr", dice, none) == ("val/psnr", "max")


def test_baselines_of_super_resolution_through_the_door(footage, tmp_path, monkeypatch, capfd):
    own = ["source=folder", f"source.path={footage}", f"run_root={tmp_path}", "metrics=stills"]
    own += ["metrics.lpips=null", "metrics.distances={}", "data.workers=0"]
    own += ["degradation=downscale", "+model@baselines.nearest_patch=nearest_patch"]
    monkeypatch.setattr(sys, "argv", ["eval", *own])
    cli.evaluate()
    assert "left out" not in capfd.readouterr().err  # nobody expects filters of another scale
    (run,) = (tmp_path / "eval").iterdir()
    with (run / "rows.csv").open() as file:
        found = {row["model"]: row for row in csv.DictReader(file)}
    assert list(found) == ["input", "bicubic", "nearest_patch"]
    assert float(found["bicubic"]["psnr"]) > float(found["input"]["psnr"])
    card = json.loads((run / "run.json").read_text())
    train = card["data"]["train"]["folder"]["frames"]
    assert card["filters"] == {"nearest_patch": f"{train} patches"}
    clip = found["input"]["clip"]
    errors = []
    for path in sorted((footage / clip).glob("*.png")):
        picture = np.asarray(Image.open(path))
        channels = [Image.fromarray(c.astype(np.float32)) for c in np.moveaxis(picture, 2, 0)]
        small = [np.asarray(c.resize((14, 10), Image.Resampling.BICUBIC)) for c in channels]
        large = np.kron(np.clip(np.round(np.stack(small, -1)), 0, 255), np.ones((4, 4, 1)))
        errors.append(10 * math.log10(255**2 / ((large - picture) ** 2).mean()))
    assert float(found["input"]["psnr"]) == pytest.approx(np.mean(errors), abs=0.01)
    assert 0 < float(found["bicubic"]["consistency"]) < float(found["input"]["consistency"])
    assert 0 < float(found["nearest_patch"]["msssim_scaled"]) < 1
    assert found["bicubic"]["diversity"] == found["bicubic"]["nll"] == ""
