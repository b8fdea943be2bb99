"""Losses of frames between frames, by hand on ramps that move."""

import pytest
import torch

from unlossy.errors import UserError
from unlossy.losses.adversarial import Adversary
from unlossy.losses.interpolation import OnFrames, SmoothnessLoss, VGG16Loss, WarpLoss
from unlossy.losses.pixel import PixelLoss
from unlossy.networks.patchgan import PatchGAN

W = 16


def moving_ramp(times, speed: float) -> torch.Tensor:
    """0.01 a pixel to the right, everything moving `speed` pixels a frame: (1, T, 3, 8, W)."""
    x = torch.arange(float(W)) - speed * torch.tensor(times, dtype=torch.float32)[:, None]
    return (0.5 + 0.01 * x)[None, :, None, None].expand(1, -1, 3, 8, W)


def batch(clean: torch.Tensor, t_out) -> dict:
    t = torch.tensor(t_out, dtype=torch.float32)[None]
    ends = [0, len(t_out) - 1]
    return {"clean": clean, "t_out": t, "t_in": t[:, ends], "degraded": clean[:, ends]}


def flows(x: float, y: float = 0.0) -> dict:
    flow = torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, 8, W)
    return {"flow01": flow, "flow10": -flow}


def test_the_true_flow_costs_what_leaves_the_frame():
    """Of 2 pixels, repeated edges miss the ramp by 1 and 2 steps, halfway by 1, at both edges."""
    sample = batch(moving_ramp([3, 4, 5], 1.0), [3, 4, 5])
    restored = {"estimate": sample["clean"], "extras": flows(2.0)}
    expected = 2 * 0.01 * (2 * (1 + 2) + 2 * 1) / W
    assert WarpLoss()(restored, sample).item() == pytest.approx(expected, rel=1e-3)


def test_no_flow_costs_the_differences_and_times_are_averaged():
    times = [0.0, 1.0, 3.0, 4.0]
    sample = batch(moving_ramp(times, 0.5), times)
    restored = {"estimate": sample["clean"], "extras": flows(0.0)}
    first, *inside, last = times
    moved = 2 * abs(last - first) + sum(abs(last - t) + abs(first - t) for t in inside) / 2
    assert WarpLoss()(restored, sample).item() == pytest.approx(2 * 0.005 * moved, rel=1e-3)


def test_a_time_takes_its_share_of_the_flow():
    """Late frames are near the last one: wrong shares of a right flow would cost."""
    times = [0.0, 3.0, 4.0]
    sample = batch(moving_ramp(times, 1.0), times)
    loss = WarpLoss()({"estimate": sample["clean"], "extras": flows(4.0)}, sample).item()
    edges = 2 * (1 + 2 + 3 + 4) + (1 + 2 + 3) + 1  # four pixels twice, three to first, one to last
    assert loss == pytest.approx(2 * 0.01 * edges / W, rel=1e-3)


def test_smoothness_is_the_mean_change_of_both_flows():
    x = 0.5 * torch.arange(float(W)).expand(1, 8, W)
    y = 0.25 * torch.arange(8.0)[:, None].expand(1, 8, W)
    extras = {"flow01": torch.stack([x, 0 * x], 1), "flow10": torch.stack([x, y], 1)}
    found = SmoothnessLoss()({"estimate": x, "extras": extras}, {})
    assert found.item() == pytest.approx(0.5 / 4 + (0.5 + 0.25) / 4)


def test_a_term_on_the_frames_between_or_at_the_ends():
    sample = batch(torch.zeros(2, 4, 3, 4, 4), [0, 1, 2, 3])
    offset = torch.tensor([0.1, 0.2, 0.4, 0.3]).view(1, 4, 1, 1, 1)
    restored = {"estimate": offset.expand(2, 4, 3, 4, 4), "extras": {}}
    for which, expected in (("between", 0.3), ("ends", 0.2)):
        found = OnFrames(which, PixelLoss())(restored, sample)
        assert found.item() == pytest.approx(2 * expected)  # in [-1, 1]
    with pytest.raises(UserError, match="between"):
        OnFrames("all", PixelLoss())


@pytest.mark.parametrize("term", [WarpLoss(), OnFrames("between", PixelLoss())])
def test_a_clip_that_lacks_no_frame_is_refused(term):
    sample = batch(torch.zeros(1, 2, 3, 8, W), [0, 1])
    with pytest.raises(UserError, match=r"drop_frames data\.frames=2"):
        term({"estimate": sample["clean"], "extras": flows(0.0)}, sample)


@pytest.mark.assets("lpips_vgg")
def test_features_of_conv4_3_behind_its_relu():
    term, frames = VGG16Loss(), torch.rand(2, 1, 3, 3, 24, 32)
    estimate, clean = frames[0].requires_grad_(), frames[1].requires_grad_()
    loss = term({"estimate": estimate, "extras": {}}, {"clean": clean})
    loss.backward()
    assert estimate.grad.abs().sum() > 0
    assert clean.grad is None
    x = torch.stack([estimate, clean]).detach().flatten(0, 2) * 2 - 1 - term.trunk.shift
    x = x / term.trunk.scale
    for place in (0, 2, "pool", 5, 7, "pool", 10, 12, 14, "pool", 17, 19, 21):
        if place == "pool":
            x = torch.nn.functional.max_pool2d(x, 2)
        else:
            weight, bias = (getattr(term.trunk, f"{part}_{place}") for part in ("weight", "bias"))
            x = torch.nn.functional.conv2d(x, weight, bias, padding=1).relu()
    ours, theirs = x.chunk(2)
    assert ours.shape[1:] == (512, 3, 4)
    assert loss.item() == pytest.approx((ours - theirs).square().mean().item(), rel=1e-4)
    assert term.state_dict() == {}


def test_a_discriminator_sees_dropped_frames_beside_the_nearest_kept_one():
    seen = []

    class Looking(PatchGAN):
        def forward(self, x):
            seen.append(x)
            return super().forward(x)

    adversary = Adversary(Looking(6, 4), torch.optim.Adam, use_gradient=False)
    sample = batch(torch.rand(2, 5, 3, 32, 32), [0, 1, 2, 3, 4])
    sample["t_in"], sample["t_out"] = (sample[key].repeat(2, 1) for key in ("t_in", "t_out"))
    adversary({"estimate": torch.rand(2, 5, 3, 32, 32), "extras": {}}, sample)
    beside = (seen[0][:, :3].unflatten(0, (2, 5)) + 1) / 2
    wanted = sample["degraded"][:, [0, 0, 0, 1, 1]]
    torch.testing.assert_close(beside, wanted)
