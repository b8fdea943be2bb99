"""FILM as a model: which frames it makes of which, flows to the ends, reuse, padding, learning."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from unlossy.errors import UserError
from unlossy.models.film import FILM
from unlossy.networks.film import Between, FILMNet
from unlossy.networks.flow import warp


def tiny(**sizes) -> FILMNet:
    levels = {"pyramid_levels": 3, "fusion_levels": 3, "specialized_levels": 1, "sub_levels": 2}
    sizes = levels | {"filters": 4, "flow_convs": (2, 2), "flow_filters": (4, 4)} | sizes
    return FILMNet(**sizes)


def moving() -> FILM:
    """With flows of some pixels, so that what is warped from where matters."""
    model = FILM(tiny(), cut=None)
    for predictor in model.network.flow:
        torch.nn.init.normal_(predictor.last.bias, std=2)
    return model.eval()


def sample(frames, *, every=2, t_out=None):
    clips, count = frames.shape[:2]
    t_in = torch.arange(0.0, every * count, every).repeat(clips, 1)
    t_out = torch.arange(t_in[0, -1] + 1) if t_out is None else torch.tensor(t_out)
    return {"degraded": frames, "t_in": t_in, "t_out": t_out.repeat(clips, 1), "side": {}}


class Recorded(FILMNet):
    """A network that notes which gaps it is asked to split, where, and how often it looks."""

    def __init__(self) -> None:
        super().__init__(2, 2, 0, 1, 1, (1,), (2,))
        self.splits: list[tuple[float, float, float]] = []
        self.looks = 0

    def see(self, frames):
        self.looks += 1
        return frames.mean().item()  # a frame that shows its time

    def flows(self, first, last):
        return [None], [None]

    def between(self, first, last, forward, backward, time=0.5):
        self.splits.append((round(first, 4), round(last, 4), round(time, 4)))
        image = torch.full((1, 3, 4, 4), first + time * (last - first))
        flow = torch.zeros(1, 2, 4, 4)
        return Between(image, flow, flow, image, image)


def split(times):
    """Return the splits, the number of frames looked at, and the times that the frames show."""
    model = FILM(Recorded())
    first, last = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    made, _ = model.between(first, last, times)
    return model.network.splits, model.network.looks, made.mean((0, 2, 3, 4)).tolist()


def test_seven_frames_are_the_authors_recursion_depth_first():
    splits, looks, times = split([k / 8 for k in range(1, 8)])
    gaps = [(0, 1), (0, 0.5), (0, 0.25), (0.25, 0.5), (0.5, 1), (0.5, 0.75), (0.75, 1)]
    assert splits == [(*gap, 0.5) for gap in gaps]
    assert looks == 2 + 3  # both ends, and the frames at 1/4, 1/2, 3/4; not the four in between
    assert times == pytest.approx([k / 8 for k in range(1, 8)])


def test_thirds_are_made_for_their_time_and_then_halve_what_is_left():
    splits, _, times = split([1 / 3, 2 / 3])
    assert splits == [(0, 1, 0.3333), (0.3333, 1, 0.5)]
    assert times == pytest.approx([1 / 3, 2 / 3])


def test_a_time_near_an_end_gets_frames_nobody_asked_for_between():
    splits, looks, times = split([0.1])
    assert splits == [(0, 1, 0.5), (0, 0.5, 0.5), (0, 0.25, 0.4)]
    assert looks == 4
    assert times == pytest.approx([0.1])


@pytest.mark.parametrize("count", range(2, 12))
def test_any_number_of_frames_costs_one_split_each_and_is_exact(count):
    wanted = [k / count for k in range(1, count)]
    splits, _, times = split(wanted)
    assert len(splits) == count - 1
    assert times == pytest.approx(wanted, abs=1e-5)


def test_any_time_is_exact_and_never_split_in_the_outer_quarters():
    for time in torch.rand(20).clamp(1e-3, 1 - 1e-3).tolist():
        splits, _, times = split([time])
        assert times == pytest.approx([time], abs=1e-5)
        assert all(0.25 <= share <= 0.75 for *_, share in splits)


@torch.no_grad()
def test_reuse_changes_nothing():
    model = moving()
    network = model.network
    first, last = torch.rand(2, 2, 3, 16, 24)
    made, _ = model.between(first, last, [0.25, 0.5, 0.75])
    middle = network(first, last).image  # not clamped: the authors' recursion is on floats
    expected = [network(first, middle).image, middle, network(middle, last).image]
    torch.testing.assert_close(made, torch.stack(expected, 1), atol=1e-5, rtol=1e-5)
    assert middle.min() < 0


@torch.no_grad()
def test_reuse_is_worth_it():
    """Multiplications for seven frames, an eighth as wide as published; seconds: benchmarks/."""
    model = FILM(FILMNet(filters=8, flow_filters=(4, 8, 16, 32)))
    first, last = torch.rand(2, 1, 3, 64, 64)

    def afresh(first, last, depth):
        middle = model.network(first, last).image
        if depth > 1:
            afresh(first, middle, depth - 1)
            afresh(middle, last, depth - 1)

    with FlopCounterMode(display=False) as naive:
        afresh(first, last, 3)
    with FlopCounterMode(display=False) as ours:
        model.between(first, last, [k / 8 for k in range(1, 8)])
    assert naive.get_total_flops() > 1.3 * ours.get_total_flops()


@torch.no_grad()
def test_flows_lead_to_the_ends_of_the_pair_from_every_time():
    model = moving()
    network = model.network
    first, last = torch.rand(2, 1, 3, 16, 24)
    _, extras = model.between(first, last, [0.25, 0.5, 0.75])
    middle = network(first, last)
    torch.testing.assert_close(extras["flow_to_first"][:, 1], middle.to_first)
    torch.testing.assert_close(extras["flow_to_last"][:, 1], middle.to_last)
    early, late = network(first, middle.image), network(middle.image, last)
    torch.testing.assert_close(extras["flow_to_first"][:, 0], early.to_first, atol=1e-4, rtol=1e-4)
    chained = late.to_first + warp(middle.to_first, late.to_first, "border")
    torch.testing.assert_close(extras["flow_to_first"][:, 2], chained, atol=1e-4, rtol=1e-4)
    chained = early.to_last + warp(middle.to_last, early.to_last, "border")
    torch.testing.assert_close(extras["flow_to_last"][:, 0], chained, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(extras["warped_last"][:, 0], early.warped_last, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_clip_gets_its_frames_and_keeps_those_it_had():
    model, frames = moving(), torch.rand(2, 3, 3, 16, 24)
    batch = sample(frames, every=4)
    restored = model(batch)
    assert restored["estimate"].shape == (2, 9, 3, 16, 24)
    assert torch.equal(restored["estimate"][:, ::4], frames)
    assert restored["extras"] == {}
    pair = model(sample(frames[:, :2], every=4))
    torch.testing.assert_close(pair["estimate"], restored["estimate"][:, :5])
    assert model.provides <= pair["extras"].keys()
    assert pair["extras"]["flow_to_first"].shape == (2, 5, 2, 16, 24)
    assert not pair["extras"]["flow_to_first"][:, [0, 4]].any()


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (16, 24), (17, 30), (33, 7)])
def test_frames_of_any_size_are_padded_around_and_cropped(size):
    model = moving()
    first, last = torch.rand(2, 1, 3, *size)
    made, extras = model.between(first, last, [0.5])
    assert made.shape == (1, 1, 3, *size)
    assert extras["flow_to_last"].shape == (1, 1, 2, *size)
    top, left = (-size[0] % 4) // 2, (-size[1] % 4) // 2
    rows = (torch.arange(-(-size[0] // 4) * 4) - top).clamp(0, size[0] - 1)
    columns = (torch.arange(-(-size[1] // 4) * 4) - left).clamp(0, size[1] - 1)
    whole = model.network(*(x[..., rows, :][..., columns] for x in (first, last))).image
    expected = whole[..., top : top + size[0], left : left + size[1]]
    torch.testing.assert_close(made[:, 0], expected, atol=1e-5, rtol=1e-5)
    restored = model.restore(sample(torch.stack([first, last], 1)))
    torch.testing.assert_close(restored[:, 1], expected.clamp(0, 1), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_fresh_small_one_gives_the_average_and_a_cut_is_held():
    model = FILM(tiny(), starts_at_average=True).eval()
    dark, bright = torch.rand(2, 1, 3, 16, 24) * 0.1
    bright += 0.9
    batch = sample(torch.stack([dark, bright], 1), every=3)
    torch.testing.assert_close(model(batch)["estimate"][:, 1], (dark + bright) / 2)
    restored = model.restore(batch)
    torch.testing.assert_close(restored, torch.stack([dark, dark, bright, bright], 1))
    with pytest.raises(UserError, match="at least 3"):
        FILM(tiny(filters=2), starts_at_average=True)


def test_gradients_pass_through_the_recursion():
    model = moving()
    frames = torch.rand(1, 2, 3, 16, 24, requires_grad=True)
    extras = model.train()(sample(frames, every=4))["extras"]
    extras["flow_to_last"][:, 1].sum().backward()
    assert frames.grad.abs().max() > 0
    assert all(p.grad is not None for p in model.network.flow.parameters())


def test_official_weights_that_are_none_get_a_sentence():
    with pytest.raises(UserError, match=r"This is no official FILM: .* state dict\.$"):
        FILM.from_official({"net.0.weight": torch.zeros(3)})
    with pytest.raises(UserError, match="This is no official FILM"):
        FILM.from_official({"fusion/conv2d/bias": "no numbers"})


def square(x: int) -> torch.Tensor:
    frame = torch.full((1, 3, 32, 32), 0.2)
    frame[..., 12:20, x : x + 8] = torch.tensor([0.9, 0.6, 0.3]).view(3, 1, 1)
    return frame


@pytest.mark.slow
def test_a_small_one_learns_a_moving_square():
    model = FILM(tiny(filters=12, flow_filters=(16, 16)), starts_at_average=True)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    first, middle, last = square(6), square(12), square(18)
    for _ in range(400):
        made, _ = model.between(first, last, [0.5])
        optimizer.zero_grad()
        (made[:, 0] - middle).abs().mean().backward()
        optimizer.step()
    error = (model.between(first, last, [0.5])[0][:, 0] - middle).square().mean()
    assert -10 * error.log10() > 35
