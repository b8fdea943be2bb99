"""A recipe of three stages in miniature: its rows, its checkpoint, what skips and what goes on."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from unlossy import checkpoint, cli
from unlossy.errors import UserError
from unlossy.inference.enhance import enhance, newest_checkpoint
from unlossy.models.astf import ASTF
from unlossy.models.basicvsr import BasicVSR
from unlossy.training import runs, stages
from unlossy.training.enhancer import Enhancer
from unlossy.training.starting import check_parts, checkpoint_to_continue


def second(stage: str, loss: str) -> str:
    """Override a stage of the recipe by one without VGG16, which would be most of the time."""
    parts = ["experiment=astf/small_stage2", f"loss={loss}", "monitor=val/psnr"]
    parts.append("~loss.terms.lpips")  # of which that experiment sets an option
    quoted = ",".join(f"'{part}'" for part in [*parts, "start_ckpt=${trained.stage1}"])
    return f"stages.{stage}=[{quoted}]"


TINY = [
    "experiment=astf/small", "trainer=tiny", "trainer.max_steps=4", "trainer.val_check_interval=2",
    "trainer.accelerator=cpu", "trainer.enable_progress_bar=no", "checkpoint_every=3",
    "network.channels=4", "network.blocks=1", "data.crop=24", "data.batch=2", "data.workers=0",
    "metrics=pixel", "logger=csv", "degradation=hevc_intra", "~baselines.nlmeans",
    "~baselines.deblock", second("texture", "l1"), second("tradeoff", "charbonnier"),
]  # fmt: skip


def train(*overrides: str) -> Path:
    """Do what the door does."""
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose("train", list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        own = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
        return stages.train(own, cfg.hydra.runtime.choices, cfg.hydra.overrides.task)


@pytest.fixture(scope="module")
def footage_override(footage, tmp_path_factory):
    """Clips in a place whose name has to be quoted."""
    place = tmp_path_factory.mktemp("clips") / "a place=1"
    place.symlink_to(footage)
    return ["source=folder", f"source.path='{place}'"]


@pytest.fixture(scope="module")
def own(footage_override, tmp_path_factory):
    return [*footage_override, f"run_root='{tmp_path_factory.mktemp('runs')}/some runs, b=2'"]


@pytest.fixture(scope="module")
def recipe(own):
    return train(*TINY, *own)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "rows.csv").open() as file:
        return [row | {"seconds_per_frame": ""} for row in csv.DictReader(file)]


def best_of(folder: Path, stage: str) -> Path:
    (found,) = folder.glob(f"stages/{stage}/*/checkpoints/best.ckpt")
    return found


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key


def test_the_recipe_folder_is_a_run_with_a_row_for_each_output(recipe):
    rows = rows_of(recipe)
    outputs = {f"astf:{output}" for output in ("s", "e1", "e2", "f", "y")}
    assert {row["model"] for row in rows} == {"input", "gaussian", "atadenoise", *outputs}
    assert len(rows) == 8 * len({row["clip"] for row in rows})
    assert {row["loss"] for row in rows if row["model"] in outputs} == {"assembled"}
    assert len({row["psnr"] for row in rows if row["model"] in outputs}) == 5
    assert set(json.loads((recipe / "summary.json").read_text())) >= outputs
    card = json.loads((recipe / "run.json").read_text())
    assert card["seconds"] > 0
    assert card["config"]["model"]["s_ckpt"] == str(best_of(recipe, "stage1"))
    assert card["fitted"].startswith("gain ")
    assert list((recipe / "panels" / "test").glob("*.png"))


def test_what_is_trained_on_and_how_reaches_every_stage(recipe):
    for stage, loss in (("stage1", "charbonnier"), ("texture", "l1"), ("tradeoff", "charbonnier")):
        card = json.loads((best_of(recipe, stage).parents[1] / "run.json").read_text())
        config = card["config"]
        assert card["choices"]["loss"] == loss
        assert card["steps"] == config["trainer"]["max_steps"] == 4
        assert (config["data"]["crop"], config["model"]["channels"]) == (24, 4)
        assert card["choices"]["degradation"] == "hevc_intra"
        assert not (best_of(recipe, stage).parents[1] / "rows.csv").exists()


def test_the_checkpoint_holds_all_its_parts(recipe, tmp_path):
    whole = weights(recipe / "checkpoints" / "best.ckpt")
    for part, stage in (("s", "stage1"), ("e1", "texture"), ("e2", "tradeoff")):
        for key, value in weights(best_of(recipe, stage)).items():
            if key.startswith("model."):
                assert torch.equal(whole[f"model.{part}.{key.removeprefix('model.')}"], value)
    moved = tmp_path / "astf.ckpt"
    content = torch.load(recipe / "checkpoints" / "best.ckpt", weights_only=True)
    content["unlossy"]["model"] |= dict.fromkeys(["s_ckpt", "e1_ckpt", "e2_ckpt"], "gone.ckpt")
    torch.save(content, moved)
    assert isinstance(checkpoint.load(moved), ASTF)


def test_a_second_stage_says_whose_clips_it_restores(recipe, own, tmp_path):
    first, texture = best_of(recipe, "stage1"), best_of(recipe, "texture")
    assert checkpoint.describe(first)["training"]["after"] is None
    after = checkpoint.describe(texture)["training"]["after"]
    assert after == checkpoint.fingerprint(first)
    with pytest.raises(UserError, match="another stage has restored before"):
        enhance(*a_picture(tmp_path), model=texture)
    by_hand = tmp_path / "runs" / "x" / "2026-01-02_000000_a" / "checkpoints" / "best.ckpt"
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(texture.read_bytes())
    with pytest.raises(UserError, match="no checkpoint under"):
        newest_checkpoint(tmp_path / "runs", Path("a.png"), None)


def a_picture(folder: Path) -> tuple[Path, Path]:
    from PIL import Image

    Image.new("RGB", (32, 32), (9, 99, 199)).save(folder / "a.png")
    return folder / "a.png", folder / "b.png"


@pytest.fixture
def killing(monkeypatch):
    """Interrupt training, as Ctrl-C does, at a step of a stage, counted over the stages."""

    def at(step: int) -> None:
        original, taken = Enhancer.training_step, []

        def training_step(self, *arguments):
            taken.append(1)
            if len(taken) == step:
                raise KeyboardInterrupt
            return original(self, *arguments)

        monkeypatch.setattr(Enhancer, "training_step", training_step)

    yield at
    monkeypatch.undo()


# Before the first checkpoint, and after one of the second stage.
@pytest.mark.parametrize("step", [pytest.param(2, marks=pytest.mark.slow), 8])
def test_a_killed_recipe_goes_on_to_the_same_end(
    recipe, footage_override, killing, monkeypatch, tmp_path, step
):
    own = [*footage_override, f"run_root='{tmp_path}/some runs'"]
    killing(step)
    with pytest.raises(KeyboardInterrupt):
        train(*TINY, *own)
    monkeypatch.undo()
    (folder,) = (tmp_path / "some runs" / "astf_small").iterdir()
    shutil.move(tmp_path / "some runs", tmp_path / "moved runs")
    own = [*footage_override, f"run_root='{tmp_path}/moved runs'"]
    folder = tmp_path / "moved runs" / "astf_small" / folder.name
    finished = [best_of(folder, "stage1")] if step > 4 else []
    before = [path.stat().st_mtime_ns for path in finished]
    assert train(*TINY, *own, "ckpt=last") == folder
    assert [path.stat().st_mtime_ns for path in finished] == before
    assert rows_of(folder) == rows_of(recipe)
    assert_same_weights(folder / "checkpoints" / "best.ckpt", recipe / "checkpoints" / "best.ckpt")
    if finished:
        assert_same_weights(best_of(folder, "texture"), best_of(recipe, "texture"))


def test_a_finished_stage_is_taken_instead(recipe, own, tmp_path):
    paths = {name: best_of(recipe, name) for name in ("stage1", "texture", "tradeoff")}
    taken = [f"trained.{name}='{path}'" for name, path in paths.items()]
    folder = train(*TINY, *own, *taken)
    assert not (folder / "stages").exists()
    assert rows_of(folder) == rows_of(recipe)


def test_parts_of_two_recipes_are_not_assembled(recipe, own, tmp_path):
    paths = {name: best_of(recipe, name) for name in ("stage1", "texture", "tradeoff")}
    other = torch.load(paths["stage1"], weights_only=True)
    other["state_dict"]["model.conv_hr.bias"] += 1
    torch.save(other, paths["stage1"].with_name("other.ckpt"))
    paths["stage1"] = paths["stage1"].with_name("other.ckpt")
    taken = [f"trained.{name}='{path}'" for name, path in paths.items()]
    with pytest.raises(UserError, match=r"model\.e1_ckpt.*not trained on clips that model\.s_ckpt"):
        train(*TINY, *own, *taken, "name=refused")
    alone = f"trained.texture='{paths['texture']}'"
    with pytest.raises(UserError, match=r"e1_ckpt.*not trained on clips that .*=<stage1> had"):
        train(*TINY, *own, alone, "name=refused")
    assert not list(Path(own[2].split("'")[1]).glob("refused/*"))


@pytest.fixture
def part(tmp_path):
    """Write checkpoints of one small network, trained on what another one restored, or not."""

    def write(name: str, after: str | None = None) -> str:
        config = {"channels": 4, "blocks": 1, "flow": "zero"}
        model = BasicVSR(**config)
        torch.nn.init.normal_(model.conv_last.weight)
        config["_target_"] = f"{BasicVSR.__module__}.BasicVSR"
        training = {
            "model": "m", "loss": "l1", "degradation": {}, "source": "s",
            "needs": [], "scale": 1, "seed": 0, "after": after,
        }  # fmt: skip
        path = tmp_path / f"{name}.ckpt"
        torch.save(checkpoint.pack(model, config, training), path)
        return str(path)

    return write


def test_only_second_stages_of_the_first_are_parts(part):
    s = part("s")
    e1, e2 = (part(name, checkpoint.fingerprint(s)) for name in ("e1", "e2"))

    def check(*paths: str) -> None:
        check_parts("astf", dict(zip(("s_ckpt", "e1_ckpt", "e2_ckpt"), paths, strict=True)))

    check(s, e1, e2)
    for wrong in ((s, s, s), (s, part("raw"), e2), (s, e1, part("other", "0123"))):
        with pytest.raises(UserError, match="parts of one recipe"):
            check(*wrong)
    with pytest.raises(UserError, match=r"s_ckpt=.* was trained on clips that another stage"):
        check(e1, e1, e2)


def test_a_run_does_not_go_on_behind_another_stage(part):
    cfg = OmegaConf.create({"ckpt": part("e1", "0123")})
    for restored_by in (None, "4567"):
        with pytest.raises(UserError, match=r"e1\.ckpt learnt from clips"):
            checkpoint_to_continue(cfg, {}, restored_by)


def test_a_stage_of_other_settings_is_not_taken_for_finished(tmp_path):
    config = {"seed": 1, "trainer": {"max_steps": 9}, "init": "a.ckpt", "ckpt": None}
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text(json.dumps({"config": config, "seconds": 1}))
    moved = OmegaConf.create(config | {"init": "b.ckpt"})
    assert stages._finished(tmp_path, moved) == tmp_path / "run" / "checkpoints" / "best.ckpt"
    for other, words in (
        ({"seed": 2}, r"seed \(1\)"),
        ({"trainer": {"max_steps": 8}}, "max_steps"),
    ):
        with pytest.raises(UserError, match=words):
            stages._finished(tmp_path, OmegaConf.create(config | other))


def test_a_stage_is_scored_on_the_clips_it_was_trained_on(recipe, own):
    def score(*overrides: str) -> Path:
        with initialize_config_dir(str(cli.CONF), version_base="1.3"):
            arguments = ["degradation=hevc_intra", "metrics=pixel", "data.workers=0", "~baselines"]
            cfg = compose("eval", [*own, *arguments, *overrides], return_hydra_config=True)
        choices = cfg.hydra.runtime.choices
        return runs.evaluate(
            OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"]), choices
        )

    ckpt, first = f"ckpt='{best_of(recipe, 'texture')}'", best_of(recipe, "stage1")
    with pytest.raises(UserError, match="data=restored"):
        score(ckpt)
    with pytest.raises(UserError, match="data=default"):
        score(f"ckpt='{first}'", "data=restored", f"data.degradation.ckpt='{first}'")
    rows = rows_of(score(ckpt, "data=restored", f"data.degradation.ckpt='{first}'"))
    psnr = {row["model"]: row["psnr"] for row in rows}
    expected = {row["model"]: row["psnr"] for row in rows_of(recipe)}
    assert psnr == {"input": expected["astf:s"], "basicvsr": expected["astf:e1"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trained.stage1=nowhere.ckpt"], "There is no checkpoint nowhere.ckpt"),
        (["+trained.stage9=x.ckpt"], r"trained\.stage9 is no stage"),
        (["ckpt=some.ckpt"], "ckpt=last, or name finished"),
        (["ckpt=last"], "no run under"),
        (["init=some.ckpt"], "name finished"),
        (["stages.stage1=['loss=nonsense']"], "stage stage1 does not compose"),
        (["stages.tradeoff=['experiment=astf/small_stage1','loss=flow']"], "needs 'flow', which"),
        (["model.sharpen=-1"], "sharpen=-1"),
        (["model.sharpen=much"], r"ASTF does not take .*sharpen=much"),
        (["model.network.channels=8"], r"s_ckpt=<stage1> holds a BasicVSR of other sizes"),
        (["baselines.gaussian.settings=[-1]"], "settings=\\[-1"),
        (["source.test=0"], "no test clips"),
        (["schedule.pct_start=2"], "schedule does not work: .*pct_start"),
        (["schedule=cosine_restarts", "schedule.periods=[0]"], "A schedule of periods"),
        (["source.path=nowhere"], "nowhere"),
    ],
)
def test_a_mistake_shows_before_the_first_stage(footage_override, tmp_path, arguments, words):
    with pytest.raises(UserError, match=words) as caught:
        train(*TINY, *footage_override, f"run_root={tmp_path}/runs", *arguments)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "runs").rglob("*.*"))


def test_an_assembled_model_without_parts_names_its_recipe(own):
    parts = ["model=astf", "degradation=hevc_intra", "logger=csv", "metrics=pixel"]
    with pytest.raises(UserError, match=r"no trained parts; run its recipe, experiment=astf/small"):
        train(*parts, *own)
    with pytest.raises(UserError, match=r"init=x\.ckpt means nothing"):
        train(*parts, *own, "init=x.ckpt")


@pytest.mark.parametrize(
    ("own", "typed", "expected"),
    [
        (["loss=lpips"], ["seed=3", "model.sharpen=2"], ["loss=lpips", "seed=3"]),
        (["data=restored"], ["data=default", "data.crop=8"], ["data=restored", "data.crop=8"]),
        (["trainer.max_steps=9"], ["trainer=tiny"], ["trainer=tiny"]),
        (["optimizer.lr=1"], ["++optimizer.lr=2", "~schedule"], ["++optimizer.lr=2", "~schedule"]),
        (["ema=0.9"], ["'source.path'='a b=c'"], ["ema=0.9"]),
        ([], ["source.path='a b=c'", "loss=l1", "ckpt=last"], ["source.path='a b=c'"]),
        ([], ["baselines.nlmeans.settings=[a]", "model@x=y"], []),
    ],
)
def test_which_overrides_a_stage_gets(own, typed, expected):
    assert stages._of_stage(own, typed) == [*expected, "test=false"]
