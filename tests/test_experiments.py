"""The lab book: every experiment runs by one command and is in the index."""

import json
import os
import re
import shutil
import subprocess
from importlib import import_module
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "experiments"
FOLDERS = sorted(BOOK.glob("[0-9][0-9]_*"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_experiment_has_its_parts(folder):
    script = (folder / "run.sh").read_text()
    assert (folder / "run.sh").stat().st_mode & 0o111
    subprocess.run(["bash", "-n", folder / "run.sh"], check=True)
    assert ". experiments/steps.sh" in script
    assert script.rstrip().endswith("publish")
    page = (folder / "README.md").read_text()
    assert "**Question.**" in page
    assert "**Status.**" in page
    assert "## Answer" in page
    assert f"make experiment N={folder.name[:2]}" in page


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_experiment_is_in_the_index_with_the_minutes_of_its_cards(folder):
    (line,) = re.findall(rf"^\| \[.*?\]\({folder.name}/README.md\).*$", _index(), re.MULTILINE)
    minutes = line.split("|")[4].strip()
    cards = folder / "runs.json"
    assert minutes == (str(round(_seconds(cards) / 60)) if cards.exists() else "")


def _index():
    return (BOOK / "README.md").read_text()


def _seconds(path):
    groups = json.loads(path.read_text())
    return sum(
        (group["common"] | card)["seconds"]
        for group in (groups["trainings"], groups["evaluations"])
        for card in group["runs"]
    )


def test_run_cards_hold_no_path_of_a_machine():
    for path in BOOK.glob("*/runs.json"):
        assert not re.search(r'"(/|~|[A-Z]:\\)', path.read_text()), path


def test_make_says_how_to_name_an_experiment():
    done = _make("experiment", "N=99")
    assert done.returncode != 0
    assert "make experiment N=03" in done.stderr


@pytest.fixture
def step(tmp_path):
    """A line of a run.sh, which tells what Python would be called with."""
    told = tmp_path / "told"
    told.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    told.chmod(0o755)

    def run(line):
        done = subprocess.run(
            ["bash", "-c", f". experiments/steps.sh; {line}", "experiments/04_two_corners/run.sh"],
            cwd=ROOT,
            env=os.environ | {"PYTHON": str(told), "ROOT": str(tmp_path / "a b"), "ARGS": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.splitlines() or done.stderr

    return run


def _trained(root, seed, name, stamp="2026", *, finished=True, **card):
    run = root / "a b" / str(seed) / name / stamp
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "best.ckpt").touch()
    (run / "run.json").write_text(json.dumps(card | ({"seconds": 1.0} if finished else {})))
    return run / "checkpoints"


def test_every_seed_that_is_finished_is_measured(step, tmp_path):
    _trained(tmp_path, 0, "a", "2025")
    places = [_trained(tmp_path, seed, name) for seed in (0, 1) for name in "ab"]
    _trained(tmp_path, 2, "a")
    _trained(tmp_path, 2, "b", finished=False)
    old = tmp_path / "a b" / "measured" / "old.csv"
    old.parent.mkdir()
    old.touch()
    assert step('measure m.py last "A net=a" B=b') == [
        "experiments/04_two_corners/m.py",
        str(old.parent),
        *(
            f"{label}@{seed}={place}/last.ckpt"
            for (seed, label), place in zip(product((0, 1), ("A net", "B")), places, strict=True)
        ),
    ]
    assert not old.exists()


def test_what_was_scored_is_not_scored_again_but_for_another_checkpoint(step, tmp_path):
    _trained(tmp_path, 0, "scored", checkpoint="x/best.ckpt")
    _trained(tmp_path, 0, "cut_off", checkpoint="x/best.ckpt", finished=False)
    _trained(tmp_path, 0, "filters")
    assert step("seed=0; score scored ckpt=x/best.ckpt") == ["scored: scored before"]
    assert step("seed=0; score scored ckpt=y/best.ckpt")[:2] == ["eval.py", "name=scored"]
    assert step("seed=0; score cut_off ckpt=x/best.ckpt")[0] == "eval.py"
    assert step("seed=0; score filters model=undither") == ["filters: scored before"]
    assert "no checkpoint of none" in step("seed=0; best none")


def test_gains_over_the_frame_average_of_two_seeds(monkeypatch):
    """Experiment 07: on frames that move by 1, 2, 3 and 4 grey levels, and one across a cut."""
    monkeypatch.syspath_prepend(BOOK / "07_film_losses")
    displacement = import_module("displacement")
    rows = [
        {"set": "bunny", "model": model, "seed": seed, "clip": f"c{k % 2}", "frame": k}
        | {"psnr": psnr + k, "difference": 99.0 if k == 5 else float(k)}
        for model, seed, psnr in (("frame_average", 0, 30.0), ("a", 0, 31.0), ("a", 1, 34.0))
        for k in range(1, 6)
    ]
    pan = {"set": "pans", "model": "a", "seed": 0, "clip": "p", "frame": 1, "psnr": 33.0}
    pan |= {"difference": 9.0, "shift": 1.5, "epe": 0.5}
    groups = displacement.groups_of([*rows, pan, pan | {"model": "frame_average", "epe": None}])
    lines = {(line["group"], line["model"]): line for line in displacement.gains(groups)}
    film = lines["bunny", "a"]
    assert (film["frames"], film["gain"], film["low"], film["high"]) == (4, 2.5, 2.5, 2.5)
    assert film["gain_seeds_std"] == pytest.approx(3 / 2**0.5)
    assert (lines["pans", "a"]["epe"], lines["pans", "a"]["gain"]) == (0.5, 0)
    assert lines["bunny, most", "a"]["frames"] == 1
    assert not {"gain", "epe"} & set(lines["bunny", "frame_average"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_experiment_runs_to_its_end_and_is_not_run_twice(tmp_path):
    """A trial: published elsewhere, with runs of its own; the lab book stays as it is."""
    before = _content(BOOK / "04_two_corners")
    steps = "trainer.max_steps=2 trainer.val_check_interval=2 data.workers=0"
    for attempt in (1, 2):
        done = _make("experiment", "N=04", f"ARGS={steps}", f"ROOT={tmp_path}/runs")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr.count("finished before") == 3 * (attempt - 1)
    assert {path.name for path in tmp_path.iterdir()} == {"runs-trial"}
    lab = Path(re.findall(r"^(/.*)/runs.json$", done.stdout, re.MULTILINE)[-1])
    made = {path.name for path in lab.iterdir()}
    assert made >= {"corners.csv", "corners.png", "rows.csv", "runs.json"}
    assert _seconds(lab / "runs.json") > 0
    shutil.rmtree(lab)
    assert before == _content(BOOK / "04_two_corners")


def _content(folder):
    return {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _make(*words):
    make = shutil.which("make")
    assert make
    environment = os.environ | {"WANDB_MODE": "offline", "MAKEFLAGS": ""}
    return subprocess.run(
        [make, "-C", ROOT, "-o", ".venv/.installed", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
