"""`save=true` through the door: every scored frame of every model, as it was scored."""

import sys

import numpy as np
import pytest
from PIL import Image

from unlossy import cli
from unlossy.models.baselines import Identity
from unlossy.report.saved_frames import load_pairs, saved_pairs
from unlossy.report.study import write_study


def test_eval_saves_what_it_scores(footage, tmp_path, monkeypatch):
    monkeypatch.setattr(Identity, "window", 4)  # of 6 frames: two windows
    own = ["source=folder", f"source.path={footage}", f"run_root={tmp_path}", "metrics=pixel"]
    monkeypatch.setattr(sys, "argv", ["eval", *own, "~baselines", "data.workers=0", "save=true"])
    cli.evaluate()
    (run,) = (tmp_path / "eval").iterdir()
    pairs = saved_pairs(run, "input")
    clips = {pair.clip for pair in pairs}
    assert len(pairs) == 6 * len(clips) > 0
    clean, degraded = load_pairs(pairs)
    for pair, frame in zip(pairs, clean, strict=True):
        original = np.asarray(Image.open(footage / pair.clip / f"{int(pair.frame):03d}.png"))
        assert np.array_equal(frame.permute(1, 2, 0).numpy(), original)
    rows = (run / "rows.csv").read_text().splitlines()
    row = dict(zip(rows[0].split(","), rows[1].split(","), strict=True))
    its = [k for k, pair in enumerate(pairs) if pair.clip == row["clip"]]
    errors = (clean[its].double() - degraded[its].double()).square().mean((1, 2, 3))
    assert float(row["psnr_all"]) == pytest.approx(
        (10 * (255**2 / errors).log10()).mean().item(), abs=1e-3
    )
    assert write_study(run, "input", tmp_path / "study.html", 4).stat().st_size > 8 * 1000
