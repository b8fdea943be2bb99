"""The numbers of the page: models by degradations, and every clip.

Every table is in the HTML, one per choice of source and metric; the script shows the chosen one,
and where no script runs they stand below each other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import fmean
from typing import Literal

from unlossy.report.markup import Cell, Head, Markup, choice, element, joined, table
from unlossy.report.rows import INPUT, Row, grouped, is_exact, label, number
from unlossy.report.table import (
    COLUMNS,
    EXTRA,
    FLICKER_READING,
    PICTURES_READING,
    READING,
    Column,
    cell_text,
    cell_value,
    counts,
    filled_columns,
    marks,
)

EVERY = (*COLUMNS, *(column for columns, _ in EXTRA for column in columns))
FIRST = ("psnr", "gain", "ssim", "lpips_alex")  # shown unasked
OF_CLIPS = tuple(column for column in EVERY if column.key in (*FIRST, "flicker_flat", "nll"))
DIRECTIONS = {1: "higher is better", -1: "lower is better"}


def results(lines: Sequence[Row]) -> Markup:
    """Return the section's content: models by degradations, then every column of each.

    Args:
        lines: of `table.spread`.
    """
    metrics = filled_columns(lines, EVERY)
    parts, several = [], False
    for (source,), members in grouped(lines, "source").items():
        groups = _titled(grouped(members, "degradation", "clip_set").values())
        if len(groups) > 1:
            several = True
            for column in metrics:
                if filled_columns(members, [column]):
                    made = _matrix(source, column, groups)
                    parts.append(part(made, source, metric=column.key))
        whole = [
            _lines(group, f"{source}, {title}", open_=len(groups) == 1) for title, group in groups
        ]
        parts.append(element("div", *whole, data_source=source))
    of_metrics = [(column.key, titled(column)) for column in metrics] if several else []
    more = element("input", type="checkbox", id="every-column")
    controls = element(
        "div",
        choice("source", "Source", _names(lines, "source")),
        choice("metric", "Metric", of_metrics),
        element("label", more, " Every column", class_="check"),
        class_="controls",
    )
    reading = element(
        "details",
        element("summary", "What the columns say"),
        *(element("p", text) for text in (READING, FLICKER_READING, PICTURES_READING)),
    )
    return joined([controls, *parts, reading])


def titled(column: Column) -> str:
    """Return what a column is called and which way is better."""
    return f"{column.title} ({DIRECTIONS[column.better]})" if column.better else column.title


def _titled(groups: Collection[Sequence[Row]]) -> list[tuple[str, Sequence[Row]]]:
    """Return the groups with their degradation, and their clips where it has several sets."""
    names = [group[0]["degradation"] for group in groups]
    return [
        (name if names.count(name) == 1 else f"{name}, {counts(group[0])}", group)
        for name, group in zip(names, groups, strict=True)
    ]


def _names(rows: Sequence[Row], key: str) -> list[tuple[str, str]]:
    return [(name, name) for (name,) in grouped(rows, key)]


def part(made: Markup, source: str, **chosen: str) -> Markup:
    """Return what is shown where these are chosen; `metric="psnr"` of the select `metric`."""
    return element("div", made, data_source=source, **{f"data_{k}": v for k, v in chosen.items()})


def named(row: Row) -> Markup:
    """Return a model's name, what tells it apart, and how many seeds it stands for, if several."""
    further = [str(row[key]) for key in ("loss", "setting") if row.get(key)]
    if row.get("seeds", 1) > 1:
        further.append(f"{row['seeds']} seeds")
    name = element("span", str(row["model"]), class_="model")
    if not further:
        return name
    return joined([name, element("span", " ", " · ".join(further), class_="further")])


def best_first(lines: Sequence[Row], column: Column) -> list[Row]:
    """Return the lines sorted by a column, best first; those without a value last."""
    sign = column.better or 1

    def place(line: Row) -> tuple[bool, float]:
        value = number(line, column.key)
        return value is None, -sign * (value or 0.0)

    return sorted(lines, key=place)


def _order(column: Column, columns: Sequence[Column]) -> Literal["ascending", "descending"] | None:
    """Return how lines stand in a column that come best first by the first of all."""
    if column != columns[0]:
        return None
    return "ascending" if column.better < 0 else "descending"


def _matrix(source: str, column: Column, groups: Sequence[tuple[str, Sequence[Row]]]) -> Markup:
    """Return a table of models by degradations for one metric, best first in the first."""
    cells: dict[str, dict[int, Cell]] = {}
    first: dict[str, Row] = {}
    for place, (_, lines) in enumerate(groups):
        ordered = best_first(lines, column)
        for line, mark in zip(ordered, marks(ordered, column), strict=True):
            first.setdefault(label(line), line)
            cell = Cell(cell_text(line, column), cell_value(line, column), mark)
            cells.setdefault(label(line), {})[place] = cell
    heads = [Head("model", kind="text"), *(Head(title, column.better) for title, _ in groups)]
    heads[1] = heads[1]._replace(order=_order(column, [column]))
    made = [
        [
            Cell(named(first[key] | {"seeds": 1}), key),
            *(found.get(place, Cell("", None)) for place in range(len(groups))),
        ]
        for key, found in cells.items()
    ]
    title = f"{source}: {titled(column)}"
    return joined([element("h3", title), table(title, heads, made)])


def _lines(lines: Sequence[Row], title: str, *, open_: bool) -> Markup:
    """Return a table of all columns of one source and degradation, folded unless it is the only."""
    filled = filled_columns(lines, EVERY)
    shown = best_first(lines, filled[0]) if filled else list(lines)
    texts = {column.key: marks(shown, column) for column in filled}
    heads = [
        Head("model", kind="text"),
        *(
            Head(c.title, c.better, "number" if c.key in FIRST else "more", order=_order(c, filled))
            for c in filled
        ),
    ]
    made = [
        [
            Cell(named(line), label(line)),
            *(Cell(cell_text(line, c), cell_value(line, c), texts[c.key][place]) for c in filled),
        ]
        for place, line in enumerate(shown)
    ]
    content = joined(
        [
            element("p", f"{counts(lines[0])}.", class_="note"),
            table(f"Every model on {title}", heads, made),
        ]
    )
    if open_:
        return joined([element("h3", title), content])
    return element("details", element("summary", f"{title}, metric by metric"), content)


def clips(rows: Sequence[Row]) -> Markup:
    """Return tables of clips by models, one per source, degradation and metric."""
    metrics = filled_columns(rows, OF_CLIPS)
    parts = []
    for (source, degradation), members in grouped(rows, "source", "degradation").items():
        for column in metrics:
            if filled_columns(members, [column]):
                made = _clips(members, column, f"{source}, {degradation}: {titled(column)}")
                parts.append(part(made, source, clip=column.key))
    search = element("input", type="search", id="filter", autocomplete="off", spellcheck="false")
    controls = element(
        "div",
        choice("source", "Source", _names(rows, "source")),
        choice("clip", "Metric", [(column.key, titled(column)) for column in metrics]),
        element("label", "Clips that contain ", search, class_="needs-script"),
        element("output", for_="filter", class_="note"),
        class_="controls",
    )
    return joined([controls, *parts])


def _clips(rows: Sequence[Row], column: Column, title: str) -> Markup:
    models = grouped(rows, "model", "loss", "setting")

    def mean(key: tuple[str, ...]) -> tuple[bool, float]:
        values = [value for row in models[key] if (value := number(row, column.key)) is not None]
        return key[0] != INPUT, -(column.better or 1) * (fmean(values) if values else 0.0)

    keys = [
        key
        for key in sorted(models, key=mean)
        if any(number(row, column.key) is not None for row in models[key])
        and not (key[0] == INPUT and column.key == "gain")
    ]
    lines = []
    for (clip, _), members in grouped(rows, "clip", "frames").items():
        by_model = grouped(members, "model", "loss", "setting")
        values: list[float | None] = []
        for key in keys:
            known = [v for r in by_model.get(key, []) if (v := number(r, column.key)) is not None]
            values.append(fmean(known) if known else None)
        best = _best([value for value in values if value is not None], column)
        rate = number(members[0], "bpp")
        lines.append(
            [
                Cell(clip, clip),
                Cell(f"{number(members[0], 'frames') or 0:.0f}", number(members[0], "frames")),
                Cell("" if rate is None else f"{rate:#.3g}", rate),
                *(
                    _of_clip(by_model.get(key, []), value, best, column)
                    for key, value in zip(keys, values, strict=True)
                ),
            ]
        )
    heads = [
        Head("clip", kind="text"),
        Head("frames"),
        Head("bpp"),
        *(Head(label(models[key][0]), column.better) for key in keys),
    ]
    return joined([element("h3", title), table(f"Every clip of {title}", heads, lines, "clips")])


def _best(values: Sequence[float], column: Column) -> float | None:
    if len(values) < 2 or not column.better:
        return None
    return max(values) if column.better > 0 else min(values)


def _of_clip(rows: Sequence[Row], value: float | None, best: float | None, column: Column) -> Cell:
    if value is None:
        exact = column.key == "psnr" and rows and all(map(is_exact, rows))
        return Cell("exact" if exact else "", None)
    return Cell(format(value, column.form), value, "best" if value == best else "")
