"""The mask against numpy's variance of every block, and what any norm must keep."""

import numpy as np
import pytest
import torch

from unlossy.networks.variance_mask import VarianceMask, local_variance

NORMS = ("affine", "clip_quantile", "frame_max")


def brute_force(clip):
    """Population variance of luma in each 3x3x3 block of (T, 3, H, W), borders replicated."""
    luma = np.einsum("tchw,c->thw", clip.double().numpy(), [0.299, 0.587, 0.114])
    padded = np.pad(luma, 1, mode="edge")
    blocks = np.lib.stride_tricks.sliding_window_view(padded, (3, 3, 3))
    return blocks.var(axis=(3, 4, 5))


@pytest.mark.parametrize("size", [(5, 9, 11), (1, 6, 7), (2, 1, 1), (3, 1, 8), (1, 1, 1)])
def test_it_is_the_variance_of_every_block(size):
    frames, height, width = size
    clip = torch.rand(2, frames, 3, height, width)
    found = VarianceMask(gain=1.0, cut_threshold=9.0).texture(clip)
    assert found.shape == (2, frames, 1, height, width)
    for one, ours in zip(clip, found, strict=True):
        assert ours[:, 0].numpy() == pytest.approx(brute_force(one), abs=1e-6)


def test_small_contrast_on_a_bright_ground_keeps_its_digits():
    clip = 0.9 + 1e-4 * torch.rand(1, 3, 3, 8, 8)
    found = VarianceMask(gain=1.0).texture(clip)[0, :, 0].numpy()
    assert found == pytest.approx(brute_force(clip[0]), rel=1e-2)  # E[g^2] - mu^2 gives noise


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("deviation", [False, True])
def test_any_norm_is_zero_on_constants_within_bounds_and_monotone_in_contrast(norm, deviation):
    mask = VarianceMask(norm, deviation=deviation, cut_threshold=9.0)
    assert not mask(torch.full((1, 3, 3, 6, 7), 0.7)).any()
    picture = torch.rand(1, 4, 3, 16, 16)
    faint, strong = (mask(0.5 + contrast * (picture - 0.5)) for contrast in (0.3, 0.9))
    assert faint.min() >= 0
    assert strong.max() <= 1
    assert strong.mean() > 0
    if norm == "affine":
        assert (strong >= faint).all()
        assert strong.mean() > faint.mean()
    else:  # relative to the clip or frame: contrast cancels
        torch.testing.assert_close(strong, faint, atol=1e-4, rtol=0)


def test_the_norms_divide_by_what_they_say():
    clip = torch.rand(2, 3, 3, 12, 14) * torch.tensor([1.0, 0.5]).view(2, 1, 1, 1, 1)
    plain, quantile, largest = (
        VarianceMask(norm, 1.0, cut_threshold=9.0).texture(clip) for norm in NORMS
    )
    for k in range(2):
        wanted = plain[k] / np.quantile(plain[k].numpy(), 0.99, method="nearest")
        torch.testing.assert_close(quantile[k], wanted.float(), rtol=1e-5, atol=0)
    assert torch.equal(largest.amax((3, 4)), torch.ones(2, 3, 1))
    torch.testing.assert_close(VarianceMask("affine", 1.0, True, 9.0).texture(clip), plain.sqrt())


def test_a_scene_cut_is_a_border():
    dark, bright = 0.2 * torch.rand(1, 3, 3, 8, 8), 0.7 + 0.2 * torch.rand(1, 2, 3, 8, 8)
    mask = VarianceMask()
    together = mask(torch.cat([dark, bright], 1))
    apart = torch.cat([mask(dark), mask(bright)], 1)
    torch.testing.assert_close(together, apart, atol=1e-6, rtol=0)
    blind = VarianceMask(cut_threshold=0.99)(torch.cat([dark, bright], 1))
    assert blind[:, 2:4].min() > apart[:, 2:4].max()  # without it, all of both frames is texture


def test_a_cut_in_one_clip_leaves_the_other_alone():
    still = 0.5 + 0.01 * torch.rand(1, 4, 8, 8)
    cut = still + torch.tensor([0.0, 0.0, 0.4, 0.4]).view(1, 4, 1, 1)
    both = local_variance(torch.cat([still, cut]), 0.15)
    assert torch.equal(both[:1], local_variance(still, 0.15))
    assert torch.equal(both[1:], local_variance(cut, 0.15))


def test_it_is_computed_in_float32():
    clip = 0.8 + 0.05 * torch.rand(1, 3, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        half = VarianceMask()(clip)
    assert half.dtype == torch.float32
    assert torch.equal(half, VarianceMask()(clip))


def test_the_gain_is_in_the_state():
    mask = VarianceMask()
    mask.gain.fill_(7.0)
    other = VarianceMask("affine")
    other.load_state_dict(mask.state_dict())
    assert float(other.gain) == 7.0
    assert not list(mask.parameters())


@pytest.mark.parametrize("numbers", [{"gain": 0.0}, {"norm": "max"}, {"cut_threshold": -1.0}])
def test_impossible_numbers_are_refused(numbers):
    with pytest.raises(ValueError, match="use"):
        VarianceMask(**numbers)
