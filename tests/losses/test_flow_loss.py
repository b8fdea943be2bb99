"""The end-point error by hand, what it leaves out, and what it refuses."""

import pytest
import torch

from unlossy.errors import UserError
from unlossy.losses.flow import EndPointError


def pair(flow, wanted, **target):
    return {"estimate": flow, "extras": {"flow": flow}}, {"target": {"flow": wanted, **target}}


def test_the_distance_by_hand():
    wanted = torch.zeros(2, 1, 2, 4, 5)
    flow = torch.tensor([3.0, -4.0])[:, None, None].expand(2, 1, 2, 4, 5)
    assert EndPointError()(*pair(flow, wanted)).item() == pytest.approx(5, abs=1e-6)
    assert EndPointError()(*pair(wanted, wanted)).item() == pytest.approx(1e-3)
    assert EndPointError(eps=11.0)(*pair(flow, wanted)).item() == pytest.approx(6)


def test_what_no_picture_tells_is_not_counted():
    wanted = torch.zeros(1, 1, 2, 4, 5)
    wanted[..., 0, :, :] = 2.0  # the last two columns leave the frame
    flow = wanted.clone()
    flow[..., 3:] = 100.0
    assert EndPointError()(*pair(flow, wanted)).item() == pytest.approx(1e-3)
    flow[..., 0, 0, 0] += 12  # one pixel of the 12 that stay
    assert EndPointError()(*pair(flow, wanted)).item() == pytest.approx(1, abs=2e-3)
    visible = torch.ones(1, 1, 1, 4, 5, dtype=torch.bool)
    visible[..., 0, 0] = False
    found = EndPointError()(*pair(flow, wanted, visible=visible))
    assert found.item() == pytest.approx(1e-3)
    nothing = EndPointError()(*pair(flow, wanted, visible=torch.zeros_like(visible)))
    assert nothing.item() == 0
    wanted[..., 0, :, :], wanted[..., 1, :, :] = 0.0, -1.5  # now the first two rows leave it
    flow = wanted.clone()
    flow[..., :2, :] = 100.0
    assert EndPointError()(*pair(flow, wanted)).item() == pytest.approx(1e-3)


def test_a_perfect_flow_has_finite_gradients():
    wanted = torch.rand(1, 2, 2, 4, 5)
    flow = wanted.clone().requires_grad_()
    EndPointError()(*pair(flow, wanted)).backward()
    assert flow.grad.isfinite().all()


def test_clips_without_known_motion_are_refused():
    flow = torch.zeros(1, 1, 2, 4, 5)
    restored, _ = pair(flow, flow)
    with pytest.raises(UserError, match="use source=synthetic_motion"):
        EndPointError()(restored, {"target": {}})
    with pytest.raises(UserError, match=r"data\.frames=2"):
        EndPointError()(*pair(flow[:, :0], flow[:, :0]))
    with pytest.raises(UserError, match="eps=0"):
        EndPointError(eps=0)
