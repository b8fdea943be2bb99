from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from unlossy.errors import UserError
from unlossy.video import filter_frames

RED_MOST = torch.tensor([99, 255, 255], dtype=torch.uint8)[:, None, None]
TWO_PASS = "split[a][b];[a]palettegen=max_colors=32:reserve_transparent=0[p];[b][p]paletteuse"


@pytest.fixture(scope="module")
def frames():
    ramp = torch.linspace(0, 255, 50)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(-9, 10, (5, 3, 41, 50), generator=generator)
    return (ramp + noise).clamp(0, 255).byte()


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ("null", lambda x: x),
        ("hflip", lambda x: x.flip(-1)),
        (" hflip , vflip ", lambda x: x.flip(-1).flip(-2)),
        ("[in]hflip[h];[h]vflip[out]", lambda x: x.flip(-1).flip(-2)),
        ("format=gbrp,lutrgb=r=negval", lambda x: torch.cat((255 - x[:, :1], x[:, 1:]), 1)),
        ("split[a][b];[b]hflip[c];[a][c]hstack", lambda x: torch.cat((x, x.flip(-1)), -1)),
        ("split=2[a][b];[a][b]vstack", lambda x: torch.cat((x, x), -2)),
        ("crop='iw-8:ih:8:0'", lambda x: x[..., 8:]),
        (r"lutrgb=r='min(val\,99)'", lambda x: x.minimum(RED_MOST)),
        ("tmix=frames=1", lambda x: x),
    ],
)  # fmt: skip
def test_exact_filters(frames, graph, expected):
    assert torch.equal(filter_frames(frames, graph), expected(frames))


def test_palette_of_two_passes(frames):
    reduced = filter_frames(frames, TWO_PASS)
    assert reduced.shape == frames.shape
    assert 2 < len(reduced.permute(0, 2, 3, 1).reshape(-1, 3).unique(dim=0)) <= 32
    assert (reduced.float() - frames.float()).abs().mean() < 12


def test_blur_is_a_gaussians(frames):
    blurred = filter_frames(frames, "format=gbrp,gblur=sigma=2:steps=6").numpy().astype(float)
    expected = gaussian_filter(frames.numpy().astype(float), (0, 0, 2, 2), mode="nearest")
    assert np.abs(blurred - expected)[..., 8:-8, 8:-8].max() < 2


def test_the_rate_reaches_the_filter(frames):
    graph = "lutrgb=r=0,fade=t=in:st=0:d=1:color=white"
    slow = filter_frames(frames, graph, Fraction(4))[:, 0].float().mean((1, 2))
    assert slow.tolist() == pytest.approx([255, 191, 128, 64, 0], abs=2)


@pytest.mark.parametrize("graph", ["gblur=sigma=1", TWO_PASS, "nlmeans=s=3:p=5:r=9", "deband"])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (31, 33)])
def test_small_frames(frames, graph, size):
    small = frames[:2, :, : size[0], : size[1]]
    assert filter_frames(small, graph).shape == small.shape


@pytest.mark.parametrize(
    ("graph", "sentence"),
    [
        ("nosuchfilter", "no filter nosuchfilter"),
        ("gblur=nosuchoption=1", "refuses the filter"),
        ("gblur=sigma=banana", "refuses the filter"),
        ("split", "1 open inputs and 2 outputs"),
        ("hstack", "2 open inputs and 1 outputs"),
        ("[a]hflip[b];[c]vflip[d]", "2 open inputs and 2 outputs"),
        ("null[a", "cannot read"),
        ("", "0 open inputs"),
        ("select='eq(n\\,0)'", "turns 5 frames into 1"),
        ("fps=50", "turns 5 frames into"),
    ],
)
def test_what_ffmpeg_refuses_gets_a_sentence(frames, graph, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        filter_frames(frames, graph)
    assert repr(graph) in str(caught.value)


def test_a_small_frame_cannot_change_its_size(frames):
    with pytest.raises(UserError, match="cannot resize 3x2 frames"):
        filter_frames(frames[..., :2, :3], "scale=iw*2:ih*2")
