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


ENDS = {"flow_to_first": "seen_in_first", "flow_to_last": "seen_in_last"}


@pytest.mark.parametrize(("of", "seen"), ENDS.items())
def test_an_interpolators_flow_counts_strictly_between_the_ends(of, seen):
    target = {of: torch.zeros(2, 4, 2, 4, 5), seen: torch.ones(2, 4, 1, 4, 5, dtype=torch.bool)}
    flow = torch.zeros(2, 4, 2, 4, 5)
    flow[:, 0], flow[:, 3] = 100.0, -100.0
    flow[:, 1, 0], flow[:, 2, 1] = 3.0, -5.0
    restored = {"estimate": flow, "extras": {of: flow}}
    assert EndPointError(of)(restored, {"target": target}).item() == pytest.approx(4, abs=1e-3)
    target[seen][:, 2] = False
    assert EndPointError(of)(restored, {"target": target}).item() == pytest.approx(3, abs=1e-3)
    ends = {"estimate": flow, "extras": {of: flow[:, ::3]}}
    with pytest.raises(UserError, match="frames between them"):
        EndPointError(of)(ends, {"target": {key: x[:, ::3] for key, x in target.items()}})


@pytest.mark.parametrize(
    ("of", "truth", "end"), [("flow01", "flow_to_last", 0), ("flow10", "flow_to_first", 2)]
)
def test_a_flow_from_end_to_end_is_that_of_the_end_frame(of, truth, end):
    true = torch.full((2, 3, 2, 4, 5), 100.0)
    true[:, end] = torch.tensor([1.0, 0.0])[:, None, None]
    seen = torch.ones(2, 3, 1, 4, 5, dtype=torch.bool)
    flow = torch.zeros(2, 2, 4, 5)
    flow[..., 4] = 50  # leads out of the frame
    batch = {"target": {truth: true, ENDS[truth]: seen}}
    found = EndPointError(of)({"estimate": flow, "extras": {of: flow}}, batch)
    assert found.item() == pytest.approx(1)
    seen[:, end, :, :, :2] = False
    flow[..., :2] = 50
    found = EndPointError(of)({"estimate": flow, "extras": {of: flow}}, batch)
    assert found.item() == pytest.approx(1)


def test_each_term_says_which_flow_it_needs():
    assert EndPointError().needs == {"flow"}
    assert EndPointError("flow10").needs == {"flow10"}
    with pytest.raises(UserError, match="of=flow20; use one of flow, flow_to_first"):
        EndPointError("flow20")


def test_clips_without_known_motion_are_refused():
    flow = torch.zeros(1, 1, 2, 4, 5)
    restored, _ = pair(flow, flow)
    with pytest.raises(UserError, match="use source=synthetic_motion"):
        EndPointError()(restored, {"target": {}})
    with pytest.raises(UserError, match=r"data\.frames=2"):
        EndPointError()(*pair(flow[:, :0], flow[:, :0]))
    with pytest.raises(UserError, match="eps=0"):
        EndPointError(eps=0)
