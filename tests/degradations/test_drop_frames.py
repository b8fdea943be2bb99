"""Dropped frames: what is kept, when, and what the rest of the house makes of it."""

import pytest
import torch
from gif_decoders import noise, pillow_frames

from unlossy.degradations.chain import Chain
from unlossy.degradations.drop_frames import DropFrames
from unlossy.degradations.gif import Gif
from unlossy.errors import UserError
from unlossy.sample import pristine


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("frames", "factor"), [(9, 2), (10, 3), (10, 4), (70, 64)])
def test_every_so_manieth_frame_is_kept_at_its_own_time(frames, factor):
    clip = pristine("noise", noise(frames, 4, 6))
    clip["t_in"] = clip["t_in"] * 3 + 5  # of a medium before that had dropped some already
    clip["side"] = {"qp": torch.arange(frames)}
    found = DropFrames(factor)(clip, rng())
    which = list(range(0, frames, factor))
    assert found["t_in"].tolist() == [5 + 3 * t for t in which]
    assert torch.equal(found["frames"], clip["frames"][which])
    assert found["side"]["qp"].tolist() == which
    assert found["reference"] is clip["reference"]
    assert found["stream"] is None
    assert clip["t_in"].shape == (frames,)  # the clip that came in is as it was
    medium = DropFrames(factor)
    assert (medium.every, medium.scale, medium.keeps) == (factor, 1, frozenset())


@pytest.mark.parametrize("factor", [1, 65, 0, -2, 2.0, True, "2"])
def test_a_factor_out_of_range_is_refused(factor):
    with pytest.raises(UserError, match=r"degradation\.factor=.* from 2 to 64"):
        DropFrames(factor)


def test_a_short_clip_becomes_a_still():
    found = DropFrames(4)(pristine("short", noise(4, 4, 6)), rng())
    assert found["t_in"].tolist() == [0]
    assert len(found["frames"]) == 1


def test_a_gif_holds_what_was_not_dropped():
    clip = pristine("noise", noise(9, 12, 16))
    chain = Chain({"drop": DropFrames(4), "gif": Gif(8)})
    found, alone = chain(clip, rng()), Gif(8)(pristine("three", clip["frames"][::4]), rng())
    assert torch.equal(found["frames"], alone["frames"])
    assert found["t_in"].tolist() == [0, 4, 8]
    assert len(pillow_frames(found["stream"])) == 3
    assert chain.every == 4
    assert chain.keeps == {"palette", "palette_size"}
    assert torch.equal(found["reference"], clip["frames"])
    # A GIF may drop the frames itself, and plays for as long.
    assert found["stream"] == Gif(8, every=4)(clip, rng())["stream"]
