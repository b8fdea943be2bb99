"""`metrics.csv` of a run folder: every logged scalar in long form, one line per (step, name).

    step,name,value
    50,train/total,4.1032

Lightning's CSVLogger starts a new file on resume and rewrites it when a column appears. This one
appends, and on resume drops the lines from the resumed step on, so that an interrupted run leaves
the same file as an uninterrupted one (but for names under `time/`).
"""

from __future__ import annotations

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any

from unlossy import _torchvision  # noqa: F401
from unlossy.training.folder import replacing

from lightning.pytorch.loggers import Logger  # isort: skip
from lightning.pytorch.utilities import rank_zero_only  # isort: skip

HEADER = ("step", "name", "value")


class StepLog(Logger):
    """Appends scalars to `<folder>/metrics.csv`.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"

    @property
    def name(self) -> str:
        """Return the file's stem, which Lightning shows in messages."""
        return "metrics"

    @property
    def version(self) -> str:
        """Return an empty version: the run folder is the version."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line per scalar; Lightning's own `epoch` counter is left out."""
        fresh = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if fresh:
                writer.writerow(HEADER)
            writer.writerows(
                (step, name, f"{value:.6g}")
                for name, value in sorted(metrics.items())
                if name != "epoch"
            )

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Do nothing: run.json holds the configuration."""

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Drop what an interrupted run logged at or after `step`, which will be logged again."""
        if not self.path.exists():
            return
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if len(row) == len(HEADER)]
        kept = [row for row in rows[1:] if int(row[0]) < step]
        with replacing(self.path) as file:
            csv.writer(file, lineterminator="\n").writerows([HEADER, *kept])
