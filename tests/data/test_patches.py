from dataclasses import dataclass, replace
from itertools import combinations

import pytest
import torch

from unlossy.data.mixture import Mixed
from unlossy.data.patches import Patches
from unlossy.data.source import Source
from unlossy.data.video_data import VideoData
from unlossy.degradations.resample import Downscale
from unlossy.errors import UserError
from unlossy.sample import Clip

SPLITS = ("train", "val", "test")
COUNT = {"train": 3, "val": 3, "test": 3}
ALL = dict.fromkeys(SPLITS)


@dataclass(frozen=True)
class Marked(Source):
    """Pixels tell where they are: red the row, green the column, blue the clip and frame."""

    frames: int = 4
    height: int = 48
    width: int = 80
    share: float = 1.0

    def clips(self, split):
        size = (self.frames, self.height, self.width)
        return [Clip(f"{split}/{i}", *size, f"marked{i}") for i in range(2)]

    def read(self, clip, start, count):
        first = (SPLITS.index(clip.name[:-2]) * 2 + int(clip.name[-1])) * 16
        size = (count, self.height, self.width)
        row = torch.arange(self.height).view(1, -1, 1).expand(size)
        column = torch.arange(self.width).view(1, 1, -1).expand(size)
        which = (torch.arange(start, start + count) + first).view(-1, 1, 1).expand(size)
        return torch.stack([row, column, which], 1).to(torch.uint8)

    def weight(self, clip):
        return self.share

    def version(self, clip):
        return f"{clip.name} of version 1"


def pixels(source: Source, split: str) -> torch.Tensor:
    """Every (row, column, clip and frame) that a split shows, as one number of six digits each."""
    found = torch.cat([source.read(clip, 0, clip.frames) for clip in source.clips(split)])
    return torch.tensordot(found.long(), torch.tensor([1, 100, 10_000]), ([1], [0])).unique()


def test_no_pixel_is_in_two_splits():
    source = Patches(Marked(), {"train": 20, "val": 8, "test": 8}, ALL)
    shown = {split: pixels(source, split) for split in SPLITS}
    assert all(not torch.isin(shown[a], shown[b]).any() for a, b in combinations(SPLITS, 2))
    assert len((shown["train"] // 10_000).unique()) == 8  # two clips of four frames
    assert (shown["train"] % 100).unique().tolist() == list(range(48))
    assert (shown["train"] // 100 % 100).unique().tolist() == list(range(80))


def test_a_clip_is_one_picture_and_its_frames_are_patches_of_it():
    source = Patches(Marked(), {**COUNT, "val": 5}, {**ALL, "val": 3})
    names = [clip.name for clip in source.clips("train")]
    assert names == [f"train/{i}/0000{t}" for i in range(2) for t in range(4)]
    assert [clip.name for clip in source.clips("val")] == [
        "val/0/00001",
        "val/1/00000",
        "val/1/00002",
    ]
    clip = source.clips("val")[1]
    assert clip == Clip("val/1/00000", 5, 32, 32, "marked1")
    whole = source.read(clip, 0, 5)
    assert whole.shape == (5, 3, 32, 32)
    assert torch.equal(source.read(clip, 2, 2), whole[2:4])
    assert len(source.read(clip, 4, 9)) == 1
    picture = source.source.read(Clip("val/1", 4, 48, 80, "marked1"), 0, 1)[0]
    for patch in whole:
        top, left = patch[:2, 0, 0].tolist()
        assert torch.equal(patch, picture[:, top : top + 32, left : left + 32])


@pytest.mark.parametrize("count", [4, 16, 48])
def test_patches_are_spread_over_the_picture_and_differ_from_picture_to_picture(count):
    source = Patches(Marked(height=180, width=250), dict.fromkeys(SPLITS, count), ALL)
    places = [source.read(clip, 0, count)[:, :2, 0, 0].float() for clip in source.clips("train")]
    assert len({tuple(p.flatten().tolist()) for p in places}) == len(places)
    for place in places:
        unit = place / torch.tensor([148.0, 218.0])
        assert 0.35 < unit.mean() < 0.65
        if count > 4:
            assert unit.min() < 0.15
            assert unit.max() > 0.85
        apart = torch.cdist(unit, unit) + torch.eye(count) * 9
        assert apart.min() > 0.5 / count**0.5  # random points come far closer


def test_a_frame_as_large_as_a_patch_gives_itself():
    source = Patches(Marked(height=32, width=32), dict.fromkeys(SPLITS, 1), ALL)
    clip = source.clips("test")[0]
    assert torch.equal(
        source.read(clip, 0, 1),
        Marked(height=32, width=32).read(Clip("test/0", 4, 32, 32, ""), 0, 1),
    )


def test_weights_and_versions_follow_the_other_source():
    parts = {"a": Marked(), "b": Marked(frames=1)}
    mixed = Mixed({"a": parts["a"]}, {"a": 3.0})
    source = Patches(mixed, COUNT, ALL)
    clips = source.clips("train")
    total = sum(source.weight(clip) * clip.frames for clip in clips)
    assert total == pytest.approx(3.0 * 3)  # 3 patches of every frame
    versions = {source.version(clip) for split in SPLITS for clip in source.clips(split)}
    assert len(versions) == 24
    assert (
        replace(source, size=16).version(replace(source, size=16).clips("train")[0]) not in versions
    )


def test_training_takes_patches_unflipped_unless_asked_to_mirror():
    for mirror in (False, True):
        source = Patches(Marked(), COUNT, ALL, mirror=mirror)
        data = VideoData(source, Downscale(4), batch=24, crop=8, workers=0)
        data.prepare_data()
        batch = data.first_batch()
        assert batch["clean"].shape == (24, 1, 3, 32, 32)
        assert batch["degraded"].shape == (24, 1, 3, 8, 8)
        rightward = (batch["clean"][:, 0, 1, 0, 1] > batch["clean"][:, 0, 1, 0, 0]).tolist()
        downward = batch["clean"][:, 0, 0, 1, 0] > batch["clean"][:, 0, 0, 0, 0]
        assert set(rightward) == ({True, False} if mirror else {True})
        assert downward.all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"per_frame": {"train": 1, "val": 1}},
        {"pictures": {"train": 0, "val": None, "test": None}},
    ],
)
def test_numbers_are_checked_at_construction(wrong):
    with pytest.raises(UserError, match=r"numbers of 1 or more for each split"):
        Patches(**{"source": Marked(), "per_frame": COUNT, "pictures": ALL, **wrong})


def test_a_frame_smaller_than_a_patch_is_refused():
    with pytest.raises(UserError, match=r"train/0 is 80x20, smaller than a patch of 32x32"):
        Patches(Marked(height=20), COUNT, ALL).clips("val")
