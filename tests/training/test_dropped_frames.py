"""Evaluation where a medium drops frames: who is compared, on which frames, and what is shown."""

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor, nn

from unlossy import cli
from unlossy.degradations.drop_frames import DropFrames
from unlossy.degradations.gif import Gif
from unlossy.losses.objective import Objective, Weighted
from unlossy.losses.pixel import PixelLoss
from unlossy.metrics.suite import VideoScores
from unlossy.models.baselines import Bicubic, Gaussian, Identity, Undither
from unlossy.models.interpolation_baselines import FrameAverage
from unlossy.models.interpolator import Interpolator
from unlossy.report.gallery import read_gallery
from unlossy.report.saved_frames import SavedFrames
from unlossy.sample import Sample
from unlossy.training import runs
from unlossy.training.enhancer import Enhancer
from unlossy.training.evaluation import suitable
from unlossy.training.scoring import Strips, score, shown_frame


def evaluated(*overrides: str) -> tuple[Path, list[dict[str, str]]]:
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose("eval", list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    own = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    folder = runs.evaluate(own, cfg.hydra.runtime.choices)
    with (folder / "rows.csv").open() as file:
        return folder, list(csv.DictReader(file))


def dropped(frames: int, factor: int) -> Sample:
    """A whole clip whose frame t is t everywhere, of which every factor-th frame was kept."""
    clean = torch.arange(frames, dtype=torch.uint8).view(1, -1, 1, 1, 1).expand(1, -1, 3, 4, 6)
    times = torch.arange(frames)[None].float()
    return Sample(
        name=["a/clip"],
        degraded=clean[:, ::factor],
        clean=clean,
        t_in=times[:, ::factor],
        t_out=times,
        side={},
        target={},
        bits=torch.tensor([48.0]),
    )


@pytest.mark.parametrize("chained", [False, True])
def test_the_table_holds_the_input_and_what_interpolates(chained, footage, tmp_path, capfd):
    folder, rows = evaluated(
        "source=folder", f"source.path={footage}", "source.test=1", "source.val=0",
        f"degradation={'drop_frames_gif' if chained else 'drop_frames'}",
        f"run_root={tmp_path}", "metrics=pixel", "data.workers=0", "save=true",
    )  # fmt: skip
    names = list(dict.fromkeys(row["model"] for row in rows))
    assert names == ["input", "frame_average", "minterpolate"]
    assert len(rows) == 3 * 8
    assert "left out" not in capfd.readouterr().err
    for row in rows:
        # Of 6 frames, 0 2 4 are kept and 0..4 wanted; or 0 4, none of which is as it was.
        assert (row["frames"], row["exact"]) == ("5", "0" if chained else "3")
        assert float(row["bpp"]) == pytest.approx(int(row["bits"]) / (5 * 40 * 56), rel=1e-5)
        assert float(row["psnr_clip"]) < 60
        if not chained:
            assert int(row["bits"]) == 8 * 3 * 3 * 40 * 56
            assert float(row["psnr"]) < float(row["psnr_all"])
        made = sorted((folder / "frames" / row["model"] / row["clip"]).iterdir())
        assert [path.stem for path in made] == [f"{t:04d}" for t in range(5)]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["minterpolate"]["psnr_clip"] == pytest.approx(
        np.mean([float(r["psnr_clip"]) for r in rows if r["model"] == "minterpolate"]), rel=1e-4
    )
    assert len(list((folder / "panels" / "test").iterdir())) == 8
    exhibits = read_gallery(folder)  # nothing was trained, so the input and the clean clip
    assert [[shown.label for shown in each.outputs] for each in exhibits] == [
        ["input", "clean"]
    ] * 6


def test_where_nothing_is_dropped_nobody_misses_what_fills_gaps():
    filters = {
        "average": FrameAverage(), "bicubic": Bicubic(4), "gaussian": Gaussian([1.0]),
        "undither": Undither([1.0]),
    }  # fmt: skip
    kept, missed = suitable(filters, Gif(8))
    assert (list(kept), missed) == (["gaussian", "undither"], [])
    kept, missed = suitable(filters, DropFrames(2))
    assert (list(kept), missed) == (["average"], [])
    no_palette = type("Plain", (DropFrames,), {"every": 1})(2)
    kept, missed = suitable(filters, no_palette)
    assert (list(kept), missed) == (["gaussian"], ["undither"])


class Seen:
    """Features of frames: their first pixel; of each window, all that was looked at."""

    every = 4

    def features(self, frames: Tensor) -> Tensor:
        return frames[:, 0, 0, :1].float()

    def compare(self, restored: Tensor, clean: Tensor) -> dict[str, object]:
        return {"looked_at": clean[:, 0].tolist()}


@pytest.mark.parametrize(("factor", "looked_at"), [(1, [0, 4, 8, 12, 16]), (4, [1, 6, 11])])
def test_sets_do_not_look_at_kept_frames_alone(factor, looked_at, tmp_path):
    scores = VideoScores(None, {"seen": Seen()})
    sets = scores.start_set()
    strips = Strips(tmp_path, ["input"], [], every=1)
    saved = SavedFrames(tmp_path / "frames")
    sample = dropped(17, factor)
    ((_, row),) = score(
        {"input": Identity()}, [sample], scores, sets, strips, saved, torch.device("cpu")
    )
    assert row["exact"] == (5 if factor == 4 else 17)
    assert sets.compute()["input"]["looked_at"] == looked_at
    # The strip shows a frame that somebody had to make, beside the clean one of its time.
    middle = {1: 0, 4: 2}[factor]
    assert shown_frame(sample) == middle
    sheet = np.asarray(Image.open(tmp_path / "a_clip.png"))
    assert (sheet == middle).all(-1).any()
    assert len(list((tmp_path / "frames" / "clean" / "a_clip").iterdir())) == 17


@pytest.mark.parametrize(("count", "factor", "shown"), [(9, 2, 1), (9, 3, 1), (9, 8, 4), (1, 2, 0)])
def test_the_frame_that_stands_for_a_clip(count, factor, shown):
    assert shown_frame(dropped(count, factor)) == shown


class Learner(Interpolator):
    """Adds a number to the first frame."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(1 / 255))

    def between(self, first, last, times):
        return (first + self.bias)[:, None].expand(-1, len(times), -1, -1, -1), {}


def test_a_validation_scores_what_was_dropped():
    enhancer = Enhancer(
        Learner(),
        Objective({"pixel": Weighted(1.0, PixelLoss())}),
        partial(torch.optim.SGD, lr=1e-3),
        None,
        VideoScores(None),
        {},
    )
    enhancer.on_validation_epoch_start()
    found = enhancer.validation_step(dropped(9, 4), 0)
    assert found["shown"].unique().tolist() == [1]  # frame 2, as made from frame 0
    (row,) = enhancer.rows
    # Frames 1 to 3 come out as 1, frames 5 to 7 as 5: errors 0, 1, 2 twice.
    squares = [0.0, 1.0, 4.0]
    wanted = [100.0, *(10 * np.log10(255**2 / square) for square in squares[1:])]
    assert row["psnr"] == pytest.approx(np.mean(wanted))
    assert row["psnr_clip"] == pytest.approx(10 * np.log10(255**2 / (5 / 5)))
