"""f_C against distances written out in float64."""

import pytest
import torch

from unlossy.networks import quantizer
from unlossy.networks.quantizer import quantize


def distances(x, palette):
    """(N, P, H, W) in float64, term by term."""
    return (x.double()[:, None] - palette.double()[..., None, None]).square().sum(2)


@pytest.fixture(params=["whole", "groups of images", "parts of an image", "single pixels"])
def budget(request, monkeypatch):
    sizes = {"whole": 2**19, "groups of images": 2 * 33 * 130, "parts of an image": 700}
    monkeypatch.setattr(quantizer, "BUDGET_CPU", sizes.get(request.param, 1))


@pytest.mark.usefixtures("budget")
def test_no_color_is_nearer_than_the_chosen_one():
    x, palette = torch.randn(5, 3, 10, 13), torch.rand(5, 33, 3) * 2 - 1
    size = torch.tensor([33, 1, 20, 32, 2])
    y = quantize(x, palette, size)
    assert y.shape == x.shape
    for n in range(5):
        allowed = palette[n : n + 1, : size[n]]
        chosen = (x[n].double() - y[n].double()).square().sum(0)
        best = distances(x[n : n + 1], allowed).amin(1)[0]
        torch.testing.assert_close(chosen, best, rtol=0, atol=1e-5)
        assert (y[n].permute(1, 2, 0)[..., None, :] == allowed[0]).all(-1).any(-1).all()


def test_a_gif_is_its_own_quantization():
    palette = torch.randint(0, 256, (2, 256, 3)) / 255
    index = torch.randint(0, 256, (2, 20, 20))
    gif = torch.stack([p[i].permute(2, 0, 1) for p, i in zip(palette, index, strict=True)])
    size = torch.tensor([256, 256])
    assert torch.equal(quantize(gif, palette, size), gif)
    assert torch.equal(quantize(gif * 2 - 1, palette * 2 - 1, size), gif * 2 - 1)


def test_padded_and_repeated_rows_change_nothing():
    x, palette = torch.rand(2, 3, 9, 9), torch.rand(2, 6, 3)
    size = torch.tensor([6, 6])
    expected = quantize(x, palette, size)
    padded = torch.cat([palette, x.flatten(2).transpose(1, 2)[:, :5]], dim=1)  # exact hits, masked
    assert torch.equal(quantize(x, padded, size), expected)
    repeated = torch.cat([palette, palette.flip(1)], dim=1)
    assert torch.equal(quantize(x, repeated, 2 * size), expected)
    often = palette.repeat(1, 100, 1)  # beyond 256
    assert torch.equal(quantize(x, often, 100 * size), expected)


def test_of_equally_near_colors_the_first_wins():
    x = torch.zeros(1, 3, 2, 2)
    palette = torch.tensor([[[1.0, 1, 1], [0, 0.5, 0], [0.5, 0, 0], [0, 0, 0.5], [-0.5, 0, 0]]])
    y = quantize(x, palette, torch.tensor([5]))
    assert torch.equal(y[0, :, 0, 0], torch.tensor([0, 0.5, 0]))
    swapped = palette[:, [4, 3, 2, 1, 0]]
    assert torch.equal(
        quantize(x, swapped, torch.tensor([5]))[0, :, 1, 1], torch.tensor([-0.5, 0, 0])
    )


def test_float32_without_gradient_under_autocast():
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    palette = torch.rand(1, 256, 3)
    size = torch.tensor([256])
    with torch.autocast("cpu", torch.bfloat16):
        y = quantize(x, palette, size)
    assert y.dtype == torch.float32
    assert not y.requires_grad
    assert torch.equal(y, quantize(x, palette, size))


def test_low_matmul_precision_does_not_touch_it():
    x, palette, size = torch.rand(1, 3, 16, 16), torch.rand(1, 256, 3), torch.tensor([256])
    expected = quantize(x, palette, size)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert torch.equal(quantize(x, palette, size), expected)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("colors", [256, 257, 1024])
def test_products_of_8_bits_find_every_color(colors, monkeypatch):
    """What "medium" may do to a product, done here on every machine."""
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(
        torch.Tensor, "__matmul__", lambda a, b: product(a.bfloat16().float(), b.bfloat16().float())
    )
    codes = torch.arange(colors)
    palette = torch.stack([codes % 8, codes // 8 % 8, codes // 64], 1)[None] / 15
    gif = palette[0].flip(0).repeat(4, 1).T.view(1, 3, 4, colors)
    assert torch.equal(quantize(gif + 0.01, palette, torch.tensor([colors])), gif)


@pytest.mark.gpu
def test_a_gpu_chooses_as_well_as_the_cpu():
    x, palette, size = torch.rand(4, 3, 64, 64), torch.rand(4, 40, 3), torch.tensor([40, 1, 7, 32])
    ours = quantize(x.cuda(), palette.cuda(), size.cuda()).cpu()
    theirs = quantize(x, palette, size)
    torch.testing.assert_close((x - ours).norm(dim=1), (x - theirs).norm(dim=1))


def test_channels_last_and_one_pixel():
    palette, size = torch.rand(2, 4, 3), torch.tensor([4, 3])
    x = torch.rand(2, 3, 8, 8)
    last = x.to(memory_format=torch.channels_last)
    assert torch.equal(quantize(last, palette, size), quantize(x, palette, size))
    assert quantize(x[..., :1, :1], palette, size).shape == (2, 3, 1, 1)
