"""SuperSloMo as a model: where it starts, what a flow is worth, flows once a pair, checkpoints."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from unlossy.checkpoint import load, pack
from unlossy.errors import UserError
from unlossy.inference.tiling import restore_tiled
from unlossy.losses.interpolation import SmoothnessLoss, WarpLoss
from unlossy.losses.objective import Objective, Weighted
from unlossy.losses.pixel import PixelLoss
from unlossy.models.ccdnet import CCDNet
from unlossy.models.gif2video import GIF2Video
from unlossy.models.spynet import SPyNetWarp
from unlossy.models.superslomo import SuperSloMo
from unlossy.networks.flow import SPyNet
from unlossy.networks.flow_unet import FlowUNet, PairFlow

SPYNET = {"_target_": "unlossy.networks.flow.SPyNet"}
GIF2VIDEO = {"_target_": "unlossy.models.gif2video.GIF2Video"}
PAIRFLOW = {"_target_": "unlossy.networks.flow_unet.PairFlow", "channels": 3}
REFINE = {
    **{"_target_": "unlossy.networks.flow_unet.FlowUNet", "in_channels": 16, "out_channels": 5},
    "channels": 2,
}
CONFIG = {"_target_": "unlossy.models.superslomo.SuperSloMo", "flow": SPYNET, "refine": REFINE}
TRAINING = {
    **{"model": "superslomo", "loss": "slomo", "degradation": {}, "source": "bunny"},
    **{"needs": [], "scale": 1, "seed": 0},
}


class Shift(torch.nn.Module):
    """Says that everything moves by (x, y) from `first` to last; counts its calls."""

    def __init__(self, first: torch.Tensor, x: float, y: float):
        super().__init__()
        self.first, self.by, self.calls = first, torch.tensor([x, y]), 0

    def forward(self, ref, supp):
        self.calls += 1
        forth = torch.tensor([any(torch.equal(r, f) for f in self.first) for r in ref])
        sign = torch.where(forth, 1.0, -1.0).view(-1, 1, 1, 1)
        return (sign * self.by.view(1, 2, 1, 1)).expand(-1, 2, *ref.shape[-2:])


def slomo(flow=None, **options) -> SuperSloMo:
    return SuperSloMo(PairFlow(2) if flow is None else flow, FlowUNet(16, 5, 2), **options)


def batch(frames: torch.Tensor, factor: int) -> dict:
    clips, count = frames.shape[:2]
    t_in = factor * torch.arange(float(count))
    t_out = torch.arange(factor * (count - 1) + 1.0)
    return {
        **{"name": ["x"] * clips, "degraded": frames, "side": {}, "target": {}},
        **{"t_in": t_in.expand(clips, -1), "t_out": t_out.expand(clips, -1)},
        "bits": torch.zeros(clips),
    }


def shaken(model: SuperSloMo) -> SuperSloMo:
    for network in model.modules():
        if isinstance(network, FlowUNet):
            torch.nn.init.normal_(network.outconv.weight, std=0.02)
    return model.eval()


@pytest.mark.parametrize("flow", [SPyNet, lambda: PairFlow(2)])
@pytest.mark.parametrize("residual", [True, False])
def test_it_starts_at_the_frame_average(flow, residual):
    frames = torch.rand(2, 2, 3, 40, 33)
    restored = slomo(flow(), residual=residual).train()(batch(frames, 4))
    expected = [frames[:, 0].lerp(frames[:, 1], t / 4) for t in range(5)]
    torch.testing.assert_close(restored["estimate"], torch.stack(expected, 1))
    assert restored["extras"].keys() == SuperSloMo.provides
    assert all((flow == 0).all() for flow in restored["extras"].values())


def test_with_a_right_flow_it_starts_at_the_right_frame():
    """A picture that moves 8 pixels to the right and 4 up: flow 01 is (8, -4)."""
    picture = torch.rand(3, 80, 80)
    places = [(16 + t, 16 - 2 * t) for t in range(5)]  # the window moves the other way
    clip = torch.stack([picture[:, y : y + 40, x : x + 40] for y, x in places])[None]
    first, last = clip[:, 0], clip[:, -1]
    model = slomo(Shift(first, 8.0, -4.0), residual=True).eval()
    made = model(batch(torch.stack([first, last], 1), 4))
    inside = (..., slice(4, -4), slice(8, -8))
    torch.testing.assert_close(made["estimate"][inside], clip[inside], rtol=0, atol=1e-4)
    to_first = torch.tensor([[-8.0, 4.0]]) * torch.tensor([0, 0.25, 0.5, 0.75, 0])[:, None]
    torch.testing.assert_close(made["extras"]["flow_to_first"][0, :, :, 20, 20], to_first)
    assert model.flow.calls == 1  # both directions, all times


def test_flows_once_per_pair_and_each_pair_by_itself():
    model = shaken(slomo(residual=True))
    frames = torch.rand(1, 3, 3, 32, 32)
    calls = []
    model.flow.register_forward_hook(lambda *_: calls.append(1))
    whole = model(batch(frames, 4))
    assert len(calls) == 2
    assert whole["extras"] == {}
    for k in range(2):
        pair = model(batch(frames[:, k : k + 2], 4))
        assert torch.equal(pair["estimate"], whole["estimate"][:, 4 * k : 4 * k + 5])


def test_seven_frames_cost_less_than_seven_times_one():
    """In operations, at equal widths; benchmarks/superslomo.py measures the time."""
    model, frames = slomo(cut=None).eval(), torch.rand(1, 2, 3, 64, 64)

    @torch.no_grad()
    def operations(factor: int) -> int:
        with FlopCounterMode(display=False) as counter:
            model.restore(batch(frames, factor))
        return counter.get_total_flops()

    one, seven = operations(2), operations(8)
    assert one < seven < 4 * one


def test_gradients_or_not_and_any_time_alike():
    model = shaken(slomo())
    frames = torch.rand(2, 2, 3, 32, 32)
    with_gradient = model(batch(frames, 3))
    assert with_gradient["estimate"].requires_grad
    with torch.no_grad():
        without = model(batch(frames, 3))
    for key, value in without["extras"].items():
        torch.testing.assert_close(value, with_gradient["extras"][key], rtol=0, atol=1e-5)
    torch.testing.assert_close(without["estimate"], with_gradient["estimate"], rtol=0, atol=1e-5)
    odd = batch(frames, 3)
    odd["t_out"] = torch.tensor([[0.1, 2.0, 2.9]]).expand(2, -1)
    assert torch.allclose(model(odd)["estimate"][:, 1], with_gradient["estimate"][:, 2], atol=1e-5)


def test_a_frame_is_where_time_goes_to_and_a_flow_of_a_frame_to_itself_is_zero():
    model = shaken(slomo(residual=True))
    frames = torch.rand(1, 2, 3, 32, 32)
    close = batch(frames, 1)
    close["t_out"] = torch.tensor([[0, 2e-4, 1 - 2e-4, 1]])
    made = model(close)
    assert torch.equal(made["estimate"][:, [0, 3]], frames)
    torch.testing.assert_close(made["estimate"][:, 1:3], frames, rtol=0, atol=0.03)
    assert not made["extras"]["flow_to_first"][:, [0, 3]].any()


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 17)])
def test_odd_and_tiny_pairs_are_restored_at_their_size(size):
    model = shaken(slomo(cut=None))
    assert model.restore(batch(torch.rand(1, 2, 3, *size), 2)).shape == (1, 3, 3, *size)


def test_half_precision_moves_pixels_in_full():
    torch.manual_seed(1)
    model, frames = shaken(slomo(residual=True)), torch.rand(1, 2, 3, 64, 64)
    smooth = torch.nn.functional.avg_pool2d(frames.flatten(0, 1), 9, 1, 4)[None]
    full = model(batch(smooth, 2))
    with torch.autocast("cpu", torch.bfloat16):
        half = model(batch(smooth, 2))
    assert {half["estimate"].dtype, half["extras"]["flow_to_first"].dtype} == {torch.float32}
    assert (half["estimate"] - full["estimate"]).abs().mean() < 2e-3


def test_tiles_fit_together_where_the_flow_sees_no_further():
    torch.manual_seed(0)
    frames = torch.rand(1, 2, 3, 32, 960)
    smooth = torch.nn.functional.avg_pool2d(frames.flatten(0, 1), 5, 1, 2)[None]

    class Local(torch.nn.Module):
        def forward(self, ref, supp):
            return 40 * (ref - supp)[:, :2]

    model, clip = slomo(Local(), residual=True, cut=None).eval(), batch(smooth, 2)
    whole = model.restore(clip)
    assert (whole[:, 1] - smooth.mean(1)).abs().max() > 0.05
    pieces = []
    model.flow.register_forward_hook(lambda _, inputs, __: pieces.append(inputs[0].shape[-1]))
    tiled = restore_tiled(model, clip, budget=2 * 32 * 512)
    assert len(pieces) == 2
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("residual", [True, False])
def test_it_learns_a_shift(residual):
    """A few steps on one pair bring the loss down, and gradients reach both networks."""
    torch.manual_seed(0)
    wide = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 50, 60), 5, 1)
    clip = torch.stack([wide[..., 4:36, 6 - t : 38 - t] for t in range(3)], 1)
    model = slomo(PairFlow(4), residual=residual).train()
    sample = {**batch(clip[:, [0, 2]], 2), "clean": clip}
    objective = Objective(
        {
            "pixel": Weighted(102, PixelLoss()),
            "warp": Weighted(51, WarpLoss()),
            "smooth": Weighted(1, SmoothnessLoss()),
        }
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    for step in range(15):
        total = objective(model(sample), sample, step)["total"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert losses[-1] < 0.9 * losses[0]
    for network in (model.flow.unet, model.refine):
        assert network.inconv[0].weight.grad.abs().sum() > 0


def test_a_spynet_learns_at_an_eighth_of_the_rate():
    model = slomo(SPyNet())
    rates = {id(x): group["lr"] for group in model.param_groups(0.8) for x in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    assert {rates[id(x)] for x in model.flow.parameters()} == {0.1}
    assert {rates[id(x)] for x in model.refine.parameters()} == {0.8}
    assert len(slomo(PairFlow(2)).param_groups(0.8)) == 1


def test_a_checkpoint_of_spynet_gives_it_a_flow_and_its_own_needs_no_other_file(tmp_path):
    trained = SPyNetWarp()
    torch.nn.init.normal_(trained.spynet.basic_module[5].basic_module[-1].weight, std=0.1)
    path = tmp_path / "flow.ckpt"
    flow = pack(trained, {"_target_": "unlossy.models.spynet.SPyNetWarp"}, TRAINING)
    torch.save(flow, path)
    model = slomo(SPyNet(), flow_ckpt=str(path)).eval()
    for key, value in trained.spynet.state_dict().items():
        assert torch.equal(model.flow.state_dict()[key], value), key
    own = tmp_path / "own.ckpt"
    torch.save(pack(model, {**CONFIG, "flow_ckpt": str(path)}, TRAINING), own)
    path.unlink()
    frames = batch(torch.rand(1, 2, 3, 32, 32), 2)
    assert torch.equal(load(own).restore(frames), model.restore(frames))


def test_a_flow_learnt_inside_another_slomo_is_found(tmp_path):
    other = shaken(slomo(PairFlow(3)))
    path = tmp_path / "slomo.ckpt"
    torch.save(pack(other, {**CONFIG, "flow": PAIRFLOW}, TRAINING), path)
    model = slomo(PairFlow(3), flow_ckpt=str(path))
    for key, value in other.flow.state_dict().items():
        assert torch.equal(model.flow.state_dict()[key], value), key


@pytest.mark.parametrize("inside", ["superslomo", "gif2video", "a file without a card"])
@pytest.mark.parametrize("theirs", [{"max_flow": 10}, {}])
def test_a_flow_of_another_max_flow_is_refused_where_the_file_says_so(tmp_path, inside, theirs):
    own = {**CONFIG, "flow": {**PAIRFLOW, **theirs}}
    held, config = slomo(PairFlow(3, **theirs)), own
    if inside == "gif2video":
        held, config = GIF2Video(CCDNet(1, 2), held), {**GIF2VIDEO, "slomo": own}
    content = pack(held, config, TRAINING)
    if "without" in inside:
        del content["unlossy"]
    path = tmp_path / "slomo.ckpt"
    torch.save(content, path)
    same, other = (10, 30) if theirs else (30, 10)
    slomo(PairFlow(3, same), flow_ckpt=str(path))
    if "without" in inside:
        slomo(PairFlow(3, other), flow_ckpt=str(path))
        return
    with pytest.raises(UserError, match=f"set the flow's max_flow={same}"):
        slomo(PairFlow(3, other), flow_ckpt=str(path))


@pytest.mark.parametrize("case", ["size", "kind", "none"])
def test_a_flow_checkpoint_that_does_not_fit_is_refused(tmp_path, case):
    held = {"size": PairFlow(3), "kind": SPyNet(), "none": torch.nn.Linear(2, 2)}[case]
    path = tmp_path / "flow.ckpt"
    torch.save({"params": held.state_dict()}, path)
    with pytest.raises(UserError, match="holds no PairFlow"):
        slomo(PairFlow(2), flow_ckpt=str(path))


def official(**changes) -> dict[str, torch.Tensor]:
    networks = {"netA": FlowUNet(6, 2, 2), "netB": FlowUNet(16, 5, 3), **changes}
    return {f"{n}.{k}": v for n, net in networks.items() for k, v in net.state_dict().items()}


def test_official_weights_tell_the_sizes_and_keep_the_published_form():
    model = SuperSloMo.from_official({"epoch": 1, "model_netG": official()}, max_flow=20)
    assert (model.flow.unet.channels, model.refine.channels) == (2, 3)
    assert (model.max_flow, model.flow.max_flow, model.residual) == (20, 20, False)


@pytest.mark.parametrize(
    "weights",
    [{}, official(netA=FlowUNet(6, 4, 2)), official(netB=FlowUNet(20, 5, 2)), {"x": 1}],
)
def test_weights_of_other_networks_are_refused(weights):
    with pytest.raises(UserError, match=r"no official SuperSloMo|16 channels"):
        SuperSloMo.from_official(weights)


def test_numbers_and_parts_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="max_flow=0"):
        slomo(max_flow=0)
    with pytest.raises(UserError, match="16 channels to 5"):
        SuperSloMo(PairFlow(2), FlowUNet(20, 5, 2))
