"""CCDNet against its definition: steps written out, golden properties, the frozen base."""

import pytest
import torch

from unlossy import checkpoint
from unlossy.errors import UserError
from unlossy.models.ccdnet import CCDNet
from unlossy.networks.quantizer import quantize


def sample(batch=2, frames=1, size=(32, 32), colors=8):
    """GIF frames made of the colours of their palettes, eight of them used, two rows of padding."""
    palette = torch.randint(0, 256, (batch, frames, colors + 2, 3)) / 255
    index = torch.randint(0, colors, (batch, frames, *size))
    gif = torch.stack(
        [p[i] for p, i in zip(palette.flatten(0, 1), index.flatten(0, 1), strict=True)]
    )
    return {
        "name": [str(k) for k in range(batch)],
        "degraded": gif.permute(0, 3, 1, 2).unflatten(0, (batch, frames)),
        "side": {"palette": palette, "palette_size": torch.full((batch, frames), colors)},
    }


def shake(model):
    """Move every parameter away from its start, so that nothing is zero by construction."""
    for p in model.parameters():
        p.data += 0.05 * torch.randn_like(p)
    return model


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_residual_starts_at_the_identity(steps):
    batch = sample()
    restored = CCDNet(steps, 4)(batch)
    torch.testing.assert_close(restored["estimate"], batch["degraded"], rtol=0, atol=1e-7)
    assert restored["extras"]["steps"].shape == (2, steps, 1, 3, 32, 32)


@pytest.mark.parametrize("update", ["residual", "tanh"])
@pytest.mark.parametrize("embed", [True, False])
def test_three_steps_written_out(update, embed):
    model = shake(CCDNet(3, 4, embed, update)).eval()
    batch = sample(frames=2)
    gif = batch["degraded"].flatten(0, 1) * 2 - 1
    palette = batch["side"]["palette"].flatten(0, 1) * 2 - 1
    size = batch["side"]["palette_size"].flatten()

    def bound(x):
        return x.tanh() if update == "tanh" else x

    x = bound(model.base(gif) + (0 if update == "tanh" else gif))
    outputs = [x]
    for _ in range(2):
        seen = [x, gif]
        if embed:
            g = quantize(x, palette, size)
            seen += [g, gif - g]
        x = bound(x + model.refine(torch.cat(seen, 1)))
        outputs.append(x)
    restored = model(batch)
    for k, expected in enumerate(outputs):
        ours = restored["extras"]["steps"][:, k].flatten(0, 1) * 2 - 1
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    assert torch.equal(restored["estimate"], restored["extras"]["steps"][:, -1])


def test_needs_a_palette_only_where_it_is_read():
    assert CCDNet(2, 2).needs == {"palette", "palette_size"}
    assert not CCDNet(1, 2).needs
    assert not CCDNet(2, 2, embed_quantizer=False).needs


def test_gradients_cross_the_steps_but_not_the_quantizer():
    model = shake(CCDNet(2, 4))
    batch = sample()
    batch["side"]["palette"].requires_grad_()
    model(batch)["estimate"].square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.base.outconv.weight.grad.abs().sum() > 0
    assert batch["side"]["palette"].grad is None


def test_bfloat16_autocast_keeps_the_estimate_in_float32():
    model, batch = CCDNet(2, 4), sample()
    with torch.autocast("cpu", torch.bfloat16):
        estimate = model(batch)["estimate"]
    assert estimate.dtype == torch.float32
    torch.testing.assert_close(estimate, batch["degraded"], rtol=0, atol=1e-7)


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (33, 17)])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_restore_takes_any_size(size, norm):
    batch = sample(1, 3, size, colors=2)
    restored = shake(CCDNet(2, 4, norm=norm)).eval().restore(batch)
    assert restored.shape == (1, 3, 3, *size)
    assert restored.min() >= 0
    assert restored.max() <= 1


def test_frames_do_not_depend_on_each_other():
    model, batch = shake(CCDNet(2, 4)).eval(), sample(1, 3)
    alone = {
        "degraded": batch["degraded"][:, 1:2],
        "side": {key: value[:, 1:2] for key, value in batch["side"].items()},
    }
    expected = model(batch)["estimate"][:, 1:2]
    torch.testing.assert_close(model(alone)["estimate"], expected, rtol=0, atol=1e-5)


@pytest.fixture(params=["ours", "released", "safetensors"])
def base(request, tmp_path):
    """A file with a CCDNet1 and the update it was trained with."""
    from safetensors.torch import save_file

    update = "residual" if request.param == "ours" else "tanh"
    model = shake(CCDNet(1, 4, update=update))
    path = tmp_path / ("u1.safetensors" if request.param == "safetensors" else "u1.pt")
    if request.param == "ours":
        config = {"_target_": "unlossy.models.ccdnet.CCDNet", "steps": 1, "channels": 4}
        torch.save(checkpoint.pack(model, config, {}), path)
    elif request.param == "released":
        torch.save({"epoch": 60, "model_netG": model.base.state_dict()}, path)
    else:
        save_file(model.base.state_dict(), path)
    return path, update, model


def test_a_base_is_taken_and_stays_as_it_is(base):
    path, update, first = base
    model = CCDNet(3, 4, update=update, base_ckpt=str(path))
    before = {key: value.clone() for key, value in model.base.state_dict().items()}
    assert all(torch.equal(before[k], v) for k, v in first.base.state_dict().items())
    model.train()
    assert not model.base.training
    assert model.refine.training
    batch = sample()
    optimizer = torch.optim.Adam(model.param_groups(1e-2)[0]["params"], weight_decay=0.1)
    restored = model(batch)
    assert restored["extras"]["steps"].shape[1] == 2  # I^2 and I^3: the base is not judged
    restored["estimate"].mean().backward()
    optimizer.step()
    assert all(torch.equal(before[k], v) for k, v in model.base.state_dict().items())
    expected = first.eval()(batch)["estimate"].flatten(0, 1) * 2 - 1
    gif = batch["degraded"].flatten(0, 1) * 2 - 1
    start = model.base(gif).tanh() if update == "tanh" else gif + model.base(gif)
    torch.testing.assert_close(start, expected, rtol=0, atol=1e-5)


def test_a_base_that_does_not_fit_gets_a_sentence(base, tmp_path):
    path, update, _ = base
    other = "tanh" if update == "residual" else "residual"
    with pytest.raises(UserError, match=f"set model.update={update}"):
        CCDNet(2, 4, update=other, base_ckpt=str(path))
    with pytest.raises(UserError, match=r"model\.channels"):
        CCDNet(2, 8, update=update, base_ckpt=str(path))
    with pytest.raises(UserError, match="There is no checkpoint"):
        CCDNet(2, 4, base_ckpt=str(tmp_path / "nowhere.ckpt"))


@pytest.mark.parametrize(
    "content",
    [
        {"unlossy": {}},
        {"unlossy": {"model": {}}},
        {"unlossy": {"model": {"update": "tanh"}}, "state_dict": {7: 1}},
        {"unlossy": {"model": {"update": "tanh"}}, "state_dict": {"model.base.inconv.0.weight": 1}},
        {"model_netG": 3},
        {"model_netG": {"inconv.0.weight": 1, "outconv.weight": None}},
        {1: 2, "a": 3},
    ],
)
def test_a_malformed_base_gets_a_sentence(content, tmp_path):
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(UserError, match="no CCDNet base"):
        CCDNet(2, 2, update="tanh", base_ckpt=str(tmp_path / "odd.ckpt"))
    with pytest.raises(UserError, match="no official CCDNet"):
        checkpoint.load_official(tmp_path / "odd.ckpt")


@pytest.mark.parametrize(
    "arguments",
    [
        {"steps": 0},
        {"channels": 0},
        {"update": "sigmoid"},
        {"norm": "layer"},
        {"steps": 1, "base_ckpt": "embedded"},
    ],
)
def test_numbers_out_of_range_get_a_sentence(arguments):
    with pytest.raises(UserError):
        CCDNet(**{"channels": 2, **arguments})


def test_the_paper_s_size():
    with torch.device("meta"):
        count = sum(p.numel() for p in CCDNet(2, 64).parameters())
    assert count == 29_583_302
