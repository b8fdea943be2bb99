"""Checkpoints: a model comes back as it was, and nothing in a file is ever run."""

import os
import pickle
import sys

import pytest
import torch

from unlossy import checkpoint
from unlossy.errors import UserError
from unlossy.models.astf import ASTF
from unlossy.models.basicvsr import BasicVSR
from unlossy.models.building import _value
from unlossy.models.ccdnet import CCDNet
from unlossy.models.stages import load_stage
from unlossy.networks.unet import UNet

CONFIG = {"_target_": "unlossy.models.ccdnet.CCDNet", "steps": 2, "channels": 4}
TRAINING = {
    "model": "ccdnet",
    "loss": "l1",
    "degradation": {"colors": 32},
    "source": "photos",
    "needs": ["palette"],
    "scale": 1,
    "seed": 0,
}


@pytest.fixture
def model():
    model = CCDNet(2, 4)
    for value in [*model.parameters(), *model.buffers()]:
        if value.is_floating_point():
            value.data = torch.rand_like(value)
    return model


@pytest.fixture
def saved(model, tmp_path):
    """A checkpoint with what a trainer adds: optimisers, callbacks, the objective's weights."""
    content = checkpoint.pack(model, CONFIG, TRAINING)
    content["state_dict"]["objective.adversary.network.0.weight"] = torch.rand(3)
    extra = {"epoch": 0, "optimizer_states": [{"state": {}}], "callbacks": {"ema": {"n": 1}}}
    torch.save({**content, **extra}, tmp_path / "model.ckpt")
    return tmp_path / "model.ckpt"


def change(path, edit):
    """Rewrite a checkpoint after an edit in place."""
    content = torch.load(path, weights_only=True)
    edit(content)
    torch.save(content, path)


def refusal(path):
    """Return the one sentence with which a file is refused, by both readers where both can."""
    with pytest.raises(UserError) as caught:
        checkpoint.load(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert str(path) in sentence
    return sentence


def stage_refusal(path):
    """Return the one sentence with which it is refused as a part of another model."""
    with pytest.raises(UserError) as caught:
        load_stage(CCDNet(2, 4), str(path), "colors_ckpt", "model.colors")
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_a_model_comes_back(saved, model):
    loaded = checkpoint.load(saved)
    assert isinstance(loaded, CCDNet)
    assert not loaded.training
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_describe_tells_without_building(saved):
    change(saved, lambda content: content.update(state_dict={}))
    description = checkpoint.describe(saved)
    assert description["model"] == CONFIG
    assert description["training"] == TRAINING
    assert description["format"] == 1


def test_the_card_holds_plain_containers_only(tmp_path):
    from omegaconf import OmegaConf

    model = OmegaConf.create({"_target_": "x", "list": [1, {"a": None}]})
    card = checkpoint.card(model, {"needs": frozenset({"palette"}), "sizes": (1, 2)})
    torch.save(card, tmp_path / "card")
    assert torch.load(tmp_path / "card", weights_only=True) == card
    assert card["model"] == {"_target_": "x", "list": [1, {"a": None}]}
    assert card["training"] == {"needs": ["palette"], "sizes": [1, 2]}


def test_a_frozen_base_travels_inside(model, tmp_path):
    base = tmp_path / "base.ckpt"
    torch.save(checkpoint.pack(CCDNet(1, 4), {**CONFIG, "steps": 1}, TRAINING), base)
    frozen = CCDNet(2, 4, base_ckpt=str(base))
    config = {**CONFIG, "base_ckpt": str(base)}
    torch.save(checkpoint.pack(frozen, config, TRAINING), tmp_path / "whole.ckpt")
    base.unlink()
    loaded = checkpoint.load(tmp_path / "whole.ckpt")
    assert loaded.frozen
    assert checkpoint.describe(tmp_path / "whole.ckpt")["model"]["base_ckpt"] == str(base)


FOREIGN = [
    "torch.hub.load",
    "torch.load",
    "torch.utils.cpp_extension.load_inline",
    "unlossy.assets.subprocess.run",
    "torch.nn.Linear",
    "os.system",
    "unlossy.models.ccdnet.torch.nn.Linear",
    "unlossy.models.ccdnet.UNet",  # ours, but not defined there
    "unlossy.models.ccdnet.read_weights",  # defined elsewhere, and a function
    "unlossy.models.weights.read_weights",
    "unlossy.models.model.pad_to_multiple",
    "unlossy.models.baselines.Identity",  # a filter: it may run what its settings say
    "unlossy.models.baselines.FFmpegFilter",
    "unlossy.modelsx.Model",
    "unlossy.models",
    "unlossy.models..ccdnet.CCDNet",
    "CCDNet",
    "",
    None,
    7,
    ["unlossy.models.ccdnet.CCDNet"],
]


@pytest.mark.parametrize("target", FOREIGN)
def test_foreign_targets_are_refused(saved, target, tmp_path):
    change(saved, lambda content: content["unlossy"]["model"].update(_target_=target))
    assert "only networks of unlossy.models and unlossy.networks are built" in refusal(saved)
    assert str(saved) in stage_refusal(saved)


@pytest.mark.parametrize("target", FOREIGN[:4])
@pytest.mark.parametrize("nest", [lambda x: x, lambda x: [1, [x]], lambda x: {"a": {"b": x}}])
def test_nested_foreign_targets_are_refused(saved, target, nest):
    nested = nest({"_target_": target, "args": "touch pwned"})
    change(saved, lambda content: content["unlossy"]["model"].update(channels=nested))
    assert "only networks" in refusal(saved)
    assert "only networks" in stage_refusal(saved)


@pytest.mark.parametrize("target", FOREIGN)
def test_foreign_targets_are_refused_in_a_stage_too(saved, target):
    nested = {"_target_": target, "args": "touch pwned"}
    change(saved, lambda content: content["unlossy"]["model"].update(update=nested))
    assert "only networks" in stage_refusal(saved)


@pytest.mark.parametrize("read", [refusal, stage_refusal])
def test_what_a_file_names_is_never_run(saved, read, tmp_path):
    mkdir = {"_target_": "os.mkdir", "path": str(tmp_path / "pwned")}
    change(saved, lambda content: content["unlossy"]["model"].update(update=mkdir))
    assert "'os.mkdir'" in read(saved)
    assert not (tmp_path / "pwned").exists()


def test_a_filter_graph_of_a_file_is_never_run(saved, tmp_path):
    graph = f"metadata=mode=print:file={tmp_path / 'pwned'}"
    filters = {"_target_": "unlossy.models.baselines.FFmpegFilter", "settings": [graph]}
    for config in (filters, {**CONFIG, "channels": [filters]}):
        change(saved, lambda content, config=config: content["unlossy"].update(model=config))
        assert "no filters" in refusal(saved)
    assert not (tmp_path / "pwned").exists()


def test_a_refused_module_is_not_even_imported():
    with pytest.raises(UserError):
        checkpoint.build({"_target_": "antigravity.fly"})
    assert "antigravity" not in sys.modules


def test_nested_networks_are_built():
    unet = {"_target_": "unlossy.networks.unet.UNet", "in_channels": 3, "channels": 2}
    built = _value({"parts": [unet]})
    assert isinstance(built["parts"][0], UNet)


def test_a_network_that_is_no_model_is_refused(saved):
    target = {"_target_": "unlossy.networks.unet.UNet", "in_channels": 3, "channels": 2}
    change(saved, lambda content: content["unlossy"].update(model=target))
    assert "no model" in refusal(saved)


class Code:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("old_format", [True, False])
def test_pickled_code_is_never_run(saved, old_format, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {**torch.load(saved, weights_only=True), "hook": Code()}
    torch.save(content, saved, _use_new_zipfile_serialization=not old_format)
    assert "pickled code, which is never run" in refusal(saved)
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(content["hook"]))
    assert "is no checkpoint" in refusal(tmp_path / "plain.ckpt")
    assert not (tmp_path / "pwned").exists()


def damage(path, how):
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("A text file, whatever its name says.")
    elif how == "list":
        torch.save([1, 2], path)
    elif how == "zip":
        path.write_bytes(b"PK\x03\x04" + bytes(100))


@pytest.mark.parametrize("how", ["truncated", "empty", "text", "list", "zip"])
def test_damaged_files_get_a_sentence(saved, how):
    damage(saved, how)
    assert "is no checkpoint, or a damaged one" in refusal(saved)


def test_a_missing_file_and_a_folder_get_a_sentence(tmp_path):
    assert "There is no checkpoint" in refusal(tmp_path / "nowhere.ckpt")
    assert "There is no checkpoint" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda c: c.pop("unlossy"), "is no unlossy checkpoint"),
        (lambda c: c.pop("state_dict"), "is no unlossy checkpoint"),
        (lambda c: c["unlossy"].pop("model"), "does not say which model"),
        (lambda c: c["unlossy"].update(format=2), "format 2"),
        (lambda c: c["unlossy"]["model"].update(channels=8), "of another model"),
        (lambda c: c["unlossy"]["model"].update(steps=1), "of another model"),
        (lambda c: c["unlossy"]["model"].update(color=8), "does not take these arguments"),
        (lambda c: c["unlossy"]["model"].update(steps=0), "steps=0"),
        (lambda c: c["unlossy"]["model"].update(channels="wide"), "cannot be used"),
        (lambda c: c["unlossy"]["model"].update(channels=2**70), "does not take these arguments"),
        (lambda c: c["unlossy"]["model"].update(channels=2**60), "does not take these arguments"),
        (lambda c: c["unlossy"]["model"].update(update=[]), "cannot be used"),
        (lambda c: c["unlossy"]["model"].update({3: 4}), "does not take these arguments"),
        (lambda c: c["unlossy"]["model"].update(loop=c["unlossy"]["model"]), "does not take"),
        (lambda c: c["state_dict"].pop("model.base.outconv.bias"), "of another model"),
        (lambda c: c["state_dict"].update({"model.base.outconv.bias": 3}), "of another model"),
        (lambda c: c["state_dict"].update({7: torch.zeros(1)}), "is no unlossy checkpoint"),
    ],
)
def test_a_checkpoint_of_another_model_gets_a_sentence(saved, edit, sentence):
    change(saved, edit)
    assert sentence in refusal(saved)


@pytest.mark.parametrize("key", TRAINING)
@pytest.mark.parametrize("value", [None, [None], 0.5])
def test_a_checkpoint_says_how_it_was_trained(saved, key, value):
    change(saved, lambda content: content["unlossy"]["training"].update({key: value}))
    for read in (checkpoint.describe, checkpoint.load):
        with pytest.raises(UserError, match=rf"how it was trained \({key}\)"):
            read(saved)


@pytest.mark.parametrize("training", [None, [], {}, "l1"])
def test_a_checkpoint_without_training_gets_a_sentence(saved, training):
    change(saved, lambda content: content["unlossy"].update(training=training))
    assert "(model, loss, degradation, source, needs, scale, seed)" in refusal(saved)


@pytest.fixture
def released(tmp_path):
    """Files laid out like the authors' (spec, section 9)."""
    networks = {"u1": UNet(3, 3, 4), "u2": UNet(12, 3, 4), "no_quantizer": UNet(6, 3, 4)}
    for name, network in networks.items():
        content = {"epoch": 30, "model_netG": network.state_dict(), "optimizer_netG": {"state": {}}}
        torch.save(content, tmp_path / f"{name}.pt", _use_new_zipfile_serialization=False)
    return tmp_path, networks


def test_released_files_give_the_paper_s_network(released):
    folder, networks = released
    one = checkpoint.load_official(folder / "u1.pt")
    assert (one.steps, one.update, one.needs) == (1, "tanh", frozenset())
    two = checkpoint.load_official(folder / "u1.pt", folder / "u2.pt")
    assert (two.steps, two.embed_quantizer, two.training) == (2, True, False)
    three = checkpoint.load_official(folder / "u1.pt", folder / "no_quantizer.pt", steps=3)
    assert (three.steps, three.embed_quantizer) == (3, False)
    for ours, theirs in ((two.base, networks["u1"]), (two.refine, networks["u2"])):
        state = theirs.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in ours.state_dict().items())


def test_released_files_in_the_wrong_place_get_a_sentence(released):
    folder, _ = released
    with pytest.raises(UserError, match="first and this one second"):
        checkpoint.load_official(folder / "u2.pt", folder / "u1.pt")
    with pytest.raises(UserError, match=r"12 \(with f_C\) or 6"):
        checkpoint.load_official(folder / "u1.pt", folder / "u1.pt")
    torch.save({"model_netG": {"weight": torch.zeros(1)}}, folder / "odd.pt")
    with pytest.raises(UserError, match="no official CCDNet"):
        checkpoint.load_official(folder / "odd.pt")
    assert "load_official" in refusal(folder / "u1.pt")


def test_the_fingerprint_is_of_the_model_alone(saved, tmp_path):
    own = checkpoint.fingerprint(saved)
    change(saved, lambda content: content.update(optimizer_states=[], epoch=7))
    change(saved, lambda content: content["state_dict"].pop("objective.adversary.network.0.weight"))
    change(saved, lambda content: content["unlossy"]["training"].update(seed=9))
    assert checkpoint.fingerprint(saved) == own
    change(saved, lambda content: content["state_dict"]["model.base.outconv.bias"].add_(1e-3))
    assert checkpoint.fingerprint(saved) != own


def test_weights_of_nested_parts_travel_inside_too(tmp_path):
    flow = {"_target_": "unlossy.models.basicvsr.BasicVSR", "channels": 4, "blocks": 1}
    flow |= {"flow": "spynet", "flow_ckpt": "gone.pth"}
    config = {"_target_": "unlossy.models.astf.ASTF", "network": flow}
    config |= {f"{part}_ckpt": "gone.ckpt" for part in ("s", "e1", "e2")}
    network = BasicVSR(4, 1, flow="spynet")
    torch.save(checkpoint.pack(ASTF(network), config, TRAINING), tmp_path / "astf.ckpt")
    assert isinstance(checkpoint.load(tmp_path / "astf.ckpt"), ASTF)
