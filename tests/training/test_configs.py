"""Settings that no run can have are refused by name, before anything is built."""

import pytest
from omegaconf import OmegaConf

from unlossy.errors import UserError
from unlossy.training.configs import build, check_settings

SOUND = {
    "seed": 0, "name": "x", "run_root": "runs", "ckpt": None, "init": None, "ema": None,
    "checkpoint_every": 100, "test": True, "save": False, "stages": {}, "trained": {},
    "trainer": {"max_steps": 1}, "data": {"batch": 1, "crop": 8, "frames": 1, "workers": 0},
    "logger": {"mirror": None},
}  # fmt: skip


def test_sound_settings_pass():
    check_settings(OmegaConf.create(SOUND))
    others = {"seed": 2**32 - 1, "name": "eval", "run_root": "/somewhere/else", "ema": 0.5}
    check_settings(OmegaConf.create(others))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1), ("seed", 1.5), ("seed", "abc"), ("seed", True), ("seed", 2**32),
        ("trainer.max_steps", 1e3), ("trainer.max_steps", 0), ("data.batch", 2.5),
        ("data.batch", "abc"), ("data.workers", -1), ("checkpoint_every", None),
        ("ema", 2), ("ema", "abc"), ("test", "maybe"), ("save", 7), ("stages", "abc"),
        ("logger.mirror", "abc"), ("name", ""), ("name", ".."), ("name", "a/b"), ("name", "/a"),
        ("name", 5), ("run_root", ""), ("ckpt", ""),
    ],
)  # fmt: skip
def test_others_are_one_sentence_that_names_them(key, value):
    cfg = OmegaConf.create(SOUND)
    OmegaConf.update(cfg, key, value)
    with pytest.raises(UserError) as refused:
        check_settings(cfg)
    assert str(refused.value).startswith(key)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("target", ["os.system", "unlossy.models.nope.X"])
def test_a_target_that_cannot_be_built_is_one_line(target):
    with pytest.raises(UserError) as refused:
        build(OmegaConf.create({"model": {"_target_": target}}).model)
    assert str(refused.value).startswith(target)
    assert "\n" not in str(refused.value)
