"""docs/adding_a_model.md is true: it shows real files and names, and its commands compose."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from unlossy import cli
from unlossy.models.model import EnhancementModel
from unlossy.models.vrcnn import VRCNN
from unlossy.sample import Sample
from unlossy.training import runs
from unlossy.training.enhancer import introduce, match

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding_a_model.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    python train\.py ([^#\n]*)", PAGE, re.MULTILINE)


@pytest.mark.parametrize("kind", ["python", "yaml"])
def test_the_page_shows_the_file_that_its_heading_names(kind):
    ((path, block),) = re.findall(rf"^## .*`(\S+)`\n\n```{kind}\n(.*?)```$", PAGE, re.DOTALL | re.M)
    assert block == (ROOT / path).read_text(encoding="utf-8")


def test_the_contract_has_what_the_page_says_about_it():
    contract = PAGE[PAGE.index("What the contract") : PAGE.index("## 2.")]
    named = set(re.findall(r"`(\w+)(?: = [^`]*|\([^`]*\))?`", contract))
    fields = set(Sample.__annotations__)
    methods = {"forward", "restore", "restore_all", "fit"}
    assert named >= methods | {"degraded", "clean", "context", "reach", "needs", "provides"}
    known = set(EnhancementModel.__annotations__) | fields | methods | {"UserError"}
    assert named <= known


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_compose_a_run_that_fits_together(command):
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose("train", shlex.split(command))
    model = runs.build(cfg.model)
    assert isinstance(model, VRCNN)
    introduce(model, runs.build(cfg.loss))
    match(model, runs.build(cfg.degradation))


def test_there_are_commands():
    assert len(COMMANDS) == 3
