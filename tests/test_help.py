"""`--help` of every door: what it does, what there is to choose, how to go on; and at once."""

import re
import subprocess
import sys
from pathlib import Path

import hydra
import pytest
import yaml

from unlossy import choices, cli

ROOT = Path(__file__).parents[1]


def helped(door: str) -> str:
    answer = choices.answer(cli.CONF, door, f"python {door}.py", ["--help"])
    assert answer is not None
    return answer


@pytest.mark.parametrize("door", ["train", "eval"])
def test_help_names_every_group_with_its_choices_and_default(door):
    text = helped(door)
    defaults = yaml.safe_load((cli.CONF / f"{door}.yaml").read_text())["defaults"]
    chosen = {k: v for entry in defaults if isinstance(entry, dict) for k, v in entry.items()}
    for group in choices.groups(cli.CONF):
        if group not in chosen:
            continue
        block = re.search(rf"^  {group} +\S.*\n((?: {{10,}}.*\n)+)", text, re.MULTILINE)
        assert block, f"{group} needs a comment in conf/{door}.yaml"
        words = block[1].split()
        assert [w.removeprefix("*") for w in words] == choices.choices(cli.CONF, group)
        marked = [w.removeprefix("*") for w in words if w.startswith("*")]
        assert marked == [chosen[group]] * (chosen[group] is not None)
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("door", ["train", "eval"])
def test_every_setting_of_a_door_is_explained(door):
    config = yaml.safe_load((cli.CONF / f"{door}.yaml").read_text())
    shown = re.findall(r"^  (\w+)=", helped(door), re.MULTILINE)
    assert shown == [key for key in config if key not in ("defaults", "hydra")]


@pytest.mark.parametrize("door", ["train", "eval"])
def test_examples_of_help_compose(door):
    """All at once, which they can, but for what only a sweep may hold."""
    examples = [example for example, _ in choices.EXAMPLES[door] if "-m" not in example]
    overrides = [part.strip("'") for example in examples for part in example.split()]
    with hydra.initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = hydra.compose(door, overrides)
    assert cfg.source.path == "FOLDER" if door == "train" else cfg.save


@pytest.mark.parametrize("door", ["train", "eval"])
def test_what_to_read_on_exists(door):
    pages = re.findall(r"[\w/]+\.md", helped(door))
    assert len(pages) >= 2
    assert [page for page in pages if not (ROOT / page).is_file()] == []


def test_help_imports_nothing_heavy():
    script = (
        "import sys; sys.argv = ['train.py', '--help']\n"
        "from unlossy import cli; cli.train()\n"
        "heavy = {'torch', 'hydra', 'omegaconf', 'lightning', 'wandb', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("usage: python train.py ")
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize("verb", ["enhance", "report"])
def test_the_other_doors_show_examples(verb, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{verb}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        cli.VERBS[verb]()
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert len(re.findall(rf"^  python {verb}\.py", shown, re.MULTILINE)) >= 3
