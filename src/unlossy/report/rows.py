"""Result rows: one per (model, clip) in the `rows.csv` of every run folder.

A run folder also holds `run.json`, whose `config` and `seed` tell runs apart. Where two runs of the
same model, loss and degradation differ in a setting, `collect` writes the difference into the row
(`optimizer.lr=0.001`), so that a mean over seeds never mixes two recipes. A run that starts from
another differs in where from only if the other goes by another name: each seed has its own.
"""

from __future__ import annotations

import csv
import glob
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from unlossy.errors import UserError

Row = dict[str, Any]  # text columns hold str, the others float, None where a cell is blank

TEXT = ("model", "loss", "degradation", "source", "clip")
REQUIRED = (*TEXT, "frames", "psnr", "ssim", "lpips_alex")
GROUP = ("model", "loss", "degradation", "source", "setting")  # what a line of a table stands for
INPUT = "input"  # the model name of the untouched input
# Settings, or groups of them, that tell where a run took place or what it was compared with, and
# the data module's copies of others.
CIRCUMSTANCES = (
    *("seed", "ckpt", "run_root", "name", "logger", "device", "checkpoint_every", "test"),
    *("save", "baselines", "metrics", "trainer.enable_progress_bar", "trainer.log_every_n_steps"),
    *("trial", "data.workers", "data.seed", "data.source", "data.degradation"),
)
# Setting -> the one that conf/schedule takes it from, unless a user set both.
COPIES = {"schedule.max_lr": "optimizer.lr", "schedule.total_steps": "trainer.max_steps"}
# RUNS/<name>/<date>_<hash>/checkpoints/best.ckpt, of which the name tells the recipe
START = re.compile(r"(?:[^\s='\",]*/)?([^\s='\",/]+)/[^\s='\",/]+/checkpoints/[^\s='\",\]]+")
PLACE = re.compile(r"(?<![\w./:])[~/][^\s/'\"]*/[^\s'\",;:()]+")  # a path of this machine


@dataclass
class Run:
    """One finished run: its folder, its card (`run.json`, empty if absent) and its rows."""

    folder: Path
    card: Mapping[str, Any]
    rows: list[Row]
    settings: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        config = self.card.get("config")
        flat = dict(_flatten(config)) if isinstance(config, Mapping) else {}
        self.settings = {
            key: value
            for key, value in flat.items()
            if not any(f"{key}.".startswith(f"{name}.") for name in CIRCUMSTANCES)
            and self.folder.name not in str(value)
        }

    @property
    def starts(self) -> frozenset[str]:
        """The checkpoints of other runs that this one started from."""
        return frozenset(
            found[0] for value in self.settings.values() for found in START.finditer(str(value))
        )

    def told(self, key: str) -> Any:
        """Return a setting as recipes are told apart by it: of a checkpoint its run's name."""
        value = self.settings[key]
        text = START.sub(r"\1", str(value))
        return value if text == str(value) else text

    @property
    def has_recipe(self) -> bool:
        """Whether the card tells how the model was trained; that of an `eval.py` does not."""
        return any(key.startswith("trainer.") for key in self.settings)

    def copies(self, key: str) -> bool:
        """Return whether a setting only repeats another, or is not there at all."""
        original = self.settings.get(COPIES.get(key, ""))
        return key not in self.settings or (key in COPIES and self.settings[key] == original)

    @property
    def trained(self) -> tuple[str, ...]:
        """The names by which the trained models of this run go in its rows."""
        return tuple(
            sorted({f"{r['model']} {r['loss']} {r['degradation']}" for r in self.rows if r["loss"]})
        )


def number(row: Mapping[str, Any], key: str) -> float | None:
    """Return a numeric cell, None where it is missing, blank or NaN."""
    value = row.get(key)
    if value is None or value == "" or math.isnan(float(value)):
        return None
    return float(value)


def is_exact(row: Mapping[str, Any]) -> bool:
    """Return whether the medium kept every frame of a row's clip as it was."""
    return bool(number(row, "frames")) and number(row, "exact") == number(row, "frames")


def label(row: Mapping[str, Any]) -> str:
    """Return what a line is called: model, loss and setting."""
    return " ".join(row[key] for key in ("model", "loss", "setting") if row.get(key))


def read_rows(path: Path) -> list[Row]:
    """Read a `rows.csv`.

    Raises:
        UserError: a column is missing, a line is cut off, or a number is none.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"Cannot read {path} as CSV ({error}); move it out of the runs.") from error
    if absent := [name for name in REQUIRED if name not in header]:
        raise UserError(
            f"{path} is not a rows.csv of unlossy: it lacks the columns {', '.join(absent)}; "
            "move it out of the runs."
        )
    return [_row(header, cells, f"{path}, line {line}") for line, cells in lines]


def _row(header: list[str], cells: list[str], place: str) -> Row:
    if len(cells) != len(header):
        raise UserError(
            f"{place} has {len(cells)} cells where the header has {len(header)}; its writer was "
            "interrupted: resume the run with ckpt=last, or remove its folder."
        )
    row: Row = {}
    for key, cell in zip(header, cells, strict=True):
        if key in TEXT:
            row[key] = cell
            continue
        try:
            row[key] = float(cell) if cell else None
        except ValueError as error:
            raise UserError(
                f"{place} holds {cell!r} in column {key}, where a number or nothing should stand; "
                "evaluate the run again with eval.py, or remove its folder."
            ) from error
    return row


def find_runs(root: Path) -> list[Run]:
    """Return the finished runs under `root`, oldest first by folder name.

    Raises:
        UserError: no such folder, or no `rows.csv` in it.
    """
    if not root.is_dir():
        raise UserError(f"There is no folder {root}; name one that holds runs, such as runs/.")
    paths = sorted(root.rglob("rows.csv"), key=lambda path: (path.parent.name, path))
    if not paths:
        raise UserError(
            f"No finished run under {root} (no rows.csv): train one with "
            "`python train.py model=ccdnet loss=grad_gan`, or name another folder."
        )
    return [
        Run(path.parent, read_json(path.parent / "run.json"), read_rows(path)) for path in paths
    ]


def read_json(path: Path) -> Mapping[str, Any]:
    """Return the object in a JSON file, an empty one if there is no file or it holds no object.

    Raises:
        UserError: the file is not JSON.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); remove it or its folder.") from error
    return content if isinstance(content, Mapping) else {}


def public(value: Any, root: Path) -> Any:
    """Return text, or what lists and mappings of text hold, without the paths of this machine.

    A path under `root` is told from there, a checkpoint elsewhere with its run, others by name.
    """
    if isinstance(value, Mapping):
        return {key: public(each, root) for key, each in value.items()}
    if isinstance(value, list):
        return [public(each, root) for each in value]
    if not isinstance(value, str):
        return value
    if not root.is_absolute() and root.parts:
        value = re.sub(rf"(?<![\w./-]){re.escape(root.as_posix())}/", "", value)

    def shortened(found: re.Match[str]) -> str:
        path = Path(found[0])
        if path.is_relative_to(root.resolve()):
            return path.relative_to(root.resolve()).as_posix()
        return "/".join(path.parts[-4:]) if path.parent.name == "checkpoints" else path.name

    return PLACE.sub(shortened, value)


def collect(root: Path) -> list[Row]:
    """Return the rows of every finished run under `root`, fit to be compared.

    Each row gains `run` (its folder, relative to `root`), `trained_in` (the folder of the run that
    trained its model; `run` if that is elsewhere), `seed`, `gain` (dB over the input of its own
    run) and `setting`: what its recipe has that another run of the same name has not; where no run
    under `root` tells the recipe, the checkpoint stands for it. A degradation of several settings
    is named with them. Of repeated results the newest counts; a run from another checkpoint is no
    repetition, and an untrained row, which has no seed, is one if its numbers are the same.

    Raises:
        UserError: as `find_runs`, or a damaged `rows.csv`.
    """
    found = find_runs(root)
    recipes = {run.folder: _recipe(run, root) for run in found}
    # What a run says of its own model counts more than an eval.py that does not tell whose it was.
    runs = sorted(found, key=lambda run: recipes[run.folder].has_recipe)
    _name_degradations(runs)
    peers = defaultdict(list)
    for run in runs:
        peers[run.trained].append(recipes[run.folder])
    results: dict[tuple[Any, ...], list[Row]] = {}
    for run in runs:
        told = recipes[run.folder]
        setting = _difference(told, peers[run.trained]) if run.trained else ""
        if run.trained and not told.has_recipe:
            known = [peer for peer in peers[run.trained] if peer.has_recipe]
            if known and "checkpoint" in told.settings:
                setting = _said("checkpoint", told.told("checkpoint"))
            elif any(_difference(peer, known) for peer in known):  # which of them is not told
                setting = f"in {run.folder.relative_to(root).as_posix()}"
        add_gains(run.rows)
        for row in run.rows:
            row["run"] = run.folder.relative_to(root).as_posix()
            row["trained_in"] = told.folder.relative_to(root).as_posix()
            row["seed"] = _seed(row, run) if row["loss"] else None
            row["setting"] = setting if row["loss"] else ""
        for key, rows in grouped(run.rows, *GROUP, "seed").items():
            numbers = frozenset((row["clip"], round(number(row, "psnr") or 0.0, 3)) for row in rows)
            results[(*key, told.starts if rows[0]["loss"] else numbers)] = rows
    variants = Counter(key[:-1] for key in results)
    for key, rows in results.items():
        if variants[key[:-1]] > 1:
            for row in rows:
                row["setting"] = f"in {row['run']}"
    return [row for rows in results.values() for row in rows]


def clip_gains(rows: Iterable[Row]) -> dict[str, float]:
    """Return what a model gained over the input on every clip in dB, its mean over seeds."""
    gains = defaultdict(list)
    for row in rows:
        if (gain := number(row, "gain")) is not None:
            gains[row["clip"]].append(gain)
    return {clip: fmean(found) for clip, found in gains.items()}


def grouped(rows: Iterable[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Return the rows by the values of `keys`, in order of first appearance."""
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row.get(key, "") for key in keys)].append(row)
    return dict(groups)


def add_gains(rows: Iterable[Row]) -> None:
    """Write into each row that has none its `gain`: dB over the input's row of the same clip."""
    rows = list(rows)
    inputs = {
        (row["degradation"], row["source"], row["clip"]): number(row, "psnr")
        for row in rows
        if row["model"] == INPUT
    }
    for row in rows:
        psnr = number(row, "psnr")
        before = inputs.get((row["degradation"], row["source"], row["clip"]))
        row.setdefault("gain", None if psnr is None or before is None else psnr - before)


def _seed(row: Row, run: Run) -> int:
    seed = number(row, "seed")
    return int(run.card.get("seed") or 0) if seed is None else int(seed)


def _recipe(run: Run, root: Path) -> Run:
    """Return the run that tells how a run's model was trained: itself, or its checkpoint's.

    Where there is none, a run of one setting: the checkpoint, by its run (date, hash) and name.
    """
    if run.has_recipe:
        return run
    checkpoint = Path(str(run.card.get("checkpoint") or ""))
    named = checkpoint.parent.parent.name
    card = next(root.rglob(f"{glob.escape(named)}/run.json"), None) if named else None
    origin = Run(card.parent, read_json(card), []) if card else run
    if origin.has_recipe:
        return origin
    told = "/".join(part for part in checkpoint.parts[-3:] if part not in ("checkpoints", "/"))
    return Run(run.folder, {"config": {"checkpoint": told}}, []) if told else run


def _name_degradations(runs: list[Run]) -> None:
    """Append to the degradation of every row what another of the same name has not."""
    peers = defaultdict(list)
    for run in runs:
        for name in {row["degradation"] for row in run.rows}:
            peers[name].append(run)
    differences = {
        (name, id(run)): _difference(run, members, only="degradation.")
        for name, members in peers.items()
        for run in members
    }
    for run in runs:
        for row in run.rows:
            difference = differences[row["degradation"], id(run)]
            row["degradation"] = f"{row['degradation']} {difference}".rstrip()


def _difference(run: Run, peers: Iterable[Run], only: str = "") -> str:
    """Return the settings of `run` that are not the same in all its peers that have them."""
    peers = list(peers)
    varying = [
        _said(key.removeprefix(only), run.told(key))
        for key in run.settings
        if key.startswith(only)
        and (only or not key.startswith("degradation."))
        and any(key in peer.settings and peer.told(key) != run.told(key) for peer in peers)
        and not all(peer.copies(key) for peer in peers)
    ]
    return " ".join(varying)


def _said(key: str, value: Any) -> str:
    """Return `key=value`, of a class its bare name: `schedule=OneCycle`."""
    if key.endswith("._target_"):
        key, value = key.removesuffix("._target_"), str(value).rpartition(".")[2]
    return f"{key}={value}"


def _flatten(node: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _flatten(value, f"{prefix}{key}.")
    else:
        yield prefix[:-1], node
