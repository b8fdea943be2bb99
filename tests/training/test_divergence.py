"""A loss that is no number ends the run, whoever steps the optimisers, and nothing else does."""

from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from unlossy import cli
from unlossy.training import runs
from unlossy.training.divergence import DivergedError, Divergence


def trainer(step: int, every: int = 5, precision: str = "32-true", **metrics: float):
    logged = {name.replace("_", "/"): torch.tensor(value) for name, value in metrics.items()}
    strategy = SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision)
    return SimpleNamespace(
        global_step=step, log_every_n_steps=every, callback_metrics=logged, strategy=strategy,
        precision=precision, state=SimpleNamespace(fn="fit"), sanity_checking=False,
    )  # fmt: skip


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_lost_term_is_named_at_the_next_logged_step(value):
    Divergence().on_train_batch_end(trainer(9, train_total=1.0, train_gradient=value))
    with pytest.raises(DivergedError, match=rf"train/gradient became {value} at step 10"):
        Divergence().on_train_batch_end(trainer(10, train_total=1.0, train_gradient=value))


def test_no_validation_crowns_a_spoilt_network():
    with pytest.raises(DivergedError, match=r"lower optimizer\.lr\.$"):
        Divergence().on_validation_start(trainer(7, train_total=float("nan")), None)


def test_low_precision_is_named_as_a_remedy():
    with pytest.raises(DivergedError, match=r"trainer\.precision=32-true"):
        Divergence().on_train_batch_end(trainer(5, precision="16-mixed", train_a=float("inf")))


def test_only_terms_of_the_training_count():
    Divergence().on_train_batch_end(trainer(5, val_psnr=float("nan"), train_total=2.0))


def test_all_processes_end_where_one_is_lost():
    told = trainer(5, train_total=2.0)
    told.strategy.reduce_boolean_decision = lambda decision, all: True
    with pytest.raises(DivergedError, match="another process"):
        Divergence().on_train_batch_end(told)


@pytest.mark.parametrize("loss", ["l1", "gan"])
def test_a_run_ends_with_the_step_and_the_term(loss, footage, tmp_path):
    typed = [
        f"loss={loss}", "optimizer.lr=1e30", "trainer=tiny", "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=no", "data.crop=32", "data.batch=2", "data.workers=0",
        "model.channels=4", "metrics=pixel", "logger=csv", "test=false", "source=folder",
        f"source.path={footage}", f"run_root={tmp_path}",
    ]  # fmt: skip
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose("train", typed, return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    own = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    with pytest.raises(DivergedError, match=r"train/\w+ became (nan|inf) at step [12];"):
        runs.train(own, cfg.hydra.runtime.choices)
