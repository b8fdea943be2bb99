"""Baselines of super-resolution: Pillow's bicubic, repeated pixels, and memory."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import cdist
from torch import Tensor

from unlossy.errors import UserError
from unlossy.models import nearest_patch
from unlossy.models.baselines import Bicubic, Identity
from unlossy.models.nearest_patch import NearestPatch
from unlossy.sample import Sample


def clip(
    frames: int, height: int = 8, width: int = 8, seed: int = 0, scale: int = 4, channels: int = 3
) -> Sample:
    """Whole frames as they wait: uint8, the large ones unlike the small ones."""
    draws = torch.Generator().manual_seed(seed)
    size = (1, frames, channels)
    small = torch.randint(0, 256, (*size, height, width), generator=draws)
    large = torch.randint(0, 256, (*size, height * scale, width * scale), generator=draws)
    return Sample(
        name=[f"clip{seed}"],
        degraded=small.byte(),
        clean=large.byte(),
        t_in=torch.arange(frames)[None].float(),
        t_out=torch.arange(frames)[None].float(),
        side={},
        target={},
        bits=torch.zeros(1),
    )


def numbers(sample: Sample) -> Sample:
    return Sample(
        **{**sample, "degraded": sample["degraded"] / 255, "clean": sample["clean"] / 255}
    )


def eight_bits(frames: Tensor) -> Tensor:
    return frames.mul(255).round().byte()


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_input_is_repeated_pixel_by_pixel(scale: int) -> None:
    sample = numbers(clip(2, 3, 5))
    found = Identity(scale).restore(sample)
    wanted = np.kron(sample["degraded"].numpy(), np.ones((scale, scale), np.float32))
    assert np.array_equal(found.numpy(), wanted)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_is_pillow_s(scale: int) -> None:
    """On floats, which Pillow does not clip between its two passes."""
    sample = numbers(clip(2, 7, 9))
    found = Bicubic(scale)(sample)["estimate"][0]
    assert found.min() < 0  # it overshoots
    for frame, small in zip(found.flatten(0, 1), sample["degraded"][0].flatten(0, 1), strict=True):
        picture = Image.fromarray(small.numpy())
        wanted = picture.resize((9 * scale, 7 * scale), Image.Resampling.BICUBIC)
        assert np.allclose(frame.numpy(), np.asarray(wanted), atol=1e-6)


def test_a_scale_below_one_is_refused() -> None:
    with pytest.raises(UserError, match="scale=0"):
        Bicubic(0)


@pytest.mark.parametrize("chunk", [7, 2**14])
def test_the_nearest_patch_is_the_one_that_scipy_finds(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest_patch, "CHUNK", chunk)
    known, wanted = [clip(20, seed=1), clip(30, seed=2)], clip(40, seed=3)
    model = NearestPatch()
    model.fit(known)
    assert model.label == "50 patches"
    keys, values = (
        torch.cat([sample[key][0] for sample in known]) for key in ("degraded", "clean")
    )
    distances = cdist(wanted["degraded"][0].flatten(1), keys.flatten(1), "sqeuclidean")
    assert len(set(distances.argmin(1))) > 10
    assert torch.equal(eight_bits(model.restore(numbers(wanted)))[0], values[distances.argmin(1)])


def test_what_was_learnt_is_known_by_heart() -> None:
    known = clip(30, 6, 5, channels=1)
    model = NearestPatch()
    model.fit([known])
    assert model.keys.dtype == model.values.dtype == torch.uint8
    assert torch.equal(eight_bits(model.restore(numbers(known))), known["clean"])


def test_patches_one_level_apart_are_told_apart() -> None:
    """Distances of 0 and 1 among the largest squares that there are."""
    known = clip(2)
    known["degraded"].fill_(255)
    known["degraded"][0, 1, 2, 7, 7] = 254
    model = NearestPatch()
    model.fit([known])
    assert torch.equal(eight_bits(model.restore(numbers(known))), known["clean"])


def test_it_refuses_what_it_cannot_answer() -> None:
    model = NearestPatch(most=10)
    with pytest.raises(UserError, match="knows no patches yet"):
        model.restore(numbers(clip(1)))
    with pytest.raises(UserError, match="no training clips"):
        model.fit([])
    with pytest.raises(UserError, match="holds at most 10 patches"):
        model.fit([clip(6), clip(6)])
    with pytest.raises(
        UserError, match="clip5 has frames of 3 x 8 x 9 where others have 3 x 8 x 8"
    ):
        model.fit([clip(1), clip(1, 8, 9, seed=5)])
    model.fit([clip(4)])
    with pytest.raises(UserError, match="learnt patches of 3 x 8 x 8, and the input is 3 x 16 x 8"):
        model.restore(numbers(clip(1, 16, 8)))
