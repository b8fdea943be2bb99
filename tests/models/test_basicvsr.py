"""BasicVSR against a plain formulation; its start, its connections, its files and sentences."""

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from unlossy import checkpoint
from unlossy.errors import UserError
from unlossy.inference.tiling import restore_tiled
from unlossy.models.basicvsr import BasicVSR
from unlossy.networks.flow import SPyNet, warp

VARIANTS = [(1, "hr_only"), (1, "keep_upconv"), (4, "hr_only")]


def shaken(*arguments, **options):
    """Weights away from their start, so that nothing is zero by construction."""
    torch.manual_seed(0)
    model = BasicVSR(*arguments, **options)
    for name, weight in model.named_parameters():
        # All of SPyNet shaken would make flows of hundreds of pixels.
        if not name.startswith("spynet.") or "basic_module.8." in name:
            weight.data += 0.05 * torch.randn_like(weight)
    return model


def clip(frames=3, size=(24, 36), batch=1):
    torch.manual_seed(1)
    return torch.rand(batch, frames, 3, *size)


def plain(model, frames):
    """The network as published: a loop over frames, a call of SPyNet for each pair, NCHW."""
    last = frames.shape[1] - 1
    x = frames.unbind(1)

    def step(trunk, image, h):
        first, _, blocks = trunk.main
        h = functional.leaky_relu(first(torch.cat([image, h], 1)), 0.1)
        for block in blocks:
            h = h + block.conv2(block.conv1(h).relu())
        return h

    start = torch.zeros(len(frames), model.channels, *frames.shape[-2:])
    later, h = {}, start
    for t in range(last, -1, -1):
        if t < last and model.aligned:
            h = warp(h, model.spynet(x[t], x[t + 1]))
        later[t] = h = step(model.backward_trunk, x[t], h)
    outputs, h = [], start
    for t in range(last + 1):
        if t > 0 and model.aligned:
            h = warp(h, model.spynet(x[t], x[t - 1]))
        h = step(model.forward_trunk, x[t], h)
        y = functional.leaky_relu(model.fusion(torch.cat([later[t], h], 1)), 0.1)
        for upconv in (model.upconv1, model.upconv2) if hasattr(model, "upconv1") else ():
            y = upconv(y)
            y = functional.leaky_relu(
                functional.pixel_shuffle(y, 2) if model.scale == 4 else y, 0.1
            )
        y = model.conv_last(functional.leaky_relu(model.conv_hr(y), 0.1))
        base = x[t] if model.scale == 1 else functional.interpolate(x[t], None, 4, "bilinear")
        outputs.append(base + y)
    return torch.stack(outputs, 1)


@pytest.mark.parametrize(
    ("scale", "head", "flow"),
    [*((*variant, "zero") for variant in VARIANTS), (1, "hr_only", "spynet")],
)
def test_a_loop_over_frames_gives_the_same(scale, head, flow):
    model, frames = shaken(6, 2, scale, flow, head), clip(3, (12, 17), batch=2)
    if flow == "spynet":
        assert 0.1 < model.spynet(frames[:, 0], frames[:, 1]).abs().mean() < 3
    with torch.no_grad():
        expected = plain(model, frames)
        found = model({"degraded": frames})["estimate"]
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("scale", "head"), VARIANTS)
@pytest.mark.parametrize("flow", ["spynet", "zero"])
def test_it_starts_at_its_enlarged_input(scale, head, flow):
    frames = clip(2, (9, 7))
    estimate = BasicVSR(4, 1, scale, flow, head)({"degraded": frames})["estimate"]
    if scale == 1:
        assert torch.equal(estimate, frames)
    else:
        enlarged = functional.interpolate(frames[0], (36, 28), mode="bilinear")
        torch.testing.assert_close(estimate[0], enlarged, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (5, 33), (31, 2)])
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize(("scale", "flow"), [(1, "spynet"), (4, "zero")])
def test_any_size_and_a_single_frame(size, frames, scale, flow):
    model = shaken(4, 1, scale, flow).eval()
    with torch.no_grad():
        restored = model.restore({"degraded": clip(frames, size)})
    assert restored.shape == (1, frames, 3, scale * size[0], scale * size[1])
    assert restored.min() >= 0
    assert restored.max() <= 1


@pytest.mark.parametrize("flow", ["spynet", "zero"])
def test_every_frame_reaches_every_other(flow):
    frames = clip(4, (16, 16))
    model = shaken(4, 1, flow=flow)
    with torch.no_grad():
        before = model({"degraded": frames})["estimate"]
        for changed in range(4):
            other = frames.clone()
            other[:, changed] = 1 - other[:, changed]
            change = (model({"degraded": other})["estimate"] - before).abs().amax((0, 2, 3, 4))
            assert (change > 1e-6).all()


def test_clips_of_a_batch_do_not_meet():
    model, frames = shaken(4, 1), clip(2, batch=2)
    with torch.no_grad():
        both = model({"degraded": frames})["estimate"]
        second = model({"degraded": frames[1:]})["estimate"]
    torch.testing.assert_close(both[1:], second, rtol=0, atol=1e-5)


def test_all_flows_are_one_call(monkeypatch):
    model, calls = shaken(4, 1).eval(), []
    forward = SPyNet.forward
    monkeypatch.setattr(
        SPyNet, "forward", lambda self, a, b: calls.append(len(a)) or forward(self, a, b)
    )
    with torch.no_grad():
        model({"degraded": clip(4, (8, 8), batch=2)})
    assert calls == [2 * 2 * 3]


def test_zero_flow_has_no_flow_network():
    assert not any(key.startswith("spynet") for key in BasicVSR(4, 1, flow="zero").state_dict())


def test_checkpointing_gives_the_same_gradients():
    frames, gradients = clip(3, (12, 12)), []
    for checkpointing in (False, True):
        model = shaken(4, 2, flow="zero", checkpointing=checkpointing).train()
        model({"degraded": frames})["estimate"].square().mean().backward()
        gradients.append({key: value.grad for key, value in model.named_parameters()})
    for key, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], expected, rtol=1e-5, atol=1e-8)
        assert expected.abs().sum() > 0


def test_bfloat16_is_close_and_ends_in_float32():
    model, frames = shaken(8, 2).eval(), clip(3)
    with torch.no_grad():
        expected = model({"degraded": frames})["estimate"]
        with torch.autocast("cpu", torch.bfloat16):
            estimate = model({"degraded": frames})["estimate"]
    assert estimate.dtype == torch.float32
    difference = (estimate - expected).abs().mean()
    assert 0 < difference < 0.02 * (expected - frames).abs().mean()


def test_flow_learns_at_an_eighth_of_the_rate():
    rest, flow = BasicVSR(4, 1).param_groups(0.8)
    assert (rest["lr"], flow["lr"]) == (0.8, 0.1)
    assert sum(p.numel() for p in flow["params"]) == 1_440_300
    model = BasicVSR(4, 1)
    model.spynet.requires_grad_(False)
    (only,) = model.param_groups(1.0)
    assert not {id(p) for p in model.spynet.parameters()} & {id(p) for p in only["params"]}


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 5_995_887),
        ({"head": "keep_upconv"}, 6_069_743),
        ({"scale": 4}, 6_291_311),
        ({"blocks": 15}, 3_780_207),
        ({"blocks": 10}, 3_041_647),
    ],
)
def test_published_sizes(options, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in BasicVSR(**options).parameters()) == count


@pytest.mark.parametrize(("scale", "head"), VARIANTS)
@pytest.mark.parametrize("flow", ["spynet", "zero"])
@pytest.mark.parametrize("wrap", [None, "params", "params_ema"])
def test_names_and_shapes_tell_the_network(scale, head, flow, wrap):
    model = shaken(5, 3, scale, flow, head)
    state = model.state_dict()
    if wrap == "params":  # a file as BasicSR writes it while training
        state = {"params": state}
    if wrap == "params_ema":
        state = {"params": {}, "params_ema": state}
    again = BasicVSR.from_official(state)
    assert again.scale == scale
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(again.state_dict()[k], v) for k, v in model.state_dict().items())


def test_official_names_at_full_size():
    """The list of the specification, not of our own module."""
    trunk = ["main.0"] + [f"main.2.{k}.conv{j}" for k in range(30) for j in (1, 2)]
    layers = [f"{way}_trunk.{name}" for way in ("backward", "forward") for name in trunk]
    layers += ["fusion", "upconv1", "upconv2", "conv_hr", "conv_last"]
    layers += [
        f"spynet.basic_module.{k}.basic_module.{j}" for k in range(6) for j in (0, 2, 4, 6, 8)
    ]
    names = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    with torch.device("meta"):
        assert BasicVSR(scale=4).state_dict().keys() == names | {"spynet.mean", "spynet.std"}


def test_a_x4_network_starts_one_of_scale_1():
    with torch.no_grad():
        large = shaken(64, 1, 4, "zero")
    small = BasicVSR.from_official(large.state_dict(), 1)
    kept, given = small.state_dict(), large.state_dict()
    dropped = {"upconv1.weight", "upconv1.bias", "upconv2.weight", "upconv2.bias"}
    assert small.scale == 1
    assert given.keys() - kept.keys() == dropped
    assert all(torch.equal(value, given[key]) for key, value in kept.items())


@pytest.mark.parametrize(
    "case", ["upconv3", "no upconv2", "narrow", "scale", "empty", "missing", "bent", "number"]
)
def test_what_is_no_basicvsr_gets_a_sentence(case):
    state = shaken(8 if case == "narrow" else 64, 1, 4, "zero").state_dict()
    scale = 1
    if case == "upconv3":
        state["upconv3.weight"] = state["upconv2.weight"]
    if case == "no upconv2":
        del state["upconv2.weight"]
    if case == "scale":
        state, scale = BasicVSR(4, 1, 1, "zero").state_dict(), 4
    if case == "missing":
        del state["forward_trunk.main.2.0.conv1.bias"]
    if case == "bent":
        state["conv_last.weight"] = state["conv_last.weight"][:2]
    if case == "number":
        state["fusion.weight"] = 3
    with pytest.raises(UserError, match=r"^This is no official BasicVSR: .*; give"):
        BasicVSR.from_official({} if case == "empty" else state, scale)


def test_mistakes_in_the_program_are_not_taken_for_a_wrong_file(monkeypatch):
    state = shaken(4, 1, flow="zero").state_dict()

    def broken(*_):
        raise TypeError("a mistake of ours")

    monkeypatch.setattr("unlossy.models.basicvsr.Trunk", broken)
    with pytest.raises(TypeError, match="of ours"):
        BasicVSR.from_official(state)


def test_without_spynet_tiles_are_the_whole():
    torch.manual_seed(1)
    coarse = torch.rand(3, 3, 12, 12)
    frames = functional.interpolate(coarse, (96, 96), mode="bilinear")[None]
    model = shaken(6, 1, flow="zero").eval()
    with torch.no_grad():
        whole = model.restore({"degraded": frames})
        tiles = restore_tiled(model, {"degraded": frames}, budget=3 * 64 * 64)
    difference = (tiles - whole).abs() * 255
    assert 0 < difference.max() < 0.1


@pytest.mark.parametrize("kind", ["official", "ours", "basicvsr", "safetensors"])
def test_flow_starts_from_a_file(kind, tmp_path):
    network = shaken(4, 1)
    path, flow = tmp_path / "flow.pth", network.spynet
    if kind == "official":
        weights = flow.state_dict()
        del weights["mean"], weights["std"]
        torch.save({"params": weights}, path)
    if kind == "ours":
        holder = torch.nn.Module()
        holder.spynet = flow
        torch.save(checkpoint.pack(holder, {}, {}), path)
    if kind == "basicvsr":
        torch.save({"params_ema": network.state_dict()}, path)
    if kind == "safetensors":
        path = tmp_path / "flow.safetensors"
        save_file(flow.state_dict(), path)
    model = BasicVSR(4, 1, flow_ckpt=str(path))
    assert all(torch.equal(model.spynet.state_dict()[k], v) for k, v in flow.state_dict().items())


def test_its_own_checkpoint_is_self_contained(tmp_path):
    flow = tmp_path / "flow.pth"
    model = shaken(4, 1)
    torch.save({"params": model.spynet.state_dict()}, flow)
    config = {
        "_target_": "unlossy.models.basicvsr.BasicVSR",
        "channels": 4,
        "blocks": 1,
        "flow_ckpt": str(flow),
    }
    training = {"model": "", "loss": "", "degradation": {}, "source": "", "needs": []}
    training |= {"scale": 1, "seed": 0}
    torch.save(checkpoint.pack(model, config, training), tmp_path / "own.ckpt")
    flow.unlink()
    loaded = checkpoint.load(tmp_path / "own.ckpt")
    assert all(torch.equal(loaded.state_dict()[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("content", [{"params": 3}, {"params": {"a": 1}}, {1: 2}])
def test_a_flow_file_without_flow_gets_a_sentence(content, tmp_path):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(UserError, match="holds no SPyNet"):
        BasicVSR(4, 1, flow_ckpt=str(tmp_path / "odd.pth"))
    with pytest.raises(UserError, match="There is no checkpoint"):
        BasicVSR(4, 1, flow_ckpt=str(tmp_path / "nowhere.pth"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"channels": 0},
        {"blocks": 0},
        {"scale": 2},
        {"flow": "farneback"},
        {"head": "none"},
        {"flow": "zero", "flow_ckpt": "a.pth"},
    ],
)
def test_numbers_out_of_range_get_a_sentence(arguments):
    with pytest.raises(UserError):
        BasicVSR(**{"channels": 2, "blocks": 1, **arguments})


def test_a_window_of_small_video_fits_at_once():
    """60 + 2 * 8 frames of 320x180 at the paper's size, as the specification asks."""
    with torch.device("meta"):
        assert BasicVSR().budget >= 76 * 320 * 180
        assert BasicVSR(scale=4).budget < BasicVSR().budget
