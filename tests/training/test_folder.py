import csv
import json
import os
import subprocess

import pytest

import unlossy
from unlossy.errors import UserError
from unlossy.training import folder

CONFIG = {"seed": 0, "data": {"batch": 8, "workers": 2}, "ckpt": None, "run_root": "runs"}


def test_the_hash_ignores_what_does_not_change_the_result():
    same = CONFIG | {"data": {"batch": 8, "workers": 0}, "ckpt": "last", "run_root": "elsewhere"}
    assert folder.config_hash(CONFIG) == folder.config_hash(same)
    assert folder.config_hash(CONFIG) != folder.config_hash(CONFIG | {"seed": 1})


def test_two_runs_of_one_second_get_two_folders(tmp_path):
    made = {folder.make(tmp_path, "ccdnet_l1", "0123abcd") for _ in range(5)}
    assert len(made) == 5


def test_a_run_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match="run_root"):
        folder.make(tmp_path / "runs", "name", "0123abcd")


def test_last_is_the_newest_run_of_the_same_configuration(tmp_path):
    for run in (
        "2026-01-01_000000_aaaaaaaa",
        "2026-01-02_000000_aaaaaaaa-1",
        "2026-01-03_000000_b",
    ):
        path = tmp_path / "name" / run / "checkpoints" / "last.ckpt"
        path.parent.mkdir(parents=True)
        path.touch()
    found = folder.find_last(tmp_path, "name", "aaaaaaaa")
    assert found.parts[-3] == "2026-01-02_000000_aaaaaaaa-1"
    with pytest.raises(UserError, match="2026-01-03"):
        folder.find_last(tmp_path, "name", "cccccccc")


def test_rows_keep_their_columns_and_write_nan_as_an_empty_cell(tmp_path):
    rows = [{"model": "input", "clip": "a", "psnr": float("nan"), "ssim": 0.5, "label": "s=3"}]
    folder.write_rows(tmp_path / "rows.csv", rows)
    with (tmp_path / "rows.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert list(row)[: len(folder.COLUMNS)] == list(folder.COLUMNS)
    assert (row["psnr"], row["ssim"], row["label"]) == ("", "0.5", "s=3")


def test_json_refuses_nan_rather_than_writing_what_no_reader_takes(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        folder.write_json(tmp_path / "summary.json", {"psnr": float("nan")})
    assert not (tmp_path / "summary.json").exists()


def test_the_card_is_json_and_names_versions(tmp_path):
    card = folder.run_card(CONFIG, {"model": "ccdnet"})
    assert json.loads(json.dumps(card))["versions"]["torch"]


@pytest.mark.parametrize(
    ("changed", "dirty"),
    [
        ("src/unlossy/new.py", True),
        ("src/hydra_plugins/sweepers.py", True),
        ("conf/train.yaml", True),
        ("train.py", True),
        ("README.md", False),
        ("experiments/01/rows.csv", False),
    ],
)
def test_the_card_tells_a_changed_tree_by_what_a_run_is_made_of(
    changed, dirty, tmp_path, monkeypatch
):
    for name in ("src/unlossy/__init__.py", "conf/train.yaml", "train.py", "README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("as committed\n")
    _commit(tmp_path, monkeypatch)
    monkeypatch.setattr(unlossy, "__file__", str(tmp_path / "src/unlossy/__init__.py"))
    clean = folder.run_card(CONFIG, {})["git"]
    (tmp_path / changed).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / changed).write_text("changed\n")
    assert len(clean) == 12
    assert folder.run_card(CONFIG, {})["git"] == clean + "-dirty" * dirty


def test_a_wheel_within_another_repository_has_no_revision(tmp_path, monkeypatch):
    (tmp_path / ".gitignore").write_text(".venv/\n")
    _commit(tmp_path, monkeypatch)
    (tmp_path / ".venv").mkdir()
    monkeypatch.setattr(unlossy, "__file__", str(tmp_path / ".venv/__init__.py"))
    assert folder.run_card(CONFIG, {})["git"] is None


def _commit(path, monkeypatch):
    """Make a repository of a folder, whatever git is told by the environment of these tests."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    git = ["git", "-C", path, "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *words], check=True)


def test_models_keep_together_in_the_order_first_met():
    rows = [{"model": m, "clip": c} for c in "xy" for m in ("input", "ccdnet")]
    assert [(r["model"], r["clip"]) for r in folder.finished(rows)] == [
        ("input", "x"), ("input", "y"), ("ccdnet", "x"), ("ccdnet", "y"),
    ]  # fmt: skip
