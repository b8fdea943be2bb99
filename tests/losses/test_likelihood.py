"""Cross-entropy against a loop over sub-pixels; what reaches whom."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from unlossy.losses.likelihood import CrossEntropy
from unlossy.losses.objective import Objective
from unlossy.sample import Restored, Sample

CONF = Path(__file__).parents[2] / "conf" / "loss"


def logits(levels: int, seed: int = 0) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 3, levels, 4, 5, generator=draws).requires_grad_()


def sample(levels: int) -> tuple[Sample, Tensor]:
    """A batch, and the labels that its clean frames stand for."""
    draws = torch.Generator().manual_seed(9)
    labels = torch.randint(0, levels, (2, 3, 3, 4, 5), generator=draws)
    clean = labels / (levels - 1)
    return Sample(
        name=["a", "b"],
        degraded=clean,
        clean=clean,
        t_in=torch.zeros(2, 3),
        t_out=torch.zeros(2, 3),
        side={},
        target={},
        bits=torch.zeros(2),
    ), labels


def restored(**extras: Tensor) -> Restored:
    return Restored(estimate=torch.zeros(2, 3, 3, 4, 5), extras=extras)


def built(name: str, **weights: float) -> Objective:
    cfg = OmegaConf.load(CONF / f"{name}.yaml")
    for term, weight in weights.items():
        cfg.terms[term].weight = weight
    return instantiate(cfg)


@pytest.mark.parametrize("levels", [2, 7, 256])
def test_cross_entropy_is_the_mean_over_sub_pixels_of_minus_log_p(levels: int) -> None:
    batch, labels = sample(levels)
    scores = logits(levels)
    values = []
    for place in np.ndindex(*labels.shape):
        b, t, c, y, x = place
        row = scores[b, t, c, :, y, x].detach().double().numpy()
        values.append(-row[labels[place]] + math.log(np.exp(row).sum()))
    found = CrossEntropy()(restored(logits=scores), batch)
    assert found.item() == pytest.approx(np.mean(values), rel=1e-6)


def test_all_bytes_are_their_own_labels() -> None:
    """A model that is sure of every byte pays nothing: no byte is rounded to its neighbour."""
    clean = (torch.arange(256, dtype=torch.uint8).float() / 255).view(1, 1, 1, 16, 16)
    scores = torch.eye(256).mul(1e4).view(1, 1, 1, 16, 16, 256).movedim(-1, 3)
    batch = Sample(**{**sample(256)[0], "clean": clean})
    assert CrossEntropy()(restored(logits=scores), batch).item() == 0.0


def test_who_knows_nothing_pays_the_logarithm_of_the_levels_also_in_half_precision() -> None:
    batch, _ = sample(256)
    flat = restored(logits=torch.zeros(2, 3, 3, 256, 4, 5, dtype=torch.bfloat16))
    found = CrossEntropy()(flat, batch)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(math.log(256), rel=1e-6)


def test_nll_adds_joint_and_conditioning_and_only_measures_the_prior() -> None:
    batch, _ = sample(8)
    parts = {name: logits(8, k) for k, name in enumerate(("logits", "logits_conditioning"))}
    parts["logits_prior"] = logits(8, 2)
    objective = built("nll")
    assert objective.needs["prior"] == {"logits_prior"}
    terms = objective(restored(**parts), batch, 0)
    assert list(terms) == ["joint", "conditioning", "prior", "total"]
    assert terms["total"].item() == pytest.approx((terms["joint"] + terms["conditioning"]).item())
    assert terms["prior"].item() > 1
    terms["total"].backward()
    assert parts["logits"].grad is not None
    assert parts["logits_conditioning"].grad.abs().sum() > 0
    assert parts["logits_prior"].grad is None


def test_the_weight_of_the_auxiliary_term_can_be_zero() -> None:
    batch, _ = sample(8)
    parts = {f"logits{name}": logits(8) for name in ("", "_conditioning", "_prior")}
    terms = built("nll", conditioning=0)(restored(**parts), batch, 0)
    assert terms["total"].item() == terms["joint"].item()
    terms["total"].backward()
    assert not parts["logits_conditioning"].grad.any()


def test_ce_reads_the_logits_alone() -> None:
    batch, _ = sample(8)
    objective = built("ce")
    assert objective.needs == {"cross_entropy": {"logits"}}
    terms = objective(restored(logits=logits(8)), batch, 0)
    assert terms["total"].item() == CrossEntropy()(restored(logits=logits(8)), batch).item()


def test_l2_is_the_mean_squared_error() -> None:
    batch, _ = sample(8)
    draws = torch.Generator().manual_seed(4)
    estimate = torch.rand(batch["clean"].shape, generator=draws)
    wanted = np.mean((estimate.numpy() - batch["clean"].numpy()) ** 2)
    total = built("l2")(Restored(estimate=estimate, extras={}), batch, 0)["total"]
    assert total.item() == pytest.approx(wanted, rel=1e-6)
