"""The Markdown report: `report.md` with its tables, plots and pictures beside it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from unlossy.errors import UserError
from unlossy.report import paired, plots
from unlossy.report.rows import (
    INPUT,
    Row,
    Run,
    clip_gains,
    collect,
    find_runs,
    grouped,
    label,
    read_json,
)
from unlossy.report.table import (
    FLICKER,
    FLICKER_READING,
    MARKS,
    PICTURES,
    PICTURES_READING,
    PROTOCOL,
    READING,
    markdown,
    spread,
    write_csv,
)

LEGEND = f"{MARKS} n: seeds, whose mean ± standard deviation stands."
DISTANCES = ("fd_vgg16", "kid_vgg16", "frames_vgg16", "fid", "frames_fid")
PANELS = 3  # strips shown per recipe


def write_report(root: Path, out: Path) -> Path:
    """Write `report.md`, `table.csv`, plots and pictures of all runs under `root` into `out`.

    Returns:
        The path of `report.md`.

    Raises:
        UserError: no finished run under `root`, a damaged `rows.csv`, or `out` cannot be written.
    """
    rows, runs = collect(root), find_runs(root)
    lines = spread(rows)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_csv(lines, out / "table.csv")
        page = "\n".join(
            [
                f"# Results of {len(runs)} run{'s' if len(runs) > 1 else ''} under `{root.name}`\n",
                f"{PROTOCOL}\n\n{READING} {LEGEND}\n",
                markdown(lines),
                *_further("Flicker", FLICKER_READING, markdown(lines, FLICKER)),
                *_further("Pictures", PICTURES_READING, markdown(lines, PICTURES)),
                *_paired(rows),
                *_distances(rows, root),
                *draw_clips(rows, out),
                *draw_steps(rows, root, out),
                *_panels(rows, root, out),
                *_list_of(runs, root),
            ]
        )
        (out / "report.md").write_text(page + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"Cannot write the report to {out} ({error}); name another folder."
        ) from error
    return out / "report.md"


def _further(title: str, reading: str, tables: str) -> list[str]:
    return [f"## {title}\n\n{reading}\n", tables] if tables else []


def _paired(rows: Sequence[Row]) -> list[str]:
    tables = paired.tables(rows)
    reading = f"Trained models, the filter best in PSNR, and the input. {paired.READING}"
    return [f"## Paired over clips\n\n{reading}\n", tables] if tables else []


def _distances(rows: Sequence[Row], root: Path) -> list[str]:
    """A table of `summary.json`'s distances between sets of frames, over all sources together."""
    found: dict[tuple[str, str], dict[str, list[Any]]] = {}
    for (run, model), members in grouped(rows, "run", "model").items():
        summary = read_json(root / run / "summary.json").get(model, {})
        for column in (column for column in DISTANCES if column in summary):
            cells = found.setdefault((label(members[0]), members[0]["degradation"]), {})
            cells.setdefault(column, []).append(summary[column])
    columns = [column for column in DISTANCES if any(column in cells for cells in found.values())]
    if not columns:
        return []
    parts = [
        "## Distances between sets of frames\n",
        "Over all sources together; lower is better, at equal counts of frames (`frames_...`).\n",
    ]
    parts += [f"| | degradation | {' | '.join(columns)} |", f"|---|---|{'---:|' * len(columns)}"]
    for (name, degradation), cells in found.items():
        values = [_mean(cells.get(column, [])) for column in columns]
        parts.append(f"| {name} | {degradation} | {' | '.join(values)} |")
    return [*parts, ""]


def _mean(values: Sequence[Any]) -> str:
    """The mean over seeds, or the word that stands where there is no number."""
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) < len(values) or not numbers:
        return " ".join(sorted({str(value) for value in values if value not in numbers}))
    text = f"{fmean(numbers):.4g}"
    return f"{text} ± {stdev(numbers):.2g}" if len(set(numbers)) > 1 else text


def draw_clips(rows: Sequence[Row], out: Path) -> list[str]:
    """A plot per (source, degradation): means over seeds of every trained model, and a filter."""
    parts = ["## What every clip gained\n"]
    for (source, degradation), members in grouped(rows, "source", "degradation").items():
        shown = {
            label(found[-1]): {
                clip.removeprefix(f"{source}/"): gain for clip, gain in clip_gains(found).items()
            }
            for found in paired.compared(members)[0]
            if found[-1]["model"] != INPUT
        }
        file = f"clips_{_slug(source)}_{_slug(degradation)}.png"
        if plots.plot_clips(shown, out / file):
            parts.append(f"![{source}, {degradation}]({file})\n")
    return parts if len(parts) > 1 else []


def draw_steps(rows: Sequence[Row], root: Path, out: Path) -> list[str]:
    """A plot of validation against steps."""
    if not plots.plot_steps(plots.curves_of(rows, root), out / "steps.png"):
        return []
    return ["## Validation against steps\n", "![validation against steps](steps.png)\n"]


def _panels(rows: Sequence[Row], root: Path, out: Path) -> list[str]:
    """Some test strips of the newest run of every recipe, copied beside the page."""
    parts = ["## Pictures\n", "The first frame of some test clips; PSNR is of that frame.\n"]
    newest = {label(row): row["run"] for row in rows if row["loss"]}
    for name, run in newest.items():
        strips = sorted((root / run / "panels" / "test").glob("*.png"))
        for strip in strips[:: max(1, -(-len(strips) // PANELS))]:
            file = f"panel_{_slug(name)}_{_slug(strip.stem)}.png"
            shutil.copyfile(strip, out / file)
            parts.append(f"{name}, {strip.stem}\n\n![{name}, {strip.stem}]({file})\n")
    return parts if len(parts) > 2 else []


def _list_of(runs: Sequence[Run], root: Path) -> list[str]:
    parts = ["## Runs\n", "| run | seed | revision | device | seconds |", "|---|---|---|---|---|"]
    for run in runs:
        cells = [str(run.card.get(key, "")) for key in ("seed", "git", "device", "seconds")]
        parts.append(f"| {run.folder.relative_to(root).as_posix()} | {' | '.join(cells)} |")
    return parts


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")
