import io

import av
import numpy as np
import pytest
from gif_decoders import pillow_frames, pyav_frames
from PIL import Image

from unlossy.errors import UserError
from unlossy.gif_file import CLEAR, write_gif


def drawn(count: int, colors: int, height: int = 23, width: int = 37) -> tuple[list, list]:
    rng = np.random.default_rng(colors)
    frames = [rng.integers(0, colors, (height, width), np.uint8) for _ in range(count)]
    return frames, [rng.integers(0, 256, (colors, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize("colors", [1, 2, 3, 4, 5, 8, 17, 64, 129, 256])
def test_two_decoders_read_what_was_written(colors):
    frames, palettes = drawn(3, colors)
    frames[1] = frames[0]  # equal frames in a row stay two frames
    palettes[1] = palettes[0]
    expected = np.stack([p[f] for f, p in zip(frames, palettes, strict=True)])
    stream = write_gif(frames, palettes, [4, 4, 4])
    np.testing.assert_array_equal(pillow_frames(stream), expected)
    np.testing.assert_array_equal(pyav_frames(stream), expected)


def test_long_frames_pass_many_dictionary_resets():
    frames, palettes = drawn(1, 256, 400, 500)
    np.testing.assert_array_equal(
        pillow_frames(write_gif(frames, palettes, [4])), palettes[0][frames[0]][None]
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 65535), (300, 1)])
def test_extreme_sizes(size):
    frames, palettes = drawn(1, 4, *size)
    stream = write_gif(frames, palettes, [10])
    np.testing.assert_array_equal(pillow_frames(stream)[0], palettes[0][frames[0]])
    np.testing.assert_array_equal(pyav_frames(stream)[0], palettes[0][frames[0]])


@pytest.mark.parametrize("loop", [None, 0, 3])
def test_delays_and_loop_count(loop):
    frames, palettes = drawn(3, 8)
    delays = [2, 7, 700]
    image = Image.open(io.BytesIO(write_gif(frames, palettes, delays, loop=loop)))
    assert image.info.get("loop") == loop
    for number, delay in enumerate(delays):
        image.seek(number)
        assert image.info["duration"] == 10 * delay


def test_ffmpeg_reads_the_delays_too():
    frames, palettes = drawn(3, 8)
    with av.open(io.BytesIO(write_gif(frames, palettes, [5, 7, 9]))) as container:
        stamps = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    assert [float(s - stamps[0]) for s in stamps] == pytest.approx([0, 0.05, 0.12])


def test_one_palette_becomes_the_global_table():
    frames, palettes = drawn(4, 16)
    stream = write_gif(iter(frames), palettes[:1], [4] * 4)
    np.testing.assert_array_equal(pyav_frames(stream), palettes[0][np.stack(frames)])
    local = write_gif(frames, palettes[:1] * 4, [4] * 4)
    assert len(local) - len(stream) == 3 * 3 * 16


def test_transparent_pixels_show_what_disposal_left():
    table = np.array([[255, 0, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
    full, hole = np.zeros((4, 6), np.uint8), np.full((4, 6), 2, np.uint8)
    hole[0] = 1
    for disposal, below in ((1, (255, 0, 0, 255)), (CLEAR, (0, 0, 0, 0))):
        stream = write_gif([full, hole], [table] * 2, [4, 4], transparent=[2, 2], disposal=disposal)
        image = Image.open(io.BytesIO(stream))
        image.seek(1)
        shown = image.convert("RGBA")
        assert shown.getpixel((0, 0)) == (0, 0, 255, 255)
        assert shown.getpixel((0, 3))[3] == below[3]
        if below[3]:
            assert shown.getpixel((0, 3)) == below


def test_a_file_is_no_larger_than_pillows():
    y, x = np.mgrid[:90, :160]
    index = ((x // 7 + y // 5) % 32).astype(np.uint8)
    table = np.arange(96, dtype=np.uint8).reshape(32, 3)
    image = Image.fromarray(index)
    image.putpalette(table.tobytes())
    theirs = io.BytesIO()
    image.save(theirs, "GIF", optimize=False, interlace=0)
    assert len(write_gif([index], [table], [0], loop=None)) <= len(theirs.getvalue())


def test_mistakes_are_refused():
    frames, palettes = drawn(2, 4)
    with pytest.raises(UserError, match="65536x1 does not fit into a GIF"):
        write_gif([np.zeros((1, 65536), np.uint8)], palettes[:1], [4])
    with pytest.raises(ValueError, match="follows frames of"):
        write_gif([frames[0], frames[1][1:]], palettes, [4, 4])
    with pytest.raises(ValueError, match="Index 3 has no entry"):
        write_gif(frames, [table[:3] for table in palettes], [4, 4])
