"""PixelSR by learning two images by heart, and by replaying what it drew under teacher forcing."""

import copy
import math
import warnings

import pytest
import torch
from torch.nn import functional

from unlossy import checkpoint
from unlossy.errors import UserError
from unlossy.models.pixelsr import PixelSR
from unlossy.networks.conditioning import Conditioning
from unlossy.networks.levels import draw
from unlossy.networks.pixelcnn import PixelCNN

LEVELS = 8


def networks(colors=3, levels=LEVELS):
    conditioning = Conditioning(colors * levels, 8, 1, colors, doublings=1, momentum=0.1)
    return conditioning, PixelCNN(2, 6, colors, levels, hidden=24)


def decided(**options):
    """A model whose logits differ by much, and that has seen a batch."""
    model = PixelSR(*networks(), **options)
    for head in (model.conditioning.head, model.prior.head[2]):
        torch.nn.init.normal_(head.weight, std=0.5)
    model.conditioning(torch.rand(4, 3, 8, 8))
    return model.eval()


def small(clips=2, frames=3, height=8, width=8):
    return {"degraded": torch.rand(clips, frames, 3, height, width)}


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


def uniforms(clips, frames, size=(16, 16)):
    """What `seeded` yields: frame by frame, all clips of a frame at once."""
    draws = seeded()
    frame = (clips, 3, *size)
    numbers = [torch.rand(frame, dtype=torch.float64, generator=draws) for _ in range(frames)]
    return torch.stack(numbers, 1)


def as_levels(clip, levels=LEVELS):
    found = clip * (levels - 1)
    torch.testing.assert_close(found, found.round(), atol=1e-4, rtol=0)
    return found.round().long()


@torch.no_grad()
def replayed(model, degraded, drawn, numbers, temperature):
    """What each sub-pixel is drawn as, given what was drawn before it; no sampler takes part."""
    logits = model({"degraded": degraded, "clean": drawn})["extras"]["logits"]
    return draw(logits, numbers, temperature)


@pytest.fixture(scope="module")
def learnt():
    """A model after 120 steps on two images, and their batch."""
    torch.manual_seed(0)
    config = {
        "_target_": "unlossy.models.pixelsr.PixelSR",
        "conditioning": {
            "_target_": "unlossy.networks.conditioning.Conditioning",
            **{"outputs": 24, "channels": 12, "blocks": 1, "doublings": 1, "momentum": 0.1},
        },
        "prior": {
            "_target_": "unlossy.networks.pixelcnn.PixelCNN",
            **{"layers": 2, "channels": 12, "levels": LEVELS, "hidden": 48},
        },
        "greedy": True,
    }
    model = checkpoint.build(config)
    clean = functional.interpolate(torch.rand(2, 3, 8, 8), scale_factor=2, mode="bilinear")
    clean = (clean * 7).round() / 7
    batch = {"degraded": functional.avg_pool2d(clean, 2)[:, None], "clean": clean[:, None]}
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(120):
        extras = model(batch)["extras"]
        total = sum(entropy(extras[key], batch) for key in ("logits", "logits_conditioning"))
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval(), batch, config


def entropy(logits, batch):
    labels = (batch["clean"] * (logits.shape[3] - 1)).round().long()
    return functional.cross_entropy(logits.flatten(0, 2), labels.flatten(0, 2))


def test_it_learns_two_images_by_heart_and_draws_them(learnt):
    model, batch, _ = learnt
    assert float(entropy(model.train()(batch)["extras"]["logits"], batch).detach()) < 0.1
    for clip in model.eval().restore_all(batch).values():
        assert (as_levels(clip) == as_levels(batch["clean"])).float().mean() > 0.98


def test_it_reads_its_input(learnt):
    """Two images learnt by heart are another matter when the inputs are exchanged."""
    model, batch, _ = learnt
    own = model.bits(batch)
    exchanged = model.bits({**batch, "degraded": batch["degraded"].flip(0)})
    assert own["nll"].max() < 0.15
    assert (exchanged["nll"] > own["nll"] + 2).all()
    assert torch.equal(exchanged["nll_prior"], own["nll_prior"])
    assert (own["nll"] < own["nll_conditioning"]).all()
    assert (own["nll"] < own["nll_prior"]).all()


def test_a_checkpoint_rebuilds_it(learnt, tmp_path):
    model, batch, config = learnt
    training = {"model": "pixelsr", "loss": "nll", "degradation": {}, "source": "", "needs": []}
    packed = checkpoint.pack(model, config, {**training, "scale": 2, "seed": 0})
    torch.save(packed, tmp_path / "it.ckpt")
    again = checkpoint.load(tmp_path / "it.ckpt")
    for name, clip in model.restore_all(batch).items():
        assert torch.equal(again.restore_all(batch)[name], clip)


def test_untrained_it_knows_nothing():
    model = PixelSR(Conditioning(768, 8, 1), PixelCNN(2, 8, hidden=32))
    batch = {"degraded": torch.rand(1, 2, 3, 8, 8), "clean": torch.rand(1, 2, 3, 32, 32)}
    with torch.no_grad():
        restored = model(batch)
    for name in model.provides:
        assert restored["extras"][name].shape == (1, 2, 3, 256, 32, 32)
        assert abs(float(entropy(restored["extras"][name], batch)) - math.log(256)) < 0.1
    assert restored["estimate"].shape == batch["clean"].shape
    assert (restored["estimate"] - 0.5).abs().max() < 0.1


def test_logits_add_up_and_the_estimate_is_their_mean():
    model, batch = decided(), {**small(), "clean": torch.rand(2, 3, 3, 16, 16)}
    restored = model(batch)
    joint, a, b = (restored["extras"][f"logits{k}"] for k in ("", "_conditioning", "_prior"))
    torch.testing.assert_close(joint, a + b)
    frames = batch["degraded"].flatten(0, 1)
    torch.testing.assert_close(a[1, 2, 1], model.conditioning(frames)[5, LEVELS : 2 * LEVELS])
    wanted = (joint.softmax(3) * torch.arange(LEVELS)[:, None, None] / (LEVELS - 1)).sum(3)
    torch.testing.assert_close(restored["estimate"], wanted)


def test_the_prior_reads_what_drawing_feeds_back():
    """Stored in 8 bits, a level is up to 1/510 off; with few levels, clean frames are further."""
    model, clean = decided(), torch.rand(2, 3, 3, 16, 16)
    rounded = (clean * (LEVELS - 1)).round() / (LEVELS - 1)
    batch = small()
    found, wanted = (model({**batch, "clean": y})["estimate"] for y in (clean, rounded))
    assert torch.equal(found, wanted)


def test_all_ways_to_draw_use_the_same_uniforms():
    model, batch = decided(temperatures=(0.7, 1), greedy=True, alone=True), small()
    drawn = model.restore_all(batch, generator=seeded())
    assert tuple(drawn) == model.outputs == ("a_greedy", "a_sampled", "greedy", "t0.7", "t1")
    numbers = uniforms(2, 3)
    for name, temperature in (("greedy", 0), ("t0.7", 0.7), ("t1", 1)):
        again = replayed(model, batch["degraded"], drawn[name], numbers, temperature)
        assert torch.equal(as_levels(drawn[name]), again), name
    a = model({**batch, "clean": drawn["t1"]})["extras"]["logits_conditioning"]
    assert torch.equal(as_levels(drawn["a_greedy"]), a.argmax(3))
    assert torch.equal(as_levels(drawn["a_sampled"]), draw(a, numbers, 1))
    assert len({float(clip.mean()) for clip in drawn.values()}) == 5
    assert torch.equal(model.restore(batch, generator=seeded()), drawn["t1"])


def test_a_model_of_one_way_has_one_clip():
    model, batch = decided(temperatures=[1]), small(1, 1)
    assert model.outputs == ()
    assert torch.equal(model.restore_all(batch)[""], model.restore(batch))
    greedy = decided(temperatures=(), greedy=True)
    assert torch.equal(
        greedy.restore(batch, generator=seeded(1)), greedy.restore(batch, generator=seeded(2))
    )


def test_samples_of_all_clips_follow_each_other():
    model, batch = decided(), small(2, 1)
    drawn = model.restore(batch, generator=seeded(), samples=3)
    assert drawn.shape == (6, 1, 3, 16, 16)
    repeated = torch.cat([batch["degraded"]] * 3)
    again = replayed(model, repeated, drawn, uniforms(6, 1), 1)
    assert torch.equal(as_levels(drawn), again)
    assert len({float(clip.mean()) for clip in drawn}) == 6


def test_seeds_repeat_and_windows_do_not_matter():
    model, batch = decided(), small(1)
    whole = model.restore(batch, generator=seeded())
    assert torch.equal(whole, model.restore(batch, generator=seeded()))
    assert not torch.equal(whole, model.restore(batch, generator=seeded(6)))
    assert torch.equal(model.restore(batch), model.restore(batch, generator=seeded(0)))
    draws = seeded()
    parts = [{"degraded": batch["degraded"][:, k]} for k in (slice(2), slice(2, 3))]
    windows = torch.cat([model.restore(part, generator=draws) for part in parts], 1)
    assert torch.equal(whole, windows)


def test_other_sizes_are_padded_and_drawn_in_tiles_and_this_is_said():
    model, batch = decided(), small(1, 2, 5, 11)
    with pytest.warns(UserWarning, match="draws tiles of 8x8") as said:
        drawn = model.restore(batch, generator=seeded())
    assert len(said) == 1
    padded = functional.pad(batch["degraded"][0], (0, 5, 0, 3), mode="replicate")[None]
    with pytest.warns(UserWarning, match="got 8x16"):
        whole = model.restore({"degraded": padded}, generator=seeded())
    assert torch.equal(drawn, whole[..., :10, :22])
    numbers = uniforms(1, 2, (16, 32))
    for few, many in ((slice(8), slice(16)), (slice(8, 16), slice(16, 32))):
        again = replayed(model, padded[..., few], whole[..., many], numbers[..., many], 1)
        assert torch.equal(as_levels(whole[..., many]), again)


def test_bits_are_cross_entropy_of_the_frames_tile_by_tile():
    model, batch = decided(), small(2, 2, 8, 16)
    batch["clean"] = torch.rand(2, 2, 3, 16, 32)
    found = model.bits(batch)
    assert set(found) == {"nll", "nll_conditioning", "nll_prior"}
    halves = [
        {"degraded": x, "clean": y}
        for x, y in zip(batch["degraded"].split(8, 4), batch["clean"].split(16, 4), strict=True)
    ]
    for name, key in (
        ("nll", "logits"),
        ("nll_conditioning", "logits_conditioning"),
        ("nll_prior", "logits_prior"),
    ):
        entropies = [entropy(model(half)["extras"][key][:1, 1:], first(half)) for half in halves]
        wanted = sum(entropies) / 2 / math.log(2)
        torch.testing.assert_close(found[name][0, 1], wanted.detach())
        assert found[name].shape == (2, 2)


def first(batch):
    return {"clean": batch["clean"][:1, 1:]}


def test_drawing_changes_neither_mode_nor_statistics():
    model = decided().train()
    before = copy.deepcopy(model.state_dict())
    drawn = model.restore(small())
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not drawn.requires_grad


def test_one_color_and_another_side_work():
    model = PixelSR(*networks(1, 17), side=10)
    model.conditioning(torch.rand(2, 1, 10, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = model.restore({"degraded": torch.rand(2, 1, 1, 10, 10)})
    assert as_levels(drawn, 17).shape == (2, 1, 1, 20, 20)


def test_an_untrained_model_warns_and_a_trained_one_does_not():
    with pytest.warns(UserWarning, match="has not been trained"):
        PixelSR(*networks()).restore(small(1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decided().restore(small(1, 1))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"temperatures": (1.0, 0.0)}, "must be above 0"),
        ({"temperatures": (-1,)}, "must be above 0"),
        ({"temperatures": (math.nan,)}, "must be above 0"),
        ({"temperatures": ()}, "nothing to draw"),
        ({"side": 0}, "must be at least 1"),
    ],
)
def test_draws_that_cannot_be_have_a_sentence(options, reason):
    with pytest.raises(UserError, match=reason):
        PixelSR(*networks(), **options)


def test_networks_and_clips_that_do_not_fit_have_a_sentence():
    with pytest.raises(UserError, match=r"set model\.conditioning\.outputs=48"):
        PixelSR(networks()[0], PixelCNN(1, 6, levels=16, hidden=6))
    grey = {"degraded": torch.rand(1, 1, 1, 8, 8), "clean": torch.rand(1, 1, 1, 16, 16)}
    for verb in (decided(), decided().restore, decided().restore_all, decided().bits):
        with pytest.raises(UserError, match="reads 3 colours and got frames of 1"):
            verb(grey)
