"""The prior by what it may see: gradients, changed sub-pixels, and the layers written out."""

import math

import pytest
import torch
from torch.nn import functional

from unlossy.networks.pixelcnn import MaskedConv, PixelCNN


def raster(colors, height, width):
    """The place of every sub-pixel in the order in which they are drawn, (colors, H, W)."""
    return torch.arange(height * width * colors).view(height, width, colors).permute(2, 0, 1)


def seen_by(model, row, column, size=10):
    """Which sub-pixels the logits of a pixel depend on, for each of its colours (colors, H, W)."""
    image = torch.rand(1, model.colors, size, size, dtype=torch.float64, requires_grad=True)
    for logits in model(image)[0, :, :, row, column]:
        (gradient,) = torch.autograd.grad(logits.square().sum(), image, retain_graph=True)
        yield gradient[0] != 0


def prior(channels, layers=20, colors=3):
    return PixelCNN(layers, channels, colors, levels=2, hidden=30).double()


@pytest.mark.parametrize("channels", [24, 32, 64])
def test_a_sub_pixel_sees_all_of_its_past_and_nothing_else(channels):
    model, order = prior(channels), raster(3, 10, 10)
    for color, seen in enumerate(seen_by(model, 5, 4)):
        assert torch.equal(seen, order < order[color, 5, 4])


def test_one_color_sees_all_of_its_past_and_nothing_else():
    (seen,) = seen_by(prior(8, 3, 1), 5, 4)
    assert torch.equal(seen, raster(1, 10, 10) < 54)


@pytest.mark.parametrize("layers", [0, 1])
def test_a_pixel_sees_3_and_2_more_per_layer(layers):
    reach, seen = 3 + 2 * layers, next(seen_by(prior(24, layers), 8, 8, 17))
    rows, columns = seen.any(0).nonzero().T
    assert int(rows.min()) == 8 - reach
    assert (int(columns.min()), int(columns.max())) == (8 - reach, 8 + reach)


def test_halves_of_a_gate_that_count_on_would_leak():
    """What the repeated colours are for; with a multiple of three maps nothing would happen."""
    for channels, leaks in ((24, False), (32, True)):
        model, order = prior(channels, 2), raster(3, 10, 10)
        for layer in model.gated:
            mask, seen = layer.horizontal.mask, torch.arange(channels) % 3
            mask[..., 0, 2] = seen <= (torch.arange(2 * channels) % 3)[:, None]
        future = order >= order[0, 5, 4]
        assert bool((next(seen_by(model, 5, 4)) & future).any()) == leaks


def test_changing_a_sub_pixel_leaves_the_logits_up_to_it_alone():
    model, order = PixelCNN(3, 8, levels=4, hidden=16), raster(3, 4, 5)
    count = order.numel()
    image = torch.rand(3, 4, 5)
    changed = image.repeat(count, 1, 1, 1)
    changed[torch.arange(count)[:, None, None, None] == order] += 0.5
    with torch.no_grad():
        before, after = model(image.repeat(count, 1, 1, 1)), model(changed)
    moved = (before != after).any(2)  # (changed, colors, H, W)
    up_to = order <= torch.arange(count)[:, None, None, None]
    assert not (moved & up_to).any()
    next_one = order == torch.arange(1, count + 1)[:, None, None, None]
    assert moved[next_one].all()


def test_layers_written_out():
    """Each convolution as a sum over shifted images, with the rules of the masks as slices."""
    model = PixelCNN(2, 7, levels=3, hidden=5).double()
    image = torch.rand(2, 3, 6, 9, dtype=torch.float64)
    height, width = image.shape[2:]

    def shifted(x, rows, columns):
        """What stands `rows` above and `columns` to the left of each place, 0 outside."""
        x = functional.pad(x, (8, 8, 8, 8))
        return x[:, :, 8 - rows : 8 - rows + height, 8 - columns : 8 - columns + width]

    def add_up(x, conv, taps):
        y = sum(torch.einsum("oi,nihw->nohw", weight, shifted(x, *place)) for place, weight in taps)
        return y + conv.bias[:, None, None]

    def above(x, conv, nearest):
        rows, side = conv.weight.shape[2:]
        return add_up(
            x,
            conv,
            [
                ((nearest + rows - 1 - i, side // 2 - j), conv.weight[:, :, i, j])
                for i in range(rows)
                for j in range(side)
            ],
        )

    def left(x, conv, seen, made, strict=False):
        reach = conv.weight.shape[3] // 2
        allowed = [[s < m if strict else s <= m for s in seen] for m in made]
        taps = [((0, reach - j), conv.weight[:, :, 0, j]) for j in range(reach)]
        own = conv.weight[:, :, 0, reach] * torch.tensor(allowed)
        return add_up(x, conv, [*taps, ((0, 0), own)])

    def gated(x):
        half = x.shape[1] // 2
        return x[:, :half].tanh() / (1 + (-x[:, half:]).exp())

    maps, wide = [0, 1, 2, 0, 1, 2, 0], [0, 1, 2, 0, 1]
    x = image - 0.5
    v = above(x, model.first_vertical, 1)
    h = left(x, model.first_horizontal, [0, 1, 2], maps, True) + model.first_link(v)
    for layer in model.gated:
        p = above(v, layer.vertical, 0)
        q = left(h, layer.horizontal, maps, maps * 2) + layer.link(p)
        v, h = gated(p), h + left(gated(q), layer.out, maps, maps)
    hidden = left(h, model.head[0], maps, wide).clamp(min=0)
    wanted = left(hidden, model.head[2], wide, [0, 0, 0, 1, 1, 1, 2, 2, 2])
    torch.testing.assert_close(model(image), wanted.view(2, 3, 3, height, width))


@pytest.mark.parametrize(
    ("channels", "stored", "effective"), [(32, 1_750_880, 1_375_667), (64, 4_558_784, 3_865_086)]
)
def test_as_many_weights_as_the_layout_has(channels, stored, effective):
    model = PixelCNN(channels=channels)
    assert sum(weight.numel() for weight in model.parameters()) == stored
    masks = [module.mask for module in model.modules() if isinstance(module, MaskedConv)]
    assert stored - sum(int((mask == 0).sum()) for mask in masks) == effective


def test_masks_are_no_part_of_the_state_and_weights_to_the_right_stay_where_they_are():
    model = PixelCNN(1, 6, levels=4, hidden=6)
    assert not [key for key in model.state_dict() if "mask" in key]
    model(torch.rand(1, 3, 5, 5)).square().sum().backward()
    for module in model.modules():
        if isinstance(module, MaskedConv):
            assert not module.weight.grad[module.mask == 0].any()
            assert module.folded().shape[3] == module.weight.shape[3] // 2 + 1


def test_untrained_it_knows_nothing():
    model, image = PixelCNN(4, 24, hidden=96), torch.rand(1, 3, 16, 16)
    labels = (image * 255).round().long()
    with torch.no_grad():
        found = functional.cross_entropy(model(image).transpose(1, 2), labels)
    assert abs(float(found) - math.log(256)) < 0.05


def test_the_signal_lives_through_all_layers():
    """As torch starts a convolution, V fades tenfold in every two layers."""
    model, image = PixelCNN(hidden=8, levels=2), torch.rand(1, 3, 20, 20)
    stacks = []
    for layer in model.gated:
        layer.register_forward_hook(lambda _, __, made: stacks.append(made))
    with torch.no_grad():
        model(image)
    for v, h in stacks:
        assert 0.02 < float(v.square().mean().sqrt()) < 1
        assert 0.1 < float(h.square().mean().sqrt()) < 3


def test_half_precision_gives_float32_logits_and_channels_last_the_same():
    model, image = PixelCNN(2, 6, levels=4, hidden=12), torch.rand(2, 3, 6, 7)
    wanted = model(image)
    assert wanted.shape == (2, 3, 4, 6, 7)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(image)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, wanted, atol=0.02, rtol=0)
    other = model.to(memory_format=torch.channels_last)(image)
    torch.testing.assert_close(other, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("numbers", [{"layers": -1}, {"levels": 1}, {"channels": 0}])
def test_numbers_out_of_range_have_a_sentence(numbers):
    with pytest.raises(ValueError, match="at least"):
        PixelCNN(**numbers)
