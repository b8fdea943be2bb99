"""The sweep files that W&B runs: what its agent would start, and what Hydra makes of it."""

from itertools import product

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from unlossy import cli
from unlossy.training.enhancer import VALIDATED

FILES = sorted((cli.CONF / "sweep" / "wandb").glob("*.yaml"))


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def choices(parameter):
    """The values an agent may be sent; the ends of an interval stand for it."""
    if "value" in parameter:
        return [parameter["value"]]
    return parameter.get("values") or [parameter["min"], parameter["max"]]


def started(sweep, chosen):
    """The command line of an agent, which W&B's own functions fill in."""
    macros = create_sweep_command_args({"args": {k: {"value": v} for k, v in chosen.items()}})
    macros |= {"env": ["/usr/bin/env"], "program": [sweep["program"]]}
    words = []
    for word in create_sweep_command(list(sweep["command"])):
        words += macros[word[2:-1]] if word.startswith("${") else [word]
    return words


def test_there_is_a_grid_and_a_bayesian_search():
    assert {path.stem: read(path)["method"] for path in FILES} == {
        "ccdnet_bayes": "bayes",
        "ccdnet_grid": "grid",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_agent_starts_what_hydra_understands(path):
    """Every parameter is there under its name and takes the last of its values."""
    sweep = read(path)
    assert (cli.CONF.parent / sweep["program"]).exists()
    chosen = {key: choices(parameter)[-1] for key, parameter in sweep["parameters"].items()}
    command = started(sweep, chosen)
    assert command[:3] == ["/usr/bin/env", "python", "train.py"]
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose("train", command[3:], return_hydra_config=True)
    groups = cfg.hydra.runtime.choices
    for key, value in chosen.items():
        assert (groups[key] if key in groups else OmegaConf.select(cfg, key)) == value, key


def test_every_loss_of_the_grid_exists():
    (path,) = (path for path in FILES if path.stem == "ccdnet_grid")
    parameters = read(path)["parameters"]
    for loss in choices(parameters["loss"]):
        assert (cli.CONF / "loss" / f"{loss}.yaml").exists()
    jobs = product(*(choices(parameter) for parameter in parameters.values()))
    assert len(list(jobs)) == 4 * 3 * 3


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_a_sweep_looks_at_is_logged(path):
    sweep = read(path)
    assert sweep["metric"]["name"] in [f"val/{name}" for name in VALIDATED]
    assert sweep["metric"]["goal"] == "maximize"


def test_hopeless_runs_are_ended_before_their_last_validation():
    (path,) = (path for path in FILES if path.stem == "ccdnet_bayes")
    sweep = read(path)
    steps, every = (
        sweep["parameters"][f"trainer.{key}"]["value"]
        for key in ("max_steps", "val_check_interval")
    )
    assert 0 < sweep["early_terminate"]["min_iter"] < steps / every
