"""Frames from flows: the authors' numbers, the limits at both ends, who replaces what."""

import pytest
import torch
from test_flow_unet import filled, sines

from unlossy.networks.flow import warp
from unlossy.networks.flow_unet import FlowUNet
from unlossy.networks.slomo import intermediate_flows, interpolated


def told(*values: float):
    """A refinement that says these five numbers everywhere, through tanh."""

    def refine(x):
        level = torch.tensor(values, dtype=x.dtype).atanh().view(1, 5, 1, 1)
        return level.expand(len(x), 5, *x.shape[-2:])

    return refine


@pytest.mark.slow  # 40 million sines
def test_the_authors_numbers():
    """`netSlomo` at its published width: frames from GIF flows, and who is visible."""
    net_a, net_b = FlowUNet(6, 2).double(), FlowUNet(16, 5).double()
    filled({"netA": net_a, "netB": net_b})
    gif0, gif1, first, last = (sines((1, 3, 64, 64), phase=p) for p in (0, 0.3, 0.6, 0.9))
    t = torch.tensor([0.25, 0.5], dtype=torch.float64)
    with torch.no_grad():
        pairs = torch.cat([torch.cat([gif0, gif1], 1), torch.cat([gif1, gif0], 1)])
        flows = (30 * net_a(pairs).tanh()).split(1)
        unit = [(x + 1) / 2 for x in (first, last)]
        made = interpolated(net_b, *unit, flows, t, 30, residual=False)
    expected = {
        "frames": (0.00222918, 0.63744829, 0.88213980, 0.89780675, -0.85914778),
        "visibility": (0.44494865, 0.00056597, 0.44398164, 0.44389127, 0.44287701),
    }
    for name, y in {"frames": made.frames * 2 - 1, "visibility": made.visibility}.items():
        found = [y.mean(), y.std(correction=0), *y.flatten()[[0, y.numel() // 2, -1]]]
        assert torch.stack(found).tolist() == pytest.approx(expected[name], abs=2e-6), name


def test_the_authors_warp():
    x = sines((1, 3, 16, 20))
    y = warp(x, 3 * sines((1, 2, 16, 20), phase=0.5), "border").double()
    found = [y.mean(), y.std(correction=0), *y.flatten()[[0, y.numel() // 2, -1]]]
    expected = [0.02335863, 0.58377761, -0.38362198, -0.86357473, 0.99668689]
    assert torch.stack(found).tolist() == pytest.approx(expected, abs=2e-5)


def test_zero_flow_is_the_identity_warp():
    x = torch.rand(2, 3, 31, 47)
    torch.testing.assert_close(warp(x, torch.zeros(2, 2, 31, 47), "border"), x, rtol=0, atol=2e-6)


def test_linear_motion_puts_the_flow_where_the_time_is():
    """Everything moves by u from first to last: F01 = u, F10 = -u."""
    u = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1)
    for t in (0.0, 0.25, 0.5, 1.0):
        to_first, to_last = intermediate_flows(u, -u, torch.tensor(t))
        torch.testing.assert_close(to_first, -t * u)
        torch.testing.assert_close(to_last, (1 - t) * u)


@pytest.mark.parametrize("residual", [True, False])
def test_replaced_or_corrected(residual):
    t, shape = torch.tensor([0.25, 0.5]), (1, 2, 8, 8)
    flows = torch.full(shape, 2.0), torch.full(shape, -2.0)
    frames = torch.rand(2, 1, 3, 8, 8)
    made = interpolated(told(0.1, 0.2, 0.3, 0.4, 0), *frames, flows, t, 10, residual)
    share = (4 * t * (1 - t)).view(1, 2, 1, 1, 1) if residual else 1.0
    said = torch.tensor([1.0, 2, 3, 4]).view(1, 1, 4, 1, 1).expand(1, 2, 4, 8, 8)
    rough = torch.cat(intermediate_flows(*(f[:, None] for f in flows), t.view(2, 1, 1, 1)), 2)
    expected = share * said + rough * residual
    torch.testing.assert_close(torch.cat([made.to_first, made.to_last], 2), expected)


@pytest.mark.parametrize(("visible", "expected"), [(0.999999, 0), (-0.999999, 1), (0.0, None)])
def test_only_what_is_visible_is_blended(visible, expected):
    frames, nothing = torch.rand(2, 1, 3, 8, 8), torch.zeros(1, 2, 8, 8)
    t = torch.tensor([0.25])
    made = interpolated(told(0, 0, 0, 0, visible), *frames, (nothing, nothing), t, 30, False)
    wanted = frames[0].lerp(frames[1], 0.25) if expected is None else frames[expected]
    torch.testing.assert_close(made.frames[:, 0], wanted, rtol=0, atol=1e-5)


def test_towards_a_frame_comes_that_frame_whatever_the_refinement_says():
    frames, flows = torch.rand(2, 1, 3, 16, 16), 5 * torch.randn(2, 1, 2, 16, 16).clamp(-1, 1)
    t = torch.tensor([1e-4, 1 - 1e-4])
    saying = told(0.9, -0.9, -0.9, 0.9, 0.5)
    made = interpolated(saying, *frames, flows.unbind(), t, 30, residual=True)
    wanted = frames.transpose(0, 1)
    torch.testing.assert_close(made.frames, wanted, rtol=0, atol=0.03)
    assert torch.stack([made.to_first[:, 0], made.to_last[:, 1]]).abs().max() < 0.02


def test_each_time_by_itself_is_the_same():
    refine = FlowUNet(16, 5, 2).eval()
    torch.nn.init.normal_(refine.outconv.weight, std=0.1)
    frames, flows = torch.rand(2, 2, 3, 32, 32), 3 * torch.randn(2, 2, 2, 32, 32)
    t = torch.tensor([0.2, 0.7, 0.9])
    together = interpolated(refine, *frames, flows.unbind(), t, 10, True)
    for k in range(3):
        alone = interpolated(refine, *frames, flows.unbind(), t[k : k + 1], 10, True)
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[:, k], theirs[:, 0], rtol=0, atol=1e-5)
