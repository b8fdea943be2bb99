"""One small run through the door's own function, and what stands on it: eval, init, ckpt, files."""

import csv
import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from PIL import Image

import unlossy
from unlossy import cli
from unlossy.errors import UserError
from unlossy.models.spynet import SPyNetWarp
from unlossy.report.markdown import write_report
from unlossy.training import runs
from unlossy.training.callbacks import BestCheckpoint
from unlossy.training.configs import build
from unlossy.training.starting import newest_best

SMALL = [
    "trainer=tiny", "trainer.accelerator=cpu", "trainer.enable_progress_bar=no",
    "trainer.max_steps=7", "trainer.val_check_interval=3",
    "data.crop=32", "data.batch=2", "data.workers=0",
    "model.channels=4", "metrics=pixel", "checkpoint_every=2",
]  # fmt: skip


def call(verb, *overrides: str) -> Path:
    name = {"train": "train", "evaluate": "eval"}[verb]
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose(name, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    own = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    return getattr(runs, verb)(own, cfg.hydra.runtime.choices)


@pytest.fixture(scope="module")
def own(footage, tmp_path_factory):
    """Overrides that keep a run in a folder of its own, with a logger to look at."""
    root = tmp_path_factory.mktemp("runs")
    return ["source=folder", f"source.path={footage}", f"run_root={root}"]


@pytest.fixture(scope="module")
def run(own):
    return call("train", *SMALL, *own, "loss=grad_gan", "logger=wandb", "seed=4")


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "rows.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_what_the_architecture_names(run):
    rows = rows_of(run)
    assert list(rows[0])[:14] == [
        "model",
        "loss",
        "degradation",
        "source",
        "clip",
        "frames",
        "psnr",
        "psnr_all",
        "ssim",
        "ssim_uniform7",
        "lpips_alex",
        "bits",
        "bpp",
        "seconds_per_frame",
    ]
    clips = {row["clip"] for row in rows}
    models = {"input", "gaussian", "undither", "bilateral", "nlmeans", "ccdnet"}
    assert {(row["model"], row["clip"]) for row in rows} == {(m, c) for m in models for c in clips}
    assert {row["loss"] for row in rows if row["model"] == "ccdnet"} == {"grad_gan"}
    card = json.loads((run / "run.json").read_text())
    assert card["seed"] == 4
    assert card["steps"] == 7
    assert card["config"]["loss"]["adversary"]["pool_size"] == 60
    assert set(card["filters"]) == models - {"input", "ccdnet"}
    summary = json.loads((run / "summary.json").read_text())
    assert set(summary) == models
    psnr = [float(row["psnr"]) for row in rows if row["model"] == "input"]
    assert summary["input"]["psnr"] == pytest.approx(sum(psnr) / len(psnr), abs=1e-4)
    assert list((run / "panels").glob("*_000006.png"))
    assert list((run / "panels" / "test").glob("*.png"))


def test_the_last_step_is_validated_and_the_shares_of_steps_are_logged(run):
    with (run / "metrics.csv").open() as file:
        logged = {(row["step"], row["name"]): float(row["value"]) for row in csv.DictReader(file)}
    assert [step for step, name in logged if name == "val/psnr"] == ["2", "5"]
    last = {name: value for (step, name), value in logged.items() if step == "6"}
    assert 0 <= last["train/model_share_of_steps"] <= 1
    assert 0 <= last["train/adversary_share_of_steps"] <= 1
    assert 0 <= last["time/data"] < 1


def test_the_checkpoint_is_a_model_in_two_lines(run, footage, tmp_path):
    model = unlossy.load(run / "checkpoints" / "best.ckpt")
    frames = [Image.open(path).quantize(16) for path in sorted(footage.glob("clip0/*.png"))]
    gif, out = tmp_path / "my clip.gif", tmp_path / "out.gif"
    frames[0].save(gif, save_all=True, append_images=frames[1:], duration=70, loop=3)
    assert unlossy.enhance(gif, out, model=model) == out
    with Image.open(out) as written:
        assert (written.n_frames, written.size, written.info["loop"]) == (len(frames), (56, 40), 3)


def test_eval_repeats_the_rows_of_training(run, own):
    best = run / "checkpoints" / "best.ckpt"
    scored = call("evaluate", *own, "metrics=pixel", "data.workers=0", f"ckpt={best}")
    ignored = {"seconds_per_frame"}

    def told(folder):
        rows = [row for row in rows_of(folder) if row["model"] in ("input", "ccdnet")]
        return [{k: v for k, v in row.items() if k not in ignored} for row in rows]

    mine, theirs = told(scored), told(run)
    for row in mine:  # the input has the seed of whoever scored it
        row["seed"] = "4"
    assert mine == theirs


def test_eval_of_a_folder_that_is_only_tested(run, own):
    best = run / "checkpoints" / "best.ckpt"
    folder = call(
        "evaluate", *own, "metrics=pixel", "data.workers=0", f"ckpt={best}",
        "source.test=1.0", "source.val=0.0",
    )  # fmt: skip
    assert len({row["clip"] for row in rows_of(folder)}) == 8


@pytest.mark.parametrize("loss", ["grad", "grad_gan"])
def test_init_starts_from_the_weights_with_or_without_the_adversary(run, own, loss):
    last = run / "checkpoints" / "last.ckpt"
    folder = call(
        "train", *SMALL, *own, f"loss={loss}", "logger=csv", f"init={last}", "test=false",
        "optimizer.lr=0", "schedule=constant", "trainer.max_steps=1", "~baselines",
    )  # fmt: skip
    ours, theirs = (torch.load(f, weights_only=True)["state_dict"]
                    for f in (folder / "checkpoints" / "last.ckpt", last))  # fmt: skip
    key = "model.refine.outconv.weight"
    assert torch.equal(ours[key], theirs[key])


def test_a_checkpoint_of_another_recipe_is_not_continued(run, own):
    last = run / "checkpoints" / "last.ckpt"
    with pytest.raises(UserError, match=r"another seed \(4\)"):
        call("train", *SMALL, *own, "loss=grad_gan", "logger=csv", "seed=5", f"ckpt={last}")
    with pytest.raises(UserError, match="init="):
        call("train", *SMALL, *own, "loss=grad", "logger=csv", "seed=4", f"ckpt={last}")
    with pytest.raises(UserError, match=r"schedule\.total_steps"):
        call(
            "train", *SMALL, *own, "loss=grad_gan", "logger=csv", "seed=4", f"ckpt={last}",
            "trainer.max_steps=9",
        )  # fmt: skip


def test_a_finished_run_goes_on_with_more_steps(own):
    plain = [*SMALL, *own, "loss=grad", "logger=csv", "schedule=constant", "~baselines", "seed=9"]
    folder = call("train", *plain, "trainer.max_steps=4")
    last = folder / "checkpoints" / "last.ckpt"
    assert call("train", *plain, "trainer.max_steps=8", f"ckpt={last}") == folder
    longer = torch.load(last, weights_only=True)
    assert longer["global_step"] == 8
    whole = call("train", *plain, "trainer.max_steps=8")
    expected = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for key, value in longer["state_dict"].items():
        assert torch.equal(value, expected[key]), key


def test_clips_that_a_gif_keeps_exactly_can_be_trained_on(own, tmp_path):
    for clip in range(4):
        folder = tmp_path / "flat" / f"clip{clip}"
        folder.mkdir(parents=True)
        for t in range(2):
            frame = Image.new("RGB", (40, 40), (250, 250, 250))
            frame.paste((10 * clip, 0, 0), (5 + t, 5, 20, 20))
            frame.save(folder / f"{t}.png")
    rest = [arg for arg in own if not arg.startswith("source.path")]
    path = f"source.path={tmp_path / 'flat'}"
    folder = call("train", *SMALL, *rest, path, "loss=grad", "logger=csv", "~baselines")
    assert {(row["psnr"], row["exact"]) for row in rows_of(folder)} == {("", "2")}


def test_the_newest_checkpoint_is_one_that_restores(run, tmp_path):
    def place(stamp: str) -> Path:
        folder = tmp_path / "any" / f"{stamp}_a" / "checkpoints"
        folder.mkdir(parents=True)
        return folder / "best.ckpt"

    card = unlossy.checkpoint.describe(run / "checkpoints" / "best.ckpt")
    config = {"_target_": "unlossy.models.spynet.SPyNetWarp"}
    flow = unlossy.checkpoint.pack(SPyNetWarp(), config, card["training"])
    torch.save(flow, place("2026-01-02"))
    with pytest.raises(UserError, match="no checkpoint under"):
        newest_best(tmp_path)
    older = place("2026-01-01")
    older.write_bytes((run / "checkpoints" / "best.ckpt").read_bytes())
    assert newest_best(tmp_path) == older


def test_the_best_of_a_moved_run_is_known(run, tmp_path):
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]
    here = tmp_path / "checkpoints"
    best = BestCheckpoint(here, filename="best", monitor="val/psnr", mode="max")
    theirs = state[best.state_key]
    assert best.state_key.startswith("ModelCheckpoint{")
    best.load_state_dict(theirs)
    assert best.best_model_path == str(here / "best.ckpt")
    assert best.best_k_models == {str(here / "best.ckpt"): theirs["best_model_score"]}
    assert best.best_model_score == theirs["best_model_score"] > 0


def test_a_wrong_type_is_named_with_the_options_given():
    inner = {"_target_": "unlossy.models.basicvsr.BasicVSR", "channels": "many", "blocks": 1}
    node = {"_target_": "unlossy.models.astf.ASTF", "network": inner}
    with pytest.raises(UserError, match=r"BasicVSR does not take .*: channels=many, blocks=1 \("):
        build(OmegaConf.create({"model": node}).model)
    with pytest.raises(UserError, match=r"BasicVSR does not take .*: width=3 \("):
        build(OmegaConf.create({"_target_": inner["_target_"], "width": 3}))


def test_the_report_reads_real_runs(run, own, tmp_path):
    root = Path(next(arg for arg in own if arg.startswith("run_root=")).removeprefix("run_root="))
    page = write_report(root, tmp_path / "report")
    assert "ccdnet grad_gan" in page.read_text()


@pytest.mark.parametrize("monitor", ["val/lpips_alex", "val/tof", "psnr"])
def test_only_what_a_validation_measures_can_be_monitored(own, monitor):
    with pytest.raises(UserError, match="use one of val/psnr, val/ssim"):
        call("train", *SMALL, *own, "loss=l1", "logger=csv", f"monitor={monitor}")


def test_filters_that_the_medium_does_not_suit_are_left_out(own, capfd):
    folder = call(
        "train", *SMALL, *own, "loss=l1", "logger=csv", "model.steps=1", "degradation=jpeg",
        "trainer.max_steps=1", "~baselines.nlmeans", "~baselines.bilateral", "monitor=val/ssim",
    )  # fmt: skip
    assert {row["model"] for row in rows_of(folder)} == {"input", "gaussian", "ccdnet"}
    assert "another medium: undither\n" in capfd.readouterr().err
    with pytest.raises(UserError, match="Undither needs 'palette'"):
        call("evaluate", *own, "metrics=pixel", "model=undither", "degradation=jpeg", "~baselines")


def test_a_ratio_of_loss_weights_is_measured_once(own, monkeypatch):
    term = "{_target_: unlossy.losses.pixel.Charbonnier, reduction: sum}"
    more = "{_target_: unlossy.losses.objective.Weighted, weight: 2, ratio_to: charbonnier"
    ratio = [*SMALL, *own, "loss=charbonnier", f"+loss.terms.more={more}, term: {term}}}"]
    ratio += ["logger=csv", "test=false", "schedule=constant", "trainer.max_steps=2"]
    last = call("train", *ratio) / "checkpoints" / "last.ckpt"
    factor = torch.load(last, weights_only=True)["state_dict"]["objective.terms.more.factor"]
    assert factor == pytest.approx(1 / (40 * 56 * 3), rel=1e-3)  # of a sum to its mean
    monkeypatch.setattr("unlossy.losses.objective.Objective.balance", None)
    assert call("train", *ratio, "ckpt=last") == last.parents[1]
