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
from unlossy.degradations.drop_frames import DropFrames
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
    pairs = zip(frames[1:], frames[:-1], target["flow"], target["visible"], strict=True)
    return torch.cat([difference(*pair) for pair in pairs])


def difference(there: Tensor, here: Tensor, flow: Tensor, visible: Tensor) -> Tensor:
    """|here - there at p + flow| at each p that is visible and leads to a place in the frame."""
    height, width = flow.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    u, v = x + flow[0], y + flow[1]
    kept = visible[0] & (u >= 0) & (v >= 0) & (u <= width - 1) & (v <= height - 1)
    grid = torch.stack([2 * u / (width - 1) - 1, 2 * v / (height - 1) - 1], -1)[None]
    found = functional.grid_sample(there[None].float(), grid, align_corners=True)[0]
    return (found - here).abs()[:, kept].flatten()


def to_the_ends(frames: Tensor, target: dict[str, Tensor]) -> Tensor:
    """The same from every frame to the first and to the last one."""
    found = []
    for end, name in ((frames[0], "first"), (frames[-1], "last")):
        flows, seen = target[f"flow_to_{name}"], target[f"seen_in_{name}"]
        found += [difference(end, *one) for one in zip(frames, flows, seen, strict=True)]
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


def test_the_flows_to_the_ends_of_a_window_lead_there():
    moving = source(patches=0, frames=4)
    for clip in moving.clips("train")[::2]:
        frames = moving.read(clip, 0, 4)
        for start, count in ((0, 4), (1, 3), (2, 1)):
            target = moving.target(clip, start, count)
            assert target["flow_to_first"].shape == (count, 2, 48, 72)
            assert target["seen_in_last"].shape == (count, 1, 48, 72)
            assert (target["flow_to_first"][0] == 0).all()
            assert (target["flow_to_last"][-1] == 0).all()
            assert agree(to_the_ends(frames[start : start + count], target))


def test_what_is_covered_at_an_end_is_not_seen_there():
    moving, hidden = source(patches=3, frames=4), 0
    for clip in moving.clips("train"):
        frames, target = moving.read(clip, 0, 4), moving.target(clip, 0, 4)
        assert (to_the_ends(frames, target) < 4).float().mean() > 0.94  # but for rims
        for end, name in ((0, "first"), (-1, "last")):
            covered = ~target[f"seen_in_{name}"]
            hidden += int(covered.sum())
            assert not covered[end].any()
            wrong = zip(frames, target[f"flow_to_{name}"], covered, strict=True)
            assert (
                covered.sum() < 50
                or torch.cat([difference(frames[end], *one) for one in wrong]).mean() > 8
            )
    assert hidden > 300


def test_a_pan_is_one_shift_everywhere():
    moving = source(patches=0, frames=4, turn=0.0, zoom=0.0, speed=6.0)
    speeds = []
    for clip in moving.clips("train"):
        target = moving.target(clip, 0, 4)
        step = target["flow"][0, :, :1, :1]
        speeds.append(step.norm().item())
        for t in range(4):
            for key, steps in (("flow_to_first", -t), ("flow_to_last", 3 - t)):
                expected = (steps * step).expand(2, 48, 72)
                torch.testing.assert_close(target[key][t], expected, atol=1e-4, rtol=0)
    assert 3 < max(speeds) <= 6.0


def test_a_target_of_an_area_is_that_area_of_the_target():
    moving = source(patches=3)
    clip = moving.clips("train")[0]
    whole = moving.target(clip, 0, 3)
    area = (slice(30, 60), slice(7, 31))  # as a crop that reaches beyond the lower edge
    for key, value in moving.target(clip, 0, 3, area).items():
        torch.testing.assert_close(value, whole[key][..., 30:48, 7:31], msg=key)


@pytest.mark.parametrize("frames", [2, 3])
def test_crops_and_every_flip_keep_flow_and_frames_together(frames):
    data = VideoData(source(patches=0), Chain({}), workers=0)
    data.prepare_data()
    samples = TrainingSamples(data.cache, data.clips["train"], 32, frames, 0)
    directions = set()
    for k in range(20):
        sample = samples[k]
        check(to_float(sample))
        target = {key: value[0] for key, value in sample["target"].items()}
        assert target["flow"].shape == (frames - 1, 2, 32, 32)
        assert agree(differences(sample["clean"][0], target))
        assert agree(to_the_ends(sample["clean"][0], target))
        clip = next(c for c in data.clips["train"] if c.name == sample["name"][0])
        start = int(sample["t_in"][0, 0])
        whole = data.source.target(clip, start, 2)["flow"].mean((0, 2, 3))
        directions.add(tuple((target["flow"].mean((0, 2, 3)) * whole > 0).tolist()))
    assert len(directions) == 4  # each axis as it was, and turned
    batch = collate([samples[0], samples[1]])
    assert batch["target"]["flow_to_last"].shape == (2, frames, 2, 32, 32)
    assert batch["target"]["visible"].dtype == torch.bool


def test_frames_that_a_medium_drops_keep_their_flow():
    data = VideoData(source(frames=5), DropFrames(2), workers=0)
    data.prepare_data()
    sample = TrainingSamples(data.cache, data.clips["train"], 32, 2, 0)[1]
    assert sample["degraded"].shape == (1, 2, 3, 32, 32)
    target = {key: value[0] for key, value in sample["target"].items()}
    assert target["flow_to_first"].shape == (3, 2, 32, 32)
    assert (to_the_ends(sample["clean"][0], target) < 4).float().mean() > 0.9


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


@pytest.mark.parametrize("wrong", [{"turn": -0.1}, {"turn": 0.6, "zoom": 0.6}])
def test_shares_of_the_speed_that_cannot_be_are_refused(wrong):
    with pytest.raises(UserError, match="sum to 1 or less"):
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
