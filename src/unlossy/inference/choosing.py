"""Which model takes a user's file: the newest checkpoint that fits, or why the given one does not.

A checkpoint for GIFs takes GIFs only and the others no GIF; one that makes frames between frames is
taken unasked only where such frames are wanted.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from unlossy import checkpoint
from unlossy.errors import UserError
from unlossy.inference.look import Look, trained_colors, unlike
from unlossy.inference.streaming import PALETTE, no_palette
from unlossy.inference.windows import device_of
from unlossy.models.model import EnhancementModel

Precision = Literal["auto", "float32", "bfloat16", "float16"]
BEFORE = " (README, 'Frames between frames', has the commands that go before it)"
TRAIN = {  # of (GIF, interpolating)
    (True, False): "model=ccdnet loss=grad_gan",
    (False, False): "model=vrcnn source=footage degradation=hevc loss=charbonnier",
    (True, True): "experiment=gif2video/small colors_ckpt=... slomo_ckpt=..." + BEFORE,
    (False, True): "experiment=interpolation/superslomo start_ckpt=..." + BEFORE,
}


def chosen(
    model: EnhancementModel | str | Path | None,
    source: Path,
    look: Look | None,
    *,
    interpolating: bool,
    run_root: Path,
    device: str,
    console: Console,
) -> EnhancementModel:
    """Return the model to use, where it will run.

    Args:
        model: one (used where it is), a checkpoint, or None for the newest that fits.
        source: the input, for messages.
        look: what a first pass told about it, None for a video.
        interpolating: whether frames between frames are wanted.
        run_root: holds `NAME/TIME/checkpoints/best.ckpt`.
        device: `auto`, `cpu` or `cuda`, for a model that comes from a checkpoint.
        console: where the choice is told, and in which way the input is unlike the training data.

    Raises:
        UserError: none fits, or the one given does not, or the device is not there.
    """
    where = _device(device)
    colors = look.colors if look is not None else None
    if model is None:
        model = newest_checkpoint(run_root, source, colors, interpolating=interpolating)
        console.print(f"model: {model}")
    if not isinstance(model, EnhancementModel):
        training = checkpoint.describe(model)["training"]
        if training.get("after") is not None:
            raise UserError(
                f"{model} restores what another stage has restored before; give the checkpoint of "
                "the model that was assembled from both."
            )
        if look is not None and (way := unlike(look, training)):
            console.print(f"warning: {source} {way}; expect less of the result")
        model = checkpoint.load(model).to(where)
    elif device != "auto" and where != device_of(model):
        console.print(f"note: {type(model).__name__} stays where it is: {device_of(model)}")
    _refuse_misfit(model, source, colors, interpolating)
    return model


def _refuse_misfit(
    model: EnhancementModel, source: Path, colors: int | None, interpolating: bool
) -> None:
    name = type(model).__name__
    if not model.restores:
        raise UserError(
            f"{name} restores nothing: another model takes what it has learnt; "
            "give that model's checkpoint."
        )
    if interpolating and not model.interpolates:
        raise UserError(
            f"{name} makes no frames between frames, so the number of frames and their rate stay; "
            "leave out --factor, --fps and --slow (or slow down with --slow S --factor 1), or give "
            "a model that interpolates."
        )
    if colors is None and (PALETTE & model.needs):
        raise UserError(no_palette(source, name))
    if missing := model.needs - PALETTE:
        raise UserError(
            f"{name} needs {', '.join(sorted(missing))}, which {source} does not carry; give "
            "another checkpoint."
        )


def newest_checkpoint(
    run_root: Path, source: Path, colors: int | None, *, interpolating: bool = False
) -> Path:
    """Return the newest best checkpoint whose training data is of the kind of the input.

    Args:
        run_root: holds `NAME/TIME/checkpoints/best.ckpt`.
        source: the input, for the message.
        colors: most colours in one of its frames; None where it has no palette.
        interpolating: whether frames between frames are wanted.

    Raises:
        UserError: there is none.
    """
    has = PALETTE if colors is not None else frozenset()
    found = run_root.glob("*/*/checkpoints/best.ckpt")
    for path in sorted(found, key=lambda path: path.parts[-3], reverse=True):
        try:
            description = checkpoint.describe(path)
            able = checkpoint.restores(description)
            able = able and checkpoint.interpolates(description) == interpolating
        except UserError:
            continue
        training: dict[str, Any] = description["training"]
        learned_gifs = trained_colors(training) is not None
        fits = set(training["needs"]) <= has and learned_gifs == (colors is not None)
        if able and fits and training.get("after") is None:
            return path
    kind = "a GIF" if colors is not None else "a picture without a palette"
    wish = " and makes frames between its frames" if interpolating else ""
    raise UserError(
        f"no checkpoint under {run_root} fits {source}, which is {kind}{wish}; train one with "
        f"python train.py {TRAIN[colors is not None, interpolating]}, or name one with --ckpt."
    )


def dtype_of(precision: str, model: EnhancementModel) -> torch.dtype:
    """Return the precision to compute in: `auto` is bfloat16 on GPUs that have it, else float32.

    Raises:
        UserError: it is none of ours.
    """
    if precision == "auto":
        half = device_of(model).type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if half else torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if precision not in known:
        raise UserError(f"precision {precision!r} is unknown; use auto, {', '.join(known)}.")
    return known[precision]


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.partition(":")[0] in ("cpu", "cuda"):  # torch knows more, such as meta
        with suppress(RuntimeError, AssertionError):
            return torch.empty(0, device=name).device
    raise UserError(f"device {name!r} is not there; use auto, cpu or cuda.")
