"""The doctor names what is wrong, and its exit code tells whether the main job can run."""

import json
import os
import re
import tomllib
from pathlib import Path

import av
import pytest
from PIL import features

from unlossy import doctor as module
from unlossy.doctor import doctor, examine


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("UNLOSSY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_sound_machine_is_ready_and_nothing_was_fetched(cache, capsys):
    assert doctor() == 0
    assert "Ready: make train." in capsys.readouterr().out
    assert not (cache / "assets").exists()


def test_assets_that_are_not_cached_are_no_fault():
    states = {finding.what: finding.state for finding in examine()}
    assert states["asset bunny"] == "note"


def test_missing_and_old_packages_are_faults(monkeypatch, capsys):
    wanted = ["torch>=99", "no-such-package>=1", 'pytest>=99; extra == "dev"']
    monkeypatch.setattr(module.metadata, "requires", lambda _: wanted)
    bad = {finding.what: finding for finding in examine() if finding.state == "bad"}
    assert set(bad) == {"torch", "no-such-package"}
    assert bad["torch"].remedy == 'pip install "torch>=99"'
    assert doctor() == 1
    assert "2 to mend" in capsys.readouterr().out


def test_codecs_are_tried_and_a_missing_one_is_named(monkeypatch):
    codecs = {f.what: f.state for f in examine() if f.what.startswith("codec")}
    assert codecs == {"codec H.264": "ok", "codec VP9": "ok"}

    def lacking(path, mode="r", **options):
        if mode == "w" and options.get("format") == "webm":
            raise av.codec.codec.UnknownCodecError("libvpx-vp9")
        return opened(path, mode, **options)

    opened = av.open
    monkeypatch.setattr(av, "open", lacking)
    codecs = {f.what: f for f in examine() if f.what.startswith("codec")}
    assert codecs["codec H.264"].state == "ok"
    assert codecs["codec VP9"].state == "note"
    assert "libvpx-vp9" in codecs["codec VP9"].found


def test_media_that_a_library_cannot_make_are_notes(monkeypatch):
    media = {f.what: f for f in examine() if f.what.startswith("medi")}
    assert set(media) == {"media"}
    assert media["media"].found == "GIF, H.265, H.264, VP9, AV1, JPEG, WebP, JPEG 2000, AVIF"

    lacking = av.codec.codecs_available - {"libx265", "libsvtav1"}
    monkeypatch.setattr(av.codec, "codecs_available", lacking)
    monkeypatch.setattr(features, "check", lambda feature: feature != "avif")
    media = {f.what: f for f in examine() if f.what.startswith("medi")}
    assert set(media) == {"medium H.265", "medium AV1", "medium AVIF", "media"}
    assert media["media"].found == "GIF, H.264, VP9, JPEG, WebP, JPEG 2000"
    assert {media[f"medium {name}"].state for name in ("H.265", "AV1", "AVIF")} == {"note"}
    assert "without the encoder libsvtav1; install its wheel" in media["medium AV1"].remedy


def test_a_cache_that_cannot_be_written_is_a_fault(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNLOSSY_CACHE", str(tmp_path / "file" / "cache"))
    (cache,) = (finding for finding in examine() if finding.what == "cache")
    assert cache.state == "bad"
    assert "UNLOSSY_CACHE" in cache.remedy


def named(what: str) -> module.Finding:
    (found,) = (finding for finding in examine() if finding.what == what)
    return found


@pytest.fixture
def light(monkeypatch):
    """Leave out the checks that encode films."""
    monkeypatch.setattr(module, "_codecs", lambda: iter(()))
    monkeypatch.setattr(module, "_media", lambda: iter(()))


def test_extras_are_those_of_the_project_and_notes():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    declared = project["project"]["optional-dependencies"]
    names = {
        extra: [re.split("[<>=]", line)[0] for line in lines] for extra, lines in declared.items()
    }
    del names["dev"]
    assert names == {extra: [name] for extra, (name, _) in module.EXTRAS.items()}


def test_a_missing_extra_is_a_note_with_its_command(monkeypatch, light):
    def version(name):
        if name == "optuna":
            raise module.metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(module.metadata, "version", version)
    found = named("extra optuna")
    assert found.state == "note"
    assert found.remedy.startswith("pip install 'unlossy[optuna]'")


def test_no_check_ends_the_others(monkeypatch, light):
    def broken():
        raise RuntimeError("half installed")
        yield

    broken.__name__ = "_media"
    monkeypatch.setattr(module, "_media", broken)
    findings = {finding.what: finding for finding in examine()}
    assert findings["media"].state == "note"
    assert "half installed" in findings["media"].found
    assert "W&B" in findings


@pytest.mark.parametrize(
    ("files", "gigabytes"),
    [
        ({}, None),
        ({"memory.max": "3000000000\n"}, 3.0),
        ({"memory.max": "max\n"}, None),
        ({"memory/memory.limit_in_bytes": "2000000000"}, 2.0),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
    ],
)
def test_memory_is_what_the_container_may_use(tmp_path, files, gigabytes):
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert module._memory(tmp_path) == (whole if gigabytes is None else gigabytes * 1e9)


def test_a_run_root_that_is_a_file_is_a_fault(monkeypatch, tmp_path, light):
    monkeypatch.chdir(tmp_path)
    assert named("run_root").state == "ok"
    assert not (tmp_path / "runs").exists()
    (tmp_path / "runs").write_text("")
    found = named("run_root")
    assert found.state == "bad"
    assert "run_root=FOLDER" in found.remedy


def test_a_key_of_weights_and_biases_is_seen_and_not_shown(monkeypatch, tmp_path, light, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_MODE")
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    assert named("W&B").state == "note"
    secret = "0123456789" * 4
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai login user password {secret}\n")
    assert named("W&B").found == "a key for api.wandb.ai: runs go online"
    (tmp_path / ".netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", secret)
    assert named("W&B").state == "ok"
    doctor()
    assert secret not in capsys.readouterr().out


def test_the_diagnosis_can_be_read_by_a_program(light, capsys):
    assert doctor(as_json=True) == 0
    findings = json.loads(capsys.readouterr().out)
    assert {"what", "found", "state", "remedy"} == set(findings[0])
    assert {finding["state"] for finding in findings} <= {"ok", "note"}
