"""The doctor names what is wrong, and its exit code tells whether the main job can run."""

import pytest

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


def test_a_cache_that_cannot_be_written_is_a_fault(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNLOSSY_CACHE", str(tmp_path / "file" / "cache"))
    (cache,) = (finding for finding in examine() if finding.what == "cache")
    assert cache.state == "bad"
    assert "UNLOSSY_CACHE" in cache.remedy
