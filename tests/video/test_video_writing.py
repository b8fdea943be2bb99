from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from unlossy.errors import UserError
from unlossy.video import Frame, VideoWriter, copies_audio, probe, shown_frames

TICKS = [(0, 10), (10, 3), (13, 50), (63, 7), (70, 2), (72, 2), (74, 9)]  # (time, delay) in 1/100 s
EACH = pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv"])


def frames(height: int = 32, width: int = 48, ticks=TICKS) -> list[Frame]:
    """Flat frames, each of its own colour."""
    colors = torch.tensor([[30 * k % 256, 250 - 30 * k, 120] for k in range(len(ticks))]).byte()
    return [
        Frame(
            color.view(3, 1, 1).expand(3, height, width), None, Fraction(t, 100), Fraction(d, 100)
        )
        for color, (t, d) in zip(colors, ticks, strict=True)
    ]


def write(path: Path, clip: Iterable[Frame], size=None, **options) -> None:
    height, width = size or clip[0].rgb.shape[1:]
    with VideoWriter(path, width, height, Fraction(10), **options) as writer:
        for frame in clip:
            writer.add(frame)


@EACH
def test_times_colours_and_count(tmp_path, suffix):
    path, clip = tmp_path / f"my clip{suffix}", frames()
    write(path, clip, time_base=Fraction(1, 100))
    found = list(shown_frames(path))
    assert [(frame.time * 100, frame.duration * 100) for frame in found] == TICKS
    for ours, theirs in zip(found, clip, strict=True):
        assert (ours.rgb.int() - theirs.rgb.int()).abs().max() <= 4
    media = probe(path)
    assert (media.width, media.height, media.audio) == (48, 32, None)
    assert list(tmp_path.iterdir()) == [path]


@EACH
@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(60), Fraction(24000, 1001)])
def test_broadcast_rates_do_not_drift(tmp_path, suffix, rate):
    base = 1 / (rate.numerator * Fraction(1))
    ticks = [k / rate for k in range(90)]
    blank = torch.zeros(3, 16, 16, dtype=torch.uint8)
    clip = [Frame(blank, None, tick, 1 / rate) for tick in ticks]
    write(tmp_path / f"a{suffix}", clip, time_base=base)
    found = [frame.time for frame in shown_frames(tmp_path / f"a{suffix}")]
    tolerance = 0 if suffix == ".mp4" else Fraction(1, 2000)  # the others count milliseconds
    assert len(found) == 90
    assert max(abs(ours - tick) for ours, tick in zip(found, ticks, strict=True)) <= tolerance


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (2, 7), (17, 32)])
def test_odd_sizes(tmp_path, size):
    rng = torch.Generator().manual_seed(0)
    rgb = torch.randint(0, 256, (3, 1, 1), generator=rng).byte().expand(3, *size)
    clip = [Frame(rgb, None, Fraction(0), Fraction(1, 10))]
    for suffix, grown in ((".mp4", True), (".mkv", True), (".webm", False)):
        path = tmp_path / f"a{suffix}"
        write(path, clip)
        height, width = (s + s % 2 if grown else s for s in size)
        media = probe(path)
        assert (media.height, media.width) == (height, width)
        (found,) = shown_frames(path)
        assert (found.rgb.int() - rgb[:, :1, :1].int()).abs().max() <= 4


@pytest.mark.parametrize(("suffix", "start"), [(".mp4", 0), (".mp4", 3), (".mkv", 0), (".webm", 0)])
def test_the_last_frame_stays_as_long_as_it_should(tmp_path, suffix, start):
    """B-frames are decoded in another order than shown, and MP4 tells steps of decoding."""
    generator = torch.Generator().manual_seed(0)
    delays = [2, 2, 5, 5, 15, 15, 2, 7, 30, 1, 4, 3]  # 1/200 s
    stops = [start + sum(delays[: k + 1]) for k in range(len(delays))]
    clip = [
        Frame(
            torch.randint(0, 256, (3, 48, 64), generator=generator).byte(),
            None,
            Fraction(stop - delay, 200),
            Fraction(delay, 200),
        )
        for stop, delay in zip(stops, delays, strict=True)
    ]
    write(tmp_path / f"a{suffix}", clip)
    found = [frame.duration * 200 for frame in shown_frames(tmp_path / f"a{suffix}")]
    assert found == delays


@EACH
@pytest.mark.parametrize("size", [(48, 64), (16, 1280)])
def test_flat_colours_come_back(tmp_path, suffix, size):
    """BT.601 below HD and BT.709 above, limited range: 27 colours, within 2 of 255."""
    colors = torch.cartesian_prod(*[torch.tensor([0, 128, 255])] * 3).byte()
    clip = [
        Frame(color.view(3, 1, 1).expand(3, *size), None, Fraction(k, 25), Fraction(1, 25))
        for k, color in enumerate(colors)
    ]
    write(tmp_path / f"a{suffix}", clip)
    for frame, color in zip(shown_frames(tmp_path / f"a{suffix}"), colors, strict=True):
        assert (frame.rgb.int() - color.int().view(3, 1, 1)).abs().max() <= 2


@EACH
@pytest.mark.parametrize("turned", [False, True])
def test_colours_stay_in_their_place(tmp_path, suffix, turned):
    """A wave of pure chroma comes back with its phase: H.264's samples lie left, not between."""
    angle = 2 * np.pi * np.arange(128) / 32
    wave = 60 * np.sin(angle)
    rows = np.stack((128 + wave, 128 + 0 * wave, 128 - wave)).round()
    rgb = torch.from_numpy(rows).byte()[:, None].repeat(1, 128, 1)
    rgb = rgb.mT.contiguous() if turned else rgb
    write(tmp_path / f"a{suffix}", [Frame(rgb, None, Fraction(0), Fraction(1, 25))])
    (frame,) = shown_frames(tmp_path / f"a{suffix}")
    found = (frame.rgb[0].double() - frame.rgb[2].double()).mean(1 if turned else 0).numpy()
    lag = np.angle((wave * np.exp(-1j * angle)).sum() / (found * np.exp(-1j * angle)).sum())
    assert abs(lag * 32 / (2 * np.pi)) < 0.1  # pixels


def test_frames_on_the_same_tick_move_by_one(tmp_path):
    times = [Fraction(0), Fraction(0), Fraction(1, 10**9), Fraction(1, 10)]
    blank = torch.zeros(3, 16, 16, dtype=torch.uint8)
    clip = [Frame(blank, None, time, Fraction(1, 10)) for time in times]
    write(tmp_path / "a.mp4", clip, time_base=Fraction(1, 10**9))
    found = [frame.time for frame in shown_frames(tmp_path / "a.mp4")]
    assert found == [Fraction(k, 90_000) for k in (0, 1, 2, 9000)]


@pytest.mark.parametrize(("size", "tag"), [((64, 48), 6), ((1280, 16), 1)])
def test_colours_are_tagged_as_players_guess(tmp_path, size, tag):
    path = tmp_path / "a.mp4"
    write(path, frames(size[1], size[0], TICKS[:1]))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (tag, 1)
        # By hand: full-range RGB (0, 250, 120) to limited-range luma.
        kr, kb = {6: (0.299, 0.114), 1: (0.2126, 0.0722)}[tag]
        luma = 16 + 219 / 255 * (250 * (1 - kr - kb) + 120 * kb)
        assert frame.to_ndarray()[0, 0] == pytest.approx(luma, abs=1.5)


def sound(path: Path, codec: str, fmt: str) -> None:
    """A second of 25 frames and noise."""
    with av.open(str(path), "w", format=fmt) as container:
        video = container.add_stream("libx264" if fmt != "webm" else "libvpx-vp9", rate=25)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        audio = container.add_stream(codec, rate=48000, layout="stereo")
        resample = av.AudioResampler(format=audio.format.name, layout="stereo", rate=48000)
        for k in range(25):
            gray = np.full((32, 32, 3), 10 * k, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(gray, "rgb24")))
        rng = np.random.default_rng(0)
        for k in range(50):
            noise = rng.normal(0, 0.1, (2, 960)).astype(np.float32)
            piece = av.AudioFrame.from_ndarray(noise, format="fltp", layout="stereo")
            piece.sample_rate, piece.pts = 48000, 960 * k
            for ready in resample.resample(piece):
                container.mux(audio.encode(ready))
        container.mux(audio.encode(None))
        container.mux(video.encode(None))


def packets(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        found = container.demux(audio=0)
        return [(float(p.pts * p.time_base), bytes(p)) for p in found if p.pts is not None]


@pytest.mark.parametrize(
    ("fmt", "codec", "suffix"),
    [
        ("mp4", "aac", ".mp4"),
        ("webm", "libopus", ".webm"),
        ("matroska", "aac", ".mp4"),
        ("webm", "libopus", ".mkv"),
        ("matroska", "pcm_s16le", ".mkv"),
    ],
)
def test_sound_is_copied_as_it_is(tmp_path, fmt, codec, suffix):
    source = tmp_path / f"in{ {'matroska': '.mkv'}.get(fmt, '.' + fmt) }"
    sound(source, codec, fmt)
    media = probe(source)
    assert copies_audio(media.audio, Path(f"a{suffix}"))
    clip = list(shown_frames(source))
    target = tmp_path / f"out{suffix}"
    write(target, clip, time_base=media.time_base, audio=source)
    assert len(list(shown_frames(target))) == len(clip) == 25
    before, after = packets(source), packets(target)
    assert [data for _, data in after] == [data for _, data in before]
    assert [at for at, _ in after] == pytest.approx([at for at, _ in before], abs=1e-3)


def test_sound_that_a_container_cannot_hold():
    assert not copies_audio("aac", Path("a.webm"))
    assert copies_audio("opus", Path("a.webm"))
    assert not copies_audio("vorbis", Path("a.MP4"))
    assert copies_audio("vorbis", Path("a.mkv"))
    assert not copies_audio("opus", Path("a.gif"))


def test_alpha_in_webm(tmp_path):
    alpha = torch.zeros(32, 48, dtype=torch.uint8)
    alpha[:, 20:] = 255
    clip = [frame._replace(alpha=alpha) for frame in frames()[:2]] + frames()[2:3]
    path = tmp_path / "a.webm"
    write(path, clip, alpha=True)
    decoder = av.CodecContext.create("libvpx-vp9", "r")  # FFmpeg's own decoder drops alpha
    planes = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            planes += [frame.to_ndarray(format="rgba")[..., 3] for frame in decoder.decode(packet)]
    assert len(planes) == 3
    assert np.abs(planes[0].astype(int) - alpha.numpy()).max() < 20
    assert planes[2].min() > 250
    assert probe(path).alpha
    found = list(shown_frames(path))
    assert [frame.time * 100 for frame in found] == [0, 10, 13]
    for frame, plane in zip(found, planes, strict=True):
        shown = torch.full((32, 48), 255) if frame.alpha is None else frame.alpha
        assert np.array_equal(shown.numpy(), plane)
    write(tmp_path / "b.webm", frames()[:2])
    assert not probe(tmp_path / "b.webm").alpha


@EACH
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_is_left_after_an_error(tmp_path, suffix, error):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"what was there")

    def interrupted():
        yield frames()[0]
        raise error

    with pytest.raises(error):
        write(path, interrupted(), size=(32, 48))
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"what was there"


def test_refusals(tmp_path):
    with pytest.raises(UserError, match=r"\.mp4 \.webm \.mkv"):
        VideoWriter(tmp_path / "a.avi", 2, 2, Fraction(10))
    for kind in ("mp4", "mkv"):
        with pytest.raises(UserError, match=f"{kind.upper()} cannot hold transparency"):
            VideoWriter(tmp_path / f"a.{kind}", 2, 2, Fraction(10), alpha=True)
    with pytest.raises(UserError, match="at most 16384 pixels a side, not 20000x32"):
        VideoWriter(tmp_path / "a.mp4", 20000, 32, Fraction(10))
    with (
        pytest.raises(UserError, match=r"cannot write .*No such file"),
        VideoWriter(tmp_path / "none" / "a.mp4", 2, 2, Fraction(10)),
    ):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "with_name", lambda path, name: path.parent / "full")
    (tmp_path / "full").symlink_to("/dev/full")
    noise = torch.randint(0, 256, (3, 64, 64)).byte()
    clip = [Frame(noise, None, Fraction(k, 10), Fraction(1, 10)) for k in range(20)]
    with pytest.raises(UserError, match=r"cannot write .*No space left"):
        write(tmp_path / "a.mp4", clip)
    assert list(tmp_path.iterdir()) == []
