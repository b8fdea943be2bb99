import torch
from torch import nn

from unlossy.networks.detail import see_detail


def test_brightness_leaves_the_answer_as_it_is_and_detail_is_amplified():
    torch.manual_seed(0)
    first = nn.Conv2d(5, 8, 3, bias=False)
    fresh = first.weight.detach().clone()
    see_detail(first, planes=3)
    picture, other = torch.rand(1, 3, 9, 9), torch.rand(1, 2, 9, 9)
    answer = first(torch.cat([picture, other], 1))
    brighter = first(torch.cat([picture + 0.3, other], 1))
    assert torch.allclose(answer, brighter, atol=1e-4)
    assert torch.equal(first.weight[:, 3:], fresh[:, 3:])
    deviation = fresh[:, :3] - fresh[:, :3].mean((2, 3), keepdim=True)
    assert torch.allclose(first.weight[:, :3], 32 * deviation, atol=1e-5)
