from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from unlossy import assets, video
from unlossy.data.cache import Cache
from unlossy.data.mixture import Mixed
from unlossy.data.photos import Photos, _spread
from unlossy.data.samples import TrainingSamples, collate
from unlossy.data.shots import Shots, find_shots
from unlossy.data.source import EVERYWHERE, Source
from unlossy.degradations.chain import Chain
from unlossy.errors import UserError
from unlossy.sample import Clip

CONF = Path(__file__).parents[2] / "conf"
SPLITS = ("train", "val", "test")


def configured(name: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return instantiate(compose(f"source/{name}").source, _convert_="all")


def frames_of(source: Shots, split: str, film: str) -> set[int]:
    spans = source.shots[split].get(film, [])
    return {frame for start, stop in spans for frame in range(start, stop)}


def test_the_lists_keep_the_splits_of_the_film_apart():
    source = configured("bunny")
    train, val, test = (frames_of(source, split, "bunny") for split in SPLITS)
    assert min(train) == 285
    assert max(train) < min(val)
    assert max(val) < min(test)
    assert max(test) < 11_672
    clips = source.clips("test")
    assert len(clips) == 33
    assert clips[0].name == "bunny/09507"
    shortest = min(stop - start for start, stop in source.shots["test"]["bunny"])
    assert shortest >= 8
    assert sum(clip.frames for clip in source.clips("val")) in range(30, 45)
    assert {(clip.height, clip.width) for clip in clips} == {(180, 320)}


@pytest.mark.assets("clips")
def test_the_mixture_trains_and_tests_on_other_shots_of_bikes_and_never_on_bigbuckbunny():
    mixed = configured("mixed")
    by_split = {split: {clip.name for clip in mixed.clips(split)} for split in SPLITS}
    bikes = {split: sorted(n for n in by_split[split] if "bikes" in n) for split in SPLITS}
    assert bikes["train"] == ["bikes/00000", "bikes/00030", "bikes/00076"]
    assert bikes["test"] == ["bikes/00137", "bikes/00187", "bikes/00242"]
    assert bikes["val"] == []
    everything = set().union(*by_split.values())
    assert not any("bigbuckbunny" in name for name in everything)
    assert {clip.source for clip in mixed.clips("train")} == {"bunny", "photos", "clips"}
    assert {clip.source for clip in mixed.clips("test")} == {"bunny", "clips"}
    alone = configured("clips")
    listed = [frames_of(alone, split, "bikes") for split in SPLITS]
    assert sum(len(frames) for frames in listed) == len(set().union(*listed)) == 250


@pytest.mark.assets("clips")
def test_the_cuts_of_bikes_are_where_the_lists_say():
    cuts = [start for start, _ in find_shots(assets.fetch("clips") / "bikes.mp4")]
    assert cuts == [0, 30, 76, 137, 187, 242]


@pytest.mark.assets("clips")
def test_a_shot_reads_the_frames_it_names():
    source = configured("clips")
    clip = source.clips("test")[1]
    assert (clip.name, clip.frames, clip.height, clip.width) == ("bikes/00187", 11, 272, 640)
    path = assets.fetch("clips") / "bikes.mp4"
    expected = video.read_frames(path, start=192, count=2, every=5)
    assert torch.equal(source.read(clip, 1, 2), expected)
    assert source.read(clip, 10, 1).shape == (1, 3, 272, 640)


@pytest.mark.slow
@pytest.mark.assets("bunny")
def test_the_film_reads_the_frames_it_names_downscaled():
    source = configured("bunny")
    clip = source.clips("test")[1]
    expected = video.read_frames(assets.fetch("bunny"), start=9575, count=1, size=(320, 180))
    assert torch.equal(source.read(clip, 0, 1), expected)


@pytest.mark.assets("clips", "photos")
def test_patches_of_the_default_mixture_are_split_as_it_is():
    source = configured("patches32")
    inner = {split: {clip.name for clip in source.source.clips(split)} for split in SPLITS}
    counts = {"train": (1038, 48), "val": (10, 16), "test": (40, 16)}
    for split, (pictures, patches) in counts.items():
        clips = source.clips(split)
        assert len(clips) == pictures
        assert {(c.frames, c.height, c.width) for c in clips} == {(patches, 32, 32)}
        others = set().union(*(names for other, names in inner.items() if other != split))
        assert not {clip.name.rpartition("/")[0] for clip in clips} & others
    assert {clip.source for clip in source.clips("test")} == {"bunny", "clips"}


def test_patches_of_another_source_can_be_asked_for(tmp_path):
    for number in range(3):
        Image.new("RGB", (40, 36)).save(tmp_path / f"{number}.png")
    chosen = ["source=patches32", "source@source.source=folder", f"source.source.path={tmp_path}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        source = instantiate(compose("train", [*chosen, "name=x"]).source, _convert_="all")
    assert sum(len(source.clips(split)) for split in SPLITS) == 3


EVERY = {"train": 1, "val": 1, "test": 1}


def test_a_shot_is_kept_up_to_its_longest():
    spans = {"train": {"a": [[0, 9]]}, "val": {}, "test": {"a": [[10, 13], [13, 30]]}}
    source = Shots("clips", spans, {**EVERY, "test": 2}, (8, 8), {"train": 4, "val": 1, "test": 3})
    assert [clip.frames for clip in source.clips("train")] == [4]
    assert [clip.frames for clip in source.clips("test")] == [2, 3]
    with pytest.raises(UserError, match="lack a number of frames for `val`"):
        Shots("clips", spans, EVERY, (8, 8), {"train": 4, "test": 3})


@pytest.mark.parametrize(
    ("spans", "sentence"),
    [
        ({"train": {"a": [[0, 9]]}, "val": {}, "test": {"a": [[8, 20]]}}, r"overlapping.*\[0, 9\]"),
        ({"train": {"a": [[9, 9]]}, "val": {}, "test": {}}, r"empty shot \[9, 9\]"),
        ({"train": {}, "test": {}}, "lack `val`"),
    ],
)
def test_wrong_lists_are_refused_at_construction(spans, sentence):
    with pytest.raises(UserError, match=sentence):
        Shots("clips", spans, EVERY)


@pytest.mark.assets("photos")
def test_photographs_are_pieces_that_leave_out_no_pixel():
    source = configured("photos")
    clips = source.clips("train")
    assert source.clips("val") == source.clips("test") == []
    assert len({clip.name.split("/")[1] for clip in clips}) == 13
    assert {(clip.frames, clip.height, clip.width) for clip in clips} == {(1, 180, 320)}
    coffee = np.asarray(Image.open(str(files("skimage") / "data" / "coffee.png")))
    last = next(clip for clip in clips if clip.name == "photos/coffee/2-1")
    piece = source.read(last, 0, 1)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(piece, coffee[-180:, -320:])


def test_pieces_are_spread_over_the_whole_length():
    for length in (180, 181, 360, 512, 719):
        starts = _spread(length, 180)
        assert (starts[0], starts[-1] + 180) == (0, length)
        assert all(b - a <= 180 for a, b in pairwise(starts))
        assert len(starts) == -(-length // 180)


@pytest.mark.assets("photos")
def test_a_photograph_smaller_than_a_piece_is_refused():
    with pytest.raises(UserError, match=r"chelsea.png is 451x300, smaller than a piece of 320x301"):
        Photos([], ["skimage/data/chelsea.png"], (320, 301)).clips("train")


def test_a_mixture_draws_by_frames_or_by_weights(drift):
    class Other(drift):
        def clips(self, split):
            return [
                clip.__class__(f"other/{clip.name}", *list(vars(clip).values())[1:])
                for clip in super().clips(split)
            ]

    parts = {"a": drift(), "b": Other(train=1)}
    even = Mixed(parts)
    assert {even.weight(clip) for clip in even.clips("train")} == {1.0}
    assert len(even.clips("train")) == 4
    drawn = Mixed(parts, {"a": 1.0, "b": 3.0})
    share = {"a": 0.0, "b": 0.0}
    for clip in drawn.clips("train"):
        share["b" if clip.name.startswith("other") else "a"] += drawn.weight(clip) * clip.frames
    assert share == pytest.approx({"a": 1.0, "b": 3.0})
    clip = drawn.clips("val")[1]
    assert torch.equal(drawn.read(clip, 2, 1), parts["b"].read(clip, 2, 1))


@dataclass(frozen=True)
class Marked(Source):
    """One black clip a split, with a target of its own name."""

    name: str
    key: str | None = None

    def clips(self, split):
        return [Clip(f"{self.name}/{split}", 4, 8, 12, self.name)]

    def read(self, clip, start, count):
        return torch.zeros(count, 3, 8, 12, dtype=torch.uint8)

    def target(self, clip, start, count, area=EVERYWHERE):
        marks = torch.arange(4.0)[start : start + count].view(-1, 1, 1, 1) + len(clip.name)
        return {self.key: marks.expand(-1, 1, 8, 12)[:, :, *area]} if self.key else {}


def test_a_mixture_hands_on_the_targets_of_its_parts():
    parts = {"a": Marked("a", "mark"), "longer": Marked("longer", "mark")}
    mixed = Mixed(parts)
    for clip, part in zip(mixed.clips("val"), parts.values(), strict=True):
        found, wanted = mixed.target(clip, 1, 2), part.target(clip, 1, 2)
        assert torch.equal(found["mark"], wanted["mark"])
    cache = Cache(mixed, Chain({}))
    cache.fill(mixed.clips("train"))
    samples = TrainingSamples(cache, mixed.clips("train"), 8, 2, 0)
    batch = collate([samples[k] for k in range(12)])
    assert batch["target"]["mark"].shape == (12, 2, 1, 8, 8)
    offsets = {"a/train": 7, "longer/train": 12}
    assert set(batch["name"]) == set(offsets)
    for k, name in enumerate(batch["name"]):
        assert batch["target"]["mark"][k, 0, 0, 0, 0] == batch["t_in"][k, 0] + offsets[name]


def test_a_mixture_to_train_on_has_the_same_targets_everywhere():
    mixed = Mixed({"a": Marked("a", "mark"), "b": Marked("b")})
    with pytest.raises(UserError, match="a has mark and b has none; train on one of them"):
        mixed.weight(mixed.clips("train")[0])


def test_a_mixture_refuses_foreign_weights_and_clips_of_one_name(drift):
    with pytest.raises(UserError, match=r"\['a', 'c'\].*\['a', 'b'\]"):
        Mixed({"a": drift(), "b": drift()}, {"a": 1, "c": 1})
    mixed = Mixed({"a": drift(), "b": drift()})
    with pytest.raises(UserError, match=r"Both a and b .* train/0"):
        mixed.read(drift().clips("train")[0], 0, 1)
