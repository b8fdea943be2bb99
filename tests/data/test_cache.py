import errno
import io
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from unlossy import assets
from unlossy.data.cache import Cache
from unlossy.data.mixture import Mixed
from unlossy.degradations.gif import Gif
from unlossy.errors import UserError
from unlossy.sample import Clip, Degraded

EVERY = slice(None)


@dataclass(frozen=True)
class Noisy:
    """Draws, and has a reference of its own: two runs, in any order of clips, must agree."""

    scale: ClassVar[int] = 1
    keeps: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, clip: Degraded, rng: torch.Generator) -> Degraded:
        noise = torch.randint(256, clip["frames"].shape, generator=rng, dtype=torch.uint8)
        reference = clip["reference"] // 2
        return Degraded(**{**clip, "frames": noise, "reference": reference})


def entries() -> dict[str, bytes]:
    found = (assets.cache_root() / "degraded").rglob("*.*")
    return {path.name: path.read_bytes() for path in found if path.name != ".lock"}


def test_an_entry_decodes_to_the_frames_of_the_medium(drift):
    source = drift(frames=3)
    cache = Cache(source, Gif(colors=8))
    clips = source.clips("test")
    cache.fill(clips)
    kept = cache.load(clips[0])
    with Image.open(io.BytesIO(kept.stream.numpy().tobytes())) as gif:  # Pillow is the witness
        for t in range(3):
            gif.seek(t)
            shown = torch.from_numpy(np.array(gif.convert("RGB"))).permute(2, 0, 1)
            assert torch.equal(kept.frames(slice(t, t + 1), EVERY, EVERY)[0], shown)
    assert kept.bits == 8 * kept.stream.numel()
    assert kept.reference is None
    whole = kept.frames(EVERY, EVERY, EVERY)
    part = kept.frames(slice(1, 3), slice(5, 20), slice(7, 9))
    assert torch.equal(part, whole[1:3, :, 5:20, 7:9])


def test_draws_depend_on_the_clip_alone(drift, tmp_path, monkeypatch):
    source = drift()
    clips = source.clips("train")
    Cache(source, Noisy()).fill(clips, workers=2)
    first = entries()
    monkeypatch.setenv("UNLOSSY_CACHE", str(tmp_path / "again"))
    torch.manual_seed(7)
    Cache(source, Noisy()).fill(clips[::-1])
    assert entries() == first
    assert len(set(first.values())) == len(clips)
    kept = Cache(source, Noisy()).load(clips[1])
    assert torch.equal(kept.reference, source.read(clips[1], 0, 5) // 2)
    assert kept.bits == 8 * kept.pixels.numel()


def test_an_entry_is_computed_once_and_shared_by_mixtures(drift, grey, monkeypatch):
    source = drift()
    clips = source.clips("train")
    Cache(source, grey()).fill(clips)
    before = entries()
    monkeypatch.setattr(Cache, "compute", lambda *_: pytest.fail("computed again"))
    Cache(source, grey()).fill(clips)
    Cache(Mixed({"all": source}, weights={"all": 3.0}), grey()).fill(clips)
    assert entries() == before
    assert Cache(source, grey(shift=1)).path(clips[0]) != Cache(source, grey()).path(clips[0])
    assert Cache(drift(train=9), grey()).path(clips[0]) != Cache(source, grey()).path(clips[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_refused_clip_is_named_and_the_others_stay(drift, grey, workers):
    source = drift()
    good = source.clips("train")[:1]
    bad = Clip("refused", 2, 8, 8, "drift")
    with pytest.raises(UserError, match=r"^refused has 300 colours; choose fewer\.$"):
        Cache(source, grey()).fill([*good, bad], workers)
    Cache(source, grey()).load(good[0])
    assert len(entries()) == 1


def test_a_full_disk_leaves_the_cache_valid(drift, grey, monkeypatch):
    source = drift()
    clips = source.clips("train")
    cache = Cache(source, grey())
    cache.fill(clips[:1])
    complete, write = entries(), Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        write(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(UserError, match=r"No space left.*UNLOSSY_CACHE.*still valid"):
            cache.fill(clips)
    assert entries() == complete
    cache.fill(clips)
    assert len(entries()) == len(clips)


def test_a_half_written_entry_is_not_read(drift, grey):
    source = drift()
    clip = source.clips("val")[0]
    cache = Cache(source, grey())
    part = cache.path(clip).with_suffix(".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half")  # as a killed process leaves it
    cache.fill([clip])
    assert cache.load(clip).pixels.shape == (5, 40, 48)


def test_the_cap_is_one_sentence(drift, grey, monkeypatch):
    monkeypatch.setenv("UNLOSSY_CACHE_CAP", "0.0000001")
    source = drift()
    with pytest.raises(UserError, match=r"3 degraded clips .* above its cap of 1e-07 GB"):
        Cache(source, grey()).fill(source.clips("train"))
