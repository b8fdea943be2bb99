"""What the first filters tell of ramps that move by a pixel, worked out on paper."""

import pytest
import torch
from torch import nn

from unlossy.networks.motion_filters import motion_filters, see_motion


def ramps(right: int, down: int) -> torch.Tensor:
    """A grey ramp of 0.1 a pixel and the same moved by one, (1, 2, 15, 15)."""
    y, x = torch.meshgrid(torch.arange(15.0), torch.arange(15.0), indexing="ij")
    here, there = (x, x - right) if right else (y, y - down)
    return 0.1 * torch.stack([here, there])[None]


@pytest.mark.parametrize("kernel", [3, 7])
@pytest.mark.parametrize(("right", "down"), [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_their_four_add_up_to_where_a_slope_moves(kernel, right, down):
    """|a + b| - |a - b| = 2 sign(ab) min(|a|, |b|), of a gradient and a change of 0.1."""
    filters = motion_filters(kernel, (0.8, 1.6))
    features = nn.functional.conv2d(ramps(right, down), filters)[0, :, 2, 2].relu()
    told = features.view(2, 2, 4) @ torch.tensor([1.0, -1.0, -1.0, 1.0])  # width, axis, s and d
    expected = torch.tensor([-0.2 * right, -0.2 * down])
    torch.testing.assert_close(told, expected.expand(2, 2), atol=1e-5, rtol=0)


def test_a_convolution_takes_what_it_has_room_for_and_keeps_the_rest():
    torch.manual_seed(0)
    roomy, narrow = nn.Conv2d(9, 12, 3), nn.Conv2d(9, 5, 3)
    before = roomy.weight.detach().clone()
    see_motion(roomy, (1, 5), (0.8,), gain=6.0)
    see_motion(narrow, (1, 5), (0.8,), gain=6.0)
    filters = motion_filters(3, (0.8,))
    for channel in (1, 3, 5, 7):  # three colours each
        expected = 2 * filters[:, channel // 5]
        torch.testing.assert_close(roomy.weight[:8, channel], expected)
        torch.testing.assert_close(narrow.weight[:, channel], expected[:5])
    assert not roomy.weight[:8, [0, 4, 8]].any()
    assert torch.equal(roomy.weight[8:], before[8:])
