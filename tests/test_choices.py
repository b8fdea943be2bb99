"""`model=help` and `--help` are read off conf/, and what Hydra refuses is one helpful sentence."""

import os
import re
import sys

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
        if not choices.summary(cli.CONF / group / f"{name}.yaml")
    ]
    assert silent == []


def test_choices_are_those_that_hydra_finds():
    """All but the parts of others, whose names begin with an underscore."""
    with hydra.initialize_config_dir(str(cli.CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        for group in ("model", "loss", "experiment", "experiment/film"):
            found = [n for n in loader.get_group_options(group) if not n.startswith("_")]
            own = choices.choices(cli.CONF, group)
            assert [name for name in own if "/" not in name] == found
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


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Type a command line; return the sentence that the composition is refused with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(door: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [f"{door}.py", *arguments])
        started = []
        with (
            pytest.raises(UserError) as caught,
            refusals.told(cli.CONF, door, arguments) as composed,
        ):

            def task(cfg: object) -> None:
                composed()
                started.append(cfg)

            hydra.main(version_base="1.3", config_path=str(cli.CONF), config_name=door)(task)()
        assert not started
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
        ("model@baselines.gaussian=null", "write ~model@baselines.gaussian to go without"),
        ("model=ccdnet.yaml", "write model=ccdnet."),
        ("model=[ccdnet,vrcnn]", "-m model=ccdnet,vrcnn"),
        ("loss=l1,grad", "add -m to run a job for each."),
        ("seed=0,1", "add -m to run a job for each, or write seed=[0,1] for a list."),
        ("-m loss=l1,gradd", "loss=gradd is unknown; did you mean grad?"),
        ("seed=[1", "seed=[1 has a bracket without its partner."),
        ("name=a=b", "quote such a value twice: 'name=\"a=b\"'."),
        ("ccdnet", "did you mean model=ccdnet?"),
        ("runs/x/last.ckpt", "did you mean ckpt=runs/x/last.ckpt?"),
        ("seed = 1", "without spaces around ="),
        ("--seed=1", "settings are written KEY=VALUE, without --"),
        ("optimzer.lr=1", "did you mean optimizer.lr?"),
        ("trainer.max_step=5", "did you mean trainer.max_steps?"),
        ("lr=1e-3", "did you mean optimizer.lr?"),
        ("batch_size=4", "did you mean data.batch?"),
        ("degradation.qp=30", "degradation has path, colors"),
        ("hydra.sweepr=1", "--cfg hydra"),
        ("+seed=1", "seed is there already; set it without the +."),
        ("+model=ccdnet", "model is there already"),
        ("~model@baselines.gausian", "did you mean model@baselines.gaussian?"),
        ("model@baselines.x=gaussian", "add it with +model@baselines.x=NAME."),
    ],
)
def test_what_hydra_refuses_is_one_sentence(refused, arguments, said):
    assert said in refused("train", *arguments.split())


def test_a_group_of_another_door_is_no_key(refused):
    assert refused("eval", "loss=l1") == "loss is no group of eval; eval --help lists them."


def test_the_nearest_key_is_of_the_group_that_was_chosen(refused):
    said = refused("train", "model=basicvsr", "model.block=3")
    assert said.endswith("did you mean model.blocks?")


def test_developers_still_get_the_whole_trace(monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ZeroDivisionError), refusals.told(cli.CONF, "train", ["--nonsense"]):
        raise ZeroDivisionError
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


def test_what_a_run_raises_is_left_alone():
    with pytest.raises(ValueError, match="of the run"), refusals.told(cli.CONF, "train", []) as go:
        go()
        raise ValueError("of the run")


def test_a_launcher_without_its_extra_names_it(monkeypatch):
    error = hydra.errors.HydraException("no hydra_plugins.hydra_submitit_launcher.x")
    said = refusals.sentence(error, cli.CONF, "train", [])
    assert said == "That launcher is not installed; pip install 'unlossy[slurm]' brings it."
