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
        ({"token": {"value": SECRET}}, "token.value", "TOKEN"),
        ({"credentials": {"user": {"name": SECRET}}}, "credentials.user.name", "CREDENTIALS"),
        (
            {"headers": {"Authorization": f"Bearer {SECRET}"}},
            "headers.Authorization",
            "AUTHORIZATION",
        ),
        ({"source": {"accessToken": SECRET}}, "source.accessToken", "ACCESS_TOKEN"),
        ({"HFToken": SECRET}, "HFToken", "HF_TOKEN"),
        ({"apiKey": SECRET}, "apiKey", "API_KEY"),
        ({"pgpassword": SECRET}, "pgpassword", "PGPASSWORD"),
        *(({name: SECRET}, name, name.upper()) for name in ("db_pass", "pwd", "auth", "secrets")),
        *(({name: SECRET}, name, name.upper()) for name in ("wandb_key", "ssh_key", "signing_key")),
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


@pytest.mark.parametrize(
    "variable",
    [
        *("HF_TOKEN", "DB_PASSWORD", "MY_API_KEY", "AWS_SECRET", "PGPASSWORD", "MYSQL_PWD"),
        *("GITHUB_PAT", "SMTP_PASS"),
    ],
)
@pytest.mark.parametrize("text", ["{}", "Bearer {}", "https://hub/x/{}/file", "n={},{}"])
def test_a_value_that_holds_what_a_secret_variable_does_is_refused(variable, text, monkeypatch):
    config = {"source": {"path": "footage", "note": text.replace("{}", SECRET)}}
    refuse_secrets(config)
    monkeypatch.setenv(variable, SECRET)
    with pytest.raises(UserError, match=rf"^source.note holds what {variable} holds") as caught:
        refuse_secrets(config)
    assert SECRET not in str(caught.value)
    assert redacted(config) == {"source": {"path": "footage", "note": text.replace("{}", "***")}}


def test_of_two_contents_the_longer_is_blanked_whole(monkeypatch):
    monkeypatch.setenv("A_TOKEN", SECRET)
    monkeypatch.setenv("B_TOKEN", f"{SECRET}-more")
    assert redacted({"note": [f"x {SECRET}-more y", SECRET]}) == {"note": ["x *** y", "***"]}


def test_an_address_may_take_its_password_from_the_environment(monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", SECRET)
    config = {"storage": f"postgresql://ann:{SECRET}@host/db"}
    refuse_secrets(config)
    assert redacted(config) == {"storage": "postgresql://ann:***@host/db"}


def test_short_contents_and_other_variables_are_no_secrets(monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", "gif")
    monkeypatch.setenv("FOOTAGE", "a-long-folder-name")
    monkeypatch.setenv("KEYBOARD", "a-long-folder-name")
    monkeypatch.setenv("PWD", "a-long-folder-name")
    monkeypatch.setenv("OLDPWD", "a-long-folder-name")
    refuse_secrets({"degradation": "gif", "path": "a-long-folder-name"})


@pytest.mark.parametrize(
    "config",
    [
        {"token": None, "password": "", "save_secret": False},
        {"tokens": 512, "keys": ["a", "b"], "author": "ann", "monkey": 1, "key": "sums"},
        {"mask_token": 0, "token": {"dim": 64, "std": 0.02}, "sort_key": "psnr", "max_keys": 8},
        {"first_pass": "fast", "low_pass": "gaussian", "pass": 2, "passes": 3, "bypass": "x"},
        {"secretary": "ann", "authors": ["ann"], "forward": "a", "keypoint": 1, "tokenizer": "a"},
        {"note": "a token=b of sort_key=c", "path": "runs/a@b", "degradation": "drop=2"},
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
        ("postgresql://ann:12/zz@host/db", "postgresql://ann:***@host/db"),
        ("postgresql://ann:p@s/s@host/db", "postgresql://ann:***@host/db"),
        ("postgresql://ann@corp:zz@host/db", "postgresql://ann@corp:***@host/db"),
        ("http://ann:p@s/s@host/db", "http://***@host/db"),
        (f"http://{SECRET}@host:80/a.git", "http://***@host:80/a.git"),
        (f"git+HTTPS://{SECRET}:x-oauth-basic@host/a", "git+HTTPS://***@host/a"),
        (f"host=h password={SECRET} user=a", "host=h password=*** user=a"),
        ("host=h password = 'a b' user=a", "host=h password = *** user=a"),
        (f"Server=h;Uid=a;Pwd={SECRET};", "Server=h;Uid=a;Pwd=***;"),
        (f"https://host/x?sig={SECRET}", "https://host/x?sig=***"),
        (f"https://{SECRET}@host/repository.git", "https://***@host/repository.git"),
        (f"https://host/x?a=1&api_key={SECRET}&b=2", "https://host/x?a=1&api_key=***&b=2"),
        ("x http://a:b1@h and http://c:d2@i", "x http://***@h and http://***@i"),
        ("sqlite:///runs/study.db", "sqlite:///runs/study.db"),
        ("postgresql://ann@host:5432/db", "postgresql://ann@host:5432/db"),
        ("http://host:8080/mail@x", "http://host:8080/mail@x"),
        ("http://host/mail@x:y", "http://host/mail@x:y"),
        ("runs/a@b:c", "runs/a@b:c"),
    ],
)
def test_passwords_of_addresses_are_blanked_and_nothing_else(text, kept):
    assert redacted({"a": [{"storage": text}]}) == {"a": [{"storage": kept}]}


def test_redaction_leaves_values_and_the_original_alone():
    config = {"lr": 2e-3, "flag": True, "none": None, "size": [64, 64], "url": "http://a:b@c"}
    assert redacted(config) == config | {"url": "http://***@c"}
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
