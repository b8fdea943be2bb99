"""The doctor names what is wrong, and its exit code tells whether the main job can run."""

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
