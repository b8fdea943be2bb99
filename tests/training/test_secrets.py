import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from unlossy import cli
from unlossy.errors import UserError
from unlossy.models.ccdnet import CCDNet
from unlossy.training import folder, starting
from unlossy.training.secrets import redacted, refuse_secrets

SECRET = "s3cr3t-0123456789"


@pytest.mark.parametrize(
    ("config", "setting", "variable"),
    [
        ({"logger": {"mirror": {"api_key": SECRET}}}, "logger.mirror.api_key", "WANDB_API_KEY"),
        ({"source": {"token": SECRET}}, "source.token", "TOKEN"),
        ({"source": [{"path": "a"}, {"password": 12345678}]}, "source.1.password", "PASSWORD"),
        ({"hf_token": SECRET}, "hf_token", "HF_TOKEN"),
        ({"aws_secret_access_key": SECRET}, "aws_secret_access_key", "AWS_SECRET_ACCESS_KEY"),
        ({"apikey": SECRET}, "apikey", "APIKEY"),
        ({"token": [SECRET]}, "token.0", "TOKEN"),
    ],
)
def test_a_setting_named_like_a_secret_is_refused(config, setting, variable):
    assert SECRET not in repr(redacted(config))
    with pytest.raises(UserError) as caught:
        refuse_secrets(config)
    said = str(caught.value)
    assert said.startswith(f"{setting} ")
    assert f"environment variable {variable}." in said
    assert SECRET not in said


@pytest.mark.parametrize("variable", ["HF_TOKEN", "DB_PASSWORD", "MY_API_KEY", "AWS_SECRET"])
def test_a_value_that_a_secret_variable_holds_is_refused(variable, monkeypatch):
    config = {"source": {"path": "footage", "note": SECRET}}
    refuse_secrets(config)
    monkeypatch.setenv(variable, SECRET)
    with pytest.raises(UserError, match=rf"^source.note holds what {variable} holds") as caught:
        refuse_secrets(config)
    assert SECRET not in str(caught.value)
    assert redacted(config) == {"source": {"path": "footage", "note": "***"}}


def test_short_contents_and_other_variables_are_no_secrets(monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", "gif")
    monkeypatch.setenv("FOOTAGE", "a-long-folder-name")
    monkeypatch.setenv("KEYBOARD", "a-long-folder-name")
    refuse_secrets({"degradation": "gif", "path": "a-long-folder-name"})


@pytest.mark.parametrize(
    "config",
    [
        {"token": None, "password": "", "save_secret": False},
        {"tokens": 512, "keys": ["a", "b"], "author": "ann", "monkey": 1, "key": "sums"},
    ],
)
def test_what_holds_no_secret_passes(config):
    refuse_secrets(config)


def test_no_configuration_of_ours_is_taken_for_a_secret():
    """Every group's every choice: a new option must not be named like a secret by accident."""
    for path in sorted(cli.CONF.rglob("*.yaml")):
        refuse_secrets(OmegaConf.to_container(OmegaConf.load(path), resolve=False))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"postgresql://ann:{SECRET}@host/db", "postgresql://ann:***@host/db"),
        (f"mysql+pymysql://ann:{SECRET}@host:3306/db", "mysql+pymysql://ann:***@host:3306/db"),
        (f"redis://:{SECRET}@host:6379/0", "redis://:***@host:6379/0"),
        ("postgresql://ann:p@ss@host/db", "postgresql://ann:***@host/db"),
        ("postgresql://ann:a/b@host/db", "postgresql://ann:***@host/db"),
        (f"https://{SECRET}@host/repository.git", "https://***@host/repository.git"),
        (f"https://host/x?a=1&api_key={SECRET}&b=2", "https://host/x?a=1&api_key=***&b=2"),
        ("x http://a:b1@h and http://c:d2@i", "x http://a:***@h and http://c:***@i"),
        ("sqlite:///runs/study.db", "sqlite:///runs/study.db"),
        ("postgresql://ann@host:5432/db", "postgresql://ann@host:5432/db"),
        ("http://host:8080/mail@x", "http://host:8080/mail@x"),
        ("runs/a@b:c", "runs/a@b:c"),
    ],
)
def test_passwords_of_addresses_are_blanked_and_nothing_else(text, kept):
    assert redacted({"a": [{"storage": text}]}) == {"a": [{"storage": kept}]}


def test_redaction_leaves_values_and_the_original_alone():
    config = {"lr": 2e-3, "flag": True, "none": None, "size": [64, 64], "url": "http://a:b@c"}
    assert redacted(config) == config | {"url": "http://a:***@c"}
    assert config["url"] == "http://a:b@c"


def test_what_a_run_and_a_checkpoint_say_of_themselves_is_redacted():
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose("train", ["name=x", "~baselines", "model.channels=4"])
    config = OmegaConf.to_container(cfg, resolve=True)
    address = f"postgresql://ann:{SECRET}@host/db"
    config["note"] = config["model"]["note"] = config["degradation"]["note"] = address
    choices = {"model": "ccdnet", "loss": "l1", "source": "mixed"}
    cards = (
        folder.run_card(config, choices),
        starting.checkpoint_card(config, choices, CCDNet(channels=4, steps=1), object()),
    )
    assert SECRET not in repr(cards)
    assert repr(cards).count("postgresql://ann:***@host/db") == 5
    assert config["note"] == address


def test_a_changed_password_is_no_other_configuration(tmp_path):
    def config(password):
        return {"storage": f"postgresql://ann:{password}@host/db", "seed": 0}

    assert folder.config_hash(config("a1")) == folder.config_hash(config("b2"))
    folder.write_json(tmp_path / "run.json", {"config": redacted(config("a1"))})
    assert folder.first_difference(tmp_path, config("b2")) == ""
    assert folder.first_difference(tmp_path, config("b2") | {"seed": 1}) == "seed (0)"
