import math
from statistics import fmean

import pytest
from made_rows import make_row
from scipy.stats import ttest_rel

from unlossy.report.markdown import write_report
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


def fixed_rows(model, values, **more):
    return [row | {"loss": ""} for row in rows_of(model, values, **more)]


def test_the_best_filter_and_the_input_stand_beside_a_trained_model():
    weak, strong = fixed_rows("weak", [20.0, 22.0]), fixed_rows("strong", [25.0, 26.0])
    before = fixed_rows("input", [19.0, 20.0])
    lines = tables([*before, *strong, *weak, *rows_of("a", [30.0, 31.0])]).splitlines()
    names = [line.split(" | ")[0] for line in lines if " - " in line]
    assert names == ["| a l1 - strong", "| a l1 - input", "| strong - input"]
    assert lines[5].startswith("| a l1 - input | 2 | **+11.00 ± 0.00**")
    assert tables([*before, *strong]) == ""  # nothing was trained


def test_each_column_has_its_digits():
    values = {"ssim": 0.25, "lpips_alex": 0.5, "flicker_flat": 1.5, "tlp": 0.125}
    a = rows_of("a", A, **dict.fromkeys(values, 0.0))
    b = rows_of("b", A, **{key: -value for key, value in values.items()})
    cells = tables([*a, *b]).splitlines()[4].split(" | ")[2:]
    assert cells == [
        *("+0.00 ± 0.00", "**+0.2500 ± 0.0000**", "**+0.5000 ± 0.0000**"),
        *("**+1.500 ± 0.000**", "**+0.125 ± 0.000** |"),
    ]


def test_a_model_alone_has_no_pairs_and_a_crowd_a_sentence():
    assert tables(rows_of("a", A)) == ""
    crowd = [row for k in range(MOST + 1) for row in rows_of(f"m{k}", A)]
    assert f"{MOST + 1} trained models, more than the {MOST}" in tables(crowd)
    assert "|" not in tables(crowd)
    assert "| m0 l1 - m7 l1 |" in tables(crowd[:-4])


def test_models_without_a_clip_in_common_have_no_pair():
    apart = [row | {"clip": f"other {row['clip']}"} for row in rows_of("b", B)]
    assert tables([*rows_of("a", A), *apart]) == ""


def test_the_page_has_the_pairs(make_run, tmp_path):
    make_run("run", [*rows_of("a:s", A), *rows_of("a:f", B)])
    page = write_report(tmp_path / "runs", tmp_path / "out").read_text()
    assert "## Paired over clips" in page
    assert "| a:s l1 - a:f l1 | 4 |" in page
