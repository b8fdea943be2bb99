"""GIF2Video as a model: which network sees what, what its result holds, where weights come from."""

import pytest
import torch

from unlossy.checkpoint import load, load_official_gif2video, pack
from unlossy.errors import UserError
from unlossy.models.basicvsr import BasicVSR
from unlossy.models.ccdnet import CCDNet
from unlossy.models.gif2video import GIF2Video
from unlossy.models.spynet import SPyNetWarp
from unlossy.models.superslomo import SuperSloMo
from unlossy.networks.flow import SPyNet
from unlossy.networks.flow_unet import FlowUNet, PairFlow
from unlossy.networks.unet import UNet

COLORS = {"_target_": "unlossy.models.ccdnet.CCDNet", "steps": 2, "channels": 2}
CONFIG = {
    "_target_": "unlossy.models.gif2video.GIF2Video",
    "colors": COLORS,
    "slomo": {
        "_target_": "unlossy.models.superslomo.SuperSloMo",
        "flow": {"_target_": "unlossy.networks.flow_unet.PairFlow", "channels": 2},
        "refine": {
            "_target_": "unlossy.networks.flow_unet.FlowUNet",
            **{"in_channels": 16, "out_channels": 5, "channels": 2},
        },
    },
}
TRAINING = {
    **{"model": "gif2video", "loss": "gif2video", "degradation": {}, "source": "bunny"},
    **{"needs": ["palette", "palette_size"], "scale": 1, "seed": 0},
}


def slomo() -> SuperSloMo:
    return SuperSloMo(PairFlow(2), FlowUNet(16, 5, 2))


def gif2video(**options) -> GIF2Video:
    """With weights that do something."""
    torch.manual_seed(0)
    model = GIF2Video(CCDNet(2, 2), slomo(), **options)
    for network in (model.colors.base, model.colors.refine):
        torch.nn.init.normal_(network.outconv.weight, std=0.1)
    for unet in (model.slomo.flow.unet, model.slomo.refine):
        torch.nn.init.normal_(unet.outconv.weight, std=0.02)
    return model.eval()


def batch(count: int = 2, factor: int = 4, size: tuple[int, int] = (32, 64), clips: int = 1):
    palette = torch.rand(clips, count, 7, 3)
    index = torch.randint(7, (clips, count, *size))
    frames = zip(palette.flatten(0, 1), index.flatten(0, 1), strict=True)
    flat = torch.stack([colors[places] for colors, places in frames])
    t_in = factor * torch.arange(float(count))
    t_out = torch.arange(factor * (count - 1) + 1.0)
    sizes = torch.full((clips, count), 7)
    return {
        "name": ["gif"] * clips,
        "degraded": flat.permute(0, 3, 1, 2).unflatten(0, (clips, count)),
        "t_in": t_in.expand(clips, -1),
        "t_out": t_out.expand(clips, -1),
        "side": {"palette": palette, "palette_size": sizes},
        "target": {},
        "bits": torch.zeros(clips),
    }


def colors_of(model: GIF2Video, sample) -> torch.Tensor:
    return model.colors({**sample, "t_out": sample["t_in"]})["estimate"]


@pytest.mark.parametrize("sequential", [False, True])
def test_who_sees_what(sequential):
    model, sample = gif2video(sequential=sequential), batch()
    seen, refined = [], []
    model.slomo.flow.register_forward_hook(lambda _, inputs, __: seen.append(inputs))
    model.slomo.refine.register_forward_hook(lambda _, inputs, __: refined.append(inputs[0]))
    made = model(sample)
    keys = colors_of(model, sample)
    wanted = keys if sequential else sample["degraded"]
    (ref, supp), *more = seen
    assert not more
    assert torch.equal(ref, wanted[0])
    assert torch.equal(supp, wanted[0].flip(0))
    torch.testing.assert_close((refined[0][:1, :6] + 1) / 2, keys.flatten(1, 2))
    assert torch.equal(made["estimate"][:, [0, 4]], keys)
    assert made["extras"].keys() == model.provides


def test_a_clip_without_gaps_or_with_one_frame_has_its_colours_restored():
    model = gif2video()
    for sample in (batch(3, 1), batch(1)):
        sample["t_out"] = sample["t_in"]
        made = model.restore(sample)
        assert torch.equal(made, model.colors.restore(sample))
        assert not torch.equal(made, sample["degraded"])


def test_across_a_cut_the_restored_key_frame_holds():
    model, sample = gif2video(), batch()
    sample["degraded"] = torch.stack([torch.zeros(1, 3, 32, 64), torch.ones(1, 3, 32, 64)], 1)
    made, keys = model.restore(sample), colors_of(model, sample).clamp(0, 1)
    assert torch.equal(made, keys[:, [0, 0, 0, 1, 1]])


def test_a_frozen_network_stays_as_it_is(tmp_path):
    path = tmp_path / "colors.ckpt"
    trained = gif2video().colors
    torch.save(pack(trained, COLORS, {**TRAINING, "model": "ccdnet"}), path)
    model = GIF2Video(CCDNet(2, 2), slomo(), colors_ckpt=str(path)).train()
    before = {key: value.clone() for key, value in model.colors.state_dict().items()}
    sample = batch(clips=2)
    made = model(sample)
    assert torch.equal(made["estimate"][:, [0, 4]], colors_of(GIF2Video(trained, slomo()), sample))
    made["estimate"].square().mean().backward()
    assert model.slomo.refine.outconv.weight.grad is not None
    for key, value in model.colors.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(p.grad is None for p in model.colors.parameters())
    grouped = [id(p) for group in model.param_groups(1e-3) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.slomo.parameters())


def test_its_spynet_learns_as_slowly_as_in_a_superslomo_alone():
    parts = SuperSloMo(SPyNet(), FlowUNet(16, 5, 2))
    rates = {
        id(p): group["lr"]
        for group in GIF2Video(CCDNet(2, 2), parts).param_groups(8e-4)
        for p in group["params"]
    }
    assert {rates[id(p)] for p in parts.flow.parameters()} == {1e-4}
    assert {rates[id(p)] for p in parts.refine.parameters()} == {8e-4}


def test_without_a_checkpoint_the_colours_learn_too():
    model = gif2video().train()
    made = model(batch(clips=2))
    made["estimate"][:, 1:-1].square().mean().backward()
    assert model.colors.base.inconv[0].weight.grad.abs().sum() > 0


def test_its_checkpoint_needs_no_other_file(tmp_path):
    path, own = tmp_path / "colors.ckpt", tmp_path / "own.ckpt"
    torch.save(pack(gif2video().colors, COLORS, {**TRAINING, "model": "ccdnet"}), path)
    model = gif2video(colors_ckpt=str(path))
    torch.save(pack(model, {**CONFIG, "colors_ckpt": str(path)}, TRAINING), own)
    path.unlink()
    loaded, sample = load(own), batch()
    assert torch.equal(loaded.restore(sample), model.restore(sample))
    assert loaded.frozen


@pytest.mark.parametrize("case", ["other width", "other update", "other model", "gone"])
def test_a_checkpoint_of_other_colours_is_refused(tmp_path, case):
    path = tmp_path / "colors.ckpt"
    network, config = CCDNet(2, 3), {**COLORS, "channels": 3}
    if case == "other update":
        network, config = CCDNet(2, 2, update="tanh"), {**COLORS, "update": "tanh"}
    if case == "other model":
        network, config = SPyNetWarp(), {"_target_": "unlossy.models.spynet.SPyNetWarp"}
    if case != "gone":
        torch.save(pack(network, config, TRAINING), path)
    with pytest.raises(UserError, match=r"model\.colors|no checkpoint"):
        GIF2Video(CCDNet(2, 2), slomo(), colors_ckpt=str(path))


@pytest.mark.parametrize("residual", [False, True])
def test_b_and_c_start_from_a_superslomo_of_the_same_options(tmp_path, residual):
    path, own = tmp_path / "slomo.ckpt", tmp_path / "own.ckpt"
    trained, config = gif2video().slomo, CONFIG["slomo"]
    torch.save(pack(trained, {**config, "residual": trained.residual}, TRAINING), path)
    fresh = SuperSloMo(PairFlow(2), FlowUNet(16, 5, 2), residual=residual)
    if residual != trained.residual:  # the same weights mean other flows
        with pytest.raises(UserError, match=r"model\.slomo"):
            GIF2Video(CCDNet(2, 2), fresh, slomo_ckpt=str(path))
        return
    model = GIF2Video(CCDNet(2, 2), fresh, slomo_ckpt=str(path))
    for mine, theirs in zip(model.slomo.parameters(), trained.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.requires_grad
    torch.save(pack(model, {**CONFIG, "slomo_ckpt": str(path)}, TRAINING), own)
    path.unlink()
    loaded, sample = load(own), batch()
    assert torch.equal(loaded.restore(sample), model.eval().restore(sample))


@pytest.mark.parametrize("network", [slomo, SPyNetWarp, lambda: BasicVSR(4, 1, scale=4)])
def test_a_network_that_restores_no_frames_in_place_is_no_colours(network):
    with pytest.raises(UserError, match=r"model\.colors"):
        GIF2Video(network(), slomo())


def test_windows_are_as_wide_as_both_networks_need():
    model = GIF2Video(BasicVSR(4, 1), slomo())
    assert (model.context, model.multiple) == (9, 32)
    assert model.reach > model.slomo.reach
    assert model.needs == frozenset()


@pytest.mark.parametrize("second", [None, UNet(12, 3, 2)])
def test_official_files_of_both_parts(tmp_path, second):
    nets = {"netA": FlowUNet(6, 2, 2), "netB": FlowUNet(16, 5, 3)}
    flow = {f"{n}.{k}": v for n, net in nets.items() for k, v in net.state_dict().items()}
    parts = {"u1": UNet(3, 3, 2).state_dict(), "slomo": flow}
    if second is not None:
        parts["u2"] = second.state_dict()
    files = {name: tmp_path / f"{name}.pt" for name in parts}
    for name, path in files.items():
        torch.save({"epoch": 30, "model_netG": parts[name]}, path)
    model = load_official_gif2video(**files, sequential=True)
    assert not model.training
    assert (model.colors.steps, model.colors.update) == (1 if second is None else 2, "tanh")
    assert (model.slomo.residual, model.sequential, model.frozen) == (False, True, True)
    assert torch.equal(
        model.slomo.refine.upconv3.conv[2].weight, nets["netB"].upconv3.conv[2].weight
    )
    assert model.restore(batch()).shape == (1, 5, 3, 32, 64)
    with pytest.raises(UserError, match="no official"):
        load_official_gif2video(files["slomo"], files["u1"])
