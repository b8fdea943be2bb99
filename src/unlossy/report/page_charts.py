"""The charts of the page: validation against steps, metrics against rate, gains of every clip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

from unlossy.report.charts import gains_chart, rate_distortion_chart, steps_chart
from unlossy.report.markup import Markup, choice, element, joined
from unlossy.report.paired import compared
from unlossy.report.plots import TITLES, curves_of, metrics_of
from unlossy.report.rows import Row, clip_gains, grouped, label, number
from unlossy.report.table import LPIPS, PSNR, spread

RATE_METRICS = ((PSNR, "PSNR, dB (higher is better)"), (LPIPS, "LPIPS (lower is better)"))


def charts(rows: Sequence[Row], root: Path) -> Markup:
    """Return the section's content, empty where nothing was trained nor degraded in several ways.

    Args:
        rows: of `rows.collect`.
        root: the folder that it collected from.
    """
    steps, of_sources = _steps(rows, root), []
    sources = grouped(rows, "source")
    for (source,), members in sources.items():
        if parts := joined([_rates(source, members), _gains(source, members)]):
            of_sources.append(element("div", parts, data_source=source))
    names = [(name, name) for (name,) in sources]
    controls = element("div", choice("source", "Source", names), class_="controls")
    return joined([steps, *([controls, *of_sources] if of_sources else [])])


def _steps(rows: Sequence[Row], root: Path) -> Markup:
    curves = curves_of(rows, root)
    drawn = [
        steps_chart(
            [(name, metrics[metric]) for name, metrics in curves if metric in metrics],
            TITLES.get(metric, metric),
        )
        for metric in metrics_of(curves)
    ]
    return _group("Validation against steps", drawn)


def _rates(source: str, rows: Sequence[Row]) -> Markup:
    """Return a chart per metric, and set of clips, where that was degraded in several ways.

    Of the filters those are drawn that are the best of one degradation at least, in that metric.
    """
    known = [line for line in spread(rows) if number(line, "bpp") is not None]
    drawn = []
    for (metric, title), lines in product(RATE_METRICS, grouped(known, "clip_set").values()):
        if len({line["degradation"] for line in lines}) < 2:
            continue
        shown = {
            label(model[0])
            for members in grouped(rows, "degradation").values()
            for model in compared(members, metric)[0]
        }
        series: dict[str, list[tuple[float, float, str]]] = {}
        for line in lines:
            if label(line) in shown and (value := number(line, metric.key)) is not None:
                point = (line["bpp"], value, line["degradation"])
                series.setdefault(label(line), []).append(point)
        drawn.append(rate_distortion_chart(series, "bits per pixel", title))
    return _group(f"{source}: against rate", drawn)


def _gains(source: str, rows: Sequence[Row]) -> Markup:
    """Return a chart per degradation and trained model, means over its seeds."""
    parts = []
    trained = grouped((row for row in rows if row["loss"]), "degradation")
    for (degradation,), members in trained.items():
        drawn = [
            gains_chart(clip_gains(recipe), label(recipe[0]))
            for recipe in grouped(members, "model", "loss", "setting").values()
        ]
        parts.append(
            _group(f"{source}, {degradation}: what every clip gained over the input", drawn)
        )
    return joined(parts)


def _group(title: str, drawn: Iterable[str]) -> Markup:
    figures = [element("figure", Markup(chart)) for chart in drawn if chart]
    if not figures:
        return Markup("")
    return joined([element("h3", title), element("div", *figures, class_="charts")])
