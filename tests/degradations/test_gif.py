import numpy as np
import pytest
import torch
from gif_decoders import noise, pillow_frames, pyav_frames, waves
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unlossy import assets, video
from unlossy.degradations.gif import Gif
from unlossy.errors import UserError
from unlossy.sample import Degraded, pristine

RNG = torch.Generator()
FINDERS = ["kmeans", "wu", "median_cut", "octree"]


def packed(frames: torch.Tensor) -> np.ndarray:
    return frames.permute(0, 2, 3, 1).numpy()


def mean_psnr(shown: np.ndarray, frames: np.ndarray) -> float:
    errors = np.square(shown.astype(float) - frames).mean(axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / errors)))


def assert_shown_as_stored(result: Degraded, colors: int) -> None:
    shown = packed(result["frames"])
    np.testing.assert_array_equal(pillow_frames(result["stream"]), shown)
    np.testing.assert_array_equal(pyav_frames(result["stream"]), shown)
    tables = result["side"]["palette"].mul(255).numpy()
    np.testing.assert_allclose(tables, np.rint(tables), atol=1e-4)
    tables = np.rint(tables).astype(np.uint8)
    sizes = result["side"]["palette_size"]
    assert sizes.dtype == torch.int64
    for frame, index, table, size in zip(shown, result["index"], tables, sizes, strict=True):
        np.testing.assert_array_equal(table[index.numpy()], frame)
        assert len(np.unique(table[:size], axis=0)) == size <= colors
        assert not table[size:].any()


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    colors=st.integers(2, 256),
    palette=st.sampled_from(FINDERS),
    dither=st.sampled_from(["none", "floyd_steinberg"]),
    scope=st.sampled_from(["frame", "global"]),
    levels=st.sampled_from([2, 4, 256]),
)
def test_what_is_stored_is_what_is_shown(shape, colors, palette, dither, scope, levels):
    clip = pristine("noise", noise(*shape, levels=levels, seed=colors))
    result = Gif(colors, palette, dither, scope)(clip, RNG)
    assert_shown_as_stored(result, colors)
    assert result["reference"] is clip["reference"]
    again = Gif(colors, palette, "none", scope)(pristine("again", result["frames"]), RNG)
    assert torch.equal(again["frames"], result["frames"]), "f_C(G) differs from G"


@pytest.mark.parametrize("palette", FINDERS)
@pytest.mark.parametrize("colors", [2, 33, 256])
def test_frames_of_real_size(palette, colors):
    frames = torch.cat((waves(2, 45, 81), noise(1, 45, 81)))
    result = Gif(colors, palette)(pristine("waves", frames), RNG)
    assert_shown_as_stored(result, colors)
    assert (result["side"]["palette_size"] > colors // 2).all()
    assert result["side"]["palette"].shape == (3, colors, 3)


@pytest.mark.parametrize("dither", ["none", "floyd_steinberg"])
def test_few_colours_are_kept_exactly(dither):
    frames = torch.zeros(3, 3, 7, 5, dtype=torch.uint8)  # black; then two colours; then 35
    frames[1, 1, ::2] = 200
    frames[2] = noise(1, 7, 5)[0]
    result = Gif(64, dither=dither)(pristine("few", frames), RNG)
    assert torch.equal(result["frames"], frames)
    assert result["side"]["palette_size"].tolist() == [1, 2, 35]


def test_times_and_side_follow_the_frames_kept():
    clip = pristine("waves", waves(8, 6, 10))
    clip["side"] = {"qp": torch.arange(8)}
    result = Gif(every=3)(clip, RNG)
    assert result["t_in"].tolist() == [0, 3, 6]
    assert result["side"]["qp"].tolist() == [0, 3, 6]
    assert len(result["frames"]) == len(pillow_frames(result["stream"])) == 3
    assert len(result["reference"]) == 8
    per_frame = Gif()(clip, RNG)
    assert torch.equal(result["frames"], per_frame["frames"][::3])


def test_a_global_palette_is_shared_and_stored_once():
    clip = pristine("waves", waves(6, 30, 40))
    shared, own = Gif(16, scope="global")(clip, RNG), Gif(16)(clip, RNG)
    tables = shared["side"]["palette"]
    assert (tables == tables[:1]).all()
    assert not (own["side"]["palette"] == own["side"]["palette"][:1]).all()
    assert shared["stream"][10] & 0x80, "no global table in the screen descriptor"
    assert not own["stream"][10] & 0x80
    clean = packed(clip["frames"])
    assert mean_psnr(packed(own["frames"]), clean) > mean_psnr(packed(shared["frames"]), clean)


def test_a_global_palette_of_more_pixels_than_are_looked_at():
    clip = pristine("waves", waves(4, 480, 640))
    result = Gif(8, scope="global")(clip, RNG)
    assert mean_psnr(packed(result["frames"]), packed(clip["frames"])) > 15
    flat = pristine("flat", clip["frames"] // 128 * 128)
    assert torch.equal(Gif(8, scope="global")(flat, RNG)["frames"], flat["frames"])


def test_kinds_are_values():
    assert hash(Gif(64)) == hash(Gif(64))
    assert Gif(64) != Gif(32)
    first, second = (Gif(16)(pristine("w", waves(2, 20, 30)), RNG)["stream"] for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"colors": 300}, "300 colours asked for.*2 to 256"),
        ({"colors": 1}, "1 colours asked for"),
        ({"colors": "many"}, "many colours asked for"),
        ({"every": 0}, "every=0 keeps no frame"),
        ({"every": True}, "every=True keeps no frame"),
        ({"palette": "best"}, "palette=best is unknown.*kmeans, wu, median_cut, octree"),
        ({"dither": "bayer"}, "dither=bayer is unknown.*none, floyd_steinberg"),
        ({"scope": "clip"}, "scope=clip is unknown.*frame, global"),
    ],
)
def test_a_users_mistake_is_one_sentence(arguments, sentence):
    with pytest.raises(UserError, match=sentence) as refusal:
        Gif(**arguments)
    assert "\n" not in str(refusal.value)


@pytest.mark.assets("clips")
@pytest.mark.parametrize(
    ("name", "size"),
    [("bikes", None), ("carphone_pristine", None), ("bigbuckbunny", (320, 180))],
)
def test_the_default_beats_median_cut_on_real_clips(name, size):
    path = assets.fetch("clips") / f"{name}.mp4"
    clip = pristine(name, video.read_frames(path, count=6, size=size, every=20))
    result = Gif()(clip, RNG)
    assert_shown_as_stored(result, 32)
    clean = packed(clip["frames"])
    cut = [Image.fromarray(frame).quantize(32, Image.Quantize.MEDIANCUT) for frame in clean]
    pillow = np.stack([np.asarray(image.convert("RGB")) for image in cut])
    assert mean_psnr(packed(result["frames"]), clean) > mean_psnr(pillow, clean) + 1.2
