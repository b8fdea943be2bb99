import math
from statistics import fmean

import pytest
from made_rows import make_row
from scipy.stats import ttest_rel

from unlossy.report.page import write_report
from unlossy.report.paired import MOST, difference, tables

A, B = [30.0, 35.0, 28.0, 31.0], [29.9, 34.7, 28.1, 30.8]


def rows_of(model, values, **more):
    return [
        make_row(model, f"c{k}", value, loss="l1", setting="", **more)
        for k, value in enumerate(values)
    ]


def test_the_interval_is_that_of_a_paired_t_test():
    found = difference(rows_of("a", A), rows_of("b", B), "psnr")
    expected = ttest_rel(A, B).confidence_interval(0.95)
    assert found.mean - found.half == pytest.approx(expected.low)
    assert found.mean + found.half == pytest.approx(expected.high)
    assert found.clips == 4


def test_only_clips_that_both_have_count_and_seeds_are_averaged():
    a = [*rows_of("a", [30.0, 40.0]), *rows_of("a", [32.0])]  # two seeds of c0
    found = difference(a, rows_of("b", [30.0]), "psnr")
    assert (found.mean, found.clips) == (1.0, 1)
    assert math.isinf(found.half)
    assert difference(a, rows_of("b", [30.0]), "tlp") is None


def test_an_order_beyond_chance_is_bold():
    text = tables([*rows_of("a", A), *rows_of("b", [value - 1 for value in A])])
    assert "| a l1 - b l1 | 4 | **+1.00 ± 0.00** |" in text
    shared = fmean(A) - fmean(B)
    assert f"| {shared:+.2f} ± 0.27 |" in tables([*rows_of("a", A), *rows_of("b", B)])


def test_one_model_or_a_crowd_has_no_pairs():
    assert tables(rows_of("a", A)) == ""
    crowd = [row for k in range(MOST + 1) for row in rows_of(f"m{k}", A)]
    assert tables(crowd) == ""


def test_the_page_has_the_pairs(make_run, tmp_path):
    make_run("run", [*rows_of("a:s", A), *rows_of("a:f", B)])
    page = write_report(tmp_path / "runs", tmp_path / "out").read_text()
    assert "## Paired over clips" in page
    assert "| a:s l1 - a:f l1 | 4 |" in page
