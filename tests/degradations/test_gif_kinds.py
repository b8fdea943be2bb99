import math

import numpy as np
import pytest
import torch
from gif_decoders import noise, pillow_frames, pyav_frames, waves

from unlossy.data.digest import digest
from unlossy.degradations.chain import Chain
from unlossy.degradations.frames import keep_every
from unlossy.degradations.gif import Gif
from unlossy.degradations.gif_any import GifAny
from unlossy.degradations.gif_ffmpeg import GifFFmpeg
from unlossy.errors import UserError
from unlossy.sample import pristine


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dither", ["none", "bayer", "floyd_steinberg", "sierra2_4a"])
@pytest.mark.parametrize("scope", ["frame", "global"])
@pytest.mark.parametrize("colors", [2, 32, 256])
def test_ffmpegs_gif_is_stored_as_it_is_shown(dither, scope, colors):
    clip = pristine("waves", waves(3, 41, 67))
    result = GifFFmpeg(colors, dither, scope)(clip, seeded())
    shown = result["frames"].permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(pillow_frames(result["stream"]), shown)
    np.testing.assert_array_equal(pyav_frames(result["stream"]), shown)
    assert result["side"]["palette"].shape == (3, colors, 3)
    assert 2 <= result["side"]["palette_size"].max() <= colors
    if scope == "global":
        assert len(np.unique(shown.reshape(-1, 3), axis=0)) <= colors
    error = np.square(shown.astype(float) - clip["frames"].permute(0, 2, 3, 1).numpy()).mean()
    assert error < {2: 9000, 32: 1500, 256: 400}[colors]


@pytest.mark.parametrize("size", [(1, 1), (3, 2)])
def test_ffmpeg_takes_the_smallest_frames(size):
    clip = pristine("tiny", noise(1, *size))
    result = GifFFmpeg(16, "none")(clip, seeded())
    assert torch.equal(result["frames"], clip["frames"])


def test_ffmpeg_is_refused_what_it_cannot_do():
    with pytest.raises(UserError, match="300 colours asked for"):
        GifFFmpeg(300)
    with pytest.raises(UserError, match=r"dither=heavy is unknown.*bayer"):
        GifFFmpeg(dither="heavy")


def test_any_gif_is_drawn_from_its_generator():
    clip = pristine("waves", waves(2, 30, 40))
    first, again = GifAny()(clip, seeded(5)), GifAny()(clip, seeded(5))
    assert first["stream"] == again["stream"]
    assert first["side"]["palette"].shape == (2, 256, 3)
    kind = GifAny().draw(seeded(5))
    assert torch.equal(kind(clip, seeded())["frames"], first["frames"])


def test_any_gif_covers_what_users_have():
    rng = seeded()
    drawn = [GifAny(16, 256, every=2).draw(rng) for _ in range(400)]
    assert min(gif.colors for gif in drawn) < 18
    assert max(gif.colors for gif in drawn) > 240
    median = float(np.median([gif.colors for gif in drawn]))
    assert median == pytest.approx(math.sqrt(16 * 256), rel=0.25)  # log-uniform
    kinds = {(gif.dither, gif.scope) for gif in drawn}
    assert len(kinds) == 4
    assert {gif.every for gif in drawn} == {2}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"fewest": 1}, "1 colours asked for .degradation.fewest."),
        ({"most": 257}, "257 colours asked for .degradation.most."),
        ({"fewest": 64, "most": 32}, "fewest=64 is above most=32"),
        ({"palette": "best"}, "palette=best is unknown"),
    ],
)
def test_any_gif_is_refused_what_no_gif_is(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        GifAny(**arguments)


class Halved:
    """Every second row and column: a stand-in for another medium."""

    scale = 2
    keeps = frozenset({"phase"})

    def __call__(self, clip, rng):
        phase = torch.rand(len(clip["frames"]), generator=rng)
        return {**clip, "frames": clip["frames"][..., ::2, ::2], "side": {"phase": phase}}


def test_a_chain_is_composition():
    clip = pristine("waves", waves(4, 20, 32))
    chain = Chain({"small": Halved(), "gif": Gif(8, every=2)})
    found = chain(clip, seeded(3))
    by_hand = Gif(8, every=2)(Halved()(clip, seeded(3)), seeded())
    assert found["stream"] == by_hand["stream"]
    assert found["frames"].shape == (2, 3, 10, 16)
    assert torch.equal(found["side"]["phase"], by_hand["side"]["phase"])
    assert found["reference"] is clip["reference"]
    assert chain.scale == 2
    assert Chain({"once": Halved(), "twice": Halved()}).scale == 4


def test_a_chain_is_a_value_and_an_empty_one_keeps_the_clip():
    chain, renamed = (Chain({names[0]: Gif(8), names[1]: Gif(4)}) for names in ("ab", "xa"))
    assert hash(chain) == hash(renamed)
    assert digest(chain) == digest(renamed)
    assert digest(chain) != digest(Chain({"b": Gif(4), "a": Gif(8)}))  # another order
    clip = pristine("waves", waves(2, 4, 4))
    assert Chain({})(clip, seeded()) is clip
    assert Chain({}).scale == 1


def test_dropped_frames_take_their_palettes_along_and_the_stream_goes():
    gif = Gif(8)(pristine("waves", waves(5, 12, 16)), seeded())
    kept = keep_every(gif, 2)
    assert kept["t_in"].tolist() == [0, 2, 4]
    assert kept["stream"] is None
    tables = kept["side"]["palette"].mul(255).round().byte()
    shown = torch.stack([t[i.long()] for t, i in zip(tables, kept["index"], strict=True)])
    assert torch.equal(shown.permute(0, 3, 1, 2), kept["frames"])
