"""The dashboard as W&B would be sent it; no account, no network."""

import json
import sys

import pytest
import wandb
from made_rows import make_row
from PIL import Image

from unlossy.errors import UserError
from unlossy.report import dashboard
from unlossy.report import wandb_names as names
from unlossy.report.rows import find_runs

KEY = "0123456789" * 4


@pytest.fixture
def runs(make_run, tmp_path):
    """Two losses on GIFs, with curves and pictures; a model of two outputs, without LPIPS."""
    for number, loss in enumerate(("l1", "grad")):
        rows = [make_row("input", "a", 30.0), make_row("ccdnet", "a", 31.0, loss=loss)]
        folder = make_run(loss, rows, seed=number, metrics="step,name,value\n5,val/psnr,31\n")
        (folder / "panels" / "test").mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(folder / "panels" / "shot_1_000005.png")
        Image.new("RGB", (4, 4)).save(folder / "panels" / "test" / "a.png")
    parts = [("input", ""), ("astf:s", "mse"), ("astf:e1", "mse")]
    rows = [make_row(m, "k", 30.0, loss=loss, source="x.y", lpips_alex="") for m, loss in parts]
    make_run("astf", rows)
    return find_runs(tmp_path / "runs")


@pytest.fixture
def sent(runs):
    """The specification that `save` uploads."""
    made = dashboard.ablation("me", "mine", runs)
    model = made._to_model()
    assert (model.entity, model.project) == ("me", "mine")
    return json.loads(model.spec.model_dump_json(by_alias=True, exclude_none=True))["section"]


def panels(sent, section):
    (found,) = [s for s in sent["panelBankConfig"]["sections"] if s["name"] == section]
    return [(panel["viewType"], panel["config"]) for panel in found["panels"]]


def test_validation_is_drawn_over_steps_by_loss_and_by_model(sent):
    for key, group in (("loss", "choices.value.loss"), ("model", "choices.value.model")):
        ((kind, config),) = panels(sent, f"Validation by {key}")
        assert kind == "Run History Line Plot"
        assert (config["xAxis"], config["metrics"]) == ("trainer/global_step", ["val/psnr"])
        assert (config["groupBy"], config["groupAgg"], config["groupArea"]) == (
            *(group, "mean", "stddev"),
        )


def test_test_metrics_are_bars_over_seeds(sent):
    bars = panels(sent, "Test by degradation")
    assert {kind for kind, _ in bars} == {"Bar Chart"}
    assert [config["chartTitle"] for _, config in bars] == [
        *("psnr, x.y", "gain, x.y", "ssim, x.y"),
        *("psnr, bunny", "gain, bunny", "ssim, bunny", "lpips_alex, bunny"),
    ]
    (first,) = (config for _, config in bars if config["chartTitle"] == "psnr, bunny")
    assert first["metrics"] == ["test/bunny/input/psnr", "test/bunny/ccdnet/psnr"]
    assert first["groupBy"] == "choices.value.degradation"
    assert (first["groupAgg"], first["groupArea"]) == ("mean", "stddev")
    by_loss = {config["chartTitle"]: config for _, config in panels(sent, "Test by loss")}
    assert by_loss["psnr, bunny"]["metrics"] == ["test/bunny/ccdnet/psnr"]
    assert by_loss["psnr, bunny"]["groupBy"] == "choices.value.loss"


def test_names_with_dots_and_outputs_do_not_nest(sent):
    metrics = [m for _, config in panels(sent, "Test by loss") for m in config["metrics"]]
    assert {"test/x-y/astf-s/psnr", "test/x-y/astf-e1/ssim"} <= set(metrics)


def test_clips_pictures_and_a_comparer_are_there(sent):
    ((kind, clips),) = panels(sent, "Clips")
    assert kind == "Weave"
    assert names.CLIPS in json.dumps(clips)
    assert [config["mediaKeys"] for kind, config in panels(sent, "Pictures")] == [
        ["panels/shot_1"],
        ["test/panels/a"],
    ]
    assert [kind for kind, _ in panels(sent, "Comparison")] == ["Run Comparer"]


def test_stages_are_filtered_out(sent):
    (runset,) = sent["runSets"]
    filters = json.dumps(runset["filters"])
    assert "jobType" in filters
    assert '["train", "eval"]' in filters
    assert runset["runFeed"]["columnPinned"]["config:choices.value.loss"]


def test_sections_of_what_no_run_has_are_left_out(make_run, tmp_path):
    make_run("filters", [make_row("input", "a", 30.0), make_row("gaussian", "a", 31.0)])
    made = dashboard.ablation("me", "mine", find_runs(tmp_path / "runs"))
    assert [s.name for s in made.sections] == ["Test by degradation", "Clips", "Comparison"]


@pytest.mark.parametrize("target", ["", "a/b/c", "/b", "a/"])
def test_a_target_that_is_no_project_is_refused(target, tmp_path):
    with pytest.raises(UserError, match="ENTITY/PROJECT or PROJECT"):
        dashboard.save_dashboard(tmp_path, target)


def test_without_the_extra_it_is_named(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(UserError, match=r'pip install "unlossy\[dashboards\]"'):
        dashboard.save_dashboard(tmp_path / "runs", "me/mine")


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """No key, no configuration, no server."""
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    wandb.teardown()
    yield monkeypatch
    wandb.teardown()


def test_without_a_key_wandb_login_is_named(runs, tmp_path, nobody):
    with pytest.raises(UserError, match="no key of W&B") as caught:
        dashboard.save_dashboard(tmp_path / "runs", "mine")
    said = str(caught.value)
    assert "run wandb login" in said
    assert f"wandb sync {tmp_path / 'runs'}/*/*/wandb/offline-run-*" in said


def test_a_server_that_cannot_be_reached_is_one_sentence(runs, tmp_path, nobody):
    nobody.setenv("WANDB_API_KEY", KEY)
    with pytest.raises(UserError, match="check the network") as caught:
        dashboard.save_dashboard(tmp_path / "runs", "me/mine")
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_it_is_saved_and_its_address_returned(runs, tmp_path, monkeypatch):
    from wandb_workspaces import workspaces

    saved = []

    def save(workspace):
        saved.append(workspace)
        workspace._internal_name = "nw-0123456789a-v"
        return workspace

    monkeypatch.setattr(workspaces.Workspace, "save", save)
    monkeypatch.setattr(workspaces.Workspace, "url", "https://wandb.test/me/mine?nw=1")
    address = dashboard.save_dashboard(tmp_path / "runs", "me/mine")
    assert address == "https://wandb.test/me/mine?nw=1"
    assert [(one.entity, one.project, one.name) for one in saved] == [("me", "mine", "Ablations")]
