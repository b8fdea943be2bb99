"""unlossy: train, compare and use networks that undo lossy media.

    import unlossy
    model = unlossy.load("runs/.../checkpoints/best.ckpt")   # an nn.Module, ready to use
    unlossy.enhance("cat.gif", "cat.mp4", model=model)

Importing the package is cheap: torch is loaded on the first call, Lightning never.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unlossy.inference.choosing import Precision
    from unlossy.models.model import EnhancementModel

__version__ = "0.1.0"
__all__ = ["__version__", "enhance", "load"]


def load(path: str | Path) -> EnhancementModel:
    """Return the model of a checkpoint in evaluation mode on the CPU.

    Raises:
        UserError: the file is missing, is not one of our checkpoints, or names a foreign class.
    """
    from unlossy.checkpoint import load as load_checkpoint

    return load_checkpoint(path)


def enhance(
    source: str | Path,
    target: str | Path,
    *,
    model: EnhancementModel | str | Path | None = None,
    factor: float | str | None = None,
    fps: float | str | None = None,
    slow: float | str = 1,
    tile: int | None = None,
    compare: bool = False,
    device: str = "auto",
    precision: Precision = "auto",
) -> Path:
    """Restore a user's own GIF, video, image or folder of frames and return the path written.

    Args:
        source: GIF, video, image, or a folder or pattern (`frames/*.png`) of images.
        target: `.png`, `.gif`, `.mp4`, `.mkv`, `.webm`, or a folder of PNG frames.
        model: a model, a checkpoint path, or None for the newest fitting checkpoint under `runs/`.
        factor: frames out for each one in; None keeps the rate, but a model that interpolates
            doubles it where neither `fps` nor `slow` is given and the kind of file can play it.
        fps: frames per second instead, a number or a fraction such as `30000/1001`.
        slow: how many times as long it takes, without sound.
        tile: side of tiles in pixels, to save memory; None leaves it to the model.
        compare: also write the input left and the result right, beside `cat.webm` and `cat.mkv` a
            film of their kind, such as `cat.compare.webm`, and else `cat.compare.mp4`.
        device: `auto`, `cpu` or `cuda`, for a checkpoint; a model that is given stays where it is.
        precision: `float32`, `bfloat16`, `float16`, or `auto`: bfloat16 on GPUs that have it, else
            float32.

    Raises:
        UserError: unreadable input, unwritable output, numbers that make no sense, or no fitting
            checkpoint. Nothing is written.
    """
    from unlossy.inference.enhance import enhance as enhance_file
    from unlossy.inference.timeline import Timing, exactly

    number = None if factor is None else exactly(str(factor))
    rate = None if fps is None else exactly(str(fps))
    return enhance_file(
        Path(source),
        Path(target),
        model=model,
        timing=Timing(number, rate, exactly(str(slow))),
        tile=tile,
        compare=compare,
        device=device,
        precision=precision,
    )
