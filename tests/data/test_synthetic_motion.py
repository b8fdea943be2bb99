"""Known motion: the flow leads from each frame to the next, also through crops and flips."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor
from torch.nn import functional

from unlossy.data.samples import TrainingSamples, collate
from unlossy.data.source import Source
from unlossy.data.synthetic_motion import SyntheticMotion
from unlossy.data.video_data import VideoData
from unlossy.degradations.chain import Chain
from unlossy.errors import UserError
from unlossy.sample import Clip, check, to_float

CONF = Path(__file__).parents[2] / "conf"
VARIANTS = {"train": 2, "val": 1, "test": 1}


@dataclass(frozen=True)
class Waves(Source):
    """Smooth pictures, another per frame: what a bilinear look-up misses is small."""

    height: int = 48
    width: int = 72

    def clips(self, split):
        count = {"train": 3, "val": 1, "test": 1}[split]
        return [Clip(f"{split}/{i}", 4, self.height, self.width, "waves") for i in range(count)]

    def read(self, clip, start, count):
        size = (torch.arange(clip.height), torch.arange(clip.width))
        y, x = torch.meshgrid(*size, indexing="ij")
        seed = sum(clip.name.encode())
        frames = [
            [
                torch.sin((0.08 + 0.04 * c) * x + seed + t) * torch.cos(0.12 * y - c)
                for c in range(3)
            ]
            for t in range(start, start + count)
        ]
        pictures = torch.stack([torch.stack(planes) for planes in frames])
        return ((pictures + 1) * 127.5).to(torch.uint8)


def source(**changes) -> SyntheticMotion:
    return replace(SyntheticMotion(Waves(), VARIANTS, speed=4.0), **changes)


def differences(frames: Tensor, target: dict[str, Tensor]) -> Tensor:
    """|frame t - frame t+1 at p + flow|, of 255, where p is seen in both; by its own arithmetic."""
    found = []
    for t, flow in enumerate(target["flow"]):
        height, width = flow.shape[-2:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        u, v = x + flow[0], y + flow[1]
        kept = target["visible"][t, 0] & (u >= 0) & (v >= 0) & (u <= width - 1) & (v <= height - 1)
        grid = torch.stack([2 * u / (width - 1) - 1, 2 * v / (height - 1) - 1], -1)[None]
        there = functional.grid_sample(frames[t + 1][None].float(), grid, align_corners=True)[0]
        found.append((there - frames[t]).abs()[:, kept].flatten())
    return torch.cat(found)


def agree(found: Tensor) -> bool:
    """But for rounding, and for the crease where a picture goes on as its reflection."""
    return bool(found.mean() < 1) and bool(found.quantile(0.97) < 4)


def test_the_flow_leads_to_the_next_frame():
    moving, still = source(patches=0), []
    for clip in moving.clips("train"):
        target = moving.target(clip, 0, 3)
        assert target["flow"].shape == (2, 2, 48, 72)
        assert target["visible"].all()
        frames = moving.read(clip, 0, 3)
        assert agree(differences(frames, target))
        nowhere = {**target, "flow": torch.zeros_like(target["flow"])}
        still.append(differences(frames, nowhere).mean())
        assert target["flow"].norm(dim=1).max() < 1.1 * 4.0
        later = moving.target(clip, 1, 2)
        assert torch.equal(later["flow"][0], target["flow"][1])
        assert moving.target(clip, 2, 1)["flow"].shape == (0, 2, 48, 72)
    assert sum(still) / len(still) > 6


def test_discs_move_on_their_own_and_cover_what_is_behind_them():
    moving, hidden, boundaries = source(patches=3), 0, 0
    for clip in moving.clips("train"):
        target = moving.target(clip, 0, 3)
        wrong = differences(moving.read(clip, 0, 3), target)
        assert (wrong < 4).float().mean() > 0.95  # but for the interpolated rims of the discs
        hidden += int((~target["visible"]).sum())
        boundaries += int((target["flow"].diff(dim=-1).abs() > 0.3).any())
    assert hidden > 50
    assert boundaries >= 4
    # what is covered would mislead: there the next frame shows something else
    seen_as_visible = {**target, "visible": torch.ones_like(target["visible"])}
    covered = differences(moving.read(clip, 0, 3), seen_as_visible)
    assert covered.max() > 40


def test_crops_and_every_flip_keep_flow_and_frames_together():
    data = VideoData(source(patches=0), Chain({}), workers=0)
    data.prepare_data()
    samples = TrainingSamples(data.cache, data.clips["train"], 32, 2, 0)
    directions = set()
    for k in range(30):
        sample = samples[k]
        check(to_float(sample))
        target = {key: value[0] for key, value in sample["target"].items()}
        assert target["flow"].shape == (1, 2, 32, 32)
        assert agree(differences(sample["clean"][0], target))
        clip = next(c for c in data.clips["train"] if c.name == sample["name"][0])
        start = int(sample["t_in"][0, 0])
        whole = data.source.target(clip, start, 2)["flow"].mean((0, 2, 3))
        directions.add(tuple((target["flow"].mean((0, 2, 3)) * whole > 0).tolist()))
    assert len(directions) == 4  # each axis as it was, and turned
    batch = collate([samples[0], samples[1]])
    assert batch["target"]["flow"].shape == (2, 1, 2, 32, 32)
    assert batch["target"]["visible"].dtype == torch.bool


def test_beyond_the_edge_of_a_small_clip_nothing_is_known():
    data = VideoData(source(base=Waves(20, 40)), Chain({}), workers=0)
    data.prepare_data()
    sample = TrainingSamples(data.cache, data.clips["train"], 32, 2, 0)[0]
    rows = sample["target"]["visible"][0, 0, 0].any(1)
    assert sorted(rows.tolist()) == [False] * 12 + [True] * 20
    assert sample["clean"].shape[-2:] == (32, 32)


def test_a_clip_is_a_function_of_its_name_and_the_numbers():
    moving, again = source(), source()
    splits = {split: moving.clips(split) for split in ("train", "val", "test")}
    assert [len(clips) for clips in splits.values()] == [6, 1, 1]
    names = [clip.name for clips in splits.values() for clip in clips]
    assert len(set(names)) == 8
    clip, other = splits["train"][:2]
    assert torch.equal(moving.read(clip, 1, 2), again.read(clip, 1, 2))
    assert torch.equal(moving.target(clip, 0, 2)["flow"], again.target(clip, 0, 2)["flow"])
    assert not torch.equal(moving.target(clip, 0, 2)["flow"], moving.target(other, 0, 2)["flow"])
    assert moving.version(clip) == again.version(clip)
    assert moving.version(clip) != source(speed=5.0).version(clip)
    assert moving.version(clip) != moving.version(other)


def test_splits_show_other_pictures():
    pictures = source()._pictures.values()
    by_split = {split: {(b.name, k) for b, k, s in pictures if s == split} for split in VARIANTS}
    assert len(set.union(*by_split.values())) == sum(map(len, by_split.values())) == 8


@pytest.mark.parametrize(
    "wrong", [{"frames": 1}, {"speed": 0.0}, {"patches": -1}, {"variants": {"train": 1, "val": 1}}]
)
def test_numbers_that_make_no_motion_are_refused(wrong):
    with pytest.raises(UserError, match="use 2 frames or more"):
        source(**wrong)


def test_pictures_of_several_sizes_are_refused():
    @dataclass(frozen=True)
    class Uneven(Waves):
        def clips(self, split):
            return [replace(clip, width=72 + 8 * (split == "val")) for clip in super().clips(split)]

    with pytest.raises(UserError, match="train/0 has 72x48 and val/0 has 80x48; leave one"):
        source(base=Uneven()).clips("test")


@pytest.mark.assets("bunny", "photos")
def test_as_configured_pictures_of_film_and_photographs_move():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        moving = instantiate(compose("source/synthetic_motion").source, _convert_="all")
    clips = {split: moving.clips(split) for split in ("train", "val", "test")}
    assert {clip.source for clip in clips["train"]} == {"bunny", "photos"}
    assert {clip.source for split in ("val", "test") for clip in clips[split]} == {"bunny"}
    assert {(clip.frames, clip.height, clip.width) for clip in clips["train"]} == {(3, 180, 320)}
    flow = moving.target(clips["test"][0], 0, 3)["flow"]
    assert 0.3 < flow.norm(dim=1).mean() < 8
