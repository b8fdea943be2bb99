"""The proxy on pictures whose difference is known: none, an obvious one, the very same."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unlossy.metrics.two_sample import _halves, fooled_proxy


def pictures(count: int, seed: int, side: int = 12) -> Tensor:
    """Noise over a ramp of random brightness, uint8 (N, 3, H, W)."""
    draws = torch.Generator().manual_seed(seed)
    base = torch.rand(count, 3, 1, 1, generator=draws) * 120 + 40
    noise = torch.randn(count, 3, side, side, generator=draws) * 25
    return (base + noise).clamp(0, 255).byte()


def blurred(frames: Tensor) -> Tensor:
    return functional.avg_pool2d(frames.float(), 3, 1, 1, count_include_pad=False).byte()


def test_pictures_of_one_kind_cannot_be_told_apart():
    found = fooled_proxy(pictures(400, 0), pictures(400, 1), steps=20)
    assert 0.35 < found < 0.65


def test_blurred_copies_are_found_out_whichever_side_they_stand_on():
    real = pictures(100, 0)
    assert fooled_proxy(real, blurred(real), steps=30) < 0.1
    assert fooled_proxy(blurred(real), real, steps=30) < 0.1


def test_the_pictures_themselves_are_a_tie():
    real = pictures(20, 0)
    assert fooled_proxy(real, real, steps=3) == 0.5


def test_a_seed_repeats_itself_and_leaves_the_global_one_alone():
    real, made = pictures(60, 0, side=8), pictures(60, 1, side=8)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again = (fooled_proxy(real, made, seed=3, steps=3) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    others = {fooled_proxy(real, made, seed=seed, steps=3) for seed in range(4, 7)}
    assert first == again
    assert len(others) > 1


def test_an_image_falls_into_one_half_as_a_whole():
    images = [f"image{k % 10}" for k in range(80)]
    seen, unseen = _halves(images, torch.Generator().manual_seed(0))
    assert sorted(seen + unseen) == list(range(80))
    assert len(seen) == 40
    assert not {images[k] for k in seen} & {images[k] for k in unseen}


def test_what_cannot_be_judged_is_refused():
    real = pictures(4, 0)
    for other in (real[:3], real.float()):
        with pytest.raises(ValueError, match="alike"):
            fooled_proxy(real, other)
    with pytest.raises(ValueError, match="halved"):
        fooled_proxy(real, real, ["a"] * 4)
