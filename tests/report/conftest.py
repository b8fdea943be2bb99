import csv
import json
from pathlib import Path

import pytest
from made_rows import make_row


@pytest.fixture
def make_run(tmp_path):
    """Write a run folder as training does, and return it."""

    def make(name, rows, *, seed=0, config=None, stamp="2026-11-21_10-00-00_abc", metrics=None):
        folder: Path = tmp_path / "runs" / name / stamp
        folder.mkdir(parents=True)
        with (folder / "rows.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(make_row("", "", 0.0)), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(row | {"seed": seed} for row in rows)
        (folder / "run.json").write_text(json.dumps({"seed": seed, "config": config or {}}))
        if metrics:
            (folder / "metrics.csv").write_text(metrics)
        return folder

    return make
