"""What people give to `enhance` by mistake, as they meet it: a sentence, exit code 2, no file."""

from __future__ import annotations

import os
import resource
import struct
import sys
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from unlossy import cli
from unlossy.gif_file import KEEP, write_gif
from unlossy.video import Frame, VideoWriter, probe, read_frames, shown_frames

HEIGHT, WIDTH = 12, 16


@pytest.fixture
def enhance(monkeypatch, capsys):
    """Run the door in this process; return (exit code, lines on stderr)."""

    def run(source: Path, target: Path, *options: str) -> tuple[int, list[str]]:
        arguments = ["enhance", str(source), str(target), "--model", "identity", *options]
        monkeypatch.setattr(sys, "argv", arguments)
        code = 0
        try:
            cli.enhance()
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, capsys.readouterr().err.splitlines()

    return run


def entries(folder: Path) -> dict[str, bytes | None]:
    return {p.name: p.read_bytes() if p.is_file() else None for p in folder.iterdir()}


@pytest.fixture
def refused(enhance, tmp_path):
    """Run the door on what must be refused, and check that the folder is as it was."""

    def run(source: Path, target: Path, sentence: str, *options: str) -> None:
        before = entries(tmp_path)
        code, lines = enhance(source, target, *options)
        errors = [line for line in lines if line.startswith("error: ")]
        assert (code, len(errors)) == (2, 1), lines
        assert sentence in errors[0]
        assert errors[0].endswith(".")
        assert "Traceback" not in "\n".join(lines)
        assert entries(tmp_path) == before

    return run


def gif(frames: int = 3, colors: int = 16, *, delay: int = 4, hole: int | None = None) -> bytes:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, colors, (frames, HEIGHT, WIDTH)).astype(np.uint8)
    tables = [rng.integers(0, 256, (colors, 3)).astype(np.uint8) for _ in range(frames)]
    holes = [hole] * frames
    return write_gif(pictures, tables * (2 if frames == 1 else 1), [delay] * frames,
                     transparent=holes, disposal=KEEP)  # fmt: skip


def film(path: Path, frames: int = 6) -> Path:
    rng = np.random.default_rng(0)
    picture = torch.from_numpy(rng.integers(0, 256, (3, HEIGHT, WIDTH)).astype(np.uint8))
    with VideoWriter(path, WIDTH, HEIGHT, Fraction(25)) as writer:
        for k in range(frames):
            writer.add(Frame(picture.roll(k, 2), None, Fraction(k, 25), Fraction(1, 25)))
    return path


def coded(path: Path, codec: str, sizes: list[tuple[int, int]], rotation: int = 0) -> Path:
    """Pictures of several sizes one after the other, each coded by itself."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *sizes[0], "yuvj420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for k, (width, height) in enumerate(sizes):
            encoder = av.CodecContext.create(codec, "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
            encoder.time_base = Fraction(1, 25)
            picture = av.VideoFrame.from_ndarray(
                np.full((height, width, 3), 40 * k, np.uint8), "rgb24"
            ).reformat(format="yuvj420p")
            for packet in encoder.encode(picture) + encoder.encode(None):
                packet.stream, packet.pts, packet.dts = stream, k, k
                packet.time_base = Fraction(1, 25)
                container.mux(packet)
    return path


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    return path


WHOLE = gif()


@pytest.mark.parametrize(
    ("content", "sentence", "target"),
    [
        (b"", "is empty (0 bytes)", "b.gif"),
        (b"Dear diary, today\n", "is no GIF file, whatever its name says", "b.mp4"),
        (WHOLE[:-40], "is truncated: it ends in image 2", "b"),
        (WHOLE[:-40], "is truncated: it ends in image 2", "b.mp4"),
        (WHOLE[:300] + b"\xff" + WHOLE[301:-30], "a cat.gif", "b.webm"),
        (WHOLE[:6] + b"\xff\xff\xff\xff" + WHOLE[10:], "declares 65535x65535 pixels", "b.mkv"),
    ],
)
def test_a_broken_gif(tmp_path, refused, content, sentence, target):
    source = tmp_path / "a cat.gif"
    source.write_bytes(content)
    refused(source, tmp_path / target, sentence)


@pytest.mark.parametrize(
    ("keep", "sentence"), [(0.0, "is empty"), (0.4, "not a whole video"), (0.9, "a film.mp4 is")]
)
def test_a_broken_film(tmp_path, refused, keep, sentence):
    source = film(tmp_path / "a film.mp4")
    content = source.read_bytes()
    source.write_bytes(content[: int(keep * len(content))])
    refused(source, tmp_path / "b.gif", sentence)


def test_damage_in_the_middle_shows_late_and_leaves_nothing(tmp_path, refused):
    """Frames have been written by then."""
    data = bytearray(gif(40))
    image = data.rfind(b"\x2c\x00\x00\x00\x00")
    data[image + 10 + 3 * 16] = 13  # LZW codes of 13 bits do not exist
    source = tmp_path / "a.gif"
    source.write_bytes(data)
    for target in ("b.gif", "b.mp4", "b"):
        refused(source, tmp_path / target, "damaged in image 39")


def test_a_film_that_is_only_sound_or_text(tmp_path, refused):
    refused(sound(tmp_path / "a.mp4"), tmp_path / "b.mp4", "has no video stream")
    (tmp_path / "a.avi").write_bytes(b"Dear diary, " * 99)
    refused(tmp_path / "a.avi", tmp_path / "b.mp4", "not a whole video")


def test_sizes_that_change(tmp_path, refused):
    source = coded(tmp_path / "a.avi", "mjpeg", [(16, 12), (16, 12), (32, 24)])
    refused(source, tmp_path / "b.mp4", "another size from frame 2 on (16x12 and 32x24)")
    folder = tmp_path / "frames"
    folder.mkdir()
    for k, side in enumerate((8, 8, 9)):
        Image.new("RGB", (side, 8)).save(folder / f"{k}.png")
    refused(folder, tmp_path / "b.mp4", "another size from frame 2 on (8x8 and 9x8)")
    (folder / "2.png").unlink()
    (folder / "3.gif").write_bytes(WHOLE)
    refused(folder, tmp_path / "b.mp4", "3.gif moves by itself")


def test_a_size_that_is_only_claimed(tmp_path, refused):
    """An MJPEG frame whose header says 65,000 x 65,000 would be 12 GB."""
    source = coded(tmp_path / "a.avi", "mjpeg", [(16, 12)] * 3)
    content = source.read_bytes()
    start = content.index(b"\xff\xc0\x00\x11\x08")
    claim = (65000).to_bytes(2) * 2
    source.write_bytes(content[: start + 5] + claim + content[start + 9 :])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(source, tmp_path / "b.gif", "a.avi")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_the_input_itself_by_whatever_name(tmp_path, refused):
    source = tmp_path / "a.gif"
    source.write_bytes(WHOLE)
    (tmp_path / "soft.gif").symlink_to(source)
    os.link(source, tmp_path / "hard.gif")
    (tmp_path / "below").mkdir()
    for target in ("a.gif", "soft.gif", "hard.gif", "below/../a.gif"):
        refused(source, tmp_path / target, "is the input itself")
    refused(tmp_path / "soft.gif", source, "is the input itself")
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png")
    refused(tmp_path / "p*.png", tmp_path / "p.png", "is the input itself")


def test_what_the_output_cannot_hold(tmp_path, refused):
    source = tmp_path / "a.gif"
    source.write_bytes(gif(hole=3))
    refused(source, tmp_path / "b.mp4", "transparent pixels, which MP4 cannot hold")
    refused(source, tmp_path / "b.mkv", "transparent pixels, which MKV cannot hold")
    refused(source, tmp_path / "b.png", "has 3 frames and a PNG holds one")
    refused(source, tmp_path / "b.tiff", "I cannot write .tiff")
    refused(tmp_path / "*.jpg", tmp_path / "b.mp4", "holds no images")
    refused(tmp_path / "**.jpg", tmp_path / "b.mp4", "**.jpg")
    Image.new("RGB", (20_000, 4)).save(tmp_path / "wide.png")
    refused(tmp_path / "wide.png", tmp_path / "b.mp4", "at most 16384 pixels a side")


@contextmanager
def room(size: int):
    """Files may grow to so many bytes: what a full disk does, but for the words."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("b.mp4", ()),
        ("b.webm", ()),
        ("b.gif", ()),
        ("b.gif", ("--palette", "global")),
        ("b", ()),
        ("one.png", ()),
        ("b.gif", ("--compare",)),
    ],
)
def test_no_room_left(tmp_path, refused, target, options):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (1 if target == "one.png" else 12, 64, 64)).astype(np.uint8)
    table = rng.integers(0, 256, (256, 3)).astype(np.uint8)
    source = tmp_path / "a.gif"
    source.write_bytes(write_gif(noise, [table], [4] * len(noise)))
    with room(2000):
        refused(source, tmp_path / target, "cannot write", *options)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="a folder where not even root may write")
@pytest.mark.parametrize("name", ["b.mp4", "b"])
def test_a_folder_that_cannot_be_written_to(tmp_path, refused, name):
    source = tmp_path / "a.gif"
    source.write_bytes(WHOLE)
    refused(source, Path("/proc") / name, f"cannot write /proc/{name}")


def test_zero_delays_and_one_pixel_just_work(tmp_path, enhance):
    source = tmp_path / "a.gif"
    source.write_bytes(gif(delay=0))
    assert enhance(source, tmp_path / "b.gif")[0] == 0
    assert [frame.duration for frame in shown_frames(tmp_path / "b.gif")] == [0, 0, 0]
    assert enhance(source, tmp_path / "b.mp4")[0] == 0
    assert [f.duration for f in shown_frames(tmp_path / "b.mp4")] == [Fraction(1, 10)] * 3
    dot = np.zeros((1, 1), np.uint8)
    source.write_bytes(write_gif([dot, dot], [np.array([[9, 99, 199]], np.uint8)], [4, 4]))
    for target in ("c.gif", "c.mp4", "c.webm", "c"):
        assert enhance(source, tmp_path / target)[0] == 0
        found = read_frames(tmp_path / target)[:, :, 0, 0].int()
        assert (found - torch.tensor([9, 99, 199])).abs().max() <= 2


def mosaic(path: Path, images: int) -> Path:
    """Images of 250 colours each, side by side on one canvas: together far more than 256."""
    rng = np.random.default_rng(0)
    index = np.arange(256).reshape(16, 16).astype(np.uint8) % 250
    body = bytearray()
    for k in range(images):
        table = rng.integers(0, 256, (256, 3)).astype(np.uint8)
        part = bytearray(write_gif([index], [table, table], [4], loop=None)[13:-1])
        part[9:13] = struct.pack("<HH", 16 * (k % 6), 16 * (k // 6))  # after the control block
        body += part
    path.write_bytes(b"GIF89a" + struct.pack("<HHBBB", 96, 96, 0x70, 0, 0) + body + b";")
    return path


def test_thousands_of_colours_in_one_gif(tmp_path, enhance):
    """Local tables add up: a frame as shown may have any number of colours."""
    source = mosaic(tmp_path / "a.gif", 36)
    last = read_frames(source)[-1]
    assert len(torch.unique(last.flatten(1), dim=1).T) > 8_900
    for target in ("b", "b.gif"):
        code, lines = enhance(source, tmp_path / target)
        assert code == 0, lines
    assert torch.equal(read_frames(tmp_path / "b")[-1], last)
    for frame in read_frames(tmp_path / "b.gif"):
        assert len(torch.unique(frame.flatten(1), dim=1).T) <= 256


def test_a_wide_picture_is_cut_into_tiles(tmp_path, enhance):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (40, 20_000, 3)).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    code, lines = enhance(tmp_path / "a.png", tmp_path / "b.png")
    assert code == 0, lines
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), picture)


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_other_animations(tmp_path, enhance, suffix):
    pictures = [Image.new("RGB", (8, 6), (80 * k, 0, 0)) for k in range(3)]
    source = tmp_path / f"a{suffix}"
    pictures[0].save(
        source, save_all=True, append_images=pictures[1:], duration=[30, 40, 500], lossless=True
    )
    for target in ("b.gif", "b.mkv"):
        code, lines = enhance(source, tmp_path / target)
        assert code == 0, lines
        found = list(shown_frames(tmp_path / target))
        assert [frame.duration * 1000 for frame in found] == [30, 40, 500]
        assert [round(int(frame.rgb[0, 0, 0]) / 80) for frame in found] == [0, 1, 2]


def test_a_turned_film_stands_upright(tmp_path, enhance):
    source = coded(tmp_path / "a.mp4", "mjpeg", [(16, 12)] * 2, rotation=90)
    assert enhance(source, tmp_path / "b.mp4")[0] == 0
    media = probe(tmp_path / "b.mp4")
    assert (media.width, media.height) == (12, 16)


def test_tags_in_another_alphabet(tmp_path, enhance):
    """What the fuzz found: PyAV takes every tag for UTF-8."""
    source = film(tmp_path / "a.mp4")
    content = source.read_bytes()
    assert content.count(b"Lavf") == 1
    source.write_bytes(content.replace(b"Lavf", b"L\xe9v\xf6"))
    assert enhance(source, tmp_path / "b.gif")[0] == 0


@pytest.mark.parametrize("target", ["b.gif", "b.webm", "b"])
def test_sound_that_is_left_out_is_told(tmp_path, enhance, target):
    source = sound(tmp_path / "sound.mp4")
    with (
        av.open(str(film(tmp_path / "film.mp4", 1))) as pictures,
        av.open(str(source)) as noise,
        av.open(str(tmp_path / "a.mp4"), "w") as both,
    ):
        tracks = [pictures.streams.video[0], noise.streams.audio[0]]
        streams = [both.add_stream_from_template(track) for track in tracks]
        for old, track, stream in zip((pictures, noise), tracks, streams, strict=True):
            for packet in old.demux(track):
                if packet.dts is not None:
                    packet.stream = stream
                    both.mux(packet)
    code, lines = enhance(tmp_path / "a.mp4", tmp_path / target)
    assert code == 0, lines
    assert sum("cannot hold the aac sound" in line for line in lines) == 1
