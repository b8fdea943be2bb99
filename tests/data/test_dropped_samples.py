"""A medium that drops frames, from the cache to samples: fewer frames go in than are wanted."""

import pytest
import torch

from unlossy.data.cache import Cache
from unlossy.data.samples import TrainingSamples, WholeClips, collate
from unlossy.degradations.chain import Chain
from unlossy.degradations.drop_frames import DropFrames
from unlossy.degradations.gif import Gif
from unlossy.errors import UserError
from unlossy.sample import check, to_float


def filled(source, degradation):
    cache = Cache(source, degradation)
    cache.fill([*source.clips("train"), *source.clips("test")])
    return cache


def test_whole_clips_end_with_the_last_kept_frame(drift):
    source = drift(frames=8, height=6, width=7)
    cache = filled(source, DropFrames(3))
    clips = source.clips("test")
    for sample, clip in zip(WholeClips(cache, clips), clips, strict=True):
        clean = source.read(clip, 0, 8)
        assert torch.equal(sample["degraded"][0], clean[[0, 3, 6]])
        assert torch.equal(sample["clean"][0], clean[:7])
        assert sample["t_in"].tolist() == [[0, 3, 6]]
        assert sample["t_out"].tolist() == [list(range(7))]
        assert sample["bits"].item() == 8 * 3 * (3 * 6 * 7)  # of the frames that are left


def test_windows_are_kept_frames_and_all_between(drift):
    source = drift(frames=9, height=20, width=24)
    cache = filled(source, DropFrames(2))
    samples = TrainingSamples(cache, source.clips("train"), crop=16, frames=2, seed=1)
    batch = collate([samples[k] for k in range(12)])
    check(to_float(batch))
    assert batch["degraded"].shape == (12, 2, 3, 16, 16)
    assert batch["clean"].shape == (12, 3, 3, 16, 16)
    assert torch.equal(batch["degraded"], batch["clean"][:, ::2])  # one crop, one flip
    assert (batch["t_in"].diff(dim=1) == 2).all()
    assert torch.equal(batch["t_out"], batch["t_in"][:, :1] + torch.arange(3))
    assert set(batch["t_in"][:, 0].tolist()) == {0, 2, 4, 6}


def test_a_gif_of_what_is_left_brings_its_palettes(drift):
    source = drift(frames=9, height=20, width=24)
    cache = filled(source, Chain({"drop": DropFrames(4), "gif": Gif(8)}))
    (clip, *_) = source.clips("test")
    assert cache.load(clip).pixels.shape == (3, 20, 24)  # indices
    samples = TrainingSamples(cache, source.clips("train"), crop=16, frames=2, seed=1)
    batch = collate([samples[k] for k in range(3)])
    assert batch["side"]["palette"].shape == (3, 2, 8, 3)
    assert batch["clean"].shape == (3, 5, 3, 16, 16)


def test_short_clips_are_stills_that_nobody_trains_on(drift):
    source = drift(frames=4, height=6, width=7)
    cache = filled(source, DropFrames(4))
    sample = WholeClips(cache, source.clips("test"))[0]
    assert sample["t_out"].tolist() == [[0]]
    assert torch.equal(sample["degraded"], sample["clean"])
    with pytest.raises(UserError, match=r"the 2 frame\(s\) of a window"):
        TrainingSamples(cache, source.clips("train"), crop=4, frames=2, seed=0)


def test_the_order_of_a_chain_is_part_of_its_place_in_the_cache(drift):
    source = drift(frames=5)
    (clip, *_) = source.clips("test")
    drop, gif = DropFrames(2), Gif(8)
    places = {
        Cache(source, Chain(parts)).path(clip)
        for parts in ({"drop": drop, "gif": gif}, {"gif": gif, "drop": drop})
    }
    assert len(places) == 2
