"""A stage's output as the next one's input: what the model makes of what the medium kept."""

import shutil

import pytest
import torch
from torch import nn

from unlossy import checkpoint
from unlossy.data.cache import Cache
from unlossy.data.digest import digest
from unlossy.data.restored import RestoredClips
from unlossy.degradations.chain import Chain
from unlossy.degradations.gif import Gif
from unlossy.degradations.gif_any import GifAny
from unlossy.errors import UserError
from unlossy.models.basicvsr import BasicVSR
from unlossy.models.ccdnet import CCDNet
from unlossy.sample import Sample, pristine
from unlossy.training.starting import restorer

TRAINING = {
    "model": "m", "loss": "l1", "degradation": {}, "source": "s",
    "needs": [], "scale": 1, "seed": 0,
}  # fmt: skip
EVERY = slice(None)


def saved(path, model, **config) -> str:
    """Write a checkpoint of a network of ours with weights that change every pixel."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.05)
    kind = type(model)
    config = {"_target_": f"{kind.__module__}.{kind.__qualname__}", **config}
    torch.save(checkpoint.pack(model.eval(), config, TRAINING), path)
    return str(path)


@pytest.fixture
def recurrent(tmp_path) -> str:
    config = {"channels": 4, "blocks": 1, "flow": "zero"}
    return saved(tmp_path / "best.ckpt", BasicVSR(**config), **config)


def degrade(medium, source, clip):
    frames = source.read(clip, 0, clip.frames)
    return medium(pristine(clip.name, frames), torch.Generator().manual_seed(5))


def test_frames_are_the_models_and_the_rest_is_the_mediums(drift, tmp_path):
    """A model that reads the palette, whose output has none."""
    ckpt = saved(tmp_path / "ccd.ckpt", CCDNet(2, 4), steps=2, channels=4)
    source, medium = drift(), Gif(colors=8)
    (clip, *_) = source.clips("test")
    kept = degrade(medium, source, clip)
    sample = Sample(
        name=[clip.name],
        degraded=kept["frames"][None].float() / 255,
        t_in=kept["t_in"][None],
        t_out=kept["t_in"][None],
        side={key: value[None] for key, value in kept["side"].items()},
        target={},
        bits=torch.zeros(1),
    )
    with torch.inference_mode():
        expected = checkpoint.load(ckpt).restore(sample)[0].mul(255).round().to(torch.uint8)
    restored = RestoredClips(medium, ckpt)
    found = degrade(restored, source, clip)
    assert torch.equal(found["frames"], expected)
    assert not torch.equal(found["frames"], kept["frames"])
    assert found["stream"] == kept["stream"]
    assert torch.equal(found["t_in"], kept["t_in"])
    assert torch.equal(found["reference"], kept["reference"])
    assert "index" not in found
    assert found["side"] == {}
    assert restored.keeps == frozenset()


def test_the_medium_draws_as_it_drew_for_the_stage(drift, recurrent):
    source, medium = drift(), GifAny()
    clips = source.clips("train")
    alone, after = Cache(source, medium), Cache(source, RestoredClips(medium, recurrent))
    alone.fill(clips)
    after.fill(clips)
    for clip in clips:
        assert torch.equal(alone.load(clip).stream, after.load(clip).stream)


def test_forked_workers_restore_the_same(drift, recurrent, tmp_path, monkeypatch):
    source, frames = drift(), []
    for workers in (0, 2):
        monkeypatch.setenv("UNLOSSY_CACHE", str(tmp_path / f"cache{workers}"))
        cache = Cache(source, RestoredClips(Gif(colors=8), recurrent))
        cache.fill(source.clips("train"), workers)
        frames.append([cache.load(c).frames(EVERY, EVERY, EVERY) for c in source.clips("train")])
    assert all(torch.equal(one, other) for one, other in zip(*frames, strict=True))


def test_an_entry_is_filed_under_the_model_and_the_medium_not_under_the_path(recurrent, tmp_path):
    moved = tmp_path / "elsewhere" / "last.ckpt"
    moved.parent.mkdir()
    content = torch.load(recurrent, weights_only=True)
    torch.save({**content, "optimizer_states": [1.0]}, moved)
    own = digest(RestoredClips(Gif(), recurrent))
    assert own == digest(RestoredClips(Gif(), str(moved)))
    assert own != digest(RestoredClips(Gif(colors=31), recurrent))
    content["state_dict"]["model.conv_hr.bias"][0] += 1e-3
    torch.save(content, moved)
    assert own != digest(RestoredClips(Gif(), str(moved)))


@pytest.mark.parametrize(
    ("medium", "model", "words"),
    [
        (Gif(), None, "There is no checkpoint"),
        (Gif(), b"half a file", "no checkpoint, or a damaged one"),
        (Gif(), {"state_dict": {}}, "no unlossy checkpoint"),
        (Gif(every=2), {"channels": 4, "blocks": 1, "flow": "zero"}, "keeps one of 2"),
        (Gif(), {"channels": 4, "blocks": 1, "flow": "zero", "scale": 4}, "of scale 4, but"),
    ],
)
def test_what_cannot_be_restored_is_refused_at_once(tmp_path, medium, model, words):
    path = tmp_path / "stage.ckpt"
    match model:
        case bytes():
            path.write_bytes(model)
        case {"channels": _}:
            saved(path, BasicVSR(**model), **model)
        case dict():
            torch.save(model, path)
    with pytest.raises(UserError, match=words) as caught:
        RestoredClips(medium, str(path))
    assert "\n" not in str(caught.value)


def test_a_model_that_needs_what_the_medium_does_not_keep_is_refused(half, tmp_path):
    ckpt = saved(tmp_path / "ccd.ckpt", CCDNet(2, 4), steps=2, channels=4)
    with pytest.raises(UserError, match="needs 'palette', 'palette_size', and degradation Half"):
        RestoredClips(half(), ckpt)


def test_a_stage_may_enlarge(half, drift, tmp_path):
    config = {"channels": 4, "blocks": 1, "flow": "zero", "scale": 4}
    ckpt = saved(tmp_path / "x4.ckpt", BasicVSR(**config), **config)

    class Quarter(type(half())):
        scale = 4

        def __call__(self, clip, rng):
            return super().__call__(super().__call__(clip, rng), rng)

    source = drift()
    (clip, *_) = source.clips("val")
    found = degrade(RestoredClips(Quarter(), ckpt), source, clip)
    assert found["frames"].shape == found["reference"].shape


def test_the_checkpoint_is_not_needed_afterwards(drift, recurrent, tmp_path):
    restored = RestoredClips(Gif(colors=8), recurrent)
    shutil.move(recurrent, tmp_path / "gone.ckpt")
    source = drift()
    (clip, *_) = source.clips("val")
    assert degrade(restored, source, clip)["frames"].dtype == torch.uint8


def test_a_chain_cannot_hide_that_a_stage_restored(recurrent):
    restored = RestoredClips(Chain({"gif": Gif(colors=8)}), recurrent)
    assert restorer(restored) == checkpoint.fingerprint(recurrent)
    assert restorer(Chain({"inner": Chain({"gif": Gif()})})) is None
    with pytest.raises(UserError, match="put the chain into them"):
        restorer(Chain({"gif": Gif(), "inner": Chain({"restored": restored})}))
