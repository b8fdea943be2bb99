"""The adversary against its formulas: what it sees and pays, when it plays, what it remembers."""

from functools import partial

import pytest
import torch
from torch import nn

from unlossy.errors import UserError
from unlossy.losses.adversarial import Adversary, ImagePool
from unlossy.networks.patchgan import PatchGAN

ADAM = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999), weight_decay=1e-4)


def adversary(**arguments):
    inputs = 12 if arguments.get("use_gradient", True) else 6
    return Adversary(PatchGAN(inputs, 4), ADAM, **arguments)


def pair(size=32, frames=1):
    batch = {
        "degraded": torch.rand(2, frames, 3, size, size),
        "clean": torch.rand(2, frames, 3, size, size),
    }
    return {"estimate": torch.rand(2, frames, 3, size, size), "extras": {}}, batch


class Constant(nn.Module):
    """A network whose logits are given by hand."""

    def __init__(self, *logits):
        super().__init__()
        self.in_channels = 12
        self.bias = nn.Parameter(torch.zeros(()))
        self.logits, self.seen = list(logits), []

    def forward(self, x):
        self.seen.append(x)
        return torch.tensor(self.logits[len(self.seen) - 1]) + self.bias


def test_what_it_sees():
    player = Adversary(Constant([0.0], [0.0]), ADAM)
    restored, batch = pair(frames=2)
    player.loss(restored, batch, torch.Generator())
    fake, real = player.network.seen
    for seen, clip in ((fake, restored["estimate"]), (real, batch["clean"])):
        x = clip.flatten(0, 1) * 2 - 1
        assert seen.shape == (4, 12, 32, 32)
        torch.testing.assert_close(seen[:, :3], batch["degraded"].flatten(0, 1) * 2 - 1)
        torch.testing.assert_close(seen[:, 3:6], x)
        assert (seen[:, 6:, 0] == 0).all()
        assert (seen[:, 6:, :, 0] == 0).all()
        torch.testing.assert_close(seen[:, 6:9, 1:, 1:], x[..., 1:, 1:] - x[..., 1:, :-1])
        torch.testing.assert_close(seen[:, 9:, 1:, 1:], x[..., 1:, 1:] - x[..., :-1, 1:])


def softplus(x):
    return torch.nn.functional.softplus(torch.tensor(x)).mean().item()


def test_gan_by_hand():
    fake, real = [[0.4, 0.6, -3.0, -1.0], [0.7, 0.2, 2.0, 5.0]]
    player = Adversary(Constant(fake, real, fake), ADAM)
    restored, batch = pair()
    report = player.loss(restored, batch, torch.Generator())
    # BCE(x, 1) = softplus(-x), BCE(x, 0) = softplus(x)
    expected = (softplus([-x for x in real]) + softplus(fake)) / 2
    assert report["loss"].item() == pytest.approx(expected, rel=1e-6)
    assert report["accuracy"].item() == 0.75  # 3 of 4 real above 0.5, 3 of 4 fakes below
    term = player(restored, batch)
    assert term.item() == pytest.approx(softplus([-x for x in fake]), rel=1e-6)


def test_lsgan_by_hand():
    player = Adversary(Constant([0.5, 1.0], [1.0, 0.0], [0.5, 1.0]), ADAM, form="lsgan")
    restored, batch = pair()
    report = player.loss(restored, batch, torch.Generator())
    assert report["loss"].item() == pytest.approx(((0 + 1) / 2 + (0.25 + 1) / 2) / 2)
    assert player(restored, batch).item() == pytest.approx((0.25 + 0) / 2)


def test_the_player_learns_from_its_loss_and_the_model_from_its_term():
    player = adversary()
    restored, batch = pair()
    restored["estimate"].requires_grad_()
    player.loss(restored, batch, torch.Generator())["loss"].backward()
    assert restored["estimate"].grad is None
    assert all(p.grad is not None for p in player.network.parameters())
    player.network.zero_grad(set_to_none=True)
    player(restored, batch).backward()
    assert restored["estimate"].grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in player.network.parameters())


def test_real_and_fake_pass_with_their_own_statistics():
    player = adversary(pool_size=0)
    restored, batch = pair()
    player.loss(restored, batch, torch.Generator())
    assert player.network[3].num_batches_tracked == 2


@pytest.mark.parametrize(
    ("accuracy", "steps"),
    [(0.2, (True, False)), (0.25, (True, False)), (0.5, (True, True)), (0.75, (False, True))],
)
def test_gate(accuracy, steps):
    assert adversary().gate(accuracy) == steps


def test_its_optimiser_is_its_own():
    player = adversary()
    optimizer = player.make_optimizer()
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in player.parameters()}
    assert optimizer.defaults["lr"] == 2e-4


def images(*values):
    return torch.stack([torch.full((2, 3, 3), float(value)) for value in values])


def test_the_pool_fills_then_shows_old_images_half_of_the_time():
    pool, draws = ImagePool(60), torch.Generator().manual_seed(1)
    for k in range(0, 60, 8):
        new = images(*range(k, k + 8))
        if k + 8 <= 60:
            assert torch.equal(pool(new, draws), new)
        else:
            assert torch.equal(pool(new, draws)[: 60 - k], new[: 60 - k])
    assert pool.images.shape == (60, 2, 3, 3)
    old = 0
    for k in range(1000):
        before = pool.images[:, 0, 0, 0].tolist()
        shown = pool(images(64 + k), draws)[0, 0, 0, 0].item()
        after = pool.images[:, 0, 0, 0].tolist()
        if shown != 64 + k:  # the shown one left, the new one took its place
            old += 1
            place = before.index(shown)
            assert after == [*before[:place], 64 + k, *before[place + 1 :]]
        else:
            assert after == before
    assert 440 < old < 560  # four standard deviations


def test_the_pool_resumes_from_its_state():
    first, second = ImagePool(4), ImagePool(4)
    draws = torch.Generator().manual_seed(0)
    first(torch.rand(7, 2, 5, 6), draws)
    second.load_state_dict(first.state_dict())
    state, more = draws.get_state(), torch.rand(9, 2, 5, 6)
    shown = first(more, draws)
    draws.set_state(state)
    assert torch.equal(second(more, draws), shown)
    assert torch.equal(second.images, first.images)
    assert first.images.dtype == torch.float16


def test_the_pool_of_a_checkpoint_is_read_without_code(tmp_path):
    player = adversary(pool_size=3)
    player.loss(*pair(), torch.Generator())
    torch.save(player.state_dict(), tmp_path / "state.pt")
    fresh = adversary(pool_size=3)
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(fresh.pool.images, player.pool.images)
    assert len(fresh.pool.images) == 2


def test_an_empty_pool_and_another_size():
    draws = torch.Generator()
    new = torch.rand(3, 2, 4, 4)
    assert torch.equal(ImagePool(0)(new, draws), new)
    pool = ImagePool(2)
    pool(new, draws)
    larger = torch.rand(1, 2, 6, 6)
    assert torch.equal(pool(larger, draws), larger)
    assert pool.images.shape == (1, 2, 6, 6)


def test_crops_too_small_and_other_sizes_get_a_sentence():
    restored, batch = pair(size=16)
    with pytest.raises(UserError, match=r"24 pixels; set data\.crop"):
        adversary()(restored, batch)
    restored, batch = pair()
    batch["degraded"] = batch["degraded"][..., :16, :16]
    with pytest.raises(UserError, match="without an adversary"):
        adversary()(restored, batch)


@pytest.mark.parametrize(
    "arguments", [{"form": "wgan"}, {"gate": (0.8, 0.2)}, {"gate": (0.5,)}, {"pool_size": -1}]
)
def test_bad_arguments_get_a_sentence(arguments):
    with pytest.raises(UserError, match=r"loss\.adversary"):
        adversary(**arguments)


def test_a_network_of_the_wrong_width_gets_a_sentence():
    with pytest.raises(UserError, match="in_channels"):
        Adversary(PatchGAN(6, 4), ADAM)


def test_the_pool_works_under_autocast():
    pool, draws = ImagePool(3), torch.Generator().manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        shown = [pool(torch.rand(2, 6, 4, 4).bfloat16(), draws) for _ in range(4)]
    assert pool.images.shape == (3, 6, 4, 4)
    assert {images.dtype for images in shown} == {torch.bfloat16}
