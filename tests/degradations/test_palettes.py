import numpy as np
import pytest
from gif_decoders import waves
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.cluster import KMeans

from unlossy.degradations import palettes


def random_bytes(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def distances(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """All squared distances (N, P), in integers."""
    return np.square(pixels[:, None].astype(np.int64) - table[None]).sum(axis=2)


def error(pixels: np.ndarray, table: np.ndarray) -> float:
    return distances(pixels, table).min(axis=1).mean()


def picture() -> np.ndarray:
    return waves(1, 60, 90)[0].permute(1, 2, 0).reshape(-1, 3).numpy()


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 256), seed=st.integers(0, 99), levels=st.sampled_from([2, 5, 256]))
def test_nearest_is_exact_and_ties_go_to_the_lowest_row(count, seed, levels):
    """Few levels make many ties, and corners of the cube the largest distances."""
    step = 255 // (levels - 1)
    pixels, table = random_bytes(seed, 700, 3), random_bytes(seed + 1, count, 3)
    pixels, table = pixels // step * step, table // step * step
    expected = distances(pixels, table).argmin(axis=1)
    np.testing.assert_array_equal(palettes.nearest(pixels, table), expected)


def test_nearest_keeps_the_shape_of_a_picture():
    frame = random_bytes(0, 123, 234, 3)
    table = random_bytes(1, 100, 3)
    flat = palettes.nearest(frame.reshape(-1, 3), table)
    np.testing.assert_array_equal(palettes.nearest(frame, table), flat.reshape(123, 234))


@pytest.mark.parametrize("find", [palettes.kmeans, palettes.wu])
@pytest.mark.parametrize("count", [2, 7, 64])
def test_separate_clusters_are_found_with_their_means(find, count):
    rng = np.random.default_rng(count)
    corners = np.stack(np.unravel_index(rng.permutation(64)[:count], (4, 4, 4)), axis=1)
    members = corners[:, None] * 64 + 24 + rng.integers(-9, 10, (count, 50, 3))
    found = find(members.reshape(-1, 3).astype(np.uint8), count)
    means = np.rint(members.mean(axis=1)).astype(int)
    assert {tuple(row) for row in found.tolist()} == {tuple(row) for row in means.tolist()}


def test_kmeans_is_near_the_best_of_several_random_starts():
    colors = 32
    pixels = picture()
    witness = KMeans(colors, n_init=3, random_state=0).fit(pixels.astype(float))
    assert error(pixels, palettes.kmeans(pixels, colors)) < 1.06 * witness.inertia_ / len(pixels)


def test_lloyd_improves_boxes_and_boxes_improve_median_cut():
    pixels = picture()
    ways = [palettes.kmeans, palettes.wu, palettes.median_cut]
    errors = [error(pixels, way(pixels, 32)) for way in ways]
    assert errors == sorted(errors)


def test_pillows_palettes_are_pillows():
    pixels = picture()
    image = Image.fromarray(pixels.reshape(60, 90, 3))
    ways = {
        palettes.median_cut: Image.Quantize.MEDIANCUT,
        palettes.octree: Image.Quantize.FASTOCTREE,
    }
    for way, method in ways.items():
        shown = np.asarray(image.quantize(20, method, dither=Image.Dither.NONE).convert("RGB"))
        colors = {tuple(row) for row in way(pixels, 20).tolist()}
        assert {tuple(row) for row in shown.reshape(-1, 3).tolist()} <= colors


def test_the_histogram_loses_no_pixel_and_no_sum():
    pixels = random_bytes(3, 999, 3)
    bins = palettes.histogram(pixels)
    np.testing.assert_array_equal(bins.moments.sum(axis=0), [999, *pixels.sum(axis=0)])
    means = bins.moments[:, 1:] / bins.moments[:, :1]
    np.testing.assert_array_equal((means // 8).T, bins.level)


def test_few_looks_at_every_pixel():
    pixels = np.zeros((1000, 3), np.uint8)
    pixels[501] = 9  # not one of those seen at a glance
    np.testing.assert_array_equal(palettes.few(pixels, 2), [[0, 0, 0], [9, 9, 9]])
    pixels[503] = 10
    assert palettes.few(pixels, 2) is None
