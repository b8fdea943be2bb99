"""Presets that teach interpolators known motion first, then real footage, as the doors run them."""

import csv
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from unlossy import cli
from unlossy.training import runs

TINY = [
    "trainer=tiny", "trainer.accelerator=cpu", "trainer.enable_progress_bar=no", "logger=csv",
    "trainer.max_steps=2", "trainer.val_check_interval=2",
    "data.crop=32", "data.batch=2", "data.workers=0", "metrics=pixel",
]  # fmt: skip
SMALL = {
    "film": ["model.network.filters=4", "model.network.flow_filters=[8,8,8]"],
    "superslomo": ["model.refine.channels=2"],
}


def train(base: Path | None, *overrides: str) -> Path:
    """Train as `train.py` would; `base` stands for the film in the source of known motion."""
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose("train", list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    own = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    if base:
        with initialize_config_dir(str(cli.CONF), version_base="1.3"):
            folder = compose("source/folder", [f"source.path={base}"]).source
        OmegaConf.update(own, "source.base", folder, merge=False)
    return runs.train(own, cfg.hydra.runtime.choices)


def weights(run: Path) -> dict[str, torch.Tensor]:
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return {key: value for key, value in state.items() if key.startswith("model.")}


@pytest.mark.parametrize("model", ["film", pytest.param("superslomo", marks=pytest.mark.slow)])
def test_known_motion_comes_first_and_footage_goes_on_from_it(model, footage, tmp_path):
    chosen, preset = {"film": ("film_small", "warmup")}.get(model, (model, model))
    own = [*TINY, *SMALL[model], f"run_root={tmp_path}"]
    warm = train(footage, *own, f"experiment=flow/{preset}")
    with (warm / "metrics.csv").open() as file:
        logged = {row["name"] for row in csv.DictReader(file)}
    assert {"train/to_first", "train/to_last", "train/l1", "val/psnr"} <= logged

    place = [f"start_ckpt={warm}/checkpoints/last.ckpt", "source=folder", f"source.path={footage}"]
    run = train(None, *own, f"experiment=interpolation/{model}", *place, "optimizer.lr=0")
    before, after = weights(warm), weights(run)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    with (run / "rows.csv").open() as file:
        models = {row["model"] for row in csv.DictReader(file)}
    assert {"input", "frame_average", "minterpolate", chosen} == models
