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
    source: str | Path, target: str | Path, *, model: EnhancementModel | str | Path | None = None
) -> Path:
    """Restore a user's own GIF, video or image and return the path written.

    Args:
        source: GIF, video or image.
        target: `.gif`, `.mp4`, `.webm`, `.png`, or a folder of PNG frames.
        model: a model, a checkpoint path, or None for the newest fitting checkpoint under `runs/`.

    Raises:
        UserError: unreadable input, unwritable output, or no fitting checkpoint.
    """
    from unlossy.inference.enhance import enhance as enhance_file

    return enhance_file(Path(source), Path(target), model=model)
