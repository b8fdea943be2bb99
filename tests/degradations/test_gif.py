import io

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unlossy.degradations.gif import Gif
from unlossy.errors import UserError
from unlossy.sample import Degraded, pristine

RNG = torch.Generator()


def pillow_frames(stream: bytes) -> np.ndarray:
    image, frames = Image.open(io.BytesIO(stream)), []
    for number in range(image.n_frames):
        image.seek(number)
        frames.append(np.asarray(image.convert("RGB")))
    return np.stack(frames)


def pyav_frames(stream: bytes) -> np.ndarray:
    with av.open(io.BytesIO(stream)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def noise(shape: tuple[int, int, int], seed: int = 0, levels: int = 256) -> torch.Tensor:
    """A clip of random colours, (T, 3, H, W) uint8 for shape (T, H, W)."""
    rng = np.random.default_rng(seed)
    count, height, width = shape
    values = rng.integers(0, levels, (count, 3, height, width)) * (255 // (levels - 1))
    return torch.from_numpy(values.astype(np.uint8))


def smooth(count: int, height: int, width: int) -> torch.Tensor:
    """A moving colour gradient: many colours, all of them near others."""
    t, y, x = np.mgrid[:count, :height, :width].astype(float)
    planes = [np.sin(x / 9 + t / 3), np.cos(y / 7 - t / 5), np.sin((x + y) / 11)]
    return torch.from_numpy(np.rint(127.5 + 127.5 * np.stack(planes, 1)).astype(np.uint8))


def by_hand(result: Degraded) -> np.ndarray:
    """Frames (S, h, w, 3) looked up from side and index."""
    table = result["side"]["palette"].mul(255).numpy()
    assert np.abs(table - np.rint(table)).max() < 1e-4
    table = np.rint(table).astype(np.uint8)
    return np.stack([t[i] for t, i in zip(table, result["index"].numpy(), strict=True)])


def assert_consistent(result: Degraded, colors: int) -> None:
    shown = result["frames"].permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(by_hand(result), shown)
    np.testing.assert_array_equal(pillow_frames(result["stream"]), shown)
    np.testing.assert_array_equal(pyav_frames(result["stream"]), shown)
    sizes = result["side"]["palette_size"]
    assert sizes.dtype == torch.int64
    assert int(sizes.max()) <= colors
    for frame, table, size in zip(shown, result["side"]["palette"], sizes, strict=True):
        rows = {tuple(row) for row in np.rint(table[:size].numpy() * 255).astype(int)}
        assert len(rows) == size, "repeated palette entries"
        assert {tuple(pixel) for pixel in frame.reshape(-1, 3)} <= rows
        assert not table[size:].any()


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    colors=st.integers(2, 256),
    palette=st.sampled_from(["kmeans", "wu", "median_cut", "octree"]),
    dither=st.sampled_from(["none", "floyd_steinberg"]),
    scope=st.sampled_from(["frame", "global"]),
    levels=st.sampled_from([2, 4, 256]),
)
def test_what_is_stored_is_what_is_shown(shape, colors, palette, dither, scope, levels):
    clip = pristine("noise", noise(shape, seed=colors, levels=levels))
    result = Gif(colors, palette, dither, scope)(clip, RNG)
    assert_consistent(result, colors)
    assert result["reference"] is clip["reference"]
    again = Gif(colors, palette, "none", scope)(pristine("again", result["frames"]), RNG)
    assert torch.equal(again["frames"], result["frames"]), "f_C(G) differs from G"
