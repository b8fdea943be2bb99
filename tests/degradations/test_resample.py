import numpy as np
import pytest
import torch
from PIL import Image

from unlossy.degradations.chain import Chain
from unlossy.degradations.corners import Corners
from unlossy.degradations.resample import Downscale
from unlossy.degradations.still import JPEG
from unlossy.errors import UserError
from unlossy.sample import Degraded, pristine

DRAWS = torch.Generator()


def picture(frames: int = 2, height: int = 48, width: int = 64) -> torch.Tensor:
    """Waves and grain, uint8 (T, 3, H, W)."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = [torch.sin(0.2 * (c + 1) * x + 0.15 * y + t) for t in range(frames) for c in range(3)]
    smooth = torch.stack(waves).view(frames, 3, height, width) * 90 + 128
    return (smooth + 8 * torch.randn_like(smooth)).clamp(0, 255).to(torch.uint8)


def by_pillow(frames: torch.Tensor, factor: int) -> torch.Tensor:
    shrunk = [
        Image.fromarray(frame.permute(1, 2, 0).numpy()).resize(
            (frame.shape[2] // factor, frame.shape[1] // factor), Image.Resampling.BICUBIC
        )
        for frame in frames
    ]
    return torch.stack([torch.from_numpy(np.array(p)).permute(2, 0, 1) for p in shrunk])


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_small_frames_are_pillows_within_a_level(factor):
    clip = pristine("waves", picture())
    small = Downscale(factor)(clip, DRAWS)["frames"]
    assert small.dtype == torch.uint8
    apart = (small.int() - by_pillow(clip["frames"], factor).int()).abs()
    assert apart.max() <= 1
    assert apart.float().mean() < 0.2


def test_without_antialiasing_pixels_are_passed_over():
    frames = picture(1, 32, 32)
    spotted = frames.clone()
    spotted[..., ::8, :] = 255 - spotted[..., ::8, :]  # rows 0, 8, ... weigh nothing in factor 8
    plain, wide = Downscale(8, antialias=False), Downscale(8)
    small = [plain(pristine("a", f), DRAWS)["frames"] for f in (frames, spotted)]
    assert torch.equal(*small)
    small = [wide(pristine("a", f), DRAWS)["frames"] for f in (frames, spotted)]
    assert not torch.equal(*small)
    edge = torch.zeros(1, 1, 4, 4)
    edge[..., 1:3, 1:3] = torch.tensor([[1.0, 2.0], [3.0, 4.0]]) * 50
    # Keys' weights with a = -0.75 half way between two pixels: -3/32, 19/32, 19/32, -3/32
    centre = Downscale(4, antialias=False)(pristine("a", edge.byte()), DRAWS)["frames"]
    assert centre.item() == round(500 * (19 / 32) ** 2)


def test_the_clean_clip_stays_and_what_no_longer_holds_goes():
    clean = picture()
    side = {
        "palette": torch.rand(2, 4, 3),
        "palette_size": torch.full((2,), 4),
        "qp": torch.ones(2),
    }
    clip = Degraded(**{**pristine("waves", clean), "side": side, "stream": b"gif"})
    clip["index"] = clean[:, 0]
    for medium, size in ((Downscale(), (12, 16)), (Corners(), (48, 64))):
        found = medium(clip, DRAWS)
        assert found["reference"] is clean
        assert found["stream"] is None
        assert "index" not in found
        assert found["side"].keys() == {"qp"}
        assert found["frames"].shape == (2, 3, *size)
        assert torch.equal(found["t_in"], clip["t_in"])


def test_a_small_clip_can_be_coded():
    medium = Chain({"small": Downscale(2), "jpeg": JPEG()})
    assert medium.scale == 2
    found = medium(pristine("waves", picture()), DRAWS)
    assert found["frames"].shape == (2, 3, 24, 32)
    assert found["reference"].shape == (2, 3, 48, 64)
    assert found["stream"]


def test_corners_shows_the_sum_of_two_quadrants_in_both():
    frames = torch.randint(256, (2, 1, 6, 10), dtype=torch.uint8)
    before = frames.clone()
    found = Corners()(pristine("a", frames), DRAWS)["frames"]
    assert torch.equal(frames, before)
    for t in range(2):
        for y in range(3):
            for x in range(5):
                total = int(frames[t, 0, y, x]) + int(frames[t, 0, y + 3, x + 5])
                assert found[t, 0, y, x] == found[t, 0, y + 3, x + 5] == min(total, 255)
                assert found[t, 0, y, x + 5] == found[t, 0, y + 3, x] == 0


@pytest.mark.parametrize(
    ("medium", "sentence"),
    [
        (Downscale(8), r"waves has frames of 64x44, .*degradation.factor=8 does not divide"),
        (Corners(), r"waves has frames of 63x44, .*source=two_corners"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(medium, sentence):
    frames = picture(1, 44, 63 if "63" in sentence else 64)
    with pytest.raises(UserError, match=sentence):
        medium(pristine("waves", frames), DRAWS)


@pytest.mark.parametrize("factor", [1, 0, -4, 2.0, True, 65])
def test_impossible_factors_are_refused(factor):
    with pytest.raises(UserError, match=rf"degradation.factor={factor} is impossible"):
        Downscale(factor)
