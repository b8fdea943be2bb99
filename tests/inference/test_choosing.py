"""What is told who has no checkpoint, and where a model computes."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
import yaml

from unlossy.cli import CONF
from unlossy.inference.choosing import TRAIN, dtype_of
from unlossy.models.baselines import Identity


@pytest.mark.parametrize("kind", TRAIN)
def test_the_commands_for_training_name_what_there_is(kind):
    command, _, _ = TRAIN[kind].partition(" (")
    settings = dict(setting.split("=", 1) for setting in command.split())
    for group in ("model", "source", "degradation", "loss", "experiment"):
        if group in settings:
            assert (CONF / group / f"{settings[group]}.yaml").is_file()
    if "experiment" in settings:  # names whatever the experiment leaves to the caller, and no more
        needed, path = set(), CONF / "experiment" / f"{settings.pop('experiment')}.yaml"
        paths = [path, path.parent / "_small.yaml"]
        for each in (path for path in paths if path.is_file()):
            needed |= set(re.findall(r"^(\w+): \?\?\?", each.read_text(), re.MULTILINE))
            overrides = yaml.safe_load(each.read_text())["defaults"]
            settings |= {k.split("/")[-1]: v for o in overrides if isinstance(o, dict)
                         for k, v in o.items()}  # fmt: skip
        assert needed <= set(settings)
        assert "README" in TRAIN[kind]
        assert "## Frames between frames" in (CONF.parent / "README.md").read_text()
    # Frames of the other sources are far apart: what lies between two is then no video.
    assert kind == (True, False) or settings["source"] == "footage"


def test_weights_that_are_buffers_tell_the_device(monkeypatch):
    class Filter(Identity):
        def buffers(self, recurse: bool = True):
            return iter([SimpleNamespace(device=torch.device("cuda"))])

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert dtype_of("auto", Filter()) == torch.bfloat16
    assert dtype_of("auto", Identity()) == torch.float32
