"""FILM's network: the published sizes, the flow's conventions, and the start for two cores."""

import pytest
import torch
from torch.nn import functional

from unlossy.networks.film import FILMNet

TINY = {
    "pyramid_levels": 3,
    "fusion_levels": 3,
    "specialized_levels": 1,
    "sub_levels": 2,
    "filters": 4,
    "flow_convs": (1, 2),
    "flow_filters": (4, 6),
}
# Other legal sizes: all levels shared, none fused but two, levels beyond the widest, ...
ODD = [
    TINY,
    TINY | {"specialized_levels": 0, "sub_levels": 1, "flow_convs": (2,), "flow_filters": (4,)},
    TINY | {"pyramid_levels": 5, "fusion_levels": 2, "sub_levels": 1},
    TINY | {"pyramid_levels": 5, "fusion_levels": 5},
    TINY
    | {
        "specialized_levels": 2,
        "sub_levels": 2,
        "flow_convs": (3, 1, 2),
        "flow_filters": (4, 5, 2),
    },
]


def weights(*parts) -> int:
    return sum(p.numel() for part in parts for p in part.parameters())


@pytest.fixture(scope="module")
def official():
    with torch.device("meta"):
        return FILMNet()


def test_the_published_sizes_have_the_published_numbers_of_weights(official):
    assert weights(official) == 34_436_667
    assert weights(official.extract) == 4_685_376
    assert [weights(part) for part in official.flow] == [55_954, 297_250, 1_335_874, 5_637_250]
    assert weights(official.fusion, official.out) == 22_424_963


def test_the_published_sizes_have_the_published_channels(official):
    assert official.widths == [64, 192, 448, 960, 960, 960, 960]
    aligned = [2 * (3 + width) + 4 for width in official.widths[:5]]
    assert aligned == [138, 394, 906, 1930, 1930]
    ups = [(level.up.in_channels, level.up.out_channels) for level in official.fusion]
    assert ups == [(128, 64), (256, 128), (512, 256), (1930, 512)]
    assert [level.conv1.in_channels for level in official.fusion] == [202, 522, 1162, 2442]
    assert official.multiple == 64


@pytest.mark.parametrize("sizes", ODD)
def test_any_legal_sizes_give_frames_and_flows_of_the_size_that_came_in(sizes):
    network, (height, width) = FILMNet(**sizes), (32, 48)
    seen = [network.see(torch.rand(2, 3, height, width)) for _ in range(2)]
    assert [x.shape[1] - 3 for x in seen[0].levels] == network.widths
    flows = network.flows(*seen)
    for pyramid in flows:
        sides = [(height >> level, width >> level) for level in range(network.pyramid_levels)]
        assert [flow.shape for flow in pyramid] == [(2, 2, *side) for side in sides]
    made = network.between(*seen, *flows)
    assert made.image.shape == made.warped_first.shape == (2, 3, height, width)
    assert made.to_first.shape == made.to_last.shape == (2, 2, height, width)


@pytest.mark.parametrize(
    "wrong",
    [
        {"fusion_levels": 4},
        {"fusion_levels": 1},
        {"specialized_levels": 3, "flow_convs": (1,) * 4, "flow_filters": (2,) * 4},
        {"sub_levels": 3},
        {"flow_convs": (1, 2, 3)},
        {"flow_convs": (0, 2)},
        {"flow_filters": (1, 2)},
    ],
)
def test_sizes_that_no_film_has_are_refused(wrong):
    with pytest.raises(ValueError, match="no FILM has"):
        FILMNet(**TINY | wrong)


@torch.no_grad()
def test_the_flow_from_a_to_b_is_the_flow_back_of_the_reversed_pair():
    network = FILMNet(**TINY)
    a, b = (network.see(torch.rand(1, 3, 16, 24)) for _ in range(2))
    forward, backward = network.flows(a, b)
    reversed_forward, reversed_backward = network.flows(b, a)
    for ours, theirs in zip(forward, reversed_backward, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(forward[0], backward[0], atol=1e-3)
    torch.testing.assert_close(backward[0], reversed_forward[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_predictor_sees_its_own_features_then_the_warped_ones():
    """The first convolution is split between the two; a witness that concatenates them."""
    network = FILMNet(**TINY)
    for part in network.parameters():
        part.uniform_(-0.3, 0.3)
    seen = [network.see(torch.rand(1, 3, 16, 24)) for _ in range(2)]
    coarsest = network.flow[-1]
    a, b = (x.levels[-1][:, 3:] for x in seen)
    x = functional.conv2d(
        torch.cat([a, b], 1), coarsest.first.weight, coarsest.first.bias, padding=1
    )
    expected = coarsest.last(coarsest.inner(x))
    torch.testing.assert_close(network.flows(*seen)[0][-1], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_flow_of_whole_pixels_shifts_the_frame_and_its_features():
    network = FILMNet(**TINY | {"fusion_levels": 2})
    first, last = torch.rand(2, 1, 3, 16, 24)
    seen = network.see(first), network.see(last)
    # G = (4, -2): half of it on the way, (2, -1) at the finest level.
    backward = [
        torch.tensor([4.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 16 >> k, 24 >> k) / 2**k
        for k in range(3)
    ]
    forward = [-flow for flow in backward]
    made = network.between(*seen, forward, backward)
    torch.testing.assert_close(
        made.warped_first[..., 1:, :-2], first[..., :-1, 2:], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        made.warped_last[..., :-1, 2:], last[..., 1:, :-2], atol=1e-5, rtol=0
    )
    assert made.to_first[0, :, 3, 3].tolist() == [2, -1]
    assert made.to_last[0, :, 3, 3].tolist() == [-2, 1]
    # At the edge, the edge repeated.
    torch.testing.assert_close(
        made.warped_first[..., 1:, -1], first[..., :-1, -1], atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_time_scales_the_flows_and_zero_is_the_first_frame():
    network = FILMNet(**TINY)
    for predictor in network.flow:  # of several pixels
        predictor.last.bias.uniform_(-2, 2)
    first, last = torch.rand(2, 1, 3, 16, 24)
    seen = network.see(first), network.see(last)
    forward, backward = network.flows(*seen)
    for time in (0.0, 0.3, 1.0):
        made = network.between(*seen, forward, backward, time)
        torch.testing.assert_close(made.to_first, time * backward[0])
        torch.testing.assert_close(made.to_last, (1 - time) * forward[0])
    start, end = (network.between(*seen, forward, backward, time) for time in (0.0, 1.0))
    torch.testing.assert_close(start.warped_first, first, atol=1e-5, rtol=0)
    torch.testing.assert_close(end.warped_last, last, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_start_for_two_cores_is_the_average_and_no_flow():
    network = FILMNet(**TINY)
    network.start_at_average()
    first, last = torch.rand(2, 1, 3, 16, 24)
    made = network(first, last)
    torch.testing.assert_close(made.image, (first + last) / 2, atol=1e-6, rtol=0)
    torch.testing.assert_close(made.warped_first, first, atol=1e-5, rtol=0)
    assert made.to_first.abs().max() == made.to_last.abs().max() == 0
    with pytest.raises(ValueError, match="at least 3"):
        FILMNet(**TINY | {"filters": 2}).start_at_average()


def test_from_that_start_every_weight_feels_a_gradient_after_one_step():
    network = FILMNet(**TINY)
    network.start_at_average()
    first, last, truth = torch.rand(3, 1, 3, 16, 24)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (network(first, last).image - truth).square().mean().backward()
        optimizer.step()
    assert all(p.grad.abs().max() > 0 for p in network.parameters())


@torch.no_grad()
def test_under_autocast_flows_and_what_is_sampled_stay_in_float32():
    network = FILMNet(**TINY)
    first, last = torch.rand(2, 1, 3, 16, 24)
    exact = network(first, last)
    with torch.autocast("cpu", torch.bfloat16):
        made = network(first, last)
    assert {part.dtype for part in made} == {torch.float32}
    torch.testing.assert_close(made.image, exact.image, atol=0.1, rtol=0.1)
    # 1/8 of a bfloat16 pixel at x = 500 would show; a flow of 0 samples the frame itself.
    network.start_at_average()
    wide = torch.rand(1, 3, 16, 512)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(network(wide, wide).warped_first, wide, atol=1e-4, rtol=0)
