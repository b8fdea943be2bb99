from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from unlossy.errors import UserError
from unlossy.video import probe, read_frames, shown_frames

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
TABLE = np.array([RED, GREEN, BLUE, (9, 9, 9)], np.uint8)


def lzw(index: np.ndarray) -> bytes:
    return Image.fromarray(index).tobytes("gif", "L", 8, 0)


def image(
    index: np.ndarray,
    left: int = 0,
    top: int = 0,
    table: np.ndarray | None = None,
    disposal: int = 0,
    hole: int | None = None,
    delay: int = 4,
) -> bytes:
    height, width = index.shape
    bits = 0 if table is None else 0x80 | len(table).bit_length() - 2
    return b"".join(
        (
            b"\x21\xf9\x04",
            struct.pack("<BHBB", disposal << 2 | (hole is not None), delay, hole or 0, 0),
            b"\x2c",
            struct.pack("<HHHHB", left, top, width, height, bits),
            b"" if table is None else table.tobytes(),
            b"\x08",
            lzw(index),
            b"\0",
        )
    )


def gif(width: int, height: int, *images: bytes, table: np.ndarray = TABLE) -> bytes:
    bits = 0xF0 | len(table).bit_length() - 2
    return b"".join(
        (
            b"GIF89a",
            struct.pack("<HHBBB", width, height, bits, 0, 0),
            table.tobytes(),
            b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x05\x00\x00",
            *images,
            b";",
        )
    )


def full(color: int, height: int = 2, width: int = 3) -> np.ndarray:
    return np.full((height, width), color, np.uint8)


def shown(path: Path) -> list[np.ndarray]:
    """RGBA of every frame, see-through pixels zeroed."""
    pictures = []
    for frame in shown_frames(path):
        height, width = frame.rgb.shape[1:]
        alpha = np.full((height, width), 255) if frame.alpha is None else frame.alpha.numpy()
        picture = np.dstack((frame.rgb.permute(1, 2, 0).numpy(), alpha)).astype(np.uint8)
        picture[picture[..., 3] == 0] = 0
        pictures.append(picture)
    return pictures


@pytest.fixture
def path(tmp_path):
    return tmp_path / "my cat.gif"


def test_disposal_by_hand(path):
    """0 leaves, 2 empties the rectangle, 3 brings back what was there."""
    path.write_bytes(
        gif(
            3,
            2,
            image(full(0), disposal=0),
            image(full(1, 1, 1), left=1, disposal=2),
            image(full(2, 1, 1), left=2, disposal=3),
            image(full(1, 1, 1), top=1, disposal=0),
        )
    )
    first, second, third, fourth = shown(path)
    assert (first == [*RED, 255]).all()
    assert second[0, 1].tolist() == [*GREEN, 255]
    assert third[0].tolist() == [[*RED, 255], [0, 0, 0, 0], [*BLUE, 255]]
    assert fourth[0].tolist() == [[*RED, 255], [0, 0, 0, 0], [*RED, 255]]
    assert fourth[1].tolist() == [[*GREEN, 255], [*RED, 255], [*RED, 255]]


def test_uncovered_canvas_is_transparent(path):
    path.write_bytes(gif(3, 2, image(full(1, 1, 2), left=1, top=1)))
    (frame,) = shown(path)
    assert frame[..., 3].tolist() == [[0, 0, 0], [0, 255, 255]]


def test_an_image_may_reach_beyond_the_canvas(path):
    path.write_bytes(gif(3, 2, image(full(0)), image(full(1, 5, 5), left=2, top=1)))
    assert shown(path)[1][..., 1].tolist() == [[0, 0, 0], [0, 0, 255]]


def test_delays_loop_and_times(path):
    path.write_bytes(gif(3, 2, *(image(full(0), delay=d) for d in (4, 0, 1, 250))))
    frames = list(shown_frames(path))
    assert [frame.duration * 100 for frame in frames] == [4, 0, 1, 250]
    assert [frame.time * 100 for frame in frames] == [0, 4, 14, 24]  # 0 and 1 are shown as 10
    media = probe(path)
    assert (media.frames, media.exact, media.loop) == (4, True, 5)
    assert media.rate == Fraction(400, 274)
    path.write_bytes(gif(3, 2, image(full(0))).replace(b"NETSCAPE2.0", b"SOMETHING30"))
    assert probe(path).loop is None


@pytest.mark.parametrize("seed", range(30))
def test_composition_equals_ffmpegs(path, seed):
    """With a see-through index in every image FFmpeg empties to transparent, as browsers do."""
    rng = np.random.default_rng(seed)
    width, height = rng.integers(1, 14, 2)
    images = []
    for number in range(rng.integers(2, 6)):
        wide, high = rng.integers(1, width + 1), rng.integers(1, height + 1)
        if number == 0:
            wide, high = width, height
        index = rng.integers(0, 256, (high, wide)).astype(np.uint8)
        hole = int(rng.integers(0, 256))
        index[rng.random(index.shape) < 0.4] = hole
        table = rng.integers(0, 256, (256, 3)).astype(np.uint8) if rng.random() < 0.5 else None
        left, top = rng.integers(0, width - wide + 1), rng.integers(0, height - high + 1)
        # FFmpeg takes the canvas before the first image for opaque; restoring it is left out.
        disposal = int(rng.integers(0, 4 if number else 3))
        images.append(image(index, left, top, table, disposal, hole))
    table = rng.integers(0, 256, (256, 3)).astype(np.uint8)
    path.write_bytes(gif(int(width), int(height), *images, table=table))
    with av.open(str(path), options={"ignore_loop": "1"}) as container:
        expected = [frame.to_ndarray(format="rgba") for frame in container.decode(video=0)]
    for picture in expected:
        picture[picture[..., 3] == 0] = 0
    found = shown(path)
    assert len(found) == len(expected)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_pillows_own_gif_reads_back(path):
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (20, 31, 3)).astype(np.uint8)).quantize(k)
        for k in (2, 17, 256)
    ]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], interlace=1)
    expected = [np.asarray(picture.convert("RGB")) for picture in pictures]
    found = read_frames(path).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(found, expected)


def test_start_count_every_and_size(path):
    path.write_bytes(gif(4, 2, *(image(full(k % 3, 2, 4)) for k in range(7))))
    assert read_frames(path, 1, 2, every=3)[:, 1, 0, 0].tolist() == [255, 255]
    mixed = np.array([[0, 0, 1, 1], [0, 1, 2, 2]], np.uint8)
    path.write_bytes(gif(4, 2, image(mixed)))
    means = np.array([[191.25, 0], [63.75, 127.5], [0, 127.5]])
    assert np.abs(read_frames(path, size=(2, 1))[0, :, 0].numpy() - means).max() < 1
    with pytest.raises(UserError, match=r"too short: 2 frames from frame 0 wanted, 1 there"):
        read_frames(path, 0, 2)


def test_every_truncation_is_refused(path):
    whole = gif(3, 2, image(full(0)), image(full(1), table=TABLE))
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        for act in (probe, lambda p: list(shown_frames(p))):
            with pytest.raises(UserError):
                act(path)


def test_flipped_bits_never_end_in_a_trace(path):
    rng = np.random.default_rng(0)
    whole = gif(6, 5, image(full(0, 5, 6)), image(full(1, 3, 3), 1, 1, TABLE, 2, 3))
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            damaged[at] ^= 1 << rng.integers(0, 8)
        path.write_bytes(damaged)
        try:
            list(shown_frames(path))
        except UserError:
            refused += 1
    assert 0 < refused < 300


HUGE = b"\x2c" + struct.pack("<HHHHB", 0, 0, 30000, 30000, 0) + b"\x08\x01\x00\x00"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty"),
        (b"Dear diary, today", "no GIF file, whatever its name says"),
        (gif(3, 2), "without any image"),
        (gif(0, 2, image(full(0))), "declares 0x2"),
        (gif(65535, 65535, image(full(0))), "declares 65535x65535"),
        (gif(1, 1, image(full(0)), HUGE), "image 1, declares 30000x30000"),
    ],
)
def test_what_is_no_gif_gets_a_sentence(path, content, sentence):
    path.write_bytes(content)
    for act in (probe, read_frames):
        with pytest.raises(UserError, match=sentence) as caught:
            act(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
