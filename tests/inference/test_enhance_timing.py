"""More frames than there were: counts, lengths, delays, sound, cuts, tiles, comparison."""

from __future__ import annotations

import sys
from fractions import Fraction as F
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

import unlossy
from unlossy import checkpoint, cli
from unlossy.errors import UserError
from unlossy.gif_file import write_gif
from unlossy.inference.choosing import newest_checkpoint
from unlossy.inference.enhance import enhance
from unlossy.inference.timeline import Timing
from unlossy.models.baselines import Bicubic, Identity
from unlossy.models.film import FILM
from unlossy.models.interpolation_baselines import FrameAverage
from unlossy.models.model import EnhancementModel
from unlossy.models.vrcnn import VRCNN
from unlossy.networks.film import FILMNet
from unlossy.sample import Restored, Sample
from unlossy.video import Frame, VideoWriter, probe, read_frames, shown_frames

SMALL = {
    "pyramid_levels": 3, "fusion_levels": 2, "specialized_levels": 1, "sub_levels": 1,
    "filters": 4, "flow_convs": [1, 1], "flow_filters": [4, 4],
}  # fmt: skip


def gif(path: Path, delays: list[int], size: tuple[int, int] = (20, 30)) -> Path:
    """A bar that moves over grey noise."""
    rng = np.random.default_rng(0)
    floor = rng.integers(0, 8, size).astype(np.uint8)
    frames = []
    for k in range(len(delays)):
        index = floor.copy()
        index[:, 2 + 2 * k : 5 + 2 * k] = 15
        frames.append(index)
    palette = np.arange(16)[:, None].repeat(3, 1).astype(np.uint8) * 17
    path.write_bytes(write_gif(frames, [palette] * len(delays), delays))
    return path


def animation(path: Path, delays: list[int]) -> Path:
    """An animated WebP or PNG that grows brighter; delays in milliseconds."""
    first, *others = [Image.new("RGB", (16, 8), (20 * k, 0, 0)) for k in range(len(delays))]
    first.save(path, save_all=True, append_images=others, duration=delays, lossless=True)
    return path


def film(path: Path, frames: int = 6, rate: int = 24) -> Path:
    with VideoWriter(path, 32, 16, F(rate), time_base=F(1, rate)) as writer:
        for k in range(frames):
            rgb = torch.full((3, 16, 32), 40 * k).byte()
            writer.add(Frame(rgb, None, F(k, rate), F(1, rate)))
    return path


def ends(path: Path) -> tuple[int, F]:
    """How many frames there are and when the last one goes."""
    shown = list(shown_frames(path))
    return len(shown), shown[-1].time + shown[-1].duration


def test_python_asks_for_what_the_command_line_does(tmp_path):
    source = gif(tmp_path / "a.gif", DELAYS)
    asked = dict[str, Any](model=FrameAverage(), fps="30000/1001", slow=2, compare=True)
    target = unlossy.enhance(source, tmp_path / "b.mp4", **asked)
    assert entries(tmp_path) == ["a.gif", "b.compare.mp4", "b.mp4"]
    assert probe(target).rate == F(30000, 1001)
    assert ends(target)[0] == round(F(2 * sum(DELAYS), 100) * F(30000, 1001))
    with pytest.raises(UserError, match="give one"):
        unlossy.enhance(source, tmp_path / "c.mp4", factor=2, fps=50)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


DELAYS = [4, 10, 7, 30, 4]


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
def test_a_gif_becomes_a_film_of_twice_the_frames(tmp_path, suffix):
    source, target = gif(tmp_path / "a.gif", DELAYS), tmp_path / f"b{suffix}"
    enhance(source, target, model=FrameAverage(), timing=Timing(factor=F(2)))
    shown = list(shown_frames(target))
    assert len(shown) == 2 * len(DELAYS)
    assert shown[-1].time + shown[-1].duration == F(sum(DELAYS), 100)
    tick = F(1, 1000) if suffix == ".webm" else 0
    starts = [F(sum(DELAYS[:k]), 100) for k in range(len(DELAYS))]
    for frame, start in zip(shown[::2], starts, strict=True):
        assert abs(frame.time - start) <= tick
    halves = [start + F(delay, 200) for start, delay in zip(starts, DELAYS, strict=True)]
    tick = {".webm": F(1, 1000), ".gif": F(1, 100), ".mp4": 0}[suffix]
    for frame, half in zip(shown[1::2], halves, strict=True):
        assert abs(frame.time - half) <= tick


def test_delays_of_nothing_are_as_browsers_show_them(tmp_path):
    source = gif(tmp_path / "a.gif", [0, 0, 4])
    enhance(source, tmp_path / "b.mp4", model=FrameAverage(), timing=Timing(factor=F(2)))
    durations = [frame.duration for frame in shown_frames(tmp_path / "b.mp4")]
    assert durations == [F(5, 100)] * 4 + [F(2, 100)] * 2


@pytest.mark.parametrize(
    ("fps", "count"), [(F(60), 15), (F(60000, 1001), 15), (F(25), 6), (F(12), 3)]
)
def test_any_frame_rate(tmp_path, fps, count):
    source, target = film(tmp_path / "a.mp4"), tmp_path / "b.mp4"
    enhance(source, target, model=FrameAverage(), timing=Timing(fps=fps))
    shown = list(shown_frames(target))
    assert [frame.time for frame in shown] == [k / fps for k in range(count)]
    assert probe(target).rate == fps
    assert abs(count / fps - F(6, 24)) < 1 / fps
    means = torch.stack([frame.rgb.float().mean() for frame in shown])
    expected = torch.tensor([min(float(40 * frame.time * 24), 200.0) for frame in shown])
    assert (means - expected).abs().max() < 3  # H.264, and the snap of a millisecond


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_the_mean_rate_of_a_gif_makes_it_even(tmp_path, suffix):
    source, target = gif(tmp_path / "a.gif", [2, 20] * 3), tmp_path / f"b{suffix}"
    assert probe(source).rate == F(100, 11)
    enhance(source, target, model=FrameAverage(), timing=Timing(fps=F(100, 11)))
    assert [frame.duration for frame in shown_frames(target)] == [F(11, 100)] * 6


def test_the_mean_rate_of_a_film_makes_it_even(tmp_path):
    enhance(gif(tmp_path / "a.gif", [2, 20] * 3), tmp_path / "b.mp4", model=Identity())
    assert [frame.duration for frame in shown_frames(tmp_path / "b.mp4")] == [F(1, 50), F(1, 5)] * 3
    timing = Timing(fps=F(100, 11))
    enhance(tmp_path / "b.mp4", tmp_path / "c.mp4", model=FrameAverage(), timing=timing)
    assert [frame.duration for frame in shown_frames(tmp_path / "c.mp4")] == [F(11, 100)] * 6


def test_the_rate_of_an_even_gif_changes_nothing(tmp_path):
    source = gif(tmp_path / "a.gif", [0, 1, 10])  # which browsers show for 100 ms each
    enhance(source, tmp_path / "b.gif", model=Identity(), timing=Timing(fps=F(10)))
    durations = [frame.duration for frame in shown_frames(tmp_path / "b.gif")]
    assert durations == [0, F(1, 100), F(10, 100)]


@pytest.mark.parametrize("suffix", [".webp", ".png"])
@pytest.mark.parametrize(
    ("timing", "count", "seconds"),
    [
        (Timing(factor=F(3, 2)), 15, F(4, 10)),
        (Timing(fps=F(10)), 4, F(4, 10)),
        (Timing(slow=F(3, 2)), 15, F(6, 10)),
    ],
)
def test_other_animations(tmp_path, suffix, timing, count, seconds):
    source = animation(tmp_path / f"a{suffix}", [40] * 10)
    enhance(source, tmp_path / "b.mp4", model=FrameAverage(), timing=timing)
    assert ends(tmp_path / "b.mp4") == (count, seconds)


def test_a_folder_plays_25_frames_a_second_for_ever(tmp_path):
    source = tmp_path / "frames"
    enhance(gif(tmp_path / "a.gif", [7] * 5), source, model=Identity())
    enhance(source, tmp_path / "b.gif", model=Identity())
    assert ends(tmp_path / "b.gif") == (5, F(5, 25))
    assert probe(tmp_path / "b.gif").loop == 0
    # The rate that it was made for, and no frame is added.
    faster = Timing(factor=F(1), slow=F(25, 30))
    enhance(source / "*.png", tmp_path / "c.mp4", model=Identity(), timing=faster)
    assert ends(tmp_path / "c.mp4") == (5, F(5, 30))


def test_slow_motion_has_the_same_rate_and_no_sound(tmp_path, capsys):
    source = film(tmp_path / "a.mp4")
    enhance(source, tmp_path / "b.mp4", model=FrameAverage(), timing=Timing(slow=F(4)))
    assert ends(tmp_path / "b.mp4") == (24, F(1))
    assert probe(tmp_path / "b.mp4").rate == 24
    assert "sound" not in capsys.readouterr().err  # there was none
    enhance(source, tmp_path / "c.mp4", model=VRCNN(), timing=Timing(slow=F(2), factor=F(1)))
    assert ends(tmp_path / "c.mp4") == (6, F(1, 2))


@pytest.mark.parametrize(
    "timing", [Timing(factor=F(2)), Timing(fps=F(60)), Timing(slow=F(2)), Timing(factor=F(1, 2))]
)
def test_a_model_that_does_not_interpolate_is_refused(tmp_path, timing):
    source = film(tmp_path / "a.mp4")
    with pytest.raises(UserError, match=r"^VRCNN makes no frames between frames.*leave out"):
        enhance(source, tmp_path / "b.mp4", model=VRCNN(), timing=timing)
    assert entries(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("timing", [Timing(factor=F(1)), Timing(fps=F(24))])
def test_what_changes_nothing_takes_any_model(tmp_path, timing):
    source = film(tmp_path / "a.mp4")
    enhance(source, tmp_path / "b.mp4", model=VRCNN(), timing=timing)
    assert ends(tmp_path / "b.mp4") == (6, F(6, 24))


@pytest.mark.parametrize("timing", [Timing(factor=F(3)), Timing(fps=F(7)), Timing(slow=F(2))])
def test_one_frame_has_nothing_beside_it(tmp_path, timing):
    source = gif(tmp_path / "a.gif", [4])
    with pytest.raises(UserError, match=r"a\.gif has one frame.*--factor 1 restores its colours"):
        enhance(source, tmp_path / "b.mp4", model=FrameAverage(), timing=timing)
    assert entries(tmp_path) == ["a.gif"]
    for name, timing_ in (("b.png", Timing(factor=F(1))), ("c.png", Timing())):
        enhance(source, tmp_path / name, model=FrameAverage(), timing=timing_)
        assert torch.equal(read_frames(tmp_path / name), read_frames(source))


def test_a_gif_plays_fifty_frames_a_second(tmp_path):
    source = gif(tmp_path / "a.gif", [3] * 4)
    with pytest.raises(UserError, match=r"50 frames a second at most.*66\.67.*--fps 50"):
        enhance(source, tmp_path / "b.gif", model=FrameAverage(), timing=Timing(factor=F(2)))
    enhance(source, tmp_path / "b.gif", model=FrameAverage(), timing=Timing(fps=F(50)))
    assert ends(tmp_path / "b.gif") == (6, F(12, 100))
    enhance(source, tmp_path / "b.webm", model=FrameAverage(), timing=Timing(factor=F(2)))
    assert ends(tmp_path / "b.webm") == (8, F(12, 100))


def test_an_interpolator_doubles_unasked_and_says_so(tmp_path, capsys):
    source = gif(tmp_path / "a.gif", DELAYS)
    enhance(source, tmp_path / "b.mp4", model=FrameAverage())
    assert ends(tmp_path / "b.mp4") == (10, F(55, 100))
    assert "two frames out for each one in; --factor" in capsys.readouterr().err
    enhance(source, tmp_path / "c.mp4", model=Identity())
    assert ends(tmp_path / "c.mp4") == (5, F(55, 100))
    assert "two frames" not in capsys.readouterr().err


def test_cuts_are_told(tmp_path, capsys):
    source = tmp_path / "a.mp4"
    with VideoWriter(source, 32, 16, F(25), time_base=F(1, 25)) as writer:
        for k in range(8):
            rgb = torch.full((3, 16, 32), 30 if k < 5 else 200).byte()
            writer.add(Frame(rgb, None, F(k, 25), F(1, 25)))
    model = FrameAverage()
    model.cut = 25.0
    enhance(source, tmp_path / "b.mp4", model=model, timing=Timing(factor=F(4)))
    assert "scene cuts that are held, not morphed: 1\n" in capsys.readouterr().err
    levels = [int(frame.float().mean()) for frame in read_frames(tmp_path / "b.mp4")]
    assert all(abs(level - 30) < 4 or abs(level - 200) < 4 for level in levels)


@pytest.mark.parametrize(
    ("target", "beside"),
    [("b.mp4", "b.compare.mp4"), ("b c.webm", "b c.compare.webm"), ("b.gif", "b.compare.mp4"),
     ("folder", "folder.compare.mp4")],
)  # fmt: skip
def test_before_and_after_side_by_side(tmp_path, target, beside):
    source = gif(tmp_path / "a.gif", DELAYS)
    timing = Timing(factor=F(2))
    enhance(source, tmp_path / target, model=FrameAverage(), timing=timing, compare=True)
    assert entries(tmp_path) == sorted(["a.gif", target, beside])
    both, result = read_frames(tmp_path / beside).float(), read_frames(tmp_path / target).float()
    assert both.shape == (10, 3, 20, 64)
    held = read_frames(source).repeat_interleave(2, 0).float()
    assert (both[..., :30] - held).abs().mean() < 12  # grey noise through 4:2:0 at CRF 16
    assert (both[..., 34:] - result).abs().mean() < 12
    assert (both[1, ..., :30] - both[0, ..., :30]).abs().mean() < 3
    assert (both[1, ..., 34:] - both[0, ..., 34:]).abs().mean() > 6


def test_the_left_half_is_as_large_as_the_result(tmp_path):
    source = gif(tmp_path / "a.gif", DELAYS)
    enhance(source, tmp_path / "b.mp4", model=Bicubic(2), compare=True)
    assert probe(tmp_path / "b.compare.mp4").width == 4 * 30 + 4
    assert probe(tmp_path / "b.compare.mp4").height == 40


def test_the_comparison_is_refused_before_any_work_and_leaves_nothing(tmp_path):
    source = gif(tmp_path / "b.compare.gif", DELAYS)
    source = source.rename(tmp_path / "b.compare.mp4.gif")
    (tmp_path / "b.compare.mp4").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        enhance(source, tmp_path / "b.mp4", model=FrameAverage(), compare=True)

    class Breaks(FrameAverage):
        def between(self, first, last, times):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        enhance(source, tmp_path / "c.mp4", model=Breaks(), compare=True)
    assert entries(tmp_path) == ["b.compare.mp4", "b.compare.mp4.gif"]


def small_film() -> FILM:
    torch.manual_seed(0)
    return FILM(FILMNet(**SMALL))


def test_tiles_of_a_given_side(tmp_path, capsys):
    rng = np.random.default_rng(0)
    index = rng.integers(0, 16, (50, 150)).astype(np.uint8)
    palette = np.arange(16)[:, None].repeat(3, 1).astype(np.uint8) * 17
    (tmp_path / "a.gif").write_bytes(write_gif([index] * 3, [palette] * 3, [4] * 3))
    seen = []

    class Blur(EnhancementModel):
        reach = 1

        def forward(self, batch: Sample) -> Restored:
            frames = batch["degraded"].flatten(0, 1)
            seen.append(tuple(frames.shape[-2:]))
            kernel = torch.full((3, 1, 3, 3), 1 / 9)
            return Restored(
                estimate=functional.conv2d(frames, kernel, padding=1, groups=3)[None], extras={}
            )

    model = Blur()
    enhance(tmp_path / "a.gif", tmp_path / "whole", model=model)
    assert set(seen) == {(50, 150)}
    seen.clear()
    enhance(tmp_path / "a.gif", tmp_path / "tiled", model=model, tile=10)
    assert max(max(size) for size in seen) == 2 * (2 + 16)
    assert "note: tiles of 36 pixels, the smallest for Blur" in capsys.readouterr().err
    whole, tiled = (read_frames(tmp_path / name).int() for name in ("whole", "tiled"))
    assert (whole - tiled).abs().max() <= 1
    assert (whole - read_frames(tmp_path / "a.gif")).abs().max() > 5
    with pytest.raises(UserError, match="--tile 0"):
        enhance(tmp_path / "a.gif", tmp_path / "other", model=model, tile=0)


def run(root: Path, time: str, network: nn.Module, config: dict, degradation: dict) -> Path:
    path = root / "x" / time / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    training = {
        "model": "m", "loss": "l1", "degradation": degradation, "source": "mixed", "needs": [],
        "scale": 1, "seed": 0,
    }  # fmt: skip
    torch.save(checkpoint.pack(network, config, training), path)
    return path


def test_a_checkpoint_that_interpolates_is_chosen_only_where_that_is_asked_for(tmp_path):
    vrcnn = {"_target_": "unlossy.models.vrcnn.VRCNN"}
    network = {"_target_": "unlossy.networks.film.FILMNet"} | SMALL
    config = {"_target_": "unlossy.models.film.FILM", "network": network}
    source, root = film(tmp_path / "a.mp4"), tmp_path / "runs"
    with pytest.raises(UserError, match=r"makes frames between.*interpolation/superslomo"):
        newest_checkpoint(root, source, None, interpolating=True)
    with pytest.raises(UserError, match=r"a GIF and makes.*gif2video/small"):
        newest_checkpoint(root, source, 32, interpolating=True)
    plain = run(root, "2026-01-01_a", VRCNN(), vrcnn, {"crf": 35})
    between = run(root, "2026-01-02_b", small_film(), config, {"factor": 2})
    assert newest_checkpoint(root, source, None) == plain
    assert newest_checkpoint(root, source, None, interpolating=True) == between
    with pytest.raises(UserError, match="no checkpoint"):
        newest_checkpoint(root, source, 32, interpolating=True)
    enhance(source, tmp_path / "b.mp4", run_root=root, timing=Timing(factor=F(3)))
    assert ends(tmp_path / "b.mp4") == (18, F(6, 24))


@pytest.fixture
def door(monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["enhance", *arguments])
        code = 0
        try:
            cli.enhance()
        except SystemExit as exit_:
            code = exit_.code or 0
        return code, capfd.readouterr().err

    return call


def test_models_without_a_checkpoint_by_name(door, tmp_path):
    gif(tmp_path / "a.gif", DELAYS)
    assert door("a.gif", "b.mp4", "--model", "identity")[0] == 0
    assert ends(tmp_path / "b.mp4") == (5, F(55, 100))
    assert door("a.gif", "c.mp4", "--model", "minterpolate", "--factor", "3")[0] == 0
    assert ends(tmp_path / "c.mp4")[0] == 15
    assert door("a.gif", "d", "--model", "gaussian", "--precision", "bfloat16")[0] == 0
    for name, why in (("film", "has to learn"), ("nearest_patch", "learn"), ("felm", "unknown")):
        code, said = door("a.gif", "e.mp4", "--model", name)
        assert code == 2
        assert f"--model {name}" in said
        assert why in said
        for choice in ("frame_average", "identity", "minterpolate", "gaussian"):
            assert choice in said
        assert "ccdnet" not in said
    assert door("a.gif", "e.mp4", "--model", "identity", "--ckpt", "x")[0] == 2
    assert entries(tmp_path) == ["a.gif", "b.mp4", "c.mp4", "d"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--factor", "x"], "no number"),
        (["--fps", "0"], "--fps 0"),
        (["--slow", "-1"], "--slow -1"),
        (["--factor", "2"], "a.gif has one frame"),
    ],
)
def test_a_wrong_wish_is_one_sentence(door, tmp_path, arguments, words):
    gif(tmp_path / "a.gif", [4])
    code, said = door("a.gif", "b.mp4", "--model", "frame_average", *arguments)
    assert code == 2
    assert [line for line in said.splitlines() if line.startswith("error: ") and words in line]
    assert entries(tmp_path) == ["a.gif"]
