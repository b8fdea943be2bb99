"""The pairs of the page: how far one model lies above another, drawn around zero."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Literal

from unlossy.report.markup import Cell, Head, Markup, choice, element, joined, table
from unlossy.report.page_results import EVERY, part, titled
from unlossy.report.paired import Comparison, share
from unlossy.report.table import Column

BAR, TALL = 200.0, 20.0  # a drawn interval, in units of its own
MOST_PAIRS = 40  # in one table


def pairs(found: Sequence[Comparison]) -> Markup:
    """Return a table of pairs per source, degradation and metric, intervals drawn around zero.

    Of more than `MOST_PAIRS` pairs those with the best of the metric are shown.
    """
    groups = defaultdict(list)
    for column, each in product(EVERY, found):
        if each.column == column.key:
            groups[column, each.source, each.degradation].append(each)
    columns = list(dict.fromkeys(column for column, _, _ in groups))
    parts = []
    for (column, source, degradation), members in groups.items():
        made = _pairs(members, column, f"{source}, {degradation}: {titled(column)}")
        parts.append(part(made, source, pair=column.key))
    sources = list(dict.fromkeys(each.source for each in found))
    controls = element(
        "div",
        choice("source", "Source", [(name, name) for name in sources]),
        choice("pair", "Metric", [(column.key, titled(column)) for column in columns]),
        class_="controls",
    )
    return joined([controls, *parts])


def _pairs(every: Sequence[Comparison], column: Column, title: str) -> Markup:
    found, said = list(every), Markup("")
    if len(every) > MOST_PAIRS:
        best = _winner(every, column)
        found = [each if each.first == best else _turned(each) for each in every]
        found = [each for each in found if each.first == best]
        text = f"Of {len(every)} pairs, those with the best in this metric: {best}."
        said = element("p", text, class_="note")
    limits = [limit for each in found for limit in (each.low, each.high) if limit is not None]
    widest = max(map(abs, [*limits, *(each.mean for each in found)])) or 1.0
    form = column.form.lstrip("+")
    lines = []
    for each in found:
        text, p = "one clip", each.probability
        if each.low is not None and each.high is not None:
            text = f"{each.low:+{form}} to {each.high:+{form}}"
        name = joined([each.first, element("span", " − ", class_="further"), each.second])
        lines.append(
            [
                Cell(element("span", name, class_="certain") if each.certain else name, each.first),
                Cell(f"{each.mean:+{form}}", each.mean, "best" if each.certain else ""),
                Cell(_interval(each, widest, column.better), each.mean),
                Cell(text, each.low),
                Cell("" if p is None else share(p), p),
                Cell("" if each.seeds_std is None else f"{each.seeds_std:{form}}", each.seeds_std),
                Cell(str(each.clips), float(each.clips)),
            ]
        )
    heads = [
        Head("first − second", kind="text"),
        Head("difference", column.better),
        Head("second better | first better", column.better, "text"),
        Head("95 % interval"),
        Head("P, first is better", 1),
        Head("± over seeds"),
        Head("clips"),
    ]
    if not any(each.seeds_std is not None for each in found):
        heads.pop(5)
        lines = [[*line[:5], line[6]] for line in lines]
    return joined([element("h3", title), said, table(title, heads, lines, "pairs")])


def _turned(each: Comparison) -> Comparison:
    """Return the same comparison as second minus first."""
    return replace(
        each,
        first=each.second,
        second=each.first,
        mean=-each.mean,
        low=None if each.high is None else -each.high,
        high=None if each.low is None else -each.low,
        probability=None if each.probability is None else 1.0 - each.probability,
    )


def _winner(found: Sequence[Comparison], column: Column) -> str:
    """Return the model that is better in most of its pairs."""
    won = Counter(
        each.first if each.mean * (column.better or 1) > 0 else each.second for each in found
    )
    return won.most_common(1)[0][0]


def _interval(each: Comparison, widest: float, better: Literal[-1, 0, 1]) -> Markup:
    """Draw mean and interval; right of zero the first is better, whichever way that is."""
    sign = better or 1

    def x(value: float) -> str:
        return f"{BAR / 2 * (1 + 0.94 * sign * value / widest):.1f}"

    middle = TALL / 2
    low, high = (each.mean if limit is None else limit for limit in (each.low, each.high))
    drawn = [
        f'<line class="zero" x1="{BAR / 2}" x2="{BAR / 2}" y1="0" y2="{TALL}"/>',
        f'<line class="interval" x1="{x(low)}" x2="{x(high)}" y1="{middle}" y2="{middle}"/>',
        f'<circle cx="{x(each.mean)}" cy="{middle}" r="3.5"/>',
    ]
    return element(
        "svg",
        *map(Markup, drawn),
        viewBox=f"0 0 {BAR:g} {TALL:g}",
        aria_hidden="true",
        class_="certain bar" if each.certain else "bar",
    )
