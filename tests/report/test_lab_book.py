"""What scripts of an experiment measure beside the rows."""

from pathlib import Path

import pytest
from made_rows import make_row

from unlossy.errors import UserError
from unlossy.report.lab_book import checkpoints, publish


def test_checkpoints_are_told_with_label_and_seed():
    words = ("FILM warm-up@3=runs/a=b/best.ckpt", "a@b@0=x.ckpt")
    assert checkpoints(words) == [
        ("FILM warm-up", 3, Path("runs/a=b/best.ckpt")),
        ("a@b", 0, Path("x.ckpt")),
    ]
    for word in ("film=x.ckpt", "film@0", "@0=x.ckpt", "film@one=x.ckpt"):
        with pytest.raises(UserError, match="LABEL@SEED=CHECKPOINT"):
            checkpoints([word])
    with pytest.raises(UserError, match="No checkpoint"):
        checkpoints([])


def test_what_was_measured_is_published_after_the_readme_was_checked(make_run, tmp_path):
    make_run("run", [make_row("a", clip, 31.0, loss="l1") for clip in "ab"])
    measured, out = tmp_path / "runs" / "measured", tmp_path / "out"
    measured.mkdir()
    out.mkdir()
    (measured / "own.csv").write_text("model,score\na,2\n")
    (out / "own.csv").write_text("model,score\na,1\n")
    (out / "README.md").write_text("<!-- table own.csv columns=depth -->\n<!-- /table -->\n")
    with pytest.raises(UserError, match=r"own\.csv has no column depth"):
        publish(tmp_path / "runs", out)
    assert (out / "own.csv").read_text() == "model,score\na,1\n"
    (out / "README.md").write_text("<!-- table own.csv columns=score -->\n<!-- /table -->\n")
    assert out / "own.csv" in publish(tmp_path / "runs", out)
    assert (out / "own.csv").read_text() == "model,score\na,2\n"


def test_whole_numbers_are_published_in_full(make_run, tmp_path):
    make_run("run", [make_row("a", "a", 31.123456789, loss="l1", bits=1_396_784)])
    publish(tmp_path / "runs", tmp_path / "out")
    text = (tmp_path / "out" / "rows.csv").read_text()
    assert ",1396784," in text
    assert ",31.1235," in text


def test_distances_of_other_runs_are_not_taken_for_those_of_these(make_run, tmp_path):
    make_run("run", [make_row("a", clip, 31.0, loss="l1") for clip in "ab"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "distances.csv").write_text("model,fd_vgg16\nold,7\n")
    (tmp_path / "out" / "README.md").write_text("<!-- table distances.csv -->\n<!-- /table -->\n")
    with pytest.raises(UserError, match=r"cannot read distances\.csv"):
        publish(tmp_path / "runs", tmp_path / "out")
    assert (tmp_path / "out" / "distances.csv").exists()
    (tmp_path / "out" / "README.md").unlink()
    publish(tmp_path / "runs", tmp_path / "out")
    assert not (tmp_path / "out" / "distances.csv").exists()
