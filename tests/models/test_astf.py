"""ASTF written out by hand, its operators, the stage checkpoints, and how the gain is chosen."""

import math

import pytest
import torch
from hydra import compose, initialize_config_dir
from kornia.filters import unsharp_mask
from torch import Tensor, nn

from unlossy import checkpoint, cli
from unlossy.errors import UserError
from unlossy.inference.windows import restored_windows
from unlossy.models.astf import ASTF, DROP_DB, unsharp
from unlossy.models.baselines import Identity
from unlossy.models.basicvsr import BasicVSR
from unlossy.models.ccdnet import CCDNet
from unlossy.models.model import MEMORY, EnhancementModel
from unlossy.models.spynet import SPyNetWarp
from unlossy.models.vrcnn import VRCNN
from unlossy.networks.variance_mask import VarianceMask
from unlossy.sample import Restored, Sample

SMALL = {"channels": 4, "blocks": 1, "flow": "zero"}


def sample(clip: Tensor, clean: Tensor | None = None) -> Sample:
    times = torch.arange(clip.shape[1]).float().expand(len(clip), -1)
    made = Sample(
        name=[str(k) for k in range(len(clip))],
        degraded=clip,
        t_in=times,
        t_out=times,
        side={},
        target={},
        bits=torch.ones(len(clip)),
    )
    if clean is not None:
        made["clean"] = clean
    return made


def shake(model: nn.Module, amount: float = 0.05) -> nn.Module:
    """Move every parameter away from its start, where all copies restore alike."""
    for parameter in model.parameters():
        parameter.data += amount * torch.randn_like(parameter)
    return model


class Shift(EnhancementModel):
    """Adds a constant; wants sizes that are multiples of 4."""

    multiple = 4

    def __init__(self, by: float = 0.0) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))

    def forward(self, batch: Sample) -> Restored:
        frames = batch["degraded"]
        assert frames.shape[-1] % 4 == frames.shape[-2] % 4 == 0
        return Restored(estimate=frames + self.by, extras={})


def test_the_five_outputs_written_out():
    model = shake(ASTF(BasicVSR(**SMALL), mask=VarianceMask(gain=30.0), sharpen=0.7))
    clip = torch.rand(2, 4, 3, 12, 16)
    made = model.restore_all(sample(clip))
    s = (model.s(sample(clip))["estimate"].clamp(0, 1) * 255).round() / 255
    e1, e2 = (n(sample(s))["estimate"].clamp(0, 1) for n in (model.e1, model.e2))
    m = VarianceMask(gain=30.0)(e2)
    f = m * e1 + (1 - m) * e2
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    padded = nn.functional.pad(f.flatten(0, 1), (1, 1, 1, 1), mode="reflect")
    blurred = nn.functional.conv2d(
        padded, (kernel[:, None] * kernel).expand(3, 1, 3, 3), groups=3
    ).view_as(f)
    y = (f + 0.7 * (f - blurred)).clamp(0, 1)
    wanted = {"s": s, "e1": e1, "e2": e2, "f": f, "y": y, "mask": m.expand_as(f)}
    assert list(made) == [*model.outputs, *model.pictures] == list(wanted)
    for key, value in wanted.items():
        torch.testing.assert_close(made[key], value, atol=1e-6, rtol=0)
    assert torch.equal(model.restore(sample(clip)), made["y"])
    assert set(model(sample(clip))["extras"]) == model.provides
    assert not torch.equal(e1, e2)


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 1, 9), (2, 7, 1), (3, 5, 13)])
def test_any_size_and_length(size):
    frames, height, width = size
    for network in (BasicVSR(**SMALL), Shift(0.1)):
        made = shake(ASTF(network)).restore_all(sample(torch.rand(1, frames, 3, height, width)))
        for value in made.values():
            assert value.shape == (1, frames, 3, height, width)
            assert value.min() >= 0
            assert value.max() <= 1


@pytest.mark.parametrize(("gain", "wanted"), [(1e9, "e1"), (1e-9, "e2")])
def test_the_mask_chooses(gain, wanted):
    model = shake(ASTF(BasicVSR(**SMALL), mask=VarianceMask(gain=gain)))
    made = model.restore_all(sample(torch.rand(1, 3, 3, 12, 12)))
    torch.testing.assert_close(made["f"], made[wanted], atol=1e-6, rtol=0)


@pytest.mark.parametrize("amount", [0.0, 0.5, 1.0])
def test_sharpening_keeps_constants_and_means(amount):
    constant = torch.full((1, 2, 3, 5, 7), 0.3)
    torch.testing.assert_close(unsharp(constant, amount), constant)
    # Mirrored about its first and last sample, this picture goes on periodically.
    y, x = torch.meshgrid(torch.arange(9.0), torch.arange(13.0), indexing="ij")
    wave = torch.cos(math.pi * y / 4) * torch.cos(math.pi * x / 6) + 0.2 * torch.cos(math.pi * x)
    once = unsharp(wave.expand(1, 1, 3, 9, 13), amount)[..., :-1, :-1]  # one period
    torch.testing.assert_close(once.mean(), wave[:-1, :-1].mean(), atol=1e-6, rtol=0)
    assert once.std() > wave[:-1, :-1].std() or amount == 0


def test_sharpening_by_one_is_kornias_unsharp_mask():
    clip = torch.rand(1, 2, 3, 9, 11)
    sigma = 1 / math.sqrt(2 * math.log(2))  # whose three taps are [1, 2, 1] / 4
    theirs = unsharp_mask(clip[0], (3, 3), (sigma, sigma))
    torch.testing.assert_close(unsharp(clip, 1.0)[0], theirs, atol=1e-6, rtol=0)


def test_windows_join_without_a_seam():
    """With a frame-by-frame network the mask alone looks at its neighbours."""
    clip = (torch.rand(1, 11, 3, 12, 16) * 255).byte()
    model = shake(ASTF(VRCNN(), mask=VarianceMask(gain=30.0, cut_threshold=0.5))).eval()
    assert model.context == 1

    def restored(length):
        return torch.cat([part for _, part in restored_windows(model, sample(clip), length)])

    whole = restored(11)
    for length in (1, 3, 4):
        assert torch.equal(restored(length), whole)
    model.context = 0
    assert not torch.equal(restored(3), whole)


def test_what_windows_lack_of_two_recurrences_fades():
    torch.manual_seed(0)
    clip = (torch.rand(1, 61, 3, 16, 16) * 255).byte()
    model = shake(ASTF(BasicVSR(**SMALL), mask=VarianceMask(gain=30.0)))
    assert model.context == BasicVSR.context + 1

    def restored(length):
        return torch.cat(
            [part for _, part in restored_windows(model, sample(clip), length)]
        ).float()

    whole = restored(61)
    difference = (restored(20) - whole).abs()
    assert difference.mean() < 0.05
    assert difference.max() <= 4
    model.context = 0
    assert (restored(20) - whole).abs().mean() > 10 * difference.mean().clamp(min=0.05)


def test_the_budget_pays_for_what_waits_meanwhile():
    for channels in (8, 64):
        network = BasicVSR(channels, 1, flow="zero")
        floats = MEMORY / 4 / network.budget
        assert MEMORY / 4 / ASTF(network).budget == pytest.approx(floats + 6, abs=1e-3)


def test_autocast_leaves_mask_fusion_and_sharpening_in_float32():
    model, clip = ASTF(Shift(0.1), mask=VarianceMask(gain=30.0)), torch.rand(1, 3, 3, 8, 8)
    wanted = model.restore_all(sample(clip))
    with torch.autocast("cpu", torch.bfloat16):
        found = model.restore_all(sample(clip))
    for key, value in wanted.items():
        assert torch.equal(found[key], value), key


def test_it_never_trains():
    model = ASTF(BasicVSR(**SMALL))
    assert model.assembled
    assert not [p for p in model.parameters() if p.requires_grad]
    assert not model.param_groups(1e-3)[0]["params"]
    assert not model.train().e1.training


@pytest.fixture
def stages(tmp_path):
    """Three checkpoints of one architecture with different weights, and the models in them."""
    paths, models = [], []
    for name in ("s", "e1", "e2"):
        models.append(shake(BasicVSR(**SMALL)))
        paths.append(str(tmp_path / f"{name}.ckpt"))
        config = {"_target_": "unlossy.models.basicvsr.BasicVSR", **SMALL}
        torch.save(checkpoint.pack(models[-1], config, {}), paths[-1])
    return paths, models


TRAINING = {
    "model": "astf",
    "loss": "",
    "degradation": {},
    "source": "",
    "needs": [],
    "scale": 1,
    "seed": 0,
}


def test_stages_are_taken_and_the_result_needs_no_other_file(stages, tmp_path):
    paths, models = stages
    model = ASTF(BasicVSR(**SMALL), *paths, VarianceMask("clip_quantile"), 0.5)
    for part, wanted in zip((model.s, model.e1, model.e2), models, strict=True):
        for key, value in wanted.state_dict().items():
            assert torch.equal(part.state_dict()[key], value)
    model.mask.gain.fill_(3.5)
    config = {
        "_target_": "unlossy.models.astf.ASTF",
        "network": {"_target_": "unlossy.models.basicvsr.BasicVSR", **SMALL},
        **dict(zip(("s_ckpt", "e1_ckpt", "e2_ckpt"), paths, strict=True)),
        "mask": {
            "_target_": "unlossy.networks.variance_mask.VarianceMask",
            "norm": "clip_quantile",
        },
        "sharpen": 0.5,
    }
    torch.save(checkpoint.pack(model, config, TRAINING), tmp_path / "astf.ckpt")
    for path in paths:
        (tmp_path / path).unlink()
    loaded = checkpoint.load(tmp_path / "astf.ckpt")
    batch = sample(torch.rand(1, 3, 3, 11, 13))
    wanted, found = model.restore_all(batch), loaded.restore_all(batch)
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


def test_bad_stages_have_a_sentence(stages, tmp_path):
    (first, second, third), _ = stages
    other = tmp_path / "other.ckpt"
    torch.save(checkpoint.pack(VRCNN(), {"_target_": "unlossy.models.vrcnn.VRCNN"}, {}), other)
    with pytest.raises(UserError, match=r"no checkpoint .*gone\.ckpt"):
        ASTF(BasicVSR(**SMALL), first, str(tmp_path / "gone.ckpt"), third)
    with pytest.raises(UserError, match=r"e2_ckpt=.* holds unlossy.models.vrcnn.VRCNN, not"):
        ASTF(BasicVSR(**SMALL), first, second, str(other))
    with pytest.raises(UserError, match=r"s_ckpt=.* other sizes.*channels=4, blocks=1, flow=zero"):
        ASTF(BasicVSR(**{**SMALL, "channels": 8}), first, second, third)
    with pytest.raises(UserError, match="lacks e1_ckpt and e2_ckpt"):
        ASTF(BasicVSR(**SMALL), first)
    torch.save({"params": {}}, other)
    with pytest.raises(UserError, match=r"s_ckpt=.* is no checkpoint of ours"):
        ASTF(BasicVSR(**SMALL), str(other), second, third)


def test_options_that_no_weight_shows_are_compared(tmp_path):
    paths = []
    for name in ("s", "e1", "e2"):
        paths.append(str(tmp_path / name))
        config = {
            "_target_": "unlossy.models.ccdnet.CCDNet",
            "steps": 1,
            "channels": 2,
            "update": "tanh",
        }
        torch.save(checkpoint.pack(CCDNet(1, 2, update="tanh"), config, {}), paths[-1])
    ASTF(CCDNet(1, 2, update="tanh"), *paths)
    with pytest.raises(UserError, match=r"s_ckpt=.* options; set .*update=tanh"):
        ASTF(CCDNet(1, 2), *paths)


def test_what_changes_no_result_may_differ(tmp_path):
    path = str(tmp_path / "s.ckpt")
    config = {"_target_": "unlossy.models.basicvsr.BasicVSR", **SMALL, "checkpointing": True}
    torch.save(checkpoint.pack(BasicVSR(**SMALL, checkpointing=True), config, {}), path)
    before = torch.random.get_rng_state()
    BasicVSR(**SMALL)
    drawn = torch.random.get_rng_state()
    torch.random.set_rng_state(before)
    ASTF(BasicVSR(**SMALL), path, path, path)
    assert torch.equal(torch.random.get_rng_state(), drawn)


@pytest.mark.parametrize(
    "network", [CCDNet(2, 2), BasicVSR(**SMALL | {"scale": 4}), Identity(), SPyNetWarp()]
)
def test_networks_that_cannot_be_stacked_have_a_sentence(network):
    with pytest.raises(UserError, match="cannot stack"):
        ASTF(network)


def test_a_negative_amount_has_a_sentence():
    with pytest.raises(UserError, match="sharpen=-1"):
        ASTF(Shift(), sharpen=-1)


def psnr(estimate, clean):
    return -10 * (estimate - clean).square().mean((-3, -2, -1)).log10().mean()


def clips(count=3, frames=4, size=(24, 32)):
    """Clean clips, smooth on the left and rough on the right, and themselves as input, uint8."""
    rough = torch.linspace(0, 0.3, size[1])
    made = []
    for _ in range(count):
        clean = 0.5 + rough * (torch.rand(1, frames, 3, *size) - 0.5)
        made.append(sample(*(2 * [(clean * 255).round().byte()])))
    return made


def test_the_gain_puts_f_the_wanted_distance_below_e2():
    model = ASTF(Shift(), mask=VarianceMask())
    model.e1.by.fill_(0.05)
    model.e2.by.fill_(-0.01)
    batches = clips()
    before = float(model.mask.gain)
    model.fit(iter(batches))
    assert float(model.mask.gain) != before
    drops = []
    for batch in batches:
        made = model.restore_all(sample(batch["degraded"] / 255))
        clean = batch["clean"] / 255
        drops.append(psnr(made["e2"], clean) - psnr(made["f"], clean))
    assert float(torch.stack(drops).mean()) == pytest.approx(DROP_DB, abs=1e-3)
    assert model.label == f"gain {float(model.mask.gain):.4g}, f 0.060 dB below e2 (wanted: 0.06)"
    again = float(model.mask.gain)
    model.fit(iter(batches))
    assert float(model.mask.gain) == pytest.approx(again, rel=1e-3)  # wherever it starts from


@pytest.mark.parametrize("shifts", [(0.01, 0.05), (0.02, 0.02), (0.0, 0.0), (-0.02, 0.02)])
def test_where_texture_costs_nothing_the_gain_stays(shifts):
    model = ASTF(Shift())
    for network, by in zip((model.e1, model.e2), shifts, strict=True):
        network.by.fill_(by)
    model.fit([])
    assert model.label == "gain 25, drop not measured"
    model.fit(clips(1))
    assert float(model.mask.gain) == 25.0
    assert model.drop <= DROP_DB
    assert model.label == f"gain 25, f {model.drop:.3f} dB below e2 (wanted: 0.06)"


def test_fit_looks_at_a_window_of_a_long_clip():
    model = ASTF(Shift())
    seen = []
    model.s.register_forward_hook(lambda _, args, __: seen.append(args[0]["degraded"].shape[1]))
    model.window, model.budget = 3, 24 * 32 * 2
    model.fit(clips(2, frames=7))
    assert seen == [2, 2]


def test_the_network_of_the_config_is_any_model_of_the_group():
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose("train", ["model=astf", "model@model.network=vrcnn"])
    assert cfg.model.network._target_ == "unlossy.models.vrcnn.VRCNN"
    assert cfg.model._target_ == "unlossy.models.astf.ASTF"
