"""One promise, every configuration: what lies in conf/ composes, builds and keeps its contract."""

from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from unlossy import cli
from unlossy.errors import UserError
from unlossy.models.model import EnhancementModel
from unlossy.sample import Degraded, Sample, check, pristine
from unlossy.training.configs import build, resolved
from unlossy.training.enhancer import introduce, match

# Keeps a step in milliseconds; nothing else changes.
CONDITIONING = ["model.conditioning.channels=4", "model.conditioning.blocks=1"]
LEVELS = "model.conditioning.outputs=24"  # 3 * 8


def slomo(node: str) -> list[str]:
    """The paper's flow network instead of a SPyNet, and both of its networks narrow."""
    flow = f"{node}.flow._target_=unlossy.networks.flow_unet.PairFlow"
    return [flow, f"+{node}.flow.channels=2", f"{node}.refine.channels=2"]


SMALL = {
    "ccdnet": ["model.channels=4"],
    "film": ["model.network.filters=4", "model.network.flow_filters=[4,4,4,4]"],
    "film_small": ["model.network.filters=4"],
    "gif2video": ["model.colors.channels=4", *slomo("model.slomo")],
    "superslomo": slomo("model"),
    "superslomo_paper": ["model.flow.channels=2", "model.refine.channels=2"],
    "regression": CONDITIONING,
    "pixel_independent": [*CONDITIONING, LEVELS, "model.levels=8"],
    "pixelsr": [
        *CONDITIONING,
        LEVELS,
        *("model.prior.levels=8", "model.prior.layers=1", "model.prior.channels=6"),
        "model.prior.hidden=12",
    ],
}


def names(group: str) -> list[str]:
    """What can be chosen in a group; a leading underscore marks what presets share."""
    folder = Path(cli.CONF) / group
    found = [path.relative_to(folder).with_suffix("") for path in folder.rglob("*.yaml")]
    return sorted(path.as_posix() for path in found if not path.name.startswith("_"))


VGG16 = ("lpips", "slomo", "vgg", "style")  # in the names of losses that look through its trunk


def fetching(group: str) -> list[object]:
    """The same, with the assets that a test of each must be able to fetch."""
    mark = pytest.mark.assets("lpips_vgg")
    return [
        pytest.param(name, marks=mark if any(part in name for part in VGG16) else ())
        for name in names(group)
    ]


MODELS, LOSSES, DEGRADATIONS = names("model"), fetching("loss"), names("degradation")


@cache  # most of a test's time; nobody changes a configuration
def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        return compose("train", [*overrides, "name=test", "source=folder", "source.path=."])


def moving_picture(frames: int = 2, height: int = 48, width: int = 64) -> torch.Tensor:
    """A smooth picture that drifts, uint8 (T, 3, H, W): hundreds of colours, which a GIF loses."""
    t, y, x = torch.meshgrid(
        torch.arange(frames), torch.arange(height), torch.arange(width), indexing="ij"
    )
    waves = [torch.sin(0.13 * (c + 1) * (x + t) + 0.09 * y) for c in range(3)]
    return ((torch.stack(waves, 1) + 1) * 127.5).round().to(torch.uint8)


def as_sample(clip: Degraded) -> Sample:
    stored = clip["frames"].numel() if clip["stream"] is None else len(clip["stream"])
    wanted = torch.arange(int(clip["t_in"][0]), int(clip["t_in"][-1]) + 1)
    clean = clip["reference"][wanted]
    t, size = torch.arange(float(len(clean))), clean.shape[-2:]
    # `moving_picture` moves to the left
    led = {"flow": -torch.ones(len(clean) - 1), "flow_to_first": t, "flow_to_last": t - t[-1]}
    return Sample(
        name=[clip["name"]],
        degraded=clip["frames"][None].float() / 255,
        clean=clean[None].float() / 255,
        t_in=clip["t_in"][None],
        t_out=wanted[None].float(),
        side={key: value[None] for key, value in clip["side"].items()},
        target={
            key: torch.stack([x, 0 * x], 1)[None, ..., None, None].expand(-1, -1, -1, *size)
            for key, x in led.items()
        },
        bits=torch.tensor([8.0 * stored]),
    )


def degraded(degradation: str) -> Sample:
    medium = build(composed(f"degradation={degradation}").degradation)
    clean = moving_picture(medium.every + 1)  # two frames are kept
    return as_sample(medium(pristine("drift", clean), torch.Generator().manual_seed(1)))


kept = cache(degraded)  # for tests that only read it


def as_it_waits(batch: Sample) -> Sample:
    """The whole clip in 8 bits, as `fit` is given it."""
    stored = {key: batch[key].mul(255).round().byte() for key in ("degraded", "clean")}
    return Sample(**{**batch, **stored})


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_a_degradation_yields_a_valid_sample_and_is_deterministic(name):
    first, second = degraded(name), degraded(name)
    check(first)
    assert torch.equal(first["degraded"], second["degraded"])
    assert torch.equal(first["bits"], second["bits"])
    assert first["bits"].item() > 0
    assert set(first["side"]) >= build(composed(f"degradation={name}").degradation).keeps


@pytest.mark.parametrize("degradation", DEGRADATIONS)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_takes_a_step_or_says_why_not(name, degradation):
    model: EnhancementModel = build(composed(f"model={name}", *SMALL.get(name, [])).model)
    cfg = composed("loss=nll" if model.teacher_forced else "loss=l1")
    medium = build(composed(f"degradation={degradation}").degradation)
    if refusal := refused(match, model, medium):
        assert "degradation" in refusal
        return
    batch = kept(degradation)
    if model.fits_on == "train":
        model.fit([as_it_waits(batch)])
    restored = model.eval().restore(batch)
    assert restored.shape == batch["clean"].shape
    assert restored.min() >= 0
    assert restored.max() <= 1
    if model.assembled or not model.trainable:
        with pytest.raises(UserError, match="nothing to train"):
            introduce(model, build(cfg.loss))
        return
    if model.interpolates and medium.every == 1:
        assert "drops frames" in refused(model.train(), batch)
    elif not torch.equal(batch["degraded"], batch["clean"]):  # else a network starts at the goal
        take_steps(cfg, model, batch)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_trains_a_model_that_provides_for_it(loss):
    cfg = composed(f"loss={loss}")
    for name in MODELS:
        model = build(composed(f"model={name}", *SMALL.get(name, [])).model)
        if refusal := refused(introduce, model, build(cfg.loss)):
            assert any(w in refusal for w in ("nothing to train", "provide", "likelihood"))
            continue
        take_steps(cfg, model, kept(taught_on(model)))
        return
    pytest.fail(f"no model of conf/model provides for loss={loss}")


def taught_on(model: EnhancementModel) -> str:
    """A medium that leaves this model something to do."""
    if model.interpolates:
        return "drop_frames_gif"
    return "gif" if model.scale == 1 else "downscale"


def refused(call, *arguments) -> str:
    """Return the sentence with which `call` refuses, empty if it does not."""
    try:
        call(*arguments)
    except UserError as error:
        return str(error)
    return ""


def take_steps(cfg: DictConfig, model: EnhancementModel, batch: Sample) -> None:
    """Three steps: with the last convolution at zero, the first moves that convolution alone."""
    objective = build(cfg.loss)
    introduce(model, objective)
    model.train()
    optimizer = build(cfg.optimizer)(model.param_groups(1e-3))
    players = {name: player.make_optimizer() for name, player in objective.players().items()}
    trained = {k: v for k, v in model.named_parameters() if v.requires_grad}
    trained |= {f"player.{k}": v for k, v in objective.named_parameters() if v.requires_grad}
    before = {key: value.detach().clone() for key, value in trained.items()}
    for step in range(3):
        restored = model(batch)
        for name, player in objective.players().items():
            players[name].zero_grad()
            draws = torch.Generator().manual_seed(step)
            player.loss(restored, batch, draws)["loss"].backward()
            players[name].step()
        terms = objective(restored, batch, step)
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        assert all(torch.isfinite(value) for value in terms.values())
    gradients = [value.grad for value in trained.values()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    still = [key for key, value in trained.items() if torch.equal(value, before[key])]
    assert not still, f"never moved: {still}"


@pytest.mark.parametrize("name", MODELS)
def test_a_model_reads_clean_only_if_it_is_teacher_forced(name):
    cfg = composed(f"model={name}", *SMALL.get(name, []))
    model = build(cfg.model).eval()
    for parameter in model.parameters():  # a network that starts as the identity reads nothing
        torch.nn.init.normal_(parameter, std=0.1)
    if model.teacher_forced:
        return
    batch = kept(taught_on(model) if model.interpolates else "gif")
    if model.fits_on == "train":
        model.fit([as_it_waits(batch)])
    expected = model.restore(batch)
    noise = torch.rand(batch["clean"].shape)
    assert torch.equal(expected, model.restore(Sample(**{**batch, "clean": noise})))


@pytest.mark.parametrize("name", MODELS)
def test_every_trainable_parameter_is_in_exactly_one_group(name):
    model = build(composed(f"model={name}", *SMALL.get(name, [])).model)
    grouped = [id(p) for group in model.param_groups(1e-3) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)


# What an experiment asks of its user, by the name that the override has, and which ones do.
ASKED = {
    "base_ckpt": lambda name: name.startswith("ccdnet") and "stage" in name,
    "start_ckpt": lambda name: any(
        part in name for part in ("stage_b", "moments", "stage2", "interpolation/", "_seq")
    ),
    "colors_ckpt": lambda name: name in ("gif2video/small", "gif2video/faces"),
    "slomo_ckpt": lambda name: name == "gif2video/small",
    "network.flow_ckpt": lambda name: name.startswith("astf/") and "small" not in name,
}


@pytest.mark.parametrize("name", names("experiment"))
def test_an_experiment_composes_and_asks_for_what_it_lacks(name):
    def config(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(cli.CONF), version_base="1.3"):
            return compose("train", [f"experiment={name}", "name=test", *overrides])

    asked = {key: f"{key}.ckpt" for key, asks in ASKED.items() if asks(name)}
    if asked:
        with pytest.raises(UserError, match="lacks a value"):
            resolved(config())
    cfg = config(*(f"{key}={value}" for key, value in asked.items()))
    plain = resolved(cfg)
    assert plain["model"].get("base_ckpt") == asked.get("base_ckpt")
    for part in ("colors_ckpt", "slomo_ckpt"):
        assert plain["model"].get(part) in (asked.get(part), "embedded")
    assert plain["init"] == asked.get("start_ckpt")
    assert plain["data"]["degradation"].get("ckpt") == (plain["init"] if "stage2" in name else None)
    assert cfg.trainer.max_steps > 0
    assert plain["trained"].keys() == plain["stages"].keys()
    assert all(value is None for value in plain["trained"].values())


@pytest.mark.parametrize("name", ["ccdnet", "vrcnn", "basicvsr", "astf"])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 17)])
def test_odd_and_tiny_frames_are_restored_at_their_size(name, size):
    cfg = composed(f"model={name}", *SMALL.get(name, []))
    clip = build(cfg.degradation)(
        pristine("tiny", moving_picture(1, *size)), torch.Generator().manual_seed(1)
    )
    assert build(cfg.model).eval().restore(as_sample(clip)).shape[-2:] == size
