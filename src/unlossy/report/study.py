"""Are people fooled? A page that asks which of two pictures is the original, and its answers.

    RUN/frames ──write_study──► study.html ──people──► answers.csv ... ──read_answers──► % fooled

A two-alternative forced choice: a clean frame and what a model made in its place, side by side in
random order (Dahl, Norouzi, Shlens, "Pixel Recursive Super Resolution", 2017). 50 % fooled is
perfect confusion. The interval is Wilson's, which takes answers as independent: it knows nothing of
how raters differ, nor that all of them saw the same pairs.

The page is one file that loads nothing and sends nothing: it works by a double click, and each
rater returns the CSV that it offers at the end. Which side is clean is the parity of a number's
bits: no glance at the source tells it, and it is not a secret.
"""

from __future__ import annotations

import base64
import csv
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scipy.stats import binomtest

from unlossy.errors import UserError
from unlossy.report.saved_frames import CLEAN, Pair, saved_pairs

PAGE = Path(__file__).with_name("study.html")
COLUMNS = ("pair", "clip", "left", "right", "chosen", "fooled", "milliseconds")


def write_study(run: Path, label: str, out: Path, pairs: int = 50, seed: int = 0) -> Path:
    """Write the page that asks about `pairs` of a run's frames, and return its path.

    Args:
        run: a run folder with saved frames.
        label: whose frames are shown beside the clean ones.
        out: the page, `.html`.
        pairs: how many of the saved frames, drawn without repetition.
        seed: of the draw, of its order, and of the sides.

    Raises:
        UserError: no frames were saved, or not of `label`, or too few; `out` cannot be written.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"A study is a page: --study {out} should end in .html.")
    saved = saved_pairs(run, label)
    if not 0 < pairs <= len(saved):
        raise UserError(
            f"--pairs {pairs} does not fit {run}, which holds {len(saved)} pairs of {label}; "
            f"choose 1 to {len(saved)}."
        )
    draws = random.Random(seed)
    study = {"made": label, "pairs": [_shown(p, draws) for p in draws.sample(saved, pairs)]}
    content = json.dumps(study).replace("<", "\\u003c")  # no name may end the script element
    try:
        page = PAGE.read_text(encoding="utf-8").replace("null /* study */", content)
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"Cannot write the study to {out} ({error}); name another file.") from error
    return out


def _shown(pair: Pair, draws: random.Random) -> dict[str, object]:
    """Return a pair as the page reads it: its name, the two pictures, and the key to them."""
    key = draws.randrange(1 << 16)
    sides = (pair.clean, pair.made) if key.bit_count() % 2 else (pair.made, pair.clean)
    pictures = [base64.b64encode(path.read_bytes()).decode() for path in sides]
    return {"clip": f"{pair.clip}/{pair.frame}", "pictures": pictures, "key": key}


class Fooled(NamedTuple):
    """How many answers took a model's picture for the original."""

    model: str
    fooled: int
    answers: int

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share."""
        low, high = binomtest(self.fooled, self.answers).proportion_ci(0.95, "wilson")
        return float(low), float(high)

    def __str__(self) -> str:
        """A line for the screen."""
        low, high = self.interval
        return (
            f"{self.model}: {self.fooled / self.answers:.1%} fooled, {self.fooled} of "
            f"{self.answers} answers (95 % interval {low:.1%} to {high:.1%}; 50 % is perfect "
            "confusion)"
        )


def read_answers(paths: Sequence[Path]) -> list[Fooled]:
    """Return the share fooled for each model that the answers of all raters are about.

    Raises:
        UserError: a file is not the CSV of a study, or no answer is in any of them.
    """
    answers: Counter[str] = Counter()
    fooled: Counter[str] = Counter()
    for path in paths:
        for model, was_fooled in _answers(path):
            answers[model] += 1
            fooled[model] += was_fooled
    if not answers:
        raise UserError(f"No answer is in {', '.join(map(str, paths))}; ask someone first.")
    return [Fooled(model, fooled[model], count) for model, count in answers.items()]


def _answers(path: Path) -> list[tuple[str, bool]]:
    """Return for each answer the model and whether its picture was chosen."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a mark
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"Cannot read {path} as CSV ({error}); name a rater's answers.") from error
    if absent := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
        raise UserError(
            f"{path} holds no answers of a study: it lacks the columns {', '.join(absent)}; name "
            "the CSV that the page offers at its end, unchanged."
        )
    found = []
    for line, row in enumerate(rows, 2):
        sides = {"left": row["left"], "right": row["right"]}
        models = [label for label in sides.values() if label != CLEAN]
        if row["chosen"] not in sides or len(models) != 1 or not models[0]:
            raise UserError(
                f"{path}, line {line} is no answer of a study: one of left and right is {CLEAN}, "
                "the other a model, and chosen says left or right; take the line out."
            )
        found.append((models[0], sides[row["chosen"]] != CLEAN))
    return found
