"""Charts: well-formed, with every mark where a computation by hand puts it, whatever comes in."""

import math
import re
import xml.etree.ElementTree as ET

import pytest

from unlossy.report.charts import (
    COLORS,
    Scale,
    gains_chart,
    nice_step,
    rate_distortion_chart,
    steps_chart,
)

NASTY = '<img src=x onerror="alert(1)"> & \x07 </title>'


def drawn(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def titles(svg: str) -> list[str]:
    """What a pointer reads off the marks, in order, without the chart's own title."""
    return [title.text for title in drawn(svg).iter("title")][1:]


def texts(svg: str) -> list[str]:
    return [text.text for text in drawn(svg).iter("text")]


def marks(svg: str, start: str) -> list[tuple[float, float]]:
    """Where the marks stand whose title begins with `start`."""
    found = []
    for path in drawn(svg).iter("path"):
        title = path.find("title")
        if title is not None and title.text.startswith(start):
            place = re.match(r"translate\((\S+) (\S+)\)", path.get("transform"))
            found.append((float(place[1]), float(place[2])))
    return found


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    """Left, right, top and bottom of every text, a letter taken as 0.55 of its size wide."""
    found = []
    for text in drawn(svg).iter("text"):
        width = 0.55 * 13.5 * len(text.text)
        share = {"start": 0.0, "middle": 0.5, "end": 1.0}[text.get("text-anchor", "start")]
        left, y = float(text.get("x")) - share * width, float(text.get("y"))
        found.append((left, left + width, y - 10, y + 3))
    return found


def view(svg: str) -> tuple[float, float, float, float]:
    left, top, width, height = map(float, drawn(svg).get("viewBox").split())
    return left, left + width, top, top + height


def assert_tidy(svg: str) -> None:
    """No text over another, none beyond the edge."""
    left, right, top, bottom = view(svg)
    seen = boxes(svg)
    for k, (a, b, c, d) in enumerate(seen):
        assert left <= a, texts(svg)[k]
        assert b <= right, texts(svg)[k]
        assert top <= c, texts(svg)[k]
        assert d <= bottom, texts(svg)[k]
        for j, (e, f, g, h) in enumerate(seen[:k]):
            apart = b <= e or f <= a or d <= g or h <= c
            assert apart, f"{texts(svg)[k]!r} over {texts(svg)[j]!r}"


def curve(height: float, count: int = 20) -> list[tuple[float, float]]:
    return [(100.0 * k, height - 5 * math.exp(-k / 4)) for k in range(count)]


RATES = {
    "input": [(0.5, 30.0, "hevc qp=32"), (0.25, 28.0, "hevc qp=37"), (1.0, 27.0, "gif colors=16")],
    "ours": [(0.5, 31.0, "hevc qp=32"), (0.25, 28.5, "hevc qp=37"), (1.0, 29.0, "gif colors=16")],
}
CHARTS = {
    "steps": steps_chart([("ours l1", curve(32)), ("ours l1", curve(33))], "PSNR, dB"),
    "many": steps_chart(
        [(f"ccdnet grad_gan model.steps={k}", curve(30 + k / 9)) for k in range(12)], "PSNR, dB"
    ),
    "close": steps_chart([(f"recipe {k}", curve(30 + k / 99)) for k in range(4)], "PSNR, dB"),
    "rates": rate_distortion_chart(RATES, "bits per pixel", "PSNR, dB"),
    "crowd": rate_distortion_chart(
        {f"m{k}": [(0.1 + j / 99, 30 + k, f"gif c={j}") for j in range(9)] for k in range(12)},
        "bits per pixel",
        "PSNR, dB",
    ),
    "round": steps_chart([(f"m{k}", [(0.0, 1.0), (1000.0, 2.0)]) for k in range(5)], "SSIM"),
    "gains": gains_chart({f"film/{k}": k / 10 - 0.3 for k in range(37)}, "ours over the input"),
}


@pytest.mark.parametrize("name", CHARTS)
def test_charts_are_images_with_a_name_that_take_any_width(name):
    svg = drawn(CHARTS[name])
    assert svg.tag == "svg"
    assert svg.get("role") == "img"
    assert svg[0].tag == "title"
    assert svg[0].text
    assert svg.get("width") is None
    assert svg.get("height") is None
    assert "http" not in CHARTS[name]
    assert "<script" not in CHARTS[name]
    # Letters of at least 11 pixels where the chart is 360 wide.
    assert float(svg.get("font-size")) * 360 / float(svg.get("viewBox").split()[2]) >= 11


@pytest.mark.parametrize("name", CHARTS)
def test_no_text_lies_over_another_or_beyond_the_edge(name):
    assert_tidy(CHARTS[name])


@pytest.mark.parametrize("count", range(1, 13))
def test_any_number_of_series_is_named_once_and_looks_like_no_other(count):
    labels = [f"ccdnet {'x' * k}" for k in range(count)]
    svg = steps_chart([(label, curve(30 + k)) for k, label in enumerate(labels)], "SSIM")
    assert_tidy(svg)
    assert [text for text in texts(svg) if text.startswith("ccdnet")] == labels
    looks = set()
    for path in drawn(svg).iter("path"):
        title = path.find("title")
        if title is not None and title.text in labels:
            style = (path.get("d"), path.get("fill-opacity"))
            looks.add((style, path.get("style")))
    assert len(looks) == count
    assert len({style for style, _ in looks}) == count  # told apart without colour


def test_points_stand_where_they_should():
    svg = steps_chart([("ours", [(0.0, 30.0), (50.0, 31.0), (100.0, 32.0)])], "PSNR, dB")
    (x0, y0), (x1, y1), (x2, y2) = marks(svg, "ours, step")
    # The axis spans 30 - 0.07 * 2 .. 32 + 0.07 * 2 over 220 units, downwards.
    assert (y0, y1, y2) == pytest.approx((220 * 2.14 / 2.28, 110.0, 220 * 0.14 / 2.28), abs=0.06)
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.06)
    labels = {text.text: float(text.get("x")) for text in drawn(svg).iter("text")}
    assert labels["0"] == pytest.approx(x0, abs=0.06)
    assert labels["100"] == pytest.approx(x2, abs=0.06)
    heights = {text.text: float(text.get("y")) for text in drawn(svg).iter("text")}
    assert heights["31.0"] - 4 == pytest.approx(y1, abs=0.06)
    (line,) = drawn(svg).iter("polyline")
    assert line.get("points") == f"{x0:.1f},{y0:.1f} {x1:.1f},{y1:.1f} {x2:.1f},{y2:.1f}"
    assert "ours, step 50: 31" in titles(svg)


def test_seeds_of_a_recipe_share_their_look_and_are_thin():
    svg = drawn(steps_chart([("a", curve(30)), ("a", curve(31)), ("b", curve(32))], "PSNR"))
    lines = [(line.get("style"), float(line.get("stroke-width"))) for line in svg.iter("polyline")]
    assert lines[0] == lines[1]
    assert lines[0][0] != lines[2][0]
    assert lines[0][1] < lines[2][1]


def test_a_value_that_is_none_leaves_a_gap():
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, math.nan), (3.0, math.inf), (4.0, 3.0)]
    svg = steps_chart([("a", points), ("gone", [(0.0, math.nan)])], "SSIM")
    lines = [line.get("points").count(",") for line in drawn(svg).iter("polyline")]
    assert lines == [2, 1]
    assert len(marks(svg, "a, step")) == 3
    assert "gone" not in svg
    assert "nan" not in svg


def test_long_curves_carry_few_marks_but_their_ends():
    svg = steps_chart([("a", [(float(k), k / 7) for k in range(500)])], "SSIM")
    found = [title for title in titles(svg) if title.startswith("a, step")]
    assert len(found) == 10
    assert found[0] == "a, step 0: 0"
    assert found[-1] == "a, step 499: 71.29"


def test_points_of_one_medium_are_joined_by_rate():
    svg = CHARTS["rates"]
    lines = {
        line.find("title").text: [
            tuple(map(float, place.split(","))) for place in line.get("points").split()
        ]
        for line in drawn(svg).iter("polyline")
    }
    assert {name: len(places) for name, places in lines.items()} == {
        "input, hevc": 2, "input, gif": 1, "ours, hevc": 2, "ours, gif": 1,
    }  # fmt: skip
    low, high = lines["input, hevc"]
    assert low[0] < high[0]
    assert low[1] > high[1]  # 28 dB is drawn lower than 30
    (gif,) = lines["input, gif"]
    # From 0 on, a rate of 1 stands twice as far as one of 0.5, thrice 0.25 beyond 0.25.
    assert gif[0] - low[0] == pytest.approx(3 * (high[0] - low[0]), abs=0.5)
    assert "ours, gif colors=16: 29 at 1" in titles(svg)
    assert {"gif colors=16", "hevc qp=32", "hevc qp=37"} <= set(texts(svg))


def test_rates_twentyfold_apart_are_drawn_by_their_ratios():
    points = [(0.1, 30.0, "a"), (1.0, 31.0, "b"), (10.0, 32.0, "c")]
    svg = rate_distortion_chart({"m": points}, "bpp", "PSNR")
    a, b, c = (x for x, _ in marks(svg, "m, "))
    assert b - a == pytest.approx(c - b, abs=0.11)
    assert "bpp, logarithmic" in texts(svg)
    assert "bpp" in texts(rate_distortion_chart({"m": points[1:]}, "bpp", "PSNR"))
    zero = rate_distortion_chart({"m": [(0.0, 30.0, "a"), *points]}, "bpp", "PSNR")
    assert "bpp" in texts(zero)  # zero has no ratio to anything


def test_gains_are_sorted_and_point_their_way():
    svg = gains_chart({"up": 1.0, "down": -0.5, "far": 2.0, "lost": math.nan}, "ours")
    bars = list(drawn(svg).iter("rect"))
    assert [bar.find("title").text for bar in bars] == [
        "down: -0.50 dB", "up: +1.00 dB", "far: +2.00 dB",
    ]  # fmt: skip
    left = [float(bar.get("x")) for bar in bars]
    assert left == sorted(left)
    top = [float(bar.get("y")) for bar in bars]
    height = [float(bar.get("height")) for bar in bars]
    # -0.5 .. 2 and 7 % of that beyond both: 2.85 dB on 220 units, zero 2.175 below the top.
    unit = 220 / 2.85
    assert height == pytest.approx([0.5 * unit, 1 * unit, 2 * unit], abs=0.11)
    assert top[0] == pytest.approx(2.175 * unit, abs=0.11)
    assert top[2] + height[2] == pytest.approx(top[0], abs=0.11)
    assert bars[0].get("fill") != bars[1].get("fill") == bars[2].get("fill")
    assert "2 of 3 clips better, mean +0.83 dB" in texts(svg)


@pytest.mark.parametrize("nothing", [[], [("a", [])], [("a", [(0.0, math.nan)])]])
def test_where_there_is_nothing_to_draw_there_is_no_chart(nothing):
    assert steps_chart(nothing, "SSIM") == ""
    rates = {label: [(x, y, "gif") for x, y in points] for label, points in nothing}
    assert rate_distortion_chart(rates, "bpp", "SSIM") == ""
    assert gains_chart({label: math.nan for label, _ in nothing}, "ours") == ""


@pytest.mark.parametrize("value", [0.0, 31.25, -3.0, 1e-9, 4e7])
def test_one_value_is_enough(value):
    for svg in (
        steps_chart([("a", [(0.0, value)])], "SSIM"),
        rate_distortion_chart({"a": [(0.0, value, "gif")]}, "bpp", "SSIM"),
        gains_chart({"a": value}, "ours"),
    ):
        numbers = re.findall(r'(?:x|y|d|points|transform|height)="([^"]*)"', svg)
        assert not re.search("nan|inf", " ".join(numbers))
        assert_tidy(svg)


def test_names_cannot_leave_their_place():
    for svg in (
        steps_chart([(NASTY, curve(30))], NASTY),
        rate_distortion_chart({NASTY: [(1.0, 30.0, NASTY)]}, NASTY, NASTY),
        gains_chart({NASTY: 1.0}, NASTY, NASTY),
    ):
        assert {node.tag for node in drawn(svg).iter()} <= {
            "svg", "title", "text", "path", "rect", "polyline",
        }  # fmt: skip
        assert "<img" not in svg
        assert "\x07" not in svg
        assert_tidy(svg)


def test_names_without_end_are_cut_in_their_middle():
    long = f"ccdnet {'x' * 300} optimizer.lr=0.001"
    svg = steps_chart([(long, curve(30))], "SSIM")
    (text,) = (text for text in texts(svg) if text.startswith("ccdnet"))
    assert text.endswith("optimizer.lr=0.001")
    assert_tidy(svg)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1000.0, ["0", "200", "400", "600", "800", "1000"]),
        (0.0, 52_000.0, ["0", "20k", "40k"]),
        (0.913, 0.937, ["0.915", "0.920", "0.925", "0.930", "0.935"]),
        (-0.7, 1.6, ["-0.5", "0.0", "0.5", "1.0", "1.5"]),
        (28.4, 36.6, ["30", "32", "34", "36"]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert Scale("", low, high).texts() == expected


def test_ticks_of_ratios():
    assert Scale("", 0.015, 1.8, log=True).texts() == ["0.02", "0.05", "0.1", "0.2", "0.5", "1"]
    assert Scale("", 1e-4, 90.0, log=True).texts() == ["0.0001", "0.001", "0.01", "0.1", "1", "10"]


@pytest.mark.parametrize(
    ("least", "step"), [(1.0, 1), (1.01, 2), (0.3, 0.5), (7, 10), (0.0021, 0.005), (200, 200)]
)
def test_steps_between_ticks(least, step):
    assert nice_step(least) == pytest.approx(step)


def luminance(color: str) -> float:
    """Relative luminance of WCAG 2."""
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("color", COLORS)
def test_colors_stand_out_from_white_and_from_black(color):
    assert 1.05 / (luminance(color) + 0.05) >= 3
    assert (luminance(color) + 0.05) / (luminance("#14161a") + 0.05) >= 3


def test_the_same_numbers_are_the_same_text():
    assert rate_distortion_chart(RATES, "bits per pixel", "PSNR, dB") == CHARTS["rates"]
    backwards = {label: points[::-1] for label, points in RATES.items()}
    assert rate_distortion_chart(backwards, "bits per pixel", "PSNR, dB") == CHARTS["rates"]
