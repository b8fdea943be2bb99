"""Tables of results: one line per model, per (source, degradation) apart.

    line = clips, frames, exact · mean, median, minimum PSNR · SSIM · LPIPS · clips below input

A mean over clips is unweighted and skips blank cells; frames that the medium keeps exactly have no
finite PSNR and are counted apart, in `exact`. Over seeds: mean of the runs' means ± sample standard
deviation. The best of a column is marked, and so is every line within noise of it:
|a - b| <= t sqrt(s_a^2 / n_a + s_b^2 / n_b), t of Welch's test at 95 %, which takes two seeds;
a filter has s = 0. Lines over other clips, or other frames of them, stand in a table of their own.
"""

from __future__ import annotations

import csv
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from scipy.special import stdtrit

from unlossy.report.rows import GROUP, INPUT, Row, add_gains, grouped, is_exact, label, number

PROTOCOL = (
    "RGB rounded to 8 bits, no border crop; mean over frames, then unweighted mean over clips. "
    "PSNR capped at 100 dB, SSIM with an 11x11 Gaussian of sigma 1.5, LPIPS v0.1 (AlexNet)."
)
READING = (
    "gain: dB over the input; below: share of clips that came out worse than they went in. Where "
    "frames were dropped, PSNR all counts every frame, PSNR clip one error from kept to kept frame."
)
MARKS = (
    "Bold: the best of a column; ~ within noise of it over seeds (Welch's t, 95 %), which takes "
    "two to tell."
)
PER_CLIP_LINES = 40  # a longer list of clips is for rows.csv


@dataclass(frozen=True)
class Column:
    """A number of a line.

    Args:
        key: its name there.
        title: at the head of the table.
        form: of its digits.
        better: +1 where higher is better, -1 where lower is, else 0.
        beside: shown only where this other number is known.
    """

    key: str
    title: str
    form: str
    better: Literal[-1, 0, 1]
    beside: str = ""


PSNR = Column("psnr", "PSNR", ".2f", 1)
LPIPS = Column("lpips_alex", "LPIPS", ".4f", -1)
COLUMNS = (
    PSNR,
    Column("gain", "gain", "+.2f", 1),
    Column("psnr_median", "median", ".2f", 1),
    Column("psnr_min", "minimum", ".2f", 1),
    Column("psnr_all", "PSNR all", ".2f", 1, beside="psnr_clip"),
    Column("psnr_clip", "PSNR clip", ".2f", 1),
    Column("ssim", "SSIM", ".4f", 1),
    LPIPS,
    Column("share_below_input", "below", ".0%", -1),
    Column("seconds_per_frame", "s/frame", ".3f", 0),
)
# A second table: a blurred clip scores well in `warp_error`, which therefore ranks nobody.
FLICKER = (
    Column("warp_error", "warp", ".2f", 0),
    Column("warp_floor", "floor", ".2f", 0),
    Column("tof", "tOF", ".3f", -1),
    Column("tlp", "tLP", ".3f", -1),
    Column("mabd", "MABD", ".3f", -1),
    Column("flicker_flat", "flat", ".3f", -1),
    Column("flicker_textured", "textured", ".3f", -1),
    Column("psnr_std", "PSNR dev.", ".2f", -1),
)
FLICKER_READING = (
    "Differences from frame to frame that the clean clip has not: warp, mean squared change along "
    "its motion, in 1e-4, and its own as floor; tOF, pixels; tLP, hundredths of LPIPS; MABD, "
    "squared levels of mean brightness; flat and textured, levels of luma there; PSNR dev., dB "
    "over time."
)
# A third: what super-resolution and models of a distribution are asked.
PICTURES = (
    Column("nll", "NLL", ".3f", -1),
    Column("nll_conditioning", "NLL of A", ".3f", -1),
    Column("nll_prior", "NLL of B", ".3f", -1),
    Column("consistency", "consistency", ".5f", -1),
    Column("msssim_scaled", "MS-SSIM, 5 scaled", ".4f", 1),
    Column("msssim2", "MS-SSIM, 2", ".4f", 1),
    Column("diversity", "diversity", ".4f", 0),
)
PICTURES_READING = (
    "NLL: bits per sub-pixel that the clean clip takes under the model's distribution, and under "
    "those of its conditioning network A and its prior B alone; consistency: mean squared "
    "difference, in [0, 1], between the input and the result made as small; MS-SSIM over five "
    "scales whose windows shrink along, and over two; diversity: mean difference of two draws."
)
EXTRA = ((FLICKER, FLICKER_READING), (PICTURES, PICTURES_READING))
MEANS = (
    *("psnr", "psnr_all", "psnr_clip", "gain", "ssim", "ssim_uniform7", "lpips_alex"),
    *("bits", "bpp", "seconds_per_frame"),
    *(column.key for columns, _ in EXTRA for column in columns),
)


def summarise(rows: Iterable[Row], means: Sequence[str] = MEANS) -> list[Row]:
    """Return one line per (model, loss, degradation, source, setting), in order of appearance.

    Keys: those five; `clips`, `frames`, `exact`; `clip_set`, which stands for the clips and the
    frames of each; the mean over clips of every column of `means`; `psnr_median`, `psnr_min`;
    `share_below_input`, of the clips that have a PSNR. A value that no clip has is None. The
    input to compare with is the model `input` among the same rows.
    """
    rows = [dict(row) for row in rows]
    add_gains(rows)
    return [_line(key, members, means) for key, members in grouped(rows, *GROUP).items()]


def _line(key: tuple[str, ...], rows: Sequence[Row], means: Sequence[str]) -> Row:
    def values(column: str) -> list[float]:
        return [value for row in rows if (value := number(row, column)) is not None]

    psnr, gains = values("psnr"), values("gain")
    clips = sorted({(row["clip"], number(row, "frames") or 0.0) for row in rows})
    return {
        **dict(zip(GROUP, key, strict=True)),
        "clips": len(rows),
        "frames": int(sum(values("frames"))),
        "exact": int(sum(values("exact"))),
        "clip_set": f"{zlib.crc32(repr(clips).encode()):08x}",
        **{column: fmean(found) if (found := values(column)) else None for column in means},
        "psnr_median": median(psnr) if psnr else None,
        "psnr_min": min(psnr) if psnr else None,
        "share_below_input": fmean(gain < 0 for gain in gains) if gains else None,
    }


def spread(rows: Iterable[Row], means: Sequence[str] = MEANS) -> list[Row]:
    """Return one line per model as `summarise`, averaged over the seeds of `collect`'s rows.

    The input comes first, then what was not trained. Adds `seeds` and, from two seeds on,
    `<column>_seeds_std` for every column of `COLUMNS` and `means`, with `<column>_seeds`: of how
    many seeds, those that have a value.
    """
    by_run = [
        line
        for members in grouped(rows, "run", "seed").values()
        for line in summarise(members, means)
    ]
    lines = []
    for seeds in grouped(by_run, *GROUP, "clip_set").values():
        line = dict(seeds[-1]) | {"seeds": len(seeds)}
        for column in {*(column.key for column in COLUMNS), *means}:
            values = [value for seed in seeds if (value := number(seed, column)) is not None]
            line[column] = fmean(values) if values else None
            if len(values) > 1:
                line |= {f"{column}_seeds_std": stdev(values), f"{column}_seeds": len(values)}
        lines.append(line)
    return sorted(lines, key=lambda line: (line["model"] != INPUT, bool(line["loss"])))


def marks(lines: Sequence[Row], column: Column) -> list[Literal["", "best", "noise"]]:
    """Return for each line of a table whether it is the best of `column` or within noise of it.

    Lines over different clips have no best.
    """
    values = [cell_value(line, column) for line in lines]
    known = [value for value in values if value is not None]
    several = len({line["clip_set"] for line in lines}) > 1
    if not column.better or len(known) < 2 or several:
        return [""] * len(lines)
    best_value = max(known, key=lambda value: column.better * value)
    best = lines[values.index(best_value)]
    found: list[Literal["", "best", "noise"]] = []
    for line, value in zip(lines, values, strict=True):
        if value == best_value:
            found.append("best")
        elif value is not None and abs(value - best_value) <= _noise(line, best, column):
            found.append("noise")
        else:
            found.append("")
    return found


def cell_value(line: Row, column: Column) -> float | None:
    """Return a cell, None where the input would be compared with itself."""
    with_itself = line["model"] == INPUT and column.key in ("gain", "share_below_input")
    return None if with_itself else number(line, column.key)


def _noise(a: Row, b: Row, column: Column) -> float:
    """Return up to what difference two means over seeds may be equal, by Welch's t at 95 %.

    A fixed filter does not vary; 0 where a trained model has one seed, which tells nothing.
    """
    trained = [line for line in (a, b) if line["loss"]]
    stds = [number(line, f"{column.key}_seeds_std") for line in trained]
    counts = [line.get(f"{column.key}_seeds", 0) for line in trained]
    parts = [(std**2 / n, n - 1) for std, n in zip(stds, counts, strict=True) if std]
    if None in stds or not parts:
        return 0.0
    variance = math.fsum(part for part, _ in parts)
    freedom = variance**2 / math.fsum(part**2 / degrees for part, degrees in parts)
    return float(stdtrit(freedom, 0.975)) * math.sqrt(variance)


def print_table(
    rows: Sequence[Row], summary: Sequence[Row] | None = None, console: Console | None = None
) -> None:
    """Print scores per clip where clips are few, then a line per model, per (source, degradation).

    Args:
        rows: result rows, one per (model, clip).
        summary: lines to print; those of `summarise(rows)` if None.
        console: where to; standard output if None.
    """
    console = console or Console()
    for members in grouped(rows, "source", "degradation").values():
        if len({row["clip"] for row in members}) <= PER_CLIP_LINES:
            _print(_per_clip(members), console)
    summary = summarise(rows) if summary is None else summary
    for columns, reading in ((COLUMNS, f"{PROTOCOL} {READING}"), *EXTRA):
        for lines in _groups(summary, columns):
            table, filled = _table(_caption(lines)), filled_columns(lines, columns)
            for column in filled:
                table.add_column(column.title, justify="right", no_wrap=True)
            for cells in _cells(lines, filled, "[bold green]{}[/]", "{}~"):
                table.add_row(*cells)
            _print(table, console)
        if _groups(summary, columns):
            console.print(reading, style="dim")


def _groups(lines: Iterable[Row], columns: Sequence[Column]) -> list[list[Row]]:
    """Return the lines of the same clips and degradation, without what fills no column."""
    groups = grouped(lines, "source", "degradation", "clip_set").values()
    return [members for members in groups if filled_columns(members, columns)]


def filled_columns(lines: Sequence[Row], columns: Sequence[Column]) -> list[Column]:
    """Return the columns that some of the lines fill."""

    def known(key: str) -> bool:
        return any(number(line, key) is not None for line in lines)

    return [c for c in columns if known(c.key) and known(c.beside or c.key)]


def _per_clip(rows: Sequence[Row]) -> Table:
    """PSNR, SSIM and LPIPS per clip: of the input, of the filter that suits it best, of models."""
    trained = [key for key in grouped(rows, "model", "loss", "setting") if key[1]]
    first = rows[0]
    table = _table(f"{first['source']}, {first['degradation']}: PSNR, SSIM, LPIPS of every clip")
    for title in (INPUT, "best filter", *(" ".join(filter(None, key)) for key in trained)):
        table.add_column(title, justify="right", no_wrap=True)
    for (clip,), members in grouped(rows, "clip").items():
        by_key = {key: rows[-1] for key, rows in grouped(members, *GROUP[:2], "setting").items()}
        before = next((row for row in members if row["model"] == INPUT), None)
        filters = [row for row in members if not row["loss"] and row["model"] != INPUT]
        best = max(filters, key=lambda row: number(row, "psnr") or 0.0, default=None)
        named = f"{best['model']} " if best and number(best, "psnr") else ""
        shown = (before, best, *(by_key.get(key) for key in trained))
        scores = [_scores(row) for row in shown]
        table.add_row(clip, scores[0], named + scores[1], *scores[2:])
    return table


def _scores(row: Row | None) -> str:
    if row is None:
        return ""
    if number(row, "psnr") is None:
        return "exact" if is_exact(row) else ""
    cells = (("psnr", ".2f"), ("ssim", ".3f"), ("lpips_alex", ".3f"))
    return " ".join(
        format(value, form) for key, form in cells if (value := number(row, key)) is not None
    )


def _table(title: str) -> Table:
    """An empty table with a column for names."""
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    return table


def _print(table: Table, console: Console) -> None:
    """Print the table in its own width: a narrow terminal may wrap it, but no digit is cut."""
    width, console.width = console.width, 1000
    try:
        console.print(table)
    finally:
        console.width = width


def markdown(lines: Sequence[Row], columns: Sequence[Column] = COLUMNS) -> str:
    """Return a Markdown table per source, degradation and set of clips.

    The best is bold, what is within noise of it has a ~. A column that no line fills is left out;
    where none is filled there is no table.
    """
    parts = []
    for members in _groups(lines, columns):
        filled = filled_columns(members, columns)
        titles = ["model", *(column.title for column in filled)]
        parts += [f"### {_caption(members)}", "", _markdown_line(titles)]
        parts.append(_markdown_line(["---", *("---:" for _ in filled)]))
        parts += [_markdown_line(cells) for cells in _cells(members, filled, "**{}**", "{} ~")]
        parts.append("")
    return "\n".join(parts)


def _markdown_line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _caption(lines: Sequence[Row]) -> str:
    return f"{lines[0]['source']}, {lines[0]['degradation']}: {counts(lines[0])}"


def counts(line: Row) -> str:
    """Return over how many clips and frames a line is."""
    exact = f", {line['exact']} of them exact and counted apart" if line["exact"] else ""
    return f"{line['clips']} clips, {line['frames']} frames{exact}"


def _cells(
    lines: Sequence[Row], columns: Sequence[Column], best: str, noise: str
) -> list[list[str]]:
    """Return the cells of a table as text, the marked ones set in `best` and `noise`."""
    forms = {"": "{}", "best": best, "noise": noise}
    table = [[label(line)] for line in lines]
    for line, cells in zip(lines, table, strict=True):
        cells[0] += f" (n={line['seeds']})" if line.get("seeds", 1) > 1 else ""
    for column in columns:
        for line, cells, mark in zip(lines, table, marks(lines, column), strict=True):
            text = cell_text(line, column)
            cells.append(forms[mark].format(text) if text else text)
    return table


def cell_text(line: Row, column: Column) -> str:
    """Return a cell of `spread`'s line as it is shown: `32.41 ± 0.02`, or nothing."""
    value, deviation = cell_value(line, column), number(line, f"{column.key}_seeds_std")
    if value is None:
        return ""
    text = format(value, column.form)
    if deviation is None or not column.better:
        return text
    return f"{text} ± {format(deviation, column.form.lstrip('+'))}"


def write_csv(lines: Sequence[Row], path: Path) -> None:
    """Write the lines of `spread` with every column that any of them has."""
    header = list(dict.fromkeys(key for line in lines for key in line))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(lines)
