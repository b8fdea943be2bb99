from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from unlossy.inference.tiling import restore_tiled, tiles
from unlossy.models.ccdnet import CCDNet
from unlossy.models.film import FILM
from unlossy.models.interpolation_baselines import FrameAverage
from unlossy.models.model import EnhancementModel
from unlossy.networks.film import FILMNet
from unlossy.sample import Restored, Sample


class Network(EnhancementModel):
    """Strided and dilated layers with a receptive field below the margin, some upscaling."""

    multiple = 4

    def __init__(self, scale: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scale = scale
        self.down = nn.Conv2d(3, 8, 4, stride=4)
        self.middle = nn.Conv2d(8, 8, 3, padding=4, dilation=4)
        self.up = nn.ConvTranspose2d(8, 3, 4 * scale, stride=4 * scale)
        self.calls: list[tuple[int, ...]] = []

    def forward(self, batch: Sample) -> Restored:
        self.calls.append(tuple(batch["degraded"].shape))
        frames = batch["degraded"].flatten(0, 1)
        features = self.middle(self.down(frames).relu()).relu()
        base = functional.interpolate(frames, scale_factor=self.scale)
        return Restored(estimate=(base + self.up(features))[None], extras={})


def batch(frames: Tensor) -> Sample:
    times = torch.arange(frames.shape[1], dtype=torch.float32)[None]
    return Sample(
        name=["a"], degraded=frames, t_in=times, t_out=times, side={}, target={}, bits=times[:, 0]
    )


@pytest.mark.parametrize(
    ("height", "width", "scale"), [(250, 333, 1), (345, 130, 2), (100, 500, 1)]
)
@torch.no_grad()
def test_tiled_equals_untiled(height, width, scale):
    model = Network(scale).eval()
    sample = batch(torch.rand(1, 2, 3, height, width, generator=torch.Generator().manual_seed(1)))
    whole = model.restore(sample)
    model.calls.clear()
    tiled = restore_tiled(model, sample, budget=2 * 200 * 200)
    assert len(model.calls) > 1
    assert all(shape[-2] * shape[-1] <= 224 * 224 for shape in model.calls)
    assert tiled.shape == whole.shape == (1, 2, 3, height * scale, width * scale)
    assert (tiled - whole).abs().max() < 1e-5  # far inside the promised 1/255
    assert whole.std() > 0.1


@pytest.mark.parametrize("length", [1, 111, 112, 113, 224, 225, 1000, 1234])
@pytest.mark.parametrize(("multiple", "scale"), [(1, 1), (16, 1), (64, 4)])
@pytest.mark.parametrize("reach", [0, 48, 192])
def test_weights_are_a_partition_of_unity(length, reach, multiple, scale):
    total = torch.zeros(length * scale)
    for tile in tiles(length, 300, reach, multiple, scale):
        assert tile.start % multiple == 0
        assert tile.start == 0 or not tile.weight[: reach * scale].any()
        assert (
            tile.stop == length or not tile.weight[(tile.stop - tile.start - reach) * scale :].any()
        )
        total[tile.start * scale : tile.stop * scale] += tile.weight
    assert torch.allclose(total, torch.ones_like(total))


@pytest.mark.parametrize("steps", [1, 2])
def test_no_pixel_beyond_the_reach_of_a_ccdnet_counts(steps):
    model = CCDNet(steps, 4, embed_quantizer=False, norm="none").eval()
    for weight in model.parameters():  # positive: nothing cancels
        weight.data.fill_(1 / weight[0].numel())
    frames = torch.rand(1, 1, 3, 16, 1024).requires_grad_()
    estimate = model(batch(frames))["estimate"]
    for place, side in ((512, -1), (511, 1)):  # where a tile could end
        (slope,) = torch.autograd.grad(estimate[..., place].sum(), frames, retain_graph=True)
        seen = slope.abs().amax((0, 1, 2, 3)).nonzero()
        farthest = int((side * (seen - place)).max())
        assert model.reach - 16 < farthest <= model.reach


@torch.no_grad()
def test_a_tiled_ccdnet_equals_the_untiled_one():
    model = CCDNet(2, 4).eval()
    for weight in model.parameters():
        if weight.ndim == 4:  # as much of the picture in the deepest layers as in the finest
            nn.init.kaiming_normal_(weight, mode="fan_in" if weight.shape[0] != 3 else "fan_out")
    index = (torch.arange(1000) // 50 % 2) * 2 + torch.randint(0, 2, (32, 1000))
    palette = torch.tensor([[0.0, 0, 0], [0.1, 0, 0.1], [0.8, 0.9, 1], [1, 1, 1]])
    sample = batch(palette[index].permute(2, 0, 1)[None, None])
    sample["side"] = {"palette": palette[None, None], "palette_size": torch.tensor([[4]])}
    whole = model.restore(sample)
    starts = [tile.start for tile in tiles(1000, 178, model.reach, model.multiple)]
    assert starts == [0, 400]
    assert (restore_tiled(model, sample, budget=31_000) - whole).abs().max() < 1 / 255 / 100
    assert whole.std() > 0.1
    model.reach = 48
    assert (restore_tiled(model, sample, budget=31_000) - whole).abs().max() > 1 / 255


def between(frames: Tensor, parts: int) -> Sample:
    """Ask for `parts` frames for each one of (1, S, 3, H, W)."""
    sample = batch(frames)
    last = frames.shape[1] - 1
    sample["t_out"] = torch.arange(parts * last + 1)[None] / parts
    return sample


@torch.no_grad()
def test_frames_between_in_tiles_of_a_static_scene():
    network = FILMNet(3, 2, 1, sub_levels=1, filters=4, flow_convs=(1, 1), flow_filters=(4, 4))
    model = FILM(network).eval()  # it makes noise, and must make the same noise
    frame = torch.rand(1, 1, 3, 100, 500, generator=torch.Generator().manual_seed(1))
    sample = between(frame.expand(1, 2, -1, -1, -1), 4)
    whole = model.restore(sample)
    tiled = restore_tiled(model, sample, budget=2 * 224 * 224)
    assert tiled.shape == whole.shape == (1, 5, 3, 100, 500)
    assert (tiled - whole).abs().max() < 1 / 255
    assert (whole[:, 1] - whole[:, 0]).abs().max() > 0.5
    assert torch.equal(tiled[:, ::4].mul(255).round(), sample["degraded"].mul(255).round())


@torch.no_grad()
def test_frames_between_in_tiles_of_a_moving_scene():
    """A flow that the coarsest of six levels finds comes from further away than 64 pixels."""
    torch.manual_seed(0)
    convs, channels = (1, 1, 1, 1, 1, 2), (4, 4, 4, 4, 4, 8)
    network = FILMNet(6, 2, 5, sub_levels=1, filters=3, flow_convs=convs, flow_filters=channels)
    model = FILM(network, cut=None, starts_at_average=True).eval()
    nn.init.normal_(network.flow[5].last.weight, std=0.5)
    first = torch.rand(1, 1, 3, 64, 800)
    sample = between(torch.cat([first, first.roll(20, -1)], 1), 2)
    whole = model(sample)
    assert 1 < whole["extras"]["flow_to_first"][:, 1].abs().max() < 32

    def error() -> float:
        tiled = restore_tiled(model, sample, budget=2 * 200 * 200)
        return float((tiled - whole["estimate"].clamp(0, 1)).abs().max())

    assert error() < 1 / 255 / 100
    model.reach = 48
    assert error() > 1 / 255


@torch.no_grad()
def test_a_cut_is_one_of_the_whole_frame():
    """A corner that flashes is a new scene to its own tile and to no other."""
    model = FrameAverage().eval()
    model.cut = 25.0
    frames = torch.full((1, 2, 3, 60, 300), 0.2)
    frames[:, 1, :, :, :30] = 1.0
    sample = between(frames, 2)
    middle = restore_tiled(model, sample, budget=2 * 60 * 60)[0, 1, 0, 30]
    assert torch.allclose(middle[:30], torch.tensor(0.6))
    frames[:, 1] = 1.0
    middle = restore_tiled(model, sample, budget=2 * 60 * 60)[0, 1, 0, 30]
    assert torch.allclose(middle, torch.tensor(0.2))  # now the first frame is held, everywhere


@torch.no_grad()
def test_not_a_number_in_half_precision_is_redone_in_float32():
    class Overflow(EnhancementModel):
        dtypes: list[torch.dtype] = []  # noqa: RUF012

        def forward(self, batch: Sample) -> Restored:
            frames = batch["degraded"].flatten(0, 1)
            huge = functional.conv2d(frames, torch.full((3, 3, 1, 1), 1.0))
            self.dtypes.append(huge.dtype)
            broken = huge * torch.nan if huge.dtype != torch.float32 else huge
            return Restored(estimate=broken[None], extras={})

    model = Overflow()
    restored = restore_tiled(model, batch(torch.full((1, 1, 3, 4, 4), 0.25)), dtype=torch.bfloat16)
    assert model.dtypes == [torch.bfloat16, torch.float32]
    assert torch.equal(restored, torch.full((1, 1, 3, 4, 4), 0.75))
