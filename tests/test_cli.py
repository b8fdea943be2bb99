"""Mistakes as users make them: one sentence, the exit code, no traceback, nothing half-written."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from unlossy import cli

ROOT = Path(__file__).parents[1]
TINY = [
    "logger=csv", "trainer=tiny", "trainer.accelerator=cpu", "model.channels=4", "data.crop=32",
    "data.batch=2", "data.workers=0", "metrics=pixel", "~baselines",
]  # fmt: skip


@pytest.fixture
def door(monkeypatch, capfd, tmp_path):
    """Run a door in this process; return (exit code, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(verb: str, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [verb, *arguments])
        code = 0
        try:
            cli.VERBS[verb]()
        except SystemExit as exit_:
            code = exit_.code or 0
        return code, capfd.readouterr().err

    return run


def assert_one_sentence(found: tuple[int, str], *words: str, code: int = 2) -> None:
    got, text = found
    assert got == code, text
    assert "Traceback" not in text
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, text
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["source=folder", "source.path=nowhere"], ["nowhere"]),
        (["source=folder"], ["source.path"]),
        (["source=folder", "source.path=."], ["holds no clips"]),
        (["degradation.colors=300"], ["300", "256"]),
        (["model=gaussian"], ["nothing to train"]),
        (["trainer.max_steps=0"], ["trainer.max_steps=0"]),
        (["model@baselines.gaussian=null"], ["~model@baselines.gaussian"]),
        (["seed=-1"], ["seed=-1"]),
        (["checkpoint_every=0"], ["checkpoint_every=0"]),
        (["data.batch=0"], ["data.batch=0"]),
        (["ckpt=nowhere.ckpt"], ["nowhere.ckpt"]),
        (["ckpt=last"], ["ckpt=last"]),
        (["data.source=null"], ["data.source=None", "source=NAME"]),
        (["data.degradation=gif"], ["data.degradation=gif", "degradation=NAME"]),
    ],
)
def test_a_wrong_setting_is_one_sentence(door, tmp_path, arguments, words):
    own = [] if any(a.startswith("model=") for a in arguments) else TINY
    assert_one_sentence(door("train", "logger=csv", *own, *arguments), *words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["experiment=astf/small", "trained.stage1=no where.ckpt"], ["no where.ckpt"]),
        (["experiment=astf/small", "ckpt=last"], ["ckpt=last", "astf_small"]),
        (["experiment=astf/small_stage2", "start_ckpt=nowhere.ckpt"], ["nowhere.ckpt"]),
        (["experiment=astf/stage1"], ["network.flow_ckpt"]),
        (["model=astf", "degradation=hevc"], ["no trained parts", "experiment=astf/small"]),
        (["model=astf", "model.s_ckpt=nowhere.ckpt"], ["e1_ckpt"]),
        (["model=basicvsr", "loss=flow"], ["does not provide"]),
        (["degradation=hevc", "degradation.qp=52"], ["qp"]),
        (["model=vrcnn", "loss=l1", "monitor=val/fid"], ["monitor=val/fid", "val/psnr"]),
    ],
)
def test_a_wrong_recipe_is_one_sentence(door, tmp_path, footage, arguments, words):
    own = ["logger=csv", "metrics=pixel", "source=folder", f"source.path={footage}"]
    assert_one_sentence(door("train", *own, *arguments), *words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data.crop=8"], ["data.crop"]),
        (["degradation.every=2"], ["keeps one of 2"]),
        (["trainer.accelerator=tpu"], ["lightning.Trainer"]),
        (["schedule.pct_start=2"], ["schedule", "pct_start"]),
        (["optimizer.lr=fast"], ["optimizer", "fast"]),
    ],
)
def test_what_shows_when_everything_is_built_leaves_nothing(
    door, tmp_path, footage, arguments, words
):
    found = door("train", *TINY, "source=folder", f"source.path={footage}", *arguments)
    assert_one_sentence(found, *words)
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("run.json"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model=ccdnet"], ["learnt nothing"]),
        (["split=train"], ["split=train"]),
        (["device=tpu"], ["device=tpu"]),
        (["ckpt=last"], ["train one with"]),
    ],
)
def test_a_wrong_evaluation_is_one_sentence(door, tmp_path, footage, arguments, words):
    own = [
        "metrics=pixel",
        "data.workers=0",
        "~baselines",
        "source=folder",
        f"source.path={footage}",
    ]
    assert_one_sentence(door("eval", *own, *arguments), *words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("group", ["loss", "model", "degradation"])
def test_an_unknown_choice_lists_the_choices(door, group):
    known = {"loss": "grad_gan", "model": "ccdnet", "degradation": "gif_any"}
    assert_one_sentence(door("train", f"{group}=nonsense"), f"{group}=nonsense", known[group])


def bad_files(folder: Path) -> dict[str, Path]:
    picture = Image.effect_noise((48, 48), 60).convert("P")
    good = folder / "good.gif"
    picture.save(good, save_all=True, append_images=[picture.rotate(k) for k in (90, 180)])
    files = {
        "truncated": (folder / "cut.gif", good.read_bytes()[:700]),
        "empty": (folder / "zero.gif", b""),
        "text": (folder / "text.gif", b"not a picture\n"),
        "empty film": (folder / "zero.mp4", b""),
        "text film": (folder / "text.mp4", b"not a film\n"),
    }
    for path, content in files.values():
        path.write_bytes(content)
    good.unlink()
    return {name: path for name, (path, _) in files.items()}


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "empty film", "text film"])
def test_a_broken_file_is_named_and_leaves_nothing(door, tmp_path, checkpoint, kind):
    path = bad_files(tmp_path)[kind]
    out = tmp_path / "out.gif"
    assert_one_sentence(door("enhance", str(path), str(out), "--ckpt", str(checkpoint)), path.name)
    assert not out.exists()
    assert not [p for p in tmp_path.iterdir() if "out" in p.name]


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "empty film", "text film"])
def test_a_broken_file_in_a_training_folder_is_named(door, tmp_path, footage, kind):
    path = bad_files(tmp_path)[kind]
    shutil.copytree(footage, tmp_path / "clips")
    path.rename(tmp_path / "clips" / path.name)
    found = door("train", *TINY, "source=folder", f"source.path={tmp_path / 'clips'}")
    assert_one_sentence(found, path.name)
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    from unlossy import checkpoint as checkpoints
    from unlossy.models.ccdnet import CCDNet

    config = {"_target_": "unlossy.models.ccdnet.CCDNet", "channels": 4}
    card = checkpoints.card(config, training={"model": "ccdnet", "loss": "l1", "degradation": {}})
    state = {f"model.{key}": value for key, value in CCDNet(channels=4).state_dict().items()}
    path = tmp_path / "models" / "ccdnet.ckpt"
    path.parent.mkdir()
    torch.save({"unlossy": card, "state_dict": state}, path)
    return path


def test_the_doors_show_no_traceback_in_a_process_of_their_own(tmp_path):
    command = [sys.executable, str(ROOT / "enhance.py"), "nowhere.gif", str(tmp_path / "out.gif")]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert "nowhere.gif" in ended.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [
        (["train.py", "model=help"], ""),
        (["train.py", "model=help"], "1"),
        (["eval.py", "--cfg", "job"], "1"),
        (["report.py", "--help"], ""),  # argparse itself ignores what fails at once
        (["-c", "from unlossy.cli import main; main()", "--help"], ""),
        (["-c", "from unlossy.cli import main; main()", "fetch", "--help"], ""),
    ],
)
def test_a_door_ends_quietly_when_its_reader_went_away(arguments, unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_another_broken_pipe_is_a_defect():
    with pytest.raises(BrokenPipeError, match="ffmpeg"), cli.refusing():
        raise BrokenPipeError("ffmpeg")


@pytest.mark.parametrize("verb", ["fetch", "doctor"])
def test_unknown_options_are_refused(door, verb):
    code, said = door(verb, "--nope")
    assert (code, "unrecognized arguments: --nope" in said) == (2, True)


def test_the_console_script_lists_its_verbs(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["unlossy", "--help"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in cli.VERBS)


def test_our_own_warnings_are_one_line():
    usual = warnings.formatwarning
    with cli.refusing():
        ours = str(cli.PACKAGE / "models" / "pixelsr.py")
        assert warnings.formatwarning("seams", UserWarning, ours, 1) == "warning: seams\n"
        assert "/elsewhere.py:1" in warnings.formatwarning("x", UserWarning, "/elsewhere.py", 1)
    assert warnings.formatwarning is usual
