import numpy as np
import pytest

from unlossy.degradations.dither import floyd_steinberg


def one_pixel_at_a_time(frame: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Floyd and Steinberg as printed: push each pixel's error to its four neighbours."""
    height, width, _ = frame.shape
    value = frame.astype(np.float64)
    index = np.zeros((height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            wanted = np.clip(value[y, x], 0, 255)
            index[y, x] = np.square(wanted - table).sum(axis=1).argmin()
            error = wanted - table[index[y, x]]
            for dy, dx, weight in ((0, 1, 7), (1, -1, 3), (1, 0, 5), (1, 1, 1)):
                if y + dy < height and 0 <= x + dx < width:
                    value[y + dy, x + dx] += error * weight / 16
    return index


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 9), (9, 1), (2, 2), (7, 2), (3, 17), (24, 31), (40, 11)]
)
@pytest.mark.parametrize("colors", [2, 5, 30])
def test_it_agrees_with_the_plain_loop(size, colors):
    rng = np.random.default_rng(colors)
    frames = rng.integers(0, 256, (3, *size, 3), np.uint8)
    frames[1] = np.linspace(0, 255, size[1])[:, None]  # a grey ramp
    # Palettes of several sizes side by side; the last one far from most colours, so errors add up.
    tables = [rng.integers(0, 256, (count, 3), np.uint8) for count in (colors, 2, colors)]
    tables[2] //= 4
    found = floyd_steinberg(frames, tables)
    for frame, table, index in zip(frames, tables, found, strict=True):
        np.testing.assert_array_equal(index, one_pixel_at_a_time(frame, table))


def test_more_frames_than_are_diffused_together():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (37, 5, 6, 3), np.uint8)
    tables = [rng.integers(0, 256, (4, 3), np.uint8) for _ in frames]
    alone = [floyd_steinberg(f[None], [t])[0] for f, t in zip(frames, tables, strict=True)]
    np.testing.assert_array_equal(floyd_steinberg(frames, tables), alone)


def test_black_and_white_keep_the_mean():
    frame = np.full((1, 64, 64, 3), 96, np.uint8)
    index = floyd_steinberg(frame, [np.array([[0] * 3, [255] * 3], np.uint8)])
    assert 255 * index.mean() == pytest.approx(96, abs=2)
