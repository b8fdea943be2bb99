"""`model=help` and `--help` are read off conf/, and what Hydra refuses is one helpful sentence."""

import os
import re
import sys
from collections.abc import Sequence

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

from unlossy import choices, cli, refusals
from unlossy.errors import UserError


def test_every_choice_says_what_it_is():
    silent = [
        f"{group}/{name}"
        for group in choices.groups(cli.CONF)
        for name in choices.choices(cli.CONF, group)
        if not choices.summary(cli.CONF, group, name)
    ]
    assert silent == []


def test_choices_are_those_that_hydra_finds():
    """All but the parts of others, whose names begin with an underscore."""
    with hydra.initialize_config_dir(str(cli.CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        for group in ("model", "loss", "experiment"):
            found = [n for n in loader.get_group_options(group) if not n.startswith("_")]
            own = choices.choices(cli.CONF, group)
            assert [name for name in own if "/" not in name] == found
        launchers = loader.get_group_options("hydra/launcher")
    named = set(choices.choices(cli.CONF, "hydra/launcher"))
    assert named - set(launchers) <= {"joblib", "ray", "submitit_local"}  # extras may be missing
    assert "film/style" in choices.choices(cli.CONF, "experiment")


def asked(*arguments: str, door: str = "train") -> str:
    answer = choices.answer(cli.CONF, door, "python train.py", arguments)
    assert answer is not None
    return answer


@pytest.mark.parametrize("question", ["model=?", "model=help", "model@baselines.x=?", "+model=?"])
def test_a_question_lists_the_choices_of_a_group(question):
    lines = asked("seed=1", question).splitlines()
    assert lines[0] == "model="
    assert "  ccdnet             Wang et al., GIF2Video, CVPR 2019" in lines
    assert all(len(line) <= choices.WIDTH for line in lines)


def test_a_question_within_a_folder_lists_that_folder():
    names = re.findall(r"^  (\S+)", asked("experiment/film=help"), re.MULTILINE)
    assert names == ["film/l1", "film/style", "film/vgg"]
    assert "  astf/full" in asked("experiment=?")


def test_no_question_no_answer():
    for arguments in ([], ["model=ccdnet"], ["name=help"], ["seed=?"], ["-m", "sweep=ccdnet_loss"]):
        assert choices.answer(cli.CONF, "train", "", arguments) is None


def compose(door: str, arguments: Sequence[str]) -> None:
    def task(cfg: object) -> None:
        pytest.fail("it composed")

    with refusals.told(cli.CONF, door, arguments):
        hydra.main(version_base="1.3", config_path=str(cli.CONF), config_name=door)(task)()


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Type a command line; return the sentence that the composition is refused with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(door: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [f"{door}.py", *arguments])
        with pytest.raises(UserError) as caught:
            compose(door, arguments)
        assert "HYDRA_FULL_ERROR" not in os.environ
        text = str(caught.value)
        assert "\n" not in text
        assert text[-1] in ".?"
        return text

    return run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("model=ccdnett", "model=ccdnett is unknown; did you mean ccdnet? Choices: astf, "),
        ("model=grad_gan", "did you mean loss=grad_gan?"),
        ("experiment=film", "is a folder; choose of what it holds: film/l1, film/style, film/vgg."),
        ("trainer=5", "trainer=5 is unknown. Choices: "),
        ("hydra/launcher=jobblib", "did you mean joblib?"),
        ("model=", "model= chooses nothing"),
        ("ckpt=", "ckpt= sets nothing; write a value, or ckpt=null for none."),
        ("~model", "~model takes away what every run needs"),
        ("model@baselines.gaussian=null", "write ~model@baselines.gaussian to go without"),
        ("model=ccdnet.yaml", "write model=ccdnet."),
        ("model=[ccdnet,vrcnn]", "-m model=ccdnet,vrcnn"),
        ("seed=0,1", "add -m to run a job for each, or write seed=[0,1] for a list."),
        ("seed=[1", "seed=[1 has a bracket without its partner."),
        ("name=a=b", "quote such a value twice: 'name=\"a=b\"'."),
        ("ccdnet", "did you mean model=ccdnet?"),
        ("runs/x/last.ckpt", "did you mean ckpt=runs/x/last.ckpt?"),
        ("seed = 1", "without spaces around ="),
        ("--seed=1", "settings are written KEY=VALUE, without --"),
        ("+seed=1", "seed is there already; set it without the +."),
    ],
)
def test_what_hydra_refuses_is_one_sentence(refused, arguments, said):
    assert said in refused("train", *arguments.split())


KEYS = [
    "seed", "data", "data.batch", "model", "model.steps", "model.channels", "loss", "optimizer",
    "optimizer.lr", "loss.adversary", "loss.adversary.optimizer", "loss.adversary.optimizer.lr",
    "model@baselines.gaussian", "trainer.max_steps",
]  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("lr", "optimizer.lr"),  # the shallowest of that name
        ("batch_size", "data.batch"),
        ("data.batchsize", "data.batch"),
        ("optimzer.lr", "optimizer.lr"),
        ("trainer.max_step", "trainer.max_steps"),
        ("max_steps", "trainer.max_steps"),
        ("model.step", "model.steps"),
        ("model.qp", None),
        ("run", None),
        ("model@baselines.gausian", "model@baselines.gaussian"),
        ("model@baselines.x", None),
    ],
)
def test_the_nearest_key(monkeypatch, typed, near):
    monkeypatch.setattr(refusals, "_known", lambda *_: KEYS)
    error = hydra.errors.ConfigCompositionException(f"Could not override '{typed}'.")
    said = refusals.sentence(error, cli.CONF, "train", [f"{typed}=1"])
    assert said.startswith(f"{typed} is ")
    assert re.findall(r"did you mean (\S+)\?", said) == ([near] if near else [])
    if typed == "model.qp":
        assert "model has steps, channels, and +model.qp=VALUE adds one." in said


def test_an_unknown_key_is_compared_with_those_of_the_groups_that_were_chosen(refused):
    said = refused("eval", "degradation=hevc", "degradation.qpp=3")
    assert said == "degradation.qpp is unknown to eval; did you mean degradation.qp?"


def test_a_group_of_another_door_is_no_key(monkeypatch):
    monkeypatch.setattr(refusals, "_known", lambda *_: KEYS)
    error = hydra.errors.ConfigCompositionException("Could not override 'trainer'. No match")
    said = refusals.sentence(error, cli.CONF, "eval", ["trainer=tiny"])
    assert said == "trainer is no group of eval; eval --help lists them."


def test_developers_still_get_the_whole_trace(monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ZeroDivisionError), refusals.told(cli.CONF, "train", ["--nonsense"]):
        raise ZeroDivisionError
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


def test_what_a_run_raises_is_left_alone():
    def run() -> None:
        with refusals.told(cli.CONF, "train", []) as composed:
            composed()
            raise ValueError("of the run")

    with pytest.raises(ValueError, match="of the run"):
        run()


def test_a_launcher_without_its_extra_names_it():
    error = hydra.errors.HydraException("no hydra_plugins.hydra_submitit_launcher.x")
    said = refusals.sentence(error, cli.CONF, "train", [])
    assert said == "That launcher is not installed; pip install 'unlossy[slurm]' brings it."
    missing = hydra.errors.MissingConfigException("", "hydra/launcher/submitit_local", ["basic"])
    said = refusals.sentence(missing, cli.CONF, "train", [])
    assert said.endswith("is not installed; pip install 'unlossy[slurm]' brings it.")
