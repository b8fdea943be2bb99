"""From runs to a folder of the lab book: what is committed of an experiment.

    runs/experiments/03/**  ──publish──►  experiments/03_astf/
        rows.csv                              rows.csv        every clip, with seed and setting
        summary.json                          distances.csv   between sets of frames, if measured
        run.json                              runs.json       the run cards
        measured/*                            *               what a script of its own measured
        checkpoints/ ...                      clips_*.png steps.png, those that its README shows

`runs.json` holds of trainings and of evaluations what all have in common once, and of each run the
rest: choices, settings, seed, revision, versions, device, seconds, steps, digest of the data. Paths
are relative to the runs, so that no machine shows.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from unlossy.errors import UserError
from unlossy.report.markdown import DISTANCES, draw_clips, draw_steps
from unlossy.report.published import pages, refreshed
from unlossy.report.rows import GROUP, TEXT, Row, Run, collect, public, read_json

MEASURED = "measured"  # the folder under the runs for what scripts write
MADE = ("rows.csv", "distances.csv")
BOOK = "experiments"  # the folder of all folders
FIRST = (*TEXT, "setting", "seed", "frames")
LEFT_OUT = ("run", "trained_in", "gain")
SAID = ("seed", "git", "unlossy", "versions", "device", "started", "seconds", "steps")
HYDRAS = ("hydra/", "local", "logger")  # choices that tell nothing about the result


def publish(root: Path, folder: Path) -> list[Path]:
    """Write rows, run cards and figures of the runs under `root` into `folder`; return the files.

    Raises:
        UserError: no finished run under `root`, damaged rows, `folder` cannot be written, or a
            table of its README, or of another page of the repository, asks for what the new rows
            have not: then it stays as it was.
    """
    told, readme = cards(root), folder / "README.md"
    try:
        with TemporaryDirectory() as name:
            place = Path(name)
            (place / "runs.json").write_text(_json(told), encoding="utf-8")
            if any(root.rglob("rows.csv")) or not told["trainings"]["runs"]:
                _measured(root, place, readme)  # else it is measured elsewhere
            for file in (root / MEASURED).glob("*"):
                shutil.copy(file, place)
            made = sorted(place.iterdir())
            _check(folder, place)
            folder.mkdir(parents=True, exist_ok=True)
            published = [Path(shutil.copy(file, folder)) for file in made]
            for name in {*MADE} - {file.name for file in made}:  # of other runs
                (folder / name).unlink(missing_ok=True)
            return published
    except OSError as error:
        raise UserError(f"Cannot publish to {folder} ({error}); name another folder.") from error


def checkpoints(words: Iterable[str]) -> list[tuple[str, int, Path]]:
    """Return label, seed and checkpoint of each `LABEL@SEED=CHECKPOINT`.

    Raises:
        UserError: a word is none, or there are no words.
    """
    found = []
    for word in words:
        told, _, path = word.partition("=")
        label, _, seed = told.rpartition("@")
        if not (label and seed.isdigit() and path):
            raise UserError(f"{word} names no checkpoint; write LABEL@SEED=CHECKPOINT.")
        found.append((label, int(seed), Path(path)))
    if not found:
        raise UserError("No checkpoint is named; write LABEL@SEED=CHECKPOINT.")
    return found


def _check(folder: Path, place: Path) -> None:
    """Make the tables of all pages as if the files in `place` were in `folder` already.

    Raises:
        UserError: a table asks for what there is not.
    """

    def found_at(file: Path) -> Path:
        new = place / file.name
        ours = file.parent.resolve() == folder.resolve()
        return new if ours and (file.name in MADE or new.exists()) else file

    book = folder.resolve().parent
    for page in pages(book.parent) if book.name == BOOK else folder.glob("README.md"):
        refreshed(page, found_at)


def _measured(root: Path, place: Path, readme: Path) -> None:
    """Write what was measured into `place`, of the figures those that the README shows."""
    rows = collect(root)
    _write(place / "rows.csv", rows, (*FIRST, *_numbers(rows)))
    if found := distances(root, rows):
        _write(place / "distances.csv", found, list(found[0]))
    draw_clips(rows, place)
    draw_steps(rows, root, place)
    for figure in place.glob("*.png"):
        if not _shown(figure.name, readme):
            figure.unlink()


def cards(root: Path) -> dict[str, Any]:
    """Return the cards of the finished runs under `root`, trainings and evaluations apart."""
    found = [_card(path.parent, root) for path in sorted(root.rglob("run.json"))]
    found = [card for card in found if "seconds" in card]
    trained = [card for card in found if "steps" in card]
    scored = [card for card in found if "steps" not in card]
    return {"format": 1, "trainings": _factored(trained), "evaluations": _factored(scored)}


def _factored(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what all cards have in common once, and of each the rest."""
    first, *others = found or [{}]
    common = {
        key: value
        for key, value in first.items()
        if others and all(card.get(key) == value for card in others)
    }
    own = [{key: card[key] for key in card if key not in common} for card in found]
    return {"common": common, "runs": own}


def _shown(name: str, readme: Path) -> bool:
    return not readme.exists() or f"({name})" in readme.read_text(encoding="utf-8")


def distances(root: Path, rows: Sequence[Row]) -> list[Row]:
    """Return the distances between sets of frames, a row per run and model that has some."""
    found = []
    for row in {(row["run"], row["model"]): row for row in rows}.values():
        summary = read_json(root / row["run"] / "summary.json").get(row["model"], {})
        if known := {key: summary[key] for key in DISTANCES if key in summary}:
            keys = ("model", "loss", "degradation", "setting", "seed")
            found.append({key: row[key] for key in keys} | known)
    return found


def _card(folder: Path, root: Path) -> dict[str, Any]:
    """Return a card, flat: `choices.model`, `settings.optimizer.lr`."""
    card = read_json(folder / "run.json")
    choices = {
        f"choices.{key}": value
        for key, value in card.get("choices", {}).items()
        if value is not None and not key.startswith(HYDRAS)
    }
    settings = {f"settings.{key}": value for key, value in Run(folder, card, []).settings.items()}
    known = {
        "run": folder.relative_to(root).as_posix(),
        **{key: card[key] for key in SAID if key in card},
        "data": card.get("data", {}).get("digest"),
        "checkpoint": card.get("checkpoint"),
        **choices,
        **settings,
    }
    return {key: public(value, root) for key, value in known.items() if value is not None}


def _json(content: Mapping[str, Any], indent: str = "") -> str:
    """Return JSON with mappings spread over lines, and lists of numbers and the like in one."""
    inner = indent + " "

    def text(value: Any) -> str:
        if isinstance(value, Mapping):
            return _json(value, inner)
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            return "[" + ", ".join(_json(each, inner) for each in value) + "]"
        return json.dumps(value)

    lines = (f"{inner}{json.dumps(key)}: {text(value)}" for key, value in content.items())
    return "{\n" + ",\n".join(lines) + f"\n{indent}" + "}" + ("" if indent else "\n")


def _numbers(rows: Iterable[Row]) -> list[str]:
    """Return the columns of which any row has a value, in the order of the first row's file."""
    rows = list(rows)
    every = dict.fromkeys(key for row in rows for key in row)
    kept = [key for key in every if key not in (*FIRST, *LEFT_OUT, *GROUP)]
    return [key for key in kept if any(row.get(key) is not None for row in rows)]


def _write(path: Path, rows: Iterable[Row], header: Sequence[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_cell(row.get(key)) for key in header] for row in rows)
    return path


def _cell(value: object) -> object:
    if not isinstance(value, float):
        return "" if value is None else value
    return f"{value:.0f}" if value.is_integer() else f"{value:.6g}"  # bits in full
