"""W&B as far as it goes without an account: runs written offline, and read back from their files.

One tiny run is made, gone on with and evaluated, while secrets lie about: in the environment, on
the command line, in an address among the settings.
"""

import csv
import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import NamedTuple
from zipfile import ZipFile, is_zipfile

import pytest
import wandb
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from offline_run import Written, read
from omegaconf import OmegaConf
from PIL import Image

from unlossy import cli
from unlossy.errors import UserError
from unlossy.report import wandb_names as names
from unlossy.report.dashboard import ablation
from unlossy.report.rows import find_runs
from unlossy.training import runs, stages, wandb_run

PLANTED = "0123456789abcdef" + "planted0" * 3  # 40 characters, as a key of W&B has
ADDRESS = f"postgresql://ann:{PLANTED}@host/db"
TINY = [
    "trainer=tiny", "trainer.accelerator=cpu", "trainer.enable_progress_bar=no", "data.workers=0",
    "trainer.val_check_interval=1", "trainer.max_steps=2", "data.crop=16", "data.batch=2",
    "model.channels=4", "model.steps=1", "loss=l1", "schedule=constant", "seed=3",
    "logger.mirror.tags=[mine]", "name=widths",
]  # fmt: skip


def composed(verb, *overrides):
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose(verb, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    own = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    return own, cfg.hydra.runtime.choices


class Mirrored(NamedTuple):
    root: Path
    folder: Path  # of the run
    first: Written
    resumed: Written
    evaluated: Path
    evaluation: Written
    log: str  # what had been logged when the run was first over


@pytest.fixture(scope="module")
def asked(footage, tmp_path_factory):
    """What `runs.train` and `runs.evaluate` are called with; not to be changed."""
    root = tmp_path_factory.mktemp("mirrored")
    own = [
        "source=folder", f"source.path={footage}", f"run_root={root}", "metrics=pixel",
        "~baselines", "logger=wandb", f"+note='{ADDRESS}'",
    ]  # fmt: skip
    return {"train": composed("train", *TINY, *own), "eval": composed("eval", *own)}


def call(verb, asked, **settings):
    cfg, choices = asked[verb]
    cfg = OmegaConf.merge(cfg, OmegaConf.from_dotlist([f"{k}={v}" for k, v in settings.items()]))
    return {"train": runs.train, "eval": runs.evaluate}[verb](cfg, choices)


@pytest.fixture(scope="module")
def mirrored(asked):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_API_KEY", PLANTED)
        patch.setattr(sys, "argv", ["train.py", f"+note={ADDRESS}"])
        wandb.teardown()  # W&B reads the environment once
        folder = call("train", asked)
        log = (folder / "metrics.csv").read_text()
        last = folder / "checkpoints" / "last.ckpt"
        assert call("train", asked, ckpt=last, **{"trainer.max_steps": 3}) == folder
        evaluated = call("eval", asked, ckpt=folder / "checkpoints" / "best.ckpt")
        wandb.teardown()
    first, resumed = sorted(folder.glob("wandb/offline-run-*"))
    (evaluation,) = evaluated.glob("wandb/offline-run-*")
    root = folder.parents[1]
    return Mirrored(root, folder, read(first), read(resumed), evaluated, read(evaluation), log)


def logged(written: Written) -> set[tuple[int, str, float]]:
    """(step, name, value) of all scalars, as metrics.csv has them."""
    return {
        (line[names.STEP], name, float(f"{value:.6g}"))
        for line in written.history
        for name, value in line.items()
        if name.split("/")[0] in ("train", "val", "time")
    }


def in_csv(text: str) -> set[tuple[int, str, float]]:
    return {(int(s), n, float(v)) for s, n, v in list(csv.reader(text.splitlines()))[1:]}


def test_a_run_says_what_it_is(mirrored):
    run, config = mirrored.first.run, mirrored.first.config
    assert run.run_group == "widths"
    assert run.job_type == "train"
    assert mirrored.first.tags == ["ccdnet", "l1", "gif", "folder", "mine"]
    assert run.run_id == mirrored.folder.name.replace("_", "-")
    assert run.display_name == f"widths/{mirrored.folder.name}"
    card = json.loads((mirrored.folder / "run.json").read_text())
    assert {key: config[key] for key in ("seed", "degradation", "optimizer", "note")} == {
        key: card["config"][key] for key in ("seed", "degradation", "optimizer", "note")
    }
    chosen = {"model": "ccdnet", "loss": "l1", "degradation": "gif", "source": "folder"}
    assert chosen.items() <= config["choices"].items()
    assert config["run"]["versions"]["torch"] == card["versions"]["torch"]
    assert mirrored.first.exit_code == mirrored.resumed.exit_code == 0


def test_curves_are_those_of_metrics_csv(mirrored):
    assert logged(mirrored.first) == in_csv(mirrored.log)
    assert {"train/total", "val/psnr", "time/data"} <= {
        name for _, name, _ in logged(mirrored.first)
    }
    axes = {m.name: m.step_metric for m in mirrored.first.metrics}
    assert names.STEP in axes
    assert any(m.glob_name == "*" and m.step_metric == names.STEP for m in mirrored.first.metrics)


def test_a_resumed_run_goes_on_as_the_same_one(mirrored):
    """No point is dropped: W&B's own step, which must rise, is nowhere given by us."""
    before, after = mirrored.first, mirrored.resumed
    assert before.run.run_id == after.run.run_id
    assert after.run.resume
    whole = in_csv((mirrored.folder / "metrics.csv").read_text())
    untimed = {line for line in whole if not line[1].startswith("time/")}
    assert untimed <= logged(before) | logged(after)
    assert {step for step, *_ in logged(before)} == {0, 1}
    assert {step for step, *_ in logged(after)} == {2}
    for written in (before, after):
        own = [line["_step"] for line in written.history]
        assert own == list(range(len(own)))


def test_the_table_has_the_rows_of_the_clips(mirrored):
    for folder, written in (
        (mirrored.folder, mirrored.resumed),
        (mirrored.evaluated, mirrored.evaluation),
    ):
        (path,) = {path for path in written.files if path.name.endswith(".table.json")}
        table = json.loads(path.read_text())
        with (folder / "rows.csv").open() as text:
            rows = list(csv.DictReader(text))
        assert table["columns"] == list(rows[0])
        for cells, row in zip(table["data"], rows, strict=True):
            for column, cell in zip(table["columns"], cells, strict=True):
                told = row[column]
                assert (cell if isinstance(cell, str) else f"{cell:.6g}") == told or not told


def test_pictures_are_sent(mirrored):
    keys = {name.removesuffix("/_type") for line in mirrored.first.history for name in line}
    drawn = {path.stem.rpartition("_")[0] for path in mirrored.folder.glob("panels/*.png")}
    strips = {path.stem for path in mirrored.folder.glob("panels/test/*.png")}
    assert drawn
    assert strips
    assert {names.panel(clip) for clip in drawn} | {names.test_panel(c) for c in strips} <= keys
    pictures = {path for path in mirrored.first.files if path.suffix == ".png"}
    assert len(pictures) == 2 * len(drawn) + len(strips)
    for path in pictures:
        with Image.open(path) as picture:
            assert min(picture.size) > 16


def test_the_summary_holds_the_means_over_the_clips_of_a_source(mirrored):
    for folder, written in (
        (mirrored.folder, mirrored.resumed),
        (mirrored.evaluated, mirrored.evaluation),
    ):
        values = defaultdict(list)
        with (folder / "rows.csv").open() as text:
            for row in csv.DictReader(text):
                values[row["source"], row["model"]].append(float(row["ssim"]))
        assert set(values) == {("folder", "input"), ("folder", "ccdnet")}
        for (source, model), each in values.items():
            assert written.summary[f"test/{source}/{model}/ssim"] == pytest.approx(
                fmean(each), 1e-5
            )


def test_an_evaluation_says_whose_it_is(mirrored):
    run = mirrored.evaluation.run
    assert (run.job_type, run.run_group) == ("eval", "eval")
    assert run.run_id == mirrored.evaluated.name.replace("_", "-")
    assert mirrored.evaluation.tags == ["ccdnet", "l1", "gif", "folder"]
    assert mirrored.evaluation.config["choices"]["loss"] == "l1"


def test_the_dashboard_asks_for_what_runs_really_log(mirrored):
    written = [mirrored.first, mirrored.resumed, mirrored.evaluation]
    histories = {
        name.split("/_type")[0] for one in written for line in one.history for name in line
    }
    summaries = {name for one in written for name in one.summary}
    sections = {
        s.name: s.panels for s in ablation("me", "unlossy", find_runs(mirrored.root)).sections
    }
    curves = [*sections["Validation by loss"], *sections["Validation by model"]]
    assert {y for panel in curves for y in panel.y} == {"val/psnr", "val/ssim"}
    assert {y for panel in curves for y in panel.y} <= histories
    assert {panel.x for panel in curves} == {names.STEP} <= histories
    bars = [*sections["Test by degradation"], *sections["Test by loss"]]
    asked = {metric for panel in bars for metric in panel.metrics}
    assert {f"test/folder/{m}/{k}" for m in ("input", "ccdnet") for k in ("psnr", "ssim")} <= asked
    assert asked <= summaries | {metric for metric in asked if metric.endswith("lpips_alex")}
    pictures = [key for panel in sections["Pictures"] for key in panel.media_keys]
    assert pictures
    assert set(pictures) <= histories
    assert sections["Clips"][0].table_name in {name.split("/_type")[0] for name in summaries}
    grouped = {panel.groupby.name for panel in (*curves, *bars)}
    assert grouped == {"choices.loss", "choices.model", "choices.degradation"}
    for name in grouped:
        group, key = name.split(".")
        assert all(one.config[group][key] for one in written)


def test_no_secret_lies_in_a_run_folder(mirrored):
    """Nor in the file that is uploaded: W&B would keep the command line."""
    searched, blanked = 0, set()
    for path in (p for p in mirrored.root.rglob("*") if p.is_file()):
        contents = [path.read_bytes()]
        if is_zipfile(path):
            with ZipFile(path) as archive:
                contents += [archive.read(member) for member in archive.namelist()]
        for content in contents:
            searched += 1
            assert PLANTED.encode() not in content, path
            if b"postgresql://ann:***@host" in content:
                blanked.add(path.suffix)
    assert searched > 30
    assert {".json", ".wandb"} <= blanked  # the setting is there, without its password
    for written in (mirrored.first, mirrored.resumed, mirrored.evaluation):
        assert "environment" not in written.kinds  # where the command line would stand


@pytest.mark.parametrize("verb", ["train", "eval"])
def test_a_secret_among_the_settings_stops_a_run_before_it_writes(
    verb, asked, tmp_path, monkeypatch
):
    monkeypatch.setenv("MY_TOKEN", PLANTED)
    with pytest.raises(UserError, match="note holds what MY_TOKEN holds"):
        call(verb, asked, note=PLANTED, run_root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


CARD = {
    "config": {"seed": 0, "loss": {"weight": 2}, "optimizer": {"lr": 0.1}},
    "choices": {"model": "vrcnn", "loss": "l2", "model@baselines.x": "x", "hydra/output": "y"},
    **{"unlossy": "0", "git": None, "device": "cpu", "versions": {}},
}


def with_logger(**options):
    logger = OmegaConf.load(cli.CONF / "logger" / "wandb.yaml")
    logger.mirror.update(options)
    return OmegaConf.create({"name": "mine", "logger": logger})


@pytest.fixture
def begun(tmp_path):
    """Begin a W&B run in `tmp_path`, end it, and read it; W&B forgets all about it afterwards."""

    def begin(patience=20, **options):
        cfg = with_logger(**options)
        cfg.logger.mirror.settings.update(init_timeout=patience, x_save_requirements=False)
        folder = tmp_path / "2026-01-01_000000_abc"
        folder.mkdir(exist_ok=True)
        wandb.teardown()
        return wandb_run.mirror(cfg, folder, CARD, {"loss": "assembled"}, "train")

    yield begin
    wandb_run.finish_wandb()
    wandb.teardown()


def only_run(folder: Path) -> Written:
    wandb_run.finish_wandb()
    wandb.teardown()  # waits until everything is written
    (path,) = folder.glob("*/wandb/offline-run-*")
    return read(path)


def test_a_run_that_fails_is_ended_as_failed(begun, tmp_path):
    def fail():
        try:
            begun()
            raise ZeroDivisionError
        finally:
            wandb_run.finish_wandb()

    with pytest.raises(ZeroDivisionError):
        fail()
    assert wandb.run is None
    written = only_run(tmp_path)
    assert written.exit_code == 1
    assert written.tags == ["vrcnn", "assembled"]
    assert written.config["choices"] == {"model": "vrcnn", "loss": "assembled"}


def test_disabled_it_takes_everything_and_writes_nothing(begun, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    loggers = begun()
    loggers[0].log_metrics({"val/psnr": 1.0}, step=3)
    row = {"model": "m", "loss": "", "degradation": "gif", "source": "s", "clip": "c", "psnr": 1.0}
    wandb_run.log_test(loggers, [row], list(row), tmp_path)
    wandb_run.finish_wandb()
    assert not list(tmp_path.glob("*/wandb/*"))


def test_a_server_that_cannot_be_reached_leaves_the_run_offline(
    begun, tmp_path, monkeypatch, capfd
):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", PLANTED)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    begun(patience=0.5)
    assert "wandb sync" in capfd.readouterr().err
    assert only_run(tmp_path).run.run_group == "mine"


def test_without_a_key_nobody_is_asked(begun, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", os.devnull)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    begun(group="widths")
    assert only_run(tmp_path).run.run_group == "widths"


def test_the_run_of_an_agent_is_the_agents(begun, tmp_path, monkeypatch):
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text("loss: {value: l2}\noptimizer.lr: {value: 0.5}\n")
    for name, value in {
        "SWEEP_ID": "sweep7", "RUN_ID": "agents1", "PROJECT": "theirs", "ENTITY": "team",
        "SWEEP_PARAM_PATH": str(parameters),
    }.items():  # fmt: skip
        monkeypatch.setenv(f"WANDB_{name}", value)
    assert begun(job_type="stage") == []
    assert wandb.run is None
    begun()
    written = only_run(tmp_path)
    run = written.run
    assert (run.run_id, run.sweep_id) == ("agents1", "sweep7")
    assert (run.project, run.entity) == ("theirs", "team")
    # What the sweep set stays as the sweep calls it, beside what became of it.
    assert (written.config["loss"], written.config["optimizer.lr"]) == ("l2", 0.5)
    assert written.config["optimizer"] == {"lr": 0.1}


def test_a_stage_belongs_to_its_recipe(monkeypatch, tmp_path):
    seen = []

    def train(cfg, choices):
        seen.append(cfg.logger.mirror)
        return tmp_path

    monkeypatch.setattr(runs, "train", train)
    for options in ({}, {"group": "mine"}):
        stages._best_of(with_logger(**options), {}, "astf", tmp_path, "texture")
    assert [(one.job_type, one.group) for one in seen] == [("stage", "astf"), ("stage", "mine")]
