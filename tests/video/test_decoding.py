from __future__ import annotations

import os
import resource
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from unlossy import assets
from unlossy.errors import UserError
from unlossy.video import decoding, iter_frames, probe, read_frames, shown_frames


def encode(path: Path, pictures: np.ndarray, **settings) -> Path:
    """H.264 or VP9 of (T, H, W, 3) with B frames, one step per frame at 25 fps."""
    with av.open(str(path), "w", options=settings.pop("muxing", {})) as container:
        codec = "libvpx-vp9" if path.suffix == ".webm" else "libx264"
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = settings.pop("pix_fmt", "yuv420p")
        stream.options = settings.pop("options", {"crf": "10"})
        if "rotation" in settings:
            stream.set_display_rotation(settings["rotation"])
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    return path


def counted(frames: int = 40, height: int = 32, width: int = 64) -> np.ndarray:
    """Frame k shows k in binary, as eight black and white bars."""
    bits = np.arange(frames)[:, None] >> np.arange(8) & 1
    bars = np.repeat(bits, width // 8, axis=1)[:, None, :, None]
    return np.broadcast_to(bars * 255, (frames, height, width, 3)).astype(np.uint8)


def number(picture: torch.Tensor) -> int:
    columns = picture.float().mean((0, 1)).view(8, -1).mean(1) > 127
    return int((columns.int() << torch.arange(8)).sum())


@pytest.fixture(scope="module", params=[".mp4", ".webm", ".mkv", ".ts"])
def film(request, tmp_path_factory):
    return encode(tmp_path_factory.mktemp("film") / f"a film{request.param}", counted())


@pytest.mark.parametrize(
    ("start", "count", "every"),
    [(0, None, 1), (0, 7, 1), (13, 9, 1), (39, 1, 1), (3, None, 10), (5, 3, 7)],
)
def test_frames_are_the_ones_asked_for(film, start, count, every):
    found = [number(picture) for picture in iter_frames(film, start, count, None, every)]
    stop = None if count is None else start + count * every
    assert found == list(range(40))[start:stop:every]


def test_probe_and_times(film):
    media = probe(film)
    assert (media.width, media.height, media.rate) == (64, 32, 25)
    assert abs(media.frames - 40) <= (0 if media.exact else 1)
    assert media.exact == (film.suffix == ".mp4")
    times = [frame.time for frame in shown_frames(film)]
    assert [round(time * 25) for time in np.array(times) - times[0]] == list(range(40))
    assert {round(frame.duration * 25) for frame in shown_frames(film)} == {1}


def test_area_average(tmp_path):
    smooth = np.linspace(0, 255, 32 * 64, dtype=np.uint8).reshape(1, 32, 64, 1).repeat(3, axis=3)
    path = encode(tmp_path / "a.mp4", smooth, options={"qp": "0"})
    whole = read_frames(path).float()
    small = read_frames(path, size=(16, 8))
    assert small.shape == (1, 3, 8, 16)
    means = torch.nn.functional.avg_pool2d(whole, 4)
    assert (small - means).abs().max() <= 1.5


@pytest.mark.parametrize(
    ("size", "tag", "matrix"),
    [
        ((64, 32), None, (0.299, 0.114)),
        ((1280, 32), None, (0.2126, 0.0722)),
        ((64, 32), 1, (0.2126, 0.0722)),
        ((1280, 32), 6, (0.299, 0.114)),
    ],
)
def test_colour_matrix(tmp_path, size, tag, matrix):
    """Tags count; without, BT.709 for HD and BT.601 below. Witness: the conversion by hand."""
    y, u, v = 120, 90, 160
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv444p"
        stream.options = {"qp": "0"}
        if tag is not None:
            stream.codec_context.colorspace = tag
        planes = np.full((3, size[1], size[0]), 0, np.uint8)
        planes[:] = np.array([y, u, v], np.uint8)[:, None, None]
        container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, "yuv444p")))
        container.mux(stream.encode(None))
    kr, kb = matrix
    luma, cb, cr = (y - 16) * 255 / 219, (u - 128) * 255 / 224, (v - 128) * 255 / 224
    red, blue = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    found = read_frames(tmp_path / "a.mp4")[0].float().mean((1, 2))
    assert found.tolist() == pytest.approx([red, green, blue], abs=1.5)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_phone_videos_stand_upright(tmp_path, rotation):
    picture = np.zeros((1, 32, 64, 3), np.uint8)
    picture[:, :16, :16] = 255  # top left as stored
    path = encode(tmp_path / "a.mp4", picture, rotation=rotation)
    expected = np.rot90(picture[0], rotation // 90)  # both count counter-clockwise
    media = probe(path)
    assert (media.height, media.width) == expected.shape[:2]
    found = read_frames(path)[0].permute(1, 2, 0).numpy()
    assert np.abs(found.astype(int) - expected).mean() < 3
    height, width = expected.shape[:2]
    small = read_frames(path, size=(width // 2, height // 2))
    assert small.shape == (1, 3, height // 2, width // 2)


@pytest.mark.parametrize(
    ("stamps", "times"),
    [
        ([None] * 6, [0, 1, 2, 3, 4, 5]),
        ([0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5]),
        ([0, 1, 5, 2, 3, 8], [0, 1, 5, 6, 7, 8]),
        ([-3, 1, None, 4, 4, 9], [0, 1, 2, 4, 5, 9]),
    ],
)
def test_time_stamps_that_are_missing_or_go_back(tmp_path, monkeypatch, stamps, times):
    """Every frame comes through, each later than the one before."""
    path = encode(tmp_path / "a.mp4", counted(6))
    pictures = decoding._pictures

    def mistimed(container, stream):
        for frame, stamp in zip(pictures(container, stream), stamps, strict=True):
            tick = round(1 / (25 * frame.time_base))
            frame.pts = None if stamp is None else stamp * tick
            yield frame

    monkeypatch.setattr(decoding, "_pictures", mistimed)
    found = list(shown_frames(path))
    assert [number(frame.rgb) for frame in found] == list(range(6))
    assert [frame.time * 25 for frame in found] == times
    assert all(frame.duration > 0 for frame in found)


def test_patterns_take_what_matches_in_natural_order(tmp_path):
    for k in (1, 2, 10):
        Image.new("RGB", (4, 3), (k, 0, 0)).save(tmp_path / f"a {k}.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "b.png")
    found = read_frames(tmp_path / "a *.png")
    assert found[:, 0, 0, 0].tolist() == [1, 2, 10]
    assert probe(tmp_path / "a *.png").frames == 3
    (tmp_path / "c[1].png").write_bytes((tmp_path / "b.png").read_bytes())
    assert read_frames(tmp_path / "c[1].png").shape == (1, 3, 9, 9)  # a file, not a pattern
    for nothing in ("d*.png", "**.png"):
        with pytest.raises(UserError, match=r"\*\.png"):
            read_frames(tmp_path / nothing)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_kinds_of_stills(tmp_path, suffix):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (5, 7, 3)).astype(np.uint8)
    options = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(picture).save(tmp_path / f"a{suffix}", **options)
    assert np.array_equal(read_frames(tmp_path / f"a{suffix}")[0].permute(1, 2, 0), picture)


def test_the_depth_map_of_a_phone_is_no_second_frame(tmp_path):
    photo, depth = Image.new("RGB", (16, 8), (200, 0, 0)), Image.new("RGB", (4, 2))
    photo.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[depth])
    assert probe(tmp_path / "a.jpg").frames == 1
    assert read_frames(tmp_path / "a.jpg").shape == (1, 3, 8, 16)


def test_alpha_of_a_film(tmp_path):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (12, 16, 4)).astype(np.uint8)
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("qtrle", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 12, "argb"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgba")))
        container.mux(stream.encode(None))
    assert probe(tmp_path / "a.mov").alpha
    (frame,) = shown_frames(tmp_path / "a.mov")
    assert np.array_equal(frame.rgb.permute(1, 2, 0), picture[..., :3])
    assert np.array_equal(frame.alpha, picture[..., 3])


def test_stills_and_folders(tmp_path):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (11, 5, 7, 3)).astype(np.uint8)
    folder = tmp_path / "my frames"
    folder.mkdir()
    for k, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"frame {k}.png")  # 10 comes after 9
    found = read_frames(folder).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(found, pictures)
    assert probe(folder).frames == 11
    assert np.array_equal(
        read_frames(folder / "frame 3.png")[0].permute(1, 2, 0).numpy(), pictures[3]
    )
    gray = Image.fromarray(pictures[0, :, :, 0])
    gray.putalpha(Image.fromarray(pictures[1, :, :, 0]))
    gray.save(tmp_path / "gray.png")
    (frame,) = shown_frames(tmp_path / "gray.png")
    assert np.array_equal(frame.rgb.numpy(), pictures[0, :, :, 0][None].repeat(3, 0))
    assert np.array_equal(frame.alpha.numpy(), pictures[1, :, :, 0])
    Image.fromarray(pictures[0, :4]).save(folder / "frame 99.png")
    with pytest.raises(UserError, match="another size"):
        read_frames(folder)


def test_an_animated_webp_has_its_delays(tmp_path):
    pictures = [Image.new("RGB", (8, 6), (80 * k, 0, 0)) for k in range(3)]
    path = tmp_path / "a.webp"
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=[33, 40, 500], lossless=True
    )
    frames = list(shown_frames(path))
    assert [frame.duration for frame in frames] == [Fraction(d, 1000) for d in (33, 40, 500)]
    assert [int(frame.rgb[0, 0, 0]) for frame in frames] == [0, 80, 160]


def audio_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        silence.sample_rate = 48000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))


def test_what_is_no_video_gets_a_sentence(tmp_path):
    path = tmp_path / "a clip.mp4"
    cases: list[tuple[Path, str]] = [(path, "does not exist")]
    for name, content, sentence in (
        ("empty.mp4", b"", "empty"),
        ("text.mp4", b"Dear diary, " * 99, "not a whole video"),
        ("text.png", b"Dear diary, " * 99, "no PNG file"),
        ("notes.txt", b"Dear diary", "a kind I cannot read"),
    ):
        (tmp_path / name).write_bytes(content)
        cases.append((tmp_path / name, sentence))
    audio_only(tmp_path / "sound.mp4")
    (tmp_path / "folder").mkdir()
    cases += [
        (tmp_path / "sound.mp4", "no video stream"),
        (tmp_path / "folder", "holds no images"),
    ]
    for case, sentence in cases:
        for act in (probe, read_frames):
            with pytest.raises(UserError, match=sentence) as caught:
                act(case)
            assert str(case) in str(caught.value)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.mp4", "frames", "shut"])
@pytest.mark.parametrize("act", [probe, read_frames])
def test_what_may_not_be_read_gets_a_sentence(tmp_path, monkeypatch, name, act):
    """Root may read everything, so the refusal is made here."""
    path = tmp_path / name
    if path.suffix:
        path.write_bytes(b"GIF89a")
    else:
        path.mkdir()
        (path / "1.png").write_bytes(b"GIF89a")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir" if name == "shut" else "open", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\); check") as caught:
        act(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("kind", [".mp4", "faststart", ".webm", ".mkv", ".avi"])
def test_a_truncated_video_is_refused(tmp_path, kind, share):
    noise = np.random.default_rng(0).integers(0, 256, (12, 32, 64, 3)).astype(np.uint8)
    path = tmp_path / ("a.mp4" if kind == "faststart" else f"a{kind}")
    muxing = {"movflags": "faststart"} if kind == "faststart" else {}
    encode(path, noise, muxing=muxing)
    assert len(read_frames(path)) == 12
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError):
        probe(path)
    with pytest.raises(UserError):
        read_frames(path)


def test_damage_inside_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (12, 32, 64, 3)).astype(np.uint8)
    path = encode(tmp_path / "a.mp4", noise)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000 : 40] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged at frame|not a whole video"):
        read_frames(path)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_two_hundred_reads_leak_nothing(film):
    def held() -> tuple[int, int]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB
        return len(os.listdir("/proc/self/fd")), peak  # noqa: PTH208

    for _ in range(20):
        next(iter_frames(film))
    files, memory = held()
    for _ in range(200):
        next(iter_frames(film, 2))  # left in the middle of the file
    assert held()[0] == files
    assert held()[1] - memory < 20_000


@pytest.mark.assets("clips")
def test_real_clips_have_the_frames_they_declare():
    expected = {"bikes": 250, "carphone_pristine": 120, "bigbuckbunny": 132}
    for name, frames in expected.items():
        (path,) = assets.fetch("clips").rglob(f"{name}.mp4")
        media = probe(path)
        assert media.frames == frames
        assert sum(1 for _ in iter_frames(path, size=(64, 36))) == frames
