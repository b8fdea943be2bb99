from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from unlossy.errors import UserError
from unlossy.inference.gif_colors import GifStyle
from unlossy.inference.outputs import Clip, write
from unlossy.video import Frame, read_frames, shown_frames

CENTISECOND = Fraction(1, 100)


def clip(tmp_path, frames: list[Frame], **changes) -> Clip:
    height, width = frames[0].rgb.shape[1:]
    fields = {"alpha": any(f.alpha is not None for f in frames), "rate": Fraction(25)}
    return Clip(
        source=tmp_path / "in.mp4",
        frames=len(frames),
        width=width,
        height=height,
        time_base=CENTISECOND,
        audio=None,
        loop=0,
        **(fields | changes),
    )


def smooth(count: int, hole: bool = False) -> list[Frame]:
    """Slow gradients of thousands of colours, darker from frame to frame."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 40), torch.linspace(0, 1, 56), indexing="ij")
    alpha = torch.zeros(40, 56, dtype=torch.uint8)
    alpha[8:] = 255
    return [
        Frame(
            (torch.stack((y, x, 1 - x * y)) * (255 - 40 * k)).round().byte(),
            alpha if hole else None,
            4 * k * CENTISECOND,
            4 * CENTISECOND,
        )
        for k in range(count)
    ]


def colors(rgb: torch.Tensor) -> int:
    return len(torch.unique(rgb.flatten(1), dim=1).T)


def error(frames: list[Frame], path) -> float:
    found = read_frames(path).float()
    return float((found - torch.stack([f.rgb for f in frames]).float()).square().mean())


@pytest.mark.parametrize("dither", ["none", "floyd_steinberg", "bayer"])
@pytest.mark.parametrize("hole", [False, True])
def test_scope_and_number_of_colours(tmp_path, dither, hole):
    frames = smooth(4, hole)
    for palette in ("frame", "global"):
        path = tmp_path / f"{palette}.gif"
        style = GifStyle(palette, 16, dither)
        assert write(path, iter(frames), clip(tmp_path, frames), style) == 4
        shown = list(shown_frames(path))
        assert [frame.duration for frame in shown] == [4 * CENTISECOND] * 4
        seen = [f.rgb[:, 8:] if hole else f.rgb for f in shown]
        assert all(torch.equal(f.alpha, frames[0].alpha) for f in shown if hole)
        assert max(map(colors, seen)) <= 16 - hole
        together = colors(torch.cat(seen, 1))
        assert together <= 16 - hole if palette == "global" else together > 16
    one, each = (
        b"".join(p.read_bytes() for p in [tmp_path / f"{k}.gif"]) for k in ("global", "frame")
    )
    assert one[10] & 0x80  # the flag of a global table
    assert not each[10] & 0x80


def test_dither_keeps_the_mean_of_every_neighbourhood(tmp_path):
    """A ramp of greys by eight of them; beyond the outer ones nothing can be mixed."""
    ramp = torch.linspace(0, 255, 128).round().byte().expand(3, 32, 128).contiguous()
    frames = [Frame(ramp, None, Fraction(0), CENTISECOND)]
    away = {}
    for dither in ("none", "floyd_steinberg", "bayer"):
        style = GifStyle("frame", 8, dither)
        write(tmp_path / "a.gif", iter(frames), clip(tmp_path, frames), style)
        difference = read_frames(tmp_path / "a.gif").float() - ramp.float()
        away[dither] = float(avg_pool2d(difference, 8)[..., 2:-2].abs().mean())
    assert max(away["floyd_steinberg"], away["bayer"]) < 0.6 * away["none"], away


def test_ordered_dither_stands_still(tmp_path):
    """What stands still beside something that moves: error diffusion changes it, Bayer not."""
    frames = smooth(1) * 6
    moving = []
    for k, frame in enumerate(frames):
        rgb = frame.rgb.clone()
        rgb[:, :6, 6 * k : 6 * k + 6] = torch.tensor([255, 0, 0]).view(3, 1, 1)
        moving.append(frame._replace(rgb=rgb))
    changed = {}
    for dither in ("floyd_steinberg", "bayer"):
        style = GifStyle("global", 16, dither)
        write(tmp_path / "a.gif", iter(moving), clip(tmp_path, moving), style)
        still = read_frames(tmp_path / "a.gif")[:, :, 8:]
        changed[dither] = int((still != still[0]).any(1).sum())
    assert changed["bayer"] == 0
    assert changed["floyd_steinberg"] > 100


@pytest.mark.parametrize("palette", ["frame", "global"])
def test_few_colours_stay_exact(tmp_path, palette):
    rng = np.random.default_rng(0)
    table = rng.integers(0, 256, (32, 3)).astype(np.uint8)
    pictures = torch.from_numpy(table[rng.integers(0, 32, (5, 20, 30))]).permute(0, 3, 1, 2)
    frames = [
        Frame(rgb.contiguous(), None, 4 * k * CENTISECOND, 4 * CENTISECOND)
        for k, rgb in enumerate(pictures)
    ]
    for dither in ("none", "bayer"):
        style = GifStyle(palette, 32, dither)
        write(tmp_path / "a.gif", iter(frames), clip(tmp_path, frames), style)
        assert torch.equal(read_frames(tmp_path / "a.gif"), pictures)


def test_a_palette_each_is_nearer_than_one_for_all(tmp_path):
    frames = smooth(5)
    errors = {}
    for palette in ("frame", "global"):
        write(tmp_path / "a.gif", iter(frames), clip(tmp_path, frames), GifStyle(palette, 64))
        errors[palette] = error(frames, tmp_path / "a.gif")
    assert errors["frame"] < errors["global"]


def test_delays_keep_their_sum(tmp_path):
    """Frames of 1.5 and 7 hundredths: browsers want at least 2, what that costs is given back."""
    ticks = [Fraction(3, 200)] * 4 + [Fraction(7, 100)] * 4
    frames = [smooth(1)[0]._replace(duration=tick) for tick in ticks]
    about = clip(tmp_path, frames, rate=len(ticks) / sum(ticks))
    write(tmp_path / "a.gif", iter(frames), about)
    found = [frame.duration * 100 for frame in shown_frames(tmp_path / "a.gif")]
    assert min(found) >= 2
    assert sum(found) == 100 * sum(ticks)


def test_what_no_gif_can_be(tmp_path):
    for wrong, sentence in (
        ({"palette": "film"}, "'film' of a GIF is unknown"),
        ({"colors": 1}, "2 to 256 colours, not 1"),
        ({"colors": 257}, "2 to 256 colours, not 257"),
        ({"dither": "random"}, "'random' of a GIF is unknown"),
    ):
        with pytest.raises(UserError, match=sentence):
            GifStyle(**wrong)
