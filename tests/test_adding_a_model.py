"""docs/adding_a_model.md is true: its two files, taken from the page, make a model that learns."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml

from unlossy.losses.pixel import PixelLoss
from unlossy.sample import Sample

PAGE = Path(__file__).parents[1] / "docs" / "adding_a_model.md"


@pytest.fixture
def model(tmp_path, monkeypatch):
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (numbers,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "arcnn.py").write_text(code)
    config = yaml.safe_load(numbers)
    module, _, name = config.pop("_target_").rpartition(".")
    assert f"`src/{module.replace('.', '/')}.py`" in text  # the page says where the class goes
    spec = importlib.util.spec_from_file_location(module, tmp_path / "arcnn.py")
    monkeypatch.setitem(sys.modules, module, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(sys.modules[module])
    return getattr(sys.modules[module], name)(**config | {"channels": 32})


def test_the_page_makes_a_model_that_learns(model):
    clean = torch.rand(2, 1, 3, 15, 17)
    times = torch.zeros(2, 1)
    batch = Sample(
        name=["a", "b"],
        degraded=(clean * 4).round() / 4,
        clean=clean,
        t_in=times,
        t_out=times,
        side={},
        target={},
        bits=torch.ones(2),
    )
    assert torch.equal(model.restore(batch), batch["degraded"])  # it starts at the input
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.Adam(model.param_groups(1e-3))
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = PixelLoss()(model(batch), batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert not [name for name, value in model.named_parameters() if value.equal(before[name])]


def test_its_mistake_has_a_sentence(model):
    with pytest.raises(ValueError, match="use 4 or more"):
        type(model)(channels=2)
