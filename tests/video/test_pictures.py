"""What animations and folders of images declare; decoding is tested in test_decoding.py."""

from __future__ import annotations

from fractions import Fraction as F
from pathlib import Path

import pytest
from PIL import Image

from unlossy.video import probe, shown_frames


def animation(path: Path, delays: list[int]) -> Path:
    """An animated WebP or PNG; delays in milliseconds."""
    first, *others = [Image.new("RGB", (8, 6), (20 * k, 0, 0)) for k in range(len(delays))]
    first.save(path, save_all=True, append_images=others, duration=delays, lossless=True, loop=3)
    return path


@pytest.mark.parametrize("suffix", [".webp", ".png"])
@pytest.mark.parametrize(
    ("delays", "seconds", "even"),
    [
        ([40] * 10, F(4, 10), True),
        ([1000, 40, 60], F(11, 10), False),
        ([0, 100, 10], F(3, 10), True),  # as browsers show them
    ],
)
def test_the_rate_of_an_animation_is_the_mean(tmp_path, suffix, delays, seconds, even):
    path = animation(tmp_path / f"a{suffix}", delays)
    media = probe(path)
    assert (media.frames, media.loop, media.even) == (len(delays), 3, even)
    assert media.rate == len(delays) / seconds
    assert [frame.duration * 1000 for frame in shown_frames(path)] == delays


@pytest.mark.parametrize("name", ["frames", "frames/*.png"])
def test_folders_and_patterns_play_for_ever(tmp_path, name):
    (tmp_path / "frames").mkdir()
    for k in range(3):
        Image.new("RGB", (8, 6), (80 * k, 0, 0)).save(tmp_path / f"frames/{k}.png")
    media = probe(tmp_path / name)
    assert (media.frames, media.rate, media.loop, media.even) == (3, 25, 0, True)
    assert [frame.time for frame in shown_frames(tmp_path / name)] == [0, F(1, 25), F(2, 25)]


def test_a_still_asks_for_no_repeats(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    assert probe(tmp_path / "a.png").loop is None
