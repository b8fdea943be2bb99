"""From which checkpoint a run starts or goes on, and what its own checkpoints say about themselves.

ckpt=PATH|last    go on with a run of this very recipe: optimiser, schedule, step
init=PATH         start from the weights of another run
model.x_ckpt      parts of an assembled model
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from unlossy import checkpoint as checkpoints
from unlossy.data.restored import RestoredClips
from unlossy.errors import UserError
from unlossy.models.model import EnhancementModel
from unlossy.models.weights import read_weights
from unlossy.sample import Degradation
from unlossy.training import folder as folders
from unlossy.training.enhancer import Enhancer

ASSEMBLED = "assembled"  # stands for the loss of a model that is not trained as a whole


def checkpoint_card(
    config: Mapping[str, Any],
    choices: Mapping[str, Any],
    model: EnhancementModel,
    degradation: Degradation,
) -> dict[str, Any]:
    """Return what a checkpoint carries so that it can be rebuilt and recognised."""
    return checkpoints.card(
        config["model"],
        training={
            "model": str(choices["model"]),
            "loss": ASSEMBLED if model.assembled else str(choices["loss"]),
            "degradation": config["degradation"],
            "source": str(choices["source"]),
            "needs": sorted(model.needs),
            "scale": model.scale,
            "seed": config["seed"],
            "after": _restorer(degradation),
        },
    )


def _restorer(degradation: Degradation) -> str | None:
    return degradation.sha256 if isinstance(degradation, RestoredClips) else None


def check_clips(path: Path, training: Mapping[str, Any], degradation: Degradation) -> None:
    """Refuse to score a checkpoint on clips of another kind than it was trained on.

    Args:
        path: of the checkpoint.
        training: its card.
        degradation: what the clips pass through.

    Raises:
        UserError: a stage restores the clips beforehand for one of the two, and not for the other.
    """
    after = training.get("after")
    if after is None and isinstance(degradation, RestoredClips):
        raise UserError(
            f"{path} was trained on clips as the medium leaves them, not as another stage restores "
            f"them; score it with data=default."
        )
    if after != _restorer(degradation):
        raise UserError(
            f"{path} was trained on clips that another stage had restored; score it with that "
            f"stage's checkpoint, data=restored data.degradation.ckpt=PATH."
        )


def check_parts(name: str, model: Mapping[str, Any]) -> None:
    """Refuse an assembled model whose parts are not there or not made for each other.

    Args:
        name: of the model.
        model: its resolved configuration, whose parts are the arguments named `*_ckpt`.

    Raises:
        UserError: a part is not named, no checkpoint, or was trained after a stage that is none of
            the parts.
    """
    parts = {key: value for key, value in model.items() if key.endswith("_ckpt")}
    if lacking := [key for key, value in parts.items() if value is None]:
        raise UserError(
            f"model={name} has no trained parts; run its recipe, experiment={name}/small, or name "
            f"their checkpoints ({', '.join(f'model.{key}' for key in lacking)})."
        )
    known = {checkpoints.fingerprint(path) for path in parts.values()}
    for key, path in parts.items():
        if checkpoints.describe(path)["training"].get("after") not in {None, *known}:
            raise UserError(
                f"model.{key}={path} was trained on clips that another stage had restored than "
                f"those of this model; name parts of one recipe."
            )


def checkpoint_to_continue(cfg: DictConfig, config: Mapping[str, Any]) -> Path | None:
    """Return the checkpoint that `ckpt` names, if it belongs to a run of this recipe.

    Raises:
        UserError: there is none, or continuing it would mix two recipes in one folder.
    """
    if cfg.ckpt is None:
        return None
    if cfg.ckpt == "last":
        return folders.find_last(Path(cfg.run_root), cfg.name, folders.config_hash(config))
    resume = Path(cfg.ckpt)
    checkpoints.describe(resume)
    if resume.parent.name != "checkpoints":
        raise UserError(
            f"{resume} does not lie in the checkpoints/ of a run folder, so the run to go on with "
            f"is unknown; to start from its weights, pass init={resume}."
        )
    if different := folders.first_difference(resume.parent.parent, config):
        raise UserError(
            f"{resume} belongs to a run with another {different}; pass that run's settings, or "
            f"start from its weights with init={resume}."
        )
    return resume


def start_from(path: Path, enhancer: Enhancer) -> None:
    """Copy the model's weights from a checkpoint, and the adversary's where both have one.

    Raises:
        UserError: the checkpoint is unreadable or holds another model.
    """
    checkpoints.describe(path)
    state = read_weights(path)["state_dict"]
    for part in ("model", "objective"):
        own = getattr(enhancer, part)
        theirs = {k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(part)}
        if part == "objective" and not (theirs and own.state_dict()):
            continue
        try:
            own.load_state_dict(theirs)
        except RuntimeError:
            raise UserError(
                f"init={path} holds another {part} than the configuration asks for (other sizes "
                f"or parts); name a checkpoint of the same {part}."
            ) from None


def newest_best(run_root: Path) -> Path:
    """Return the newest `best.ckpt` under `run_root`.

    Raises:
        UserError: there is none.
    """
    found = sorted(run_root.glob("*/*/checkpoints/best.ckpt"), key=lambda path: path.parts[-3])
    if not found:
        raise UserError(
            f"ckpt=last: no checkpoint lies under {run_root}; train one with "
            f"python train.py model=ccdnet loss=grad_gan"
        )
    return found[-1]
