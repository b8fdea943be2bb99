"""Frames predicted from their successors, and the way of the weights into BasicVSR."""

import pytest
import torch

from unlossy.errors import UserError
from unlossy.models.spynet import SPyNetWarp


def batch(frames: torch.Tensor) -> dict:
    t = torch.arange(float(frames.shape[1])).expand(frames.shape[:2])
    return {"degraded": frames, "t_in": t, "t_out": t, "side": {}, "target": {}}


def shifting(model: SPyNetWarp, x: float, y: float) -> SPyNetWarp:
    """Let the finest level say (x, y) everywhere, whatever it sees."""
    with torch.no_grad():
        model.spynet.basic_module[-1].basic_module[-1].bias.copy_(torch.tensor([x, y]))
    return model.eval()


def test_a_frame_is_its_successor_where_the_flow_points():
    model = shifting(SPyNetWarp(), 3.0, -2.0)
    frames = torch.rand(2, 3, 3, 32, 64)
    restored = model(batch(frames))
    assert restored["extras"]["flow"].shape == (2, 2, 2, 32, 64)
    expected = torch.tensor([3.0, -2.0])[:, None, None].expand(2, 2, 2, 32, 64)
    torch.testing.assert_close(restored["extras"]["flow"], expected)
    torch.testing.assert_close(
        restored["estimate"][:, :2, :, 2:, :-3], frames[:, 1:, :, :-2, 3:], atol=1e-4, rtol=0
    )
    assert torch.equal(restored["estimate"][:, 2], frames[:, 2])


@pytest.mark.parametrize("size", [(1, 1), (33, 17)])
def test_odd_sizes_and_single_frames(size):
    model = SPyNetWarp().eval()
    for count in (1, 2):
        frames = torch.rand(1, count, 3, *size)
        restored = model(batch(frames))
        assert restored["extras"]["flow"].shape == (1, count - 1, 2, *size)
        torch.testing.assert_close(model.restore(batch(frames))[:, -1], frames[:, -1])


def test_nothing_is_learnt_from_single_frames():
    with pytest.raises(UserError, match=r"data\.frames=2"):
        SPyNetWarp().train()(batch(torch.rand(1, 1, 3, 32, 32)))


def test_it_starts_at_zero_flow():
    restored = SPyNetWarp().eval()(batch(torch.rand(1, 2, 3, 32, 32)))
    assert (restored["extras"]["flow"] == 0).all()


@pytest.mark.parametrize(("right", "down"), [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_its_first_filters_tell_where_a_slope_moves(right, down):
    """relu sums to |gradient + change| - |gradient - change|: both signs, and so the motion's."""
    y, x = torch.meshgrid(torch.arange(15.0), torch.arange(15.0), indexing="ij")
    if right:
        ref, supp = 0.1 * x, 0.1 * (x - right)
    else:
        ref, supp = 0.1 * y, 0.1 * (y - down)
    seen = torch.cat([ref.expand(3, -1, -1), supp.expand(3, -1, -1), torch.zeros(2, 15, 15)])
    convolution = SPyNetWarp().spynet.basic_module[0].basic_module[0]
    features = convolution(seen[None]).relu()[0, :16, 7, 7].view(2, 2, 4)  # width, axis, s and d
    told = features @ torch.tensor([1.0, -1.0, -1.0, 1.0])
    expected = torch.tensor([-0.1 * right, -0.1 * down]) * 8  # 2 sign(ab) min(|a|, |b|), drawn x4
    torch.testing.assert_close(told, expected.expand(2, 2), atol=0.02, rtol=0)


def test_its_checkpoint_gives_basicvsr_a_flow(tmp_path):
    from unlossy.checkpoint import pack
    from unlossy.models.basicvsr import BasicVSR

    model = shifting(SPyNetWarp(), 0.5, 0.25)
    training = {
        **{"model": "spynet", "loss": "flow", "degradation": {}, "source": "synthetic_motion"},
        **{"needs": [], "scale": 1, "seed": 0},
    }
    path = tmp_path / "best.ckpt"
    torch.save(pack(model, {"_target_": "unlossy.models.spynet.SPyNetWarp"}, training), path)
    other = BasicVSR(4, 1, flow_ckpt=str(path))
    for key, value in model.spynet.state_dict().items():
        assert torch.equal(other.spynet.state_dict()[key], value), key
