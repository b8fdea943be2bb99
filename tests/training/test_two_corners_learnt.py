"""The toy as a user trains it: only the recursive model says one corner or the other."""

import math
import sys

import pytest
import torch

import unlossy
from unlossy import cli
from unlossy.data.two_corners import TwoCorners
from unlossy.degradations.corners import Corners
from unlossy.metrics.corners import corner_shares
from unlossy.sample import Sample, pristine


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_recursive_model_puts_the_digit_into_one_corner_or_the_other(tmp_path, monkeypatch):
    own = [f"run_root={tmp_path}", "logger=csv", "data.workers=0", "test=false"]
    monkeypatch.setattr(sys, "argv", ["train", "experiment=two_corners/recursive", *own])
    cli.train()
    (path,) = tmp_path.rglob("best.ckpt")
    model, source = unlossy.load(path), TwoCorners()
    clean = torch.cat([source.read(clip, 0, clip.frames) for clip in source.clips("test")])
    kept = Corners()(pristine("test", clean), torch.Generator())["frames"]
    times = torch.arange(float(len(clean)))[None]
    batch = Sample(
        name=["test"],
        degraded=kept[None].float() / 255,
        t_in=times,
        t_out=times,
        clean=clean[None].float() / 255,
        side={},
        target={},
        bits=torch.zeros(1),
    )
    with torch.inference_mode():
        drawn = model.restore(batch, generator=torch.Generator().manual_seed(0))[0]
        nats = float(model.bits(batch)["nll"].mean()) * clean[0].numel() * math.log(2)
    found = corner_shares(drawn, batch["degraded"][0, ..., :8, :8])
    assert 0.43 < found.shares["top_left"].value < 0.57  # three deviations of 500 fair coins
    assert found.shares["both"].value + found.shares["none"].value < 0.02
    assert found.correlation > 0.95
    assert nats < math.log(2) + 0.5
