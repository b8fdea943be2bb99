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
from unlossy.degradations.chain import Chain
from unlossy.errors import UserError
from unlossy.models.model import EnhancementModel
from unlossy.models.weights import read_weights
from unlossy.sample import Degradation
from unlossy.training import folder as folders
from unlossy.training.enhancer import Enhancer
from unlossy.training.secrets import redacted

ASSEMBLED = "assembled"  # stands for the loss of a model that is not trained as a whole


def checkpoint_card(
    config: Mapping[str, Any],
    choices: Mapping[str, Any],
    model: EnhancementModel,
    degradation: Degradation,
) -> dict[str, Any]:
    """Return what a checkpoint carries so that it can be rebuilt and recognised."""
    config = redacted(config)
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
            "after": restorer(degradation),
        },
    )


def restorer(degradation: Degradation) -> str | None:
    """Return the fingerprint of the stage that restores the clips beforehand, None if none does.

    Raises:
        UserError: it does so within a chain, where neither cache nor checkpoint would know of it.
    """
    if isinstance(degradation, RestoredClips):
        return degradation.sha256
    if isinstance(degradation, Chain) and any(restorer(medium) for medium in degradation.media):
        raise UserError(
            "A chain of degradations holds clips that a stage has restored; put the chain into "
            "them instead, as data=restored does with any degradation."
        )
    return None


def check_clips(path: Path, training: Mapping[str, Any], restored_by: str | None) -> None:
    """Refuse to score a checkpoint on clips of another kind than it was trained on.

    Args:
        path: of the checkpoint.
        training: its card.
        restored_by: the `restorer` of the clips.

    Raises:
        UserError: a stage restores the clips beforehand for one of the two, and not for the other.
    """
    after = training.get("after")
    if after is None and restored_by is not None:
        raise UserError(
            f"{path} was trained on clips as the medium leaves them, not as another stage restores "
            f"them; score it with data=default."
        )
    if after != restored_by:
        raise UserError(
            f"{path} was trained on clips that another stage had restored; score it with that "
            f"stage's checkpoint, data=restored data.degradation.ckpt=PATH."
        )


def check_parts(name: str, model: Mapping[str, Any]) -> None:
    """Refuse an assembled model whose parts are not there or not made for each other.

    Args:
        name: of the model.
        model: its resolved configuration, whose parts are the arguments named `*_ckpt`: the first
            restores what the medium kept, the others restore what the first made of it.

    Raises:
        UserError: a part is not named, no checkpoint, or was trained on other clips than those.
    """
    parts = {key: value for key, value in model.items() if key.endswith("_ckpt")}
    if lacking := [key for key, value in parts.items() if value is None]:
        raise UserError(
            f"model={name} has no trained parts; run its recipe, experiment={name}/small, or name "
            f"their checkpoints ({', '.join(f'model.{key}' for key in lacking)})."
        )
    after = {
        key: checkpoints.describe(path)["training"].get("after") for key, path in parts.items()
    }
    first, *others = parts
    if after[first] is not None:
        raise UserError(
            f"model.{first}={parts[first]} was trained on clips that another stage had restored; "
            f"name a checkpoint that was trained on what the medium keeps."
        )
    known = checkpoints.fingerprint(parts[first])
    for key in others:
        if after[key] != known:
            raise UserError(
                f"model.{key}={parts[key]} was not trained on clips that "
                f"model.{first}={parts[first]} had restored; name parts of one recipe."
            )


def checkpoint_to_continue(
    cfg: DictConfig, config: Mapping[str, Any], restored_by: str | None
) -> Path | None:
    """Return the checkpoint that `ckpt` names, if it belongs to a run of this recipe.

    Args:
        cfg: the configuration of the run.
        config: the same, resolved.
        restored_by: the `restorer` of its clips.

    Raises:
        UserError: there is none, or continuing it would mix two recipes in one folder.
    """
    if cfg.ckpt is None:
        return None
    if cfg.ckpt == "last":
        digest = folders.config_hash(config)
        resume = folders.find_last(Path(cfg.run_root), cfg.name, digest)
    else:
        resume = Path(cfg.ckpt)
    if checkpoints.describe(resume)["training"].get("after") != restored_by:
        raise UserError(
            f"{resume} learnt from clips that another stage had restored, or none had; name that "
            f"stage's checkpoint, or start a new run by leaving ckpt out."
        )
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
    """Return the newest `best.ckpt` under `run_root` whose model restores clips.

    Raises:
        UserError: there is none.
    """
    found = run_root.glob("*/*/checkpoints/best.ckpt")
    for path in sorted(found, key=lambda path: path.parts[-3], reverse=True):
        if checkpoints.restores(checkpoints.describe(path)):
            return path
    raise UserError(
        f"ckpt=last: no checkpoint under {run_root} restores clips; train one with "
        f"python train.py model=ccdnet loss=grad_gan"
    )
