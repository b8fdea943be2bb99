"""Which frames are made, from which pair, at which time; what holds across a cut."""

import pytest
import torch

from unlossy.errors import UserError
from unlossy.inference.tiling import restore_tiled
from unlossy.inference.windows import restored_windows
from unlossy.models.interpolator import Interpolator, grey_difference, other_scene


class Blend(Interpolator):
    """(1 - t) first + t last, with a note of every call; the flow of a frame is its time."""

    provides = frozenset({"flow_to_first", "flow_to_last"})
    reach = 1

    def __init__(self, cut: float | None = 25.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.cut = cut
        self.calls: list[list[float]] = []

    def between(self, first, last, times):
        self.calls.append(list(times))
        t = first.new_tensor(times).view(-1, 1, 1, 1)
        frames = self.weight * ((1 - t) * first[:, None] + t * last[:, None])
        flow = t.expand(len(first), len(times), 2, *first.shape[-2:])
        return frames, {"flow_to_first": flow, "flow_to_last": -flow, "flow01": flow[:, 0]}


def batch(frames, t_in, t_out, **more):
    clips = len(frames)

    def times(values):
        return torch.tensor(values, dtype=torch.float32).expand(clips, -1).contiguous()

    return {
        **{"name": ["x"] * clips, "degraded": frames, "t_in": times(t_in), "t_out": times(t_out)},
        **{"side": {}, "target": {}, "bits": torch.zeros(clips), **more},
    }


def test_every_frame_comes_from_its_pair_at_its_time_in_one_call_per_pair():
    model, frames = Blend(None).eval(), torch.rand(2, 3, 3, 5, 6)
    restored = model(batch(frames, [0, 4, 6], [0, 1, 2, 3, 4, 5, 6]))["estimate"]
    assert model.calls == [[0.25, 0.5, 0.75], [0.5]]
    expected = [frames[:, 0].lerp(frames[:, 1], t / 4) for t in range(4)]
    expected += [frames[:, 1].lerp(frames[:, 2], t / 2) for t in range(3)]
    torch.testing.assert_close(restored, torch.stack(expected, 1))


def test_key_frames_are_copied_and_what_lies_beyond_holds():
    model, frames = Blend().eval(), torch.rand(1, 2, 3, 4, 4)
    made = model.restore(batch(frames, [3, 5], [1, 3, 5 - 1e-5, 5, 9]))
    assert model.calls == []
    assert torch.equal(made, frames[:, [0, 0, 1, 1, 1]])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_where_nothing_is_missing_nothing_is_estimated(count):
    model, frames = Blend().eval(), torch.rand(1, count, 3, 4, 4)
    restored = model(batch(frames, list(range(count)), list(range(count))))
    assert model.calls == []
    assert torch.equal(restored["estimate"], frames)
    assert restored["extras"] == {}


def test_extras_are_those_of_a_pair_for_every_time_and_of_no_longer_clip():
    model, frames = Blend(None).eval(), torch.rand(1, 3, 3, 4, 4)
    extras = model(batch(frames[:, :2], [0, 4], range(5)))["extras"]
    times = torch.tensor([0, 0.25, 0.5, 0.75, 0]).view(1, 5, 1, 1, 1).expand(1, 5, 2, 4, 4)
    assert torch.equal(extras["flow_to_first"], times)
    assert torch.equal(extras["flow_to_last"], -times)
    assert extras["flow01"].shape == (1, 2, 4, 4)
    assert model(batch(frames, [0, 2, 4], range(5)))["extras"] == {}


def test_times_count_from_the_first_frame_of_each_clip():
    model, frames = Blend(None).eval(), torch.rand(2, 2, 3, 4, 4)
    late = batch(frames, [0, 2], [0, 1, 2])
    late["t_in"][1] += 100
    late["t_out"][1] += 100
    assert torch.equal(model(late)["estimate"], model(batch(frames, [0, 2], range(3)))["estimate"])
    late["t_out"][1] += 0.5
    with pytest.raises(ValueError, match="different times"):
        model(late)


@pytest.mark.parametrize(("count", "t_out"), [(1, [0]), (3, range(5)), (2, [0, 2])])
def test_training_takes_pairs_that_lack_a_frame(count, t_out):
    model = Blend().train()
    clips = batch(torch.rand(1, count, 3, 4, 4), [2 * k for k in range(count)], t_out)
    with pytest.raises(UserError, match=r"data\.frames=2|drops frames"):
        model(clips)


def test_across_a_cut_the_nearer_frame_holds_but_losses_see_through_it():
    model = Blend().eval()
    frames = torch.rand(2, 3, 3, 27, 48) * 0.1
    frames[0, 1:] += 0.5  # of the two clips one has a cut, after its first frame
    clips = batch(frames, [0, 4, 8], range(9))
    made, morphed = model.restore(clips), model(clips)["estimate"]
    for t, k in enumerate([0, 0, 0, 1, 1]):
        assert torch.equal(made[0, t], frames[0, k])
    assert torch.equal(made[0, 5:], morphed[0, 5:])
    assert torch.equal(made[1], morphed[1])
    assert not torch.equal(made[0, 1], morphed[0, 1])
    model.calls.clear()
    model.restore(batch(frames[:1], [0, 4, 8], range(9)))
    assert len(model.calls) == 1  # nothing is computed to be thrown away
    assert torch.equal(Blend(None).eval().restore(clips), morphed)


@pytest.mark.parametrize("size", [(54, 96), (108, 192), (20, 30)])
def test_the_measure_of_a_cut(size):
    first, last = torch.zeros(1, 1, 3, *size), torch.zeros(1, 1, 3, *size)
    last[..., 0, :, :] = 0.2  # red counts 0.299
    last[..., : size[0] // 2, :] = 0
    assert grey_difference(first, last).item() == pytest.approx(255 * 0.299 * 0.1, rel=1e-4)


def test_what_only_moves_is_no_cut():
    wood = torch.rand(1, 1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    first = wood.repeat_interleave(18, 3).repeat_interleave(24, 4)  # 108 x 192
    moved, other = first.roll(60, 4), (first * 0.5)
    assert grey_difference(first, moved).item() > 25
    assert grey_difference(first, other).item() > 25
    assert [other_scene(first, x, 25.0).item() for x in (first, moved, other)] == [
        False,
        False,
        True,
    ]
    assert not other_scene(first, other, 255.0)


def test_tiles_and_windows_change_nothing_not_even_at_a_cut_in_one_corner():
    """A tile that changes altogether is no cut while the rest of the frame stays."""
    model = Blend().eval()
    frames = torch.rand(1, 6, 3, 96, 96) * 0.05
    frames[:, 2:, :, :40, :40] += 0.3
    frames[:, 4:] += 0.6
    clip = batch((frames * 255).round() / 255, [2.0 * k for k in range(6)], range(11))
    whole = model.restore(clip)
    assert torch.equal(whole[:, 7], clip["degraded"][:, 3])
    tiled = restore_tiled(model, clip, budget=6 * 48**2)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-6)
    stored = {**clip, "degraded": (clip["degraded"] * 255).round().byte()}
    parts = [frames for _, frames in restored_windows(model, stored, length=2)]
    assert torch.equal(torch.cat(parts)[None], (whole * 255).round().byte())
