"""Charts of results as inline SVG: text to put into a page, which needs no script to show it.

A chart is 400 units wide and takes the width that it is given: letters of 13.5 units are 11 pixels
high on a telephone. Ink is `currentColor`; series are `--c0` ... `--c7`, gains `--better` and
`--worse`, with fallbacks that stand out from white and from black. Every mark has a `<title>`, the
tooltip of a browser, and series differ by the shape of their marks as well as by colour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby, pairwise
from statistics import fmean

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 400.0, 220.0  # of a chart, and of its plotting area
TEXT = 13.5
LETTER, DIGIT = 7.9, 8.8  # how wide letters are on average, and digits where they are widest
LINE = 18.0  # from one line of text to the next
GAP = 6.0
MARK = 4.0  # radius
MARKS = 10  # along one curve
LINES = 7  # across a chart, about
ENDS, END = 4, 16  # series that are named at the ends of their lines, and letters of such a name
TOP = 30  # letters of a degradation's name over its points
RATIO = 20  # of the largest rate to the smallest, from which on rates are drawn by their ratios
COLORS = (
    *("#2f7fd0", "#c8641e", "#2e9257", "#c2477f"),
    *("#8466c9", "#8f7a1d", "#1b8f96", "#c94a4a"),
)
BETTER, WORSE = "var(--better, #1b8f96)", "var(--worse, #c94a4a)"
SHAPES = (
    "M-1 0A1 1 0 1 1 1 0A1 1 0 1 1 -1 0Z",  # circle
    "M-.9 -.9H.9V.9H-.9Z",  # square
    "M0 -1.2L1.1 .8H-1.1Z",  # triangle
    "M0 -1.3L1.1 0L0 1.3L-1.1 0Z",  # diamond
    "M0 1.2L1.1 -.8H-1.1Z",  # triangle on its tip
    "M-.4 -1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",  # plus
)


@dataclass(frozen=True)
class Scale:
    """The values that an axis spans.

    Args:
        title: what they are, with their unit.
        low: the first value.
        high: the last one, above `low`.
        log: whether equal distances are equal ratios; values are then positive.
        told: whether values are written along it.
    """

    title: str
    low: float
    high: float
    log: bool = False
    told: bool = True

    def share(self, value: float) -> float:
        """Return how far along the axis a value stands, in [0, 1] for those that it spans."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, count: int = 5) -> list[float]:
        """Return round values within: powers of ten, and their multiples, if `log`."""
        if not self.told:
            return []
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)))
            digits = (1, 2, 5) if len(decades) <= 3 else (1,)
            every = [digit * 10.0**decade for decade in decades for digit in digits]
            return [value for value in every if self.low <= value <= self.high]
        step = nice_step((self.high - self.low) / count)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]

    def texts(self, count: int = 5) -> list[str]:
        """Return the ticks as text, from 10,000 on in thousands (`12k`), all in equal digits."""
        ticks = self.ticks(count)
        if max(map(abs, ticks), default=0.0) >= 10_000 and not any(tick % 1000 for tick in ticks):
            return [f"{tick / 1000:g}k" if tick else "0" for tick in ticks]
        if self.log or len(ticks) < 2:
            return [f"{tick:g}" for tick in ticks]
        digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
        return [f"{round(tick, digits) + 0.0:.{digits}f}" for tick in ticks]  # + 0.0: no -0


def nice_step(least: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is no less than `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= least * (1 - 1e-9))


def steps_chart(curves: Sequence[tuple[str, Points]], title: str) -> str:
    """Draw a validation metric against the step.

    Args:
        curves: label of the recipe, and (step, value), steps increasing; runs of one recipe, such
            as its seeds, share their look. A value that is not finite leaves a gap.
        title: what the values are, with their unit and which way is better.

    Returns:
        An `<svg>` element; nothing where no value is finite.
    """
    curves = [(label, curve) for label, curve in curves if _finite(curve)]
    if not curves:
        return ""
    labels = list(dict.fromkeys(label for label, _ in curves))
    points = [point for _, curve in curves for point in _finite(curve)]
    steps = Scale("step", 0.0, max(1.0, *(step for step, _ in points)))
    ends = len(labels) <= ENDS and all(len(label) <= END for label in labels)
    plot = _Plot(steps, _padded(title, [value for _, value in points]), labels, ends)
    last: dict[str, list[float]] = {label: [] for label in labels}
    for label, curve in curves:
        series, several = labels.index(label), sum(name == label for name, _ in curves) > 1
        for finite, part in groupby(curve, lambda point: bool(_finite([point]))):
            if finite:
                plot.line(list(part), series, label, 1.2 if several else 2.2)
        for step, value in _thinned(_finite(curve)):
            plot.mark(step, value, series, f"{label}, step {step:g}: {value:.4g}")
        last[label].append(_finite(curve)[-1][1])
    if ends:
        plot.name_ends([fmean(values) for values in last.values()])
    return plot.svg()


def rate_distortion_chart(
    series: Mapping[str, Sequence[tuple[float, float, str]]], x_title: str, y_title: str
) -> str:
    """Draw a metric against the rate; points of one medium are joined.

    Args:
        series: label of a model -> (bits per pixel, metric, name of the degradation), whose first
            word is the medium: `hevc qp=32`.
        x_title: what the rates are. They are drawn by their ratios where they differ 20-fold.
        y_title: what the metric is, with its unit and which way is better.

    Returns:
        An `<svg>` element; nothing where no point is finite.
    """
    shown = {
        label: sorted(point for point in points if _finite([point[:2]]))
        for label, points in series.items()
    }
    shown = {label: points for label, points in shown.items() if points}
    every = [point for points in shown.values() for point in points]
    if not every:
        return ""
    rates = [rate for rate, _, _ in every]
    if min(rates) > 0 and max(rates) >= RATIO * min(rates):
        x = Scale(f"{x_title}, logarithmic", min(rates) / 1.3, max(rates) * 1.3, log=True)
    else:
        x = Scale(x_title, 0.0, 1.08 * max(rates) or 1.0)
    plot = _Plot(x, _padded(y_title, [value for _, value, _ in every]), list(shown), False)
    plot.name_tops({degradation: rate for rate, _, degradation in every})
    for number, (label, points) in enumerate(shown.items()):
        media: dict[str, list[tuple[float, float]]] = {}
        for rate, value, degradation in points:
            media.setdefault(degradation.partition(" ")[0], []).append((rate, value))
        for medium, joined in media.items():
            plot.line(joined, number, f"{label}, {medium}", 2.0)
        for rate, value, degradation in points:
            plot.mark(rate, value, number, f"{label}, {degradation}: {value:.4g} at {rate:.3g}")
    return plot.svg()


def gains_chart(gains: Mapping[str, float], title: str, unit: str = "dB") -> str:
    """Draw what every clip gained, sorted: a bar up where it is better, down where it is worse.

    Args:
        gains: clip -> its gain, positive where it is better.
        title: whose gains they are, and over what.
        unit: of the gains.

    Returns:
        An `<svg>` element; nothing where no gain is finite.
    """
    bars = sorted((gain, clip) for clip, gain in gains.items() if math.isfinite(gain))
    if not bars:
        return ""
    values = [gain for gain, _ in bars]
    better = sum(gain > 0 for gain in values)
    said = f"{better} of {len(bars)} clips better, mean {fmean(values):+.2f} {unit}"
    clips = Scale(said, 0.0, float(len(bars)), told=False)
    plot = _Plot(clips, _padded(title, [0.0, *values]), [], False)
    width = 0.8 * min(28.0, plot.at(1.0, 0.0)[0] - plot.at(0.0, 0.0)[0])
    for place, (gain, clip) in enumerate(bars):
        (x, top), (_, bottom) = plot.at(place + 0.5, max(gain, 0.0)), plot.at(0.0, min(gain, 0.0))
        plot.add(
            f'<rect x="{x - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" '
            f'height="{max(1.0, bottom - top):.1f}" fill="{BETTER if gain >= 0 else WORSE}">'
            f"<title>{_safe(f'{clip}: {gain:+.2f} {unit}')}</title></rect>"
        )
    (left, zero), (right, _) = plot.at(0.0, 0.0), plot.at(clips.high, 0.0)
    plot.add(f'<path d="M{left:.1f} {zero:.1f}H{right:.1f}" stroke="currentColor"/>')
    return plot.svg()


def _finite(points: Points) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _padded(title: str, values: Sequence[float]) -> Scale:
    low, high = min(values), max(values)
    margin = 0.07 * (high - low) or 0.05 * abs(high) or 1.0
    return Scale(title, low - margin, high + margin)


def _thinned(points: Points) -> list[tuple[float, float]]:
    """Return at most `MARKS` of the points, evenly chosen, the first and the last among them."""
    last, count = len(points) - 1, min(MARKS, len(points))
    return [points[round(k * last / max(1, count - 1))] for k in range(count)]


def _safe(text: str, letters: int = 200) -> str:
    """Return text that may stand in XML, its middle cut out where it is longer than `letters`."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    if len(text) > letters:
        half = (letters - 1) // 2
        text = f"{text[:half]}…{text[len(text) - (letters - 1 - half) :]}"
    return escape(text)


class _Plot:
    """A chart in the making: its plotting area is `HEIGHT` high and begins at y = 0.

    Args:
        x: the horizontal axis.
        y: the vertical one; its title heads the chart.
        labels: of the series.
        ends: whether the series are named at the ends of their lines, else in a legend below.
    """

    def __init__(self, x: Scale, y: Scale, labels: Sequence[str], ends: bool) -> None:
        self.x, self.y, self.labels = x, y, labels
        self.left = max(map(len, y.texts(LINES)), default=0) * DIGIT + GAP
        names = max(map(len, labels), default=0) * LETTER if ends else 0.0
        half = max(map(len, x.texts()[-1:]), default=0) * DIGIT / 2  # of what is below the end
        self.right = WIDTH - max(names + 5 * GAP if ends else 2 * GAP, half)
        self.top, self.bottom = LINE + GAP, HEIGHT
        self.parts: list[str] = []
        self._axes()
        if labels and not ends:
            self._legend()

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point stands, in units of the chart."""
        across = self.left + self.x.share(x) * (self.right - self.left)
        return across, HEIGHT * (1.0 - self.y.share(y))

    def add(self, part: str) -> None:
        self.parts.append(part)

    def line(self, points: Points, series: int, title: str, width: float) -> None:
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        self.add(
            f'<polyline points="{places}" style="stroke:{_color(series)}" fill="none" '
            f'stroke-width="{width}" stroke-linejoin="round"><title>{_safe(title)}</title>'
            "</polyline>"
        )

    def mark(self, x: float, y: float, series: int, title: str) -> None:
        self._shape(*self.at(x, y), series, title)

    def name_ends(self, values: Sequence[float]) -> None:
        """Write the names of the series beside the last of their values, none over another."""
        heights = [self.at(self.x.low, value)[1] for value in values]
        order = sorted(range(len(heights)), key=heights.__getitem__)
        for before, after in pairwise(order):
            heights[after] = max(heights[after], heights[before] + LINE)
        limit = HEIGHT
        for series in reversed(order):
            heights[series] = min(heights[series], limit)
            limit = heights[series] - LINE
        for series, label in enumerate(self.labels):
            self._shape(self.right + 3 * GAP, heights[series], series, label)
            self._text(self.right + 4 * GAP + 2, heights[series] + 4, label)

    def name_tops(self, names: Mapping[str, float]) -> None:
        """Write names over their values of x in up to three lines; what finds no room is left."""
        free = [0.0] * 3
        for name, x in sorted(names.items(), key=lambda item: item[1]):
            across, _ = self.at(x, self.y.low)
            width = min(len(name), TOP) * LETTER
            begin = min(max(across - width / 2, 0.0), WIDTH - width)
            line = next((k for k, end in enumerate(free) if begin >= end), None)
            if line is not None:
                free[line] = begin + width + LETTER
                self._text(begin, -2 * GAP - line * LINE, name, letters=TOP)
                self._stroke(f"M{across:.1f} 0V{HEIGHT:.0f}", 'stroke-dasharray="2 4"', 0.4)
        self.top += LINE * sum(end > 0 for end in free)

    def svg(self) -> str:
        title = _safe(self.y.title)
        height = self.top + self.bottom
        head = f'<text x="0" y="{TEXT - self.top:.1f}" font-weight="600">'
        head += f"{_safe(self.y.title, int(0.9 * WIDTH / LETTER))}</text>"
        return (
            f'<svg role="img" class="chart" viewBox="0 {-self.top:.1f} {WIDTH:.0f} {height:.1f}" '
            f'font-size="{TEXT:g}" fill="currentColor"><title>{title}</title>{head}'
            f"{''.join(self.parts)}</svg>"
        )

    def _axes(self) -> None:
        for value, text in zip(self.y.ticks(LINES), self.y.texts(LINES), strict=True):
            _, down = self.at(self.x.low, value)
            self._stroke(f"M{self.left:.1f} {down:.1f}H{self.right:.1f}")
            self._text(self.left - GAP, down + 4, text, "end")
        for value, text in zip(self.x.ticks(), self.x.texts(), strict=True):
            across, _ = self.at(value, self.y.low)
            self._stroke(f"M{across:.1f} 0V{HEIGHT:.0f}")
            self._text(across, HEIGHT + LINE, text, "middle")
        self.bottom += LINE * (1 + bool(self.x.ticks()))
        self._text((self.left + self.right) / 2, self.bottom, self.x.title, "middle")
        self.bottom += GAP

    def _legend(self) -> None:
        room = max(map(len, self.labels)) * LETTER + 4 * GAP
        columns = max(1, min(len(self.labels), int(WIDTH / room)))
        for series, label in enumerate(self.labels):
            across = series % columns * WIDTH / columns
            down = self.bottom + LINE * (1 + series // columns)
            self._shape(across + GAP, down - 4, series, label)
            self._text(across + 3 * GAP, down, label)
        self.bottom += LINE * -(-len(self.labels) // columns) + GAP

    def _text(
        self, x: float, y: float, text: str, anchor: str = "start", letters: int = 99
    ) -> None:
        room = min(letters, round((WIDTH - x if anchor == "start" else WIDTH) / LETTER))
        self.add(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{_safe(text, room)}</text>')

    def _stroke(self, path: str, more: str = "", opacity: float = 0.15) -> None:
        self.add(f'<path d="{path}" stroke="currentColor" stroke-opacity="{opacity}" {more}/>')

    def _shape(self, x: float, y: float, series: int, title: str) -> None:
        hollow = series // len(SHAPES) % 2
        self.add(
            f'<path d="{SHAPES[series % len(SHAPES)]}" transform="translate({x:.1f} {y:.1f}) '
            f'scale({MARK:g})" style="fill:{_color(series)};stroke:{_color(series)}" '
            f'fill-opacity="{1 - hollow}" stroke-width=".4"><title>{_safe(title)}</title></path>'
        )


def _color(series: int) -> str:
    place = series % len(COLORS)
    return f"var(--c{place}, {COLORS[place]})"
