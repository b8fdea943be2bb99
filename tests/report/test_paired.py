import math
from dataclasses import replace
from itertools import product
from statistics import fmean

import numpy as np
import pytest
from made_rows import make_row
from scipy import stats

from unlossy.report.paired import (
    COLUMNS,
    FEW,
    MOST,
    bootstrap,
    compare,
    comparisons,
    tables,
)

A = [30.0, 35.0, 28.0, 31.0, 29.5, 33.0, 30.5, 32.0]
B = [29.9, 34.7, 28.1, 30.8, 29.6, 32.5, 30.1, 32.2]
PSNR = next(column for column in COLUMNS if column.key == "psnr")
LPIPS = next(column for column in COLUMNS if column.key == "lpips_alex")


def rows_of(model, values, **more):
    return [
        make_row(model, f"c{k}", value, setting="", **{"loss": "l1"} | more)
        for k, value in enumerate(values)
    ]


def test_the_interval_is_that_of_scipys_paired_bootstrap():
    rng = np.random.default_rng(3)
    a, b = rng.normal(30, 4, (2, 33))
    found = compare(rows_of("a", a), rows_of("b", b), PSNR)
    witness = stats.bootstrap(
        (a, b),
        lambda x, y, axis: (x - y).mean(axis),
        paired=True,
        method="percentile",
        n_resamples=20_000,
        rng=rng,
    )
    assert found.mean == pytest.approx((a - b).mean())
    assert found.low == pytest.approx(witness.confidence_interval.low, abs=0.12)
    assert found.high == pytest.approx(witness.confidence_interval.high, abs=0.12)
    share = (witness.bootstrap_distribution > 0).mean()
    assert found.probability == pytest.approx(share, abs=0.01)


def test_three_values_by_hand():
    """All 27 draws of (-1, 0, 4) are counted: 1 + 3 + 3 + 1 below, 1 even, 18 above zero."""
    means = [fmean(draw) for draw in product((-1.0, 0.0, 4.0), repeat=3)]
    above = fmean((mean > 0) + (mean == 0) / 2 for mean in means)
    found = bootstrap([-1.0, 0.0, 4.0])
    assert found.mean == 1.0
    assert (found.low, found.high) == (-1.0, 4.0)  # 1/27 of the draws lie at either end
    assert found.above == pytest.approx(above, abs=0.015)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    trials = rng.standard_normal((300, 33)) + 0.5
    hits = [low <= 0.5 <= high for _, low, high, _ in map(bootstrap, trials)]
    assert 0.90 < fmean(hits) < 0.97


def test_weights_stand_for_frames():
    """Clips of unequal length drawn whole: the frames of every draw make one mean."""
    clips = [[1.0] * 9, [4.0], [-2.0, 0.0]]
    found = bootstrap([fmean(clip) for clip in clips], [len(clip) for clip in clips])
    assert found.mean == pytest.approx(fmean(x for clip in clips for x in clip))
    draws = [fmean(x for clip in draw for x in clip) for draw in product(clips, repeat=3)]
    assert (found.low, found.high) == (min(draws), max(draws))
    assert bootstrap(A, [2.0] * 8) == bootstrap(A)


def test_equal_models_are_even():
    found = compare(rows_of("a", A), rows_of("b", A), PSNR)
    assert (found.mean, found.low, found.high, found.probability) == (0, 0, 0, 0.5)
    assert not found.certain
    assert bootstrap([0.1, 0.2, -0.3]).above == pytest.approx(0.5, abs=0.12)


def test_better_is_lower_for_lpips():
    a = rows_of("a", A, lpips_alex=0.1)
    b = rows_of("b", A, lpips_alex=0.2)
    found = compare(a, b, LPIPS)
    assert (found.mean, found.probability) == (pytest.approx(-0.1), 1.0)
    assert compare(b, a, LPIPS).probability == 0.0
    assert compare(a, b, replace(LPIPS, better=0)).probability is None


def test_one_clip_has_no_interval():
    found = compare(rows_of("a", [30.0]), rows_of("b", [29.0]), PSNR)
    assert (found.mean, found.clips) == (1.0, 1)
    assert found.low is found.high is found.probability is None
    assert found.text(".2f") == "+1.00"


def test_a_clip_is_the_mean_over_seeds_and_their_spread_stands_beside_it():
    seeds = [rows_of("a", [value + shift for value in A], seed=k) for k, shift in enumerate((0, 2))]
    found = compare([*seeds[0], *seeds[1]], rows_of("input", B, loss=""), PSNR)
    once = compare(rows_of("a", [value + 1 for value in A]), rows_of("input", B, loss=""), PSNR)
    assert replace(found, seeds_std=None) == once
    assert (found.seeds, found.seeds_std) == (None, pytest.approx(math.sqrt(2)))
    assert found.text(".2f").endswith("P > 0.99, seeds ± 1.41")
    both = compare([*seeds[0], *seeds[1]], [*seeds[1], *seeds[0]], PSNR)
    assert (both.seeds, both.seeds_std) == (2, pytest.approx(2.0))  # either varies
    alone = compare([*seeds[0], *seeds[1]], rows_of("b", B), PSNR)
    assert (alone.seeds, alone.seeds_std) == (1, None)


def test_only_the_same_frames_of_clips_that_both_have_count():
    a, b = rows_of("a", A), rows_of("b", B)
    b[0]["frames"] = 7
    b[1]["psnr"] = None
    found = compare(a, b[:4], PSNR)
    assert (found.clips, found.mean) == (2, pytest.approx(0.05))
    assert compare(a, b[:1], PSNR) is None


def test_an_order_beyond_chance_is_bold_unless_clips_are_few():
    below = [value - 1 for value in A]
    text = tables([*rows_of("a", A), *rows_of("input", below, loss="")])
    assert "| a l1 - input | 8 | **+1.00** [+1.00, +1.00], P > 0.99 |" in text
    few = [*rows_of("a", A[:FEW]), *rows_of("input", below[:FEW], loss="")]
    assert f"| a l1 - input | {FEW} | +1.00 [+1.00, +1.00], P > 0.99 |" in tables(few)


def test_one_training_of_each_of_two_models_is_never_bold():
    a, b = rows_of("a", A), rows_of("b", [value - 1 for value in A])
    assert "| a l1 - b l1 | 8 | +1.00 [+1.00, +1.00], P > 0.99 |" in tables([*a, *b])
    again = [row | {"seed": 1} for row in (*a, *b)]
    assert "+1.00" in tables([*a, *b, *again[: len(A)]])
    assert "**" not in tables([*a, *b, *again[: len(A)]])
    assert "**+1.00** [+1.00, +1.00]" in tables([*a, *b, *again])


def test_clips_of_one_name_of_two_sources_are_two():
    a = [*rows_of("a", [30.0, 31.0]), *rows_of("a", [40.0, 42.0], source="clips")]
    b = [*rows_of("b", [29.0, 30.0]), *rows_of("b", [38.0, 38.0], source="clips")]
    found = compare(a, b, PSNR)
    assert (found.clips, found.mean) == (4, 2.0)


def test_the_best_filter_and_the_input_stand_beside_a_trained_model():
    weak, strong = (
        rows_of(name, [value, value + 2], loss="") for name, value in (("weak", 20), ("strong", 25))
    )
    before = rows_of("input", [19.0, 20.0], loss="")
    rows = [*before, *strong, *weak, *rows_of("a", [30.0, 31.0])]
    pairs = [(pair.first, pair.second) for pair in comparisons(rows) if pair.column == "psnr"]
    assert pairs == [("a l1", "strong"), ("a l1", "input"), ("strong", "input")]
    assert comparisons([*before, *strong]) == []  # nothing was trained
    assert tables([*before, *strong]) == ""


def test_every_column_has_its_digits_and_its_direction():
    values = {"ssim": 0.25, "lpips_alex": 0.5, "flicker_flat": 1.5, "tlp": 0.125}
    a = rows_of("a", A, **dict.fromkeys(values, 0.0))
    b = rows_of("b", A, loss="", **{key: -value for key, value in values.items()})
    cells = tables([*a, *b]).splitlines()[4].split(" | ")[2:]
    assert cells == [
        "+0.00 [+0.00, +0.00], P 0.50",
        "**+0.2500** [+0.2500, +0.2500], P > 0.99",
        "**+0.5000** [+0.5000, +0.5000], P < 0.01",
        "**+0.125** [+0.125, +0.125], P < 0.01",
        "**+1.500** [+1.500, +1.500], P < 0.01 |",
    ]


def test_all_frames_are_compared_where_frames_were_dropped():
    def columns(**more):
        pairs = comparisons([*rows_of("a", A, **more), *rows_of("b", B, **more)])
        return {pair.column for pair in pairs}

    assert "psnr_all" not in columns()
    assert {"psnr_all", "psnr_clip"} <= columns(psnr_clip=20.0)


def test_a_model_alone_has_no_pairs_and_a_crowd_a_sentence():
    assert tables(rows_of("a", A)) == ""
    crowd = [row for k in range(MOST + 1) for row in rows_of(f"m{k}", A)]
    assert f"{MOST + 1} trained models, more than the {MOST}" in tables(crowd)
    assert "|" not in tables(crowd)
    assert "| m0 l1 - m7 l1 |" in tables([row for row in crowd if row["model"] != "m8"])


def test_models_without_a_clip_in_common_have_no_pair():
    apart = [row | {"clip": f"other {row['clip']}"} for row in rows_of("b", B)]
    assert tables([*rows_of("a", A), *apart]) == ""


def _two_seeds(model, *shifts, **more):
    return [
        row
        for seed, shift in enumerate(shifts)
        for row in rows_of(model, [value + shift for value in A], seed=seed, **more)
    ]


def test_seeds_without_a_value_in_the_column_do_not_count():
    a, b = _two_seeds("a", 0, 0, lpips_alex=0.1), _two_seeds("b", -1, -1, lpips_alex=0.3)
    assert compare(a, b, LPIPS).certain
    for row in a[: len(A)]:
        row["lpips_alex"] = None
    found = compare(a, b, LPIPS)
    assert (found.seeds, found.certain) == (1, False)
    assert compare(a, b, PSNR).certain


def test_a_mean_within_its_deviation_over_seeds_is_never_bold():
    """+0.5 with one seed, +1.5 with the other: 1 ± 0.71; then -0.5 and +2.5: 1 ± 2.12."""
    b = _two_seeds("b", 0, 0)
    near, far = (
        compare(_two_seeds("a", 0.5, 1.5), b, PSNR),
        compare(_two_seeds("a", -0.5, 2.5), b, PSNR),
    )
    assert near.mean == far.mean == pytest.approx(1)
    assert (near.certain, far.certain) == (True, False)
    assert far.low > 0
