"""Collecting runs: what is kept apart, what is one, and what is refused."""

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from made_rows import make_row
from omegaconf import OmegaConf

from unlossy.errors import UserError
from unlossy.report.plots import curves_of
from unlossy.report.rows import clip_gains, collect, public, read_rows
from unlossy.report.table import spread


def _rows(psnr, loss="grad"):
    return [make_row("input", "a", 30.0), make_row("ccdnet", "a", psnr, loss=loss)]


CONF = Path(__file__).parents[2] / "conf"
WITHOUT_EFFECT = (
    *("seed=1", "test=false", "checkpoint_every=7", "run_root=elsewhere", "data.workers=0"),
    *("metrics=pixel", "logger=csv", "~baselines.nlmeans", "baselines.gaussian.settings=[1]"),
    *("trainer.log_every_n_steps=1", "trainer.enable_progress_bar=false"),
)


def _composed(*overrides):
    """The configuration that a run writes into run.json."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", ["name=run", "source=photos", *overrides])
    return OmegaConf.to_container(cfg, resolve=True)


def test_seeds_of_one_recipe_are_averaged(make_run, tmp_path):
    make_run("run0", _rows(31.0), config=_composed())
    make_run("run1", _rows(32.0), seed=1, config=_composed(*WITHOUT_EFFECT))
    before, after = spread(collect(tmp_path / "runs"))
    assert (after["seeds"], after["psnr"], after["setting"]) == (2, 31.5, "")
    assert (before["model"], before["seeds"]) == ("input", 1)


@pytest.mark.parametrize(
    "change",
    ["optimizer.lr=0.5", "trainer.max_steps=9", "data.crop=32", "source.size=[64, 48]", "ema=0.9"],
)
def test_a_recipe_that_differs_is_named_by_what_was_changed_and_nothing_else(
    make_run, tmp_path, change
):
    make_run("run0", _rows(31.0), config=_composed())
    make_run("run1", _rows(32.0), seed=1, config=_composed(change, "seed=1"))
    lines = [line for line in spread(collect(tmp_path / "runs")) if line["loss"]]
    assert [line["seeds"] for line in lines] == [1, 1]
    assert change in {line["setting"] for line in lines}


def test_a_class_goes_by_its_name(make_run, tmp_path):
    make_run("run0", _rows(31.0), config=_composed())
    make_run("run1", _rows(32.0), config=_composed("schedule=constant"))
    settings = {row["setting"] for row in collect(tmp_path / "runs") if row["loss"]}
    assert settings == {"schedule=OneCycle", "schedule=ConstantLR"}


def test_a_schedule_of_its_own_is_no_copy(make_run, tmp_path):
    make_run("run0", _rows(31.0), config=_composed())
    make_run("run1", _rows(32.0), config=_composed("schedule.max_lr=0.5"))
    settings = {row["setting"] for row in collect(tmp_path / "runs") if row["loss"]}
    assert "schedule.max_lr=0.5" in settings


def test_a_circumstance_is_a_whole_name(make_run, tmp_path):
    for value in (1, 2):
        make_run(f"run{value}", _rows(30.0 + value), config={"seedling": value, "tested.x": value})
    settings = {row["setting"] for row in collect(tmp_path / "runs") if row["loss"]}
    assert settings == {"seedling=1 tested.x=1", "seedling=2 tested.x=2"}


def test_recipes_that_differ_are_never_averaged(make_run, tmp_path):
    make_run("slow", _rows(31.0), config={"optimizer": {"lr": 0.1}, "seed": 0})
    make_run("fast", _rows(32.0), config={"optimizer": {"lr": 0.2}, "seed": 1}, seed=1)
    lines = [line for line in spread(collect(tmp_path / "runs")) if line["loss"]]
    assert {line["setting"]: line["psnr"] for line in lines} == {
        "optimizer.lr=0.1": 31.0,
        "optimizer.lr=0.2": 32.0,
    }


def test_two_losses_are_told_by_name_not_by_their_settings(make_run, tmp_path):
    make_run("a", _rows(31.0), config={"loss": {"weight": 1}})
    make_run("b", _rows(32.0, loss="l1"), config={"loss": {"other": 2}})
    assert {row["setting"] for row in collect(tmp_path / "runs")} == {""}


def test_degradations_of_other_settings_are_other_tables(make_run, tmp_path):
    make_run("a", _rows(31.0), config=_composed())
    make_run("b", _rows(28.0), config=_composed("degradation.colors=16"))
    rows = collect(tmp_path / "runs")
    assert {row["degradation"] for row in rows} == {"gif colors=32", "gif colors=16"}
    assert {row["setting"] for row in rows} == {""}


def test_the_newest_of_two_equal_runs_counts(make_run, tmp_path):
    make_run("run", _rows(31.0), stamp="2026-11-21_10-00-00_a")
    make_run("run", _rows(31.5), stamp="2026-11-21_11-00-00_b")
    after = spread(collect(tmp_path / "runs"))[1]
    assert (after["seeds"], after["psnr"]) == (1, 31.5)


def test_a_clip_gains_the_mean_over_the_newest_of_each_seed(make_run, tmp_path):
    """The first seed was trained again after the second."""
    for day, seed, psnr in ((21, 0, 31.0), (22, 1, 32.0), (23, 0, 33.0)):
        make_run("m", _rows(psnr), seed=seed, stamp=f"2026-11-{day}_10-00-00_abc")
    trained = [row for row in collect(tmp_path / "runs") if row["loss"]]
    assert [row["psnr"] for row in trained] == [33.0, 32.0]
    assert clip_gains(trained) == {"a": 2.5}
    assert clip_gains(row for row in collect(tmp_path / "runs") if not row["loss"]) == {"a": 0.0}


def test_an_evaluation_does_not_replace_what_the_run_itself_measured(make_run, tmp_path):
    make_run("run", _rows(31.0), config={"trainer": {"max_steps": 9}}, stamp="2026-11-21_10_a")
    make_run("eval", _rows(32.0), config={"split": "test"}, stamp="2026-11-21_11_b")
    after = spread(collect(tmp_path / "runs"))[1]
    assert (after["seeds"], after["psnr"]) == (1, 31.0)


def test_an_evaluation_belongs_to_no_recipe_where_there_are_several(make_run, tmp_path):
    make_run("a", _rows(31.0), config=_composed())
    make_run("b", _rows(31.5), config=_composed("optimizer.lr=0.5"))
    make_run("eval", _rows(32.0), config={"split": "test"}, stamp="2026-11-21_11_b")
    lines = {line["setting"]: line["psnr"] for line in spread(collect(tmp_path / "runs"))[1:]}
    assert lines == {
        "optimizer.lr=0.002": 31.0,
        "optimizer.lr=0.5": 31.5,
        "in eval/2026-11-21_11_b": 32.0,
    }


def test_a_filter_measured_twice_on_other_clips_stays_two_lines(make_run, tmp_path):
    make_run("a", [make_row("input", "a", 30.0)])
    make_run("b", [make_row("input", "z", 20.0)])
    lines = spread(collect(tmp_path / "runs"))
    assert len(lines) == 2
    assert all(line["setting"].startswith("in ") for line in lines)


ORIGIN = "runs/{seed}/{name}/2026-11-21_{seed}/checkpoints/best.ckpt"


@pytest.mark.parametrize(
    ("experiment", "keys"),
    [
        ("gif2video/small", ("colors_ckpt", "slomo_ckpt")),
        ("interpolation/film", ("start_ckpt",)),
        ("astf/small", ("trained.stage1", "trained.texture")),
        ("astf/small_stage1", ("init",)),
    ],
)
def test_seeds_that_start_from_checkpoints_of_their_own_are_averaged(
    experiment, keys, make_run, tmp_path
):
    for seed in range(2):
        starts = [f"{key}={ORIGIN.format(seed=seed, name=key)}" for key in keys]
        config = _composed(f"experiment={experiment}", f"seed={seed}", *starts)
        make_run(f"run{seed}", _rows(31.0 + seed), seed=seed, config=config)
    after = spread(collect(tmp_path / "runs"))[1]
    assert (after["seeds"], after["psnr"], after["setting"]) == (2, 31.5, "")


def test_what_starts_from_another_recipe_or_from_nothing_is_another(make_run, tmp_path):
    for seed, name in enumerate(("l1", "gan", None)):
        start = f"init={ORIGIN.format(seed=seed, name=name)}" if name else "init=null"
        make_run(f"run{seed}", _rows(31.0 + seed), seed=seed, config=_composed(start))
    settings = {row["setting"] for row in collect(tmp_path / "runs") if row["loss"]}
    assert settings == {"init=l1", "init=gan", "init=None"}


def test_one_seed_from_two_checkpoints_is_no_repetition(make_run, tmp_path):
    for start in range(2):
        config = _composed(f"init={ORIGIN.format(seed=start, name='l1')}")
        make_run(f"run{start}", _rows(31.0 + start), config=config)
    lines = [line for line in spread(collect(tmp_path / "runs")) if line["loss"]]
    assert sorted(line["psnr"] for line in lines) == [31.0, 32.0]


def _evaluated(make_run, name, checkpoint, source, psnr):
    config = {"source": {"_target_": source}, "split": "test"}
    rows = [row | {"source": source} for row in _rows(psnr)]
    card = make_run(name, rows, config=config, stamp=name) / "run.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"checkpoint": checkpoint}))


def test_a_checkpoint_of_unknown_origin_is_one_recipe_on_every_source(make_run, tmp_path):
    checkpoint = "/far/away/runs/ccdnet_grad/2026-11-20_a/checkpoints/{}.ckpt"
    for source in ("Shots", "Mixed"):
        _evaluated(make_run, f"best_{source}", checkpoint.format("best"), source, 31.0)
    root = tmp_path / "runs"
    assert {row["setting"] for row in collect(root)} == {""}
    for source in ("Shots", "Mixed"):
        _evaluated(make_run, f"last_{source}", checkpoint.format("last"), source, 32.0)
    told = {(row["setting"], row["psnr"]) for row in collect(root) if row["loss"]}
    named = "checkpoint=2026-11-20_a/{}.ckpt"
    assert told == {(named.format("best"), 31.0), (named.format("last"), 32.0)}


def test_a_checkpoint_of_unknown_origin_is_not_the_known_one(make_run, tmp_path):
    make_run("run", _rows(31.0), config=_composed())
    _evaluated(make_run, "eval", "/far/ccdnet/2026-11-20_a/checkpoints/best.ckpt", "bunny", 32.0)
    told = {(row["setting"], row["psnr"]) for row in collect(tmp_path / "runs") if row["loss"]}
    assert told == {("", 31.0), ("checkpoint=2026-11-20_a/best.ckpt", 32.0)}


def test_what_was_trained_without_a_test_and_evaluated_later_has_its_curves(make_run, tmp_path):
    trained = make_run("run", [], config=_composed(), stamp="2026-11-20_a")
    (trained / "rows.csv").unlink()
    (trained / "metrics.csv").write_text("step,name,value\n2,val/psnr,30.0\n4,val/psnr,31.0\n")
    for source in ("bunny", "clips"):
        checkpoint = "runs/run/2026-11-20_a/checkpoints/best.ckpt"
        _evaluated(make_run, f"eval_{source}", checkpoint, source, 32.0)
    root = tmp_path / "runs"
    curve = {"val/psnr": [(2, 30.0), (4, 31.0)]}
    assert curves_of(collect(root), root) == [("ccdnet grad", curve)]


def test_no_path_of_this_machine_is_public(tmp_path):
    card = {
        "a": f"{tmp_path}/x/2026/checkpoints/best.ckpt",
        "b": ["/srv/ann/runs/y/2026/checkpoints/best.ckpt", "~/films/a.mp4", 3],
        "c": "Cannot read '/srv/ann/a.csv' (line 3); https://host/a/b and 3/4 stay, as a / b.",
    }
    assert public(card, tmp_path) == {
        "a": "x/2026/checkpoints/best.ckpt",
        "b": ["y/2026/checkpoints/best.ckpt", "a.mp4", 3],
        "c": "Cannot read 'a.csv' (line 3); https://host/a/b and 3/4 stay, as a / b.",
    }
    known = {"a": "runs/03/0/x", "b": "ckpt=runs/03/0/x", "c": "old-runs/03/0/x", "d": "runs/031"}
    told = {"a": "0/x", "b": "ckpt=0/x", "c": "old-runs/03/0/x", "d": "runs/031"}
    assert public(known, Path("runs/03")) == told
    assert public(known, Path()) == known


def test_no_folder_no_run(tmp_path):
    with pytest.raises(UserError, match="There is no folder"):
        collect(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"No finished run.*train\.py"):
        collect(tmp_path)


def test_a_foreign_csv_is_refused(tmp_path):
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"not a rows\.csv of unlossy"):
        collect(tmp_path)


def test_a_cut_line_is_refused_with_its_number(make_run):
    path = make_run("run", _rows(31.0)) / "rows.csv"
    path.write_text(path.read_text()[:-30])
    with pytest.raises(UserError, match=r"line 3 has .* interrupted"):
        read_rows(path)


def test_a_word_among_numbers_is_refused(make_run):
    path = make_run("run", _rows(31.0)) / "rows.csv"
    path.write_text(path.read_text().replace("31.0", "thirty"))
    with pytest.raises(UserError, match="'thirty' in column psnr"):
        read_rows(path)


def test_binary_and_broken_card_are_refused(make_run, tmp_path):
    folder = make_run("run", _rows(31.0))
    (folder / "run.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        collect(tmp_path)
    (folder / "rows.csv").write_bytes(b"\xff\x00\xfe")
    with pytest.raises(UserError, match="Cannot read"):
        read_rows(folder / "rows.csv")
