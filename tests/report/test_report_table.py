"""Hand-computed summaries, spreads and marks."""

import math

import pytest
from made_rows import make_row
from rich.console import Console
from scipy import stats

from unlossy.metrics.flicker import COLUMNS as FLICKER_COLUMNS
from unlossy.metrics.suite import DIRECTION
from unlossy.report.table import (
    COLUMNS,
    FLICKER,
    LPIPS,
    PICTURES,
    PSNR,
    markdown,
    marks,
    print_table,
    spread,
    summarise,
)


@pytest.fixture
def rows():
    return [
        make_row("input", "a", 30.0),
        make_row("input", "b", 34.0),
        make_row("input", "c", 38.0),
        make_row("ccdnet", "a", 32.0, loss="grad"),
        make_row("ccdnet", "b", 35.5, loss="grad"),
        make_row("ccdnet", "c", 37.0, loss="grad"),
    ]


def test_columns_point_where_the_scores_do():
    shown = {column.key: column.better for column in (*COLUMNS, *FLICKER, *PICTURES)}
    assert {*FLICKER_COLUMNS, "psnr", "ssim", "lpips_alex", "psnr_std"} <= shown.keys()
    assert {key: shown[key] for key in DIRECTION if key in shown} == {
        key: better for key, better in DIRECTION.items() if key in shown
    }


def test_summary_by_hand(rows):
    before, after = summarise(rows)
    assert (before["model"], before["psnr"], before["gain"]) == ("input", 34.0, 0.0)
    assert after["clips"] == 3
    assert after["frames"] == 30
    assert after["psnr"] == pytest.approx(34.8333, abs=1e-4)
    assert (after["psnr_median"], after["psnr_min"]) == (35.5, 32.0)
    assert after["gain"] == pytest.approx((2.0 + 1.5 - 1.0) / 3)
    assert after["share_below_input"] == pytest.approx(1 / 3)


def test_columns_of_dropped_frames_show_where_some_were(rows):
    assert "PSNR all" not in markdown(summarise(rows))
    for row, value in zip(rows, (25.0, 27.0, None, 28.0, 29.0, None), strict=True):
        row["psnr_clip"] = value  # clip c is a still
    before, after = summarise(rows)
    assert (before["psnr_clip"], after["psnr_clip"]) == (26.0, 28.5)
    shown = markdown([before, after])
    assert "| PSNR all | PSNR clip |" in shown
    assert "| **34.83** | **28.50** |" in shown


def test_sources_and_degradations_stay_apart(rows):
    rows.append(make_row("input", "a", 20.0, source="clips"))
    rows.append(make_row("ccdnet", "a", 21.0, loss="grad", source="clips"))
    lines = summarise(rows)
    assert [(line["model"], line["source"]) for line in lines] == [
        ("input", "bunny"),
        ("ccdnet", "bunny"),
        ("input", "clips"),
        ("ccdnet", "clips"),
    ]
    assert lines[3]["gain"] == 1.0


@pytest.mark.parametrize("blank", [None, "", math.nan])
def test_a_clip_that_is_exact_has_no_psnr_and_does_not_count_in_means(rows, blank):
    rows.append(make_row("input", "d", blank, exact=10))
    rows.append(make_row("ccdnet", "d", blank, loss="grad", exact=10))
    after = summarise(rows)[1]
    assert (after["clips"], after["exact"]) == (4, 10)
    assert after["psnr"] == pytest.approx(34.8333, abs=1e-4)
    assert after["share_below_input"] == pytest.approx(1 / 3)


def test_summarise_leaves_its_input_alone(rows):
    before = [dict(row) for row in rows]
    summarise(rows)
    assert rows == before


def _seeded(psnrs, loss):
    return [
        make_row("ccdnet", "a", psnr, loss=loss, run=f"{loss}{seed}", seed=seed)
        for seed, psnr in enumerate(psnrs)
    ]


def test_spread_is_the_sample_deviation_over_seeds():
    (line,) = spread(_seeded([30.0, 31.0, 32.0], "grad"))
    assert (line["seeds"], line["psnr"], line["psnr_seeds_std"]) == (3, 31.0, 1.0)


def test_one_seed_has_no_spread():
    (line,) = spread(_seeded([30.0], "grad"))
    assert line["seeds"] == 1
    assert not [key for key in line if key.endswith("_seeds_std")]


def test_marks_best_and_what_is_within_noise_of_it():
    near = _seeded([30.9, 31.5, 32.1], "l1")
    far = _seeded([20.0, 20.5, 21.0], "gan")
    best = _seeded([31.4, 32.0, 32.6], "grad")
    single = _seeded([31.9], "grad_gan")
    lines = spread([*near, *far, *best, *single])
    assert marks(lines, PSNR) == ["noise", "", "best", ""]


def test_noise_is_that_of_welchs_test():
    """Whatever differs by less than the test can tell at 95 % is marked, and nothing else."""
    best = [32.0, 32.1, 32.6]
    for psnrs in ([31.0, 31.9], [30.5, 31.2], [28.0, 28.1], [30.9, 31.4, 32.0, 31.1]):
        lines = spread([*_seeded(best, "grad"), *_seeded(psnrs, "l1")])
        equal = stats.ttest_ind(best, psnrs, equal_var=False).pvalue > 0.05
        assert marks(lines, PSNR) == ["best", "noise" if equal else ""]
    lines = spread([make_row("nlmeans", "a", 31.0, run="f"), *_seeded(best, "grad")])
    equal = stats.ttest_1samp(best, 31.0).pvalue > 0.05
    assert marks(lines, PSNR) == ["noise" if equal else "", "best"]


def test_noise_counts_the_seeds_that_have_a_value():
    """The third seed of `grad` was scored without LPIPS: two values, one degree of freedom."""
    best, near = [0.10, 0.11], [0.14, 0.141, 0.142]
    rows = [
        row | {"lpips_alex": value}
        for loss, values in (("grad", [*best, None]), ("l1", near))
        for row, value in zip(_seeded([30.0] * 3, loss), values, strict=True)
    ]
    lines = spread(rows)
    assert [(line["seeds"], line["lpips_alex_seeds"]) for line in lines] == [(3, 2), (3, 3)]
    assert stats.ttest_ind(best, near, equal_var=False).pvalue > 0.05
    assert marks(lines, LPIPS) == ["best", "noise"]


def test_means_over_other_clips_are_ranked_apart():
    """The weaker model, scored on the easy clip alone, is not the best of all."""
    both = [("a", 40.0), ("b", 20.0)]
    strong = [make_row("strong", clip, psnr + 2, loss="l1", run="s") for clip, psnr in both]
    weak = [make_row("weak", "a", 40.1, loss="l1", run="w")]
    longer = [row | {"model": "longer", "run": "l", "frames": 11} for row in strong]
    lines = spread([*strong, *weak, *longer])
    assert marks(lines, PSNR) == [""] * 3
    text = markdown(lines)
    captions = [line for line in text.splitlines() if line.startswith("###")]
    assert captions == [
        "### bunny, gif: 2 clips, 20 frames",
        "### bunny, gif: 1 clips, 10 frames",
        "### bunny, gif: 2 clips, 22 frames",
    ]
    assert "**" not in text


def test_seeds_scored_on_other_clips_are_not_averaged():
    seeds = [make_row("m", "a", 40.0, loss="l1", run="r0")]
    seeds += [make_row("m", clip, 20.0, loss="l1", run="r1", seed=1) for clip in "ab"]
    assert [(line["seeds"], line["psnr"]) for line in spread(seeds)] == [(1, 40.0), (1, 20.0)]


def test_a_value_that_is_missing_is_not_exact():
    console = Console(record=True, width=160)
    dead = make_row("m", "a", math.nan, loss="l1")
    kept = make_row("m", "b", math.nan, loss="l1", exact=10)
    print_table([dead, kept], console=console)
    lines = [line.split() for line in console.export_text().splitlines()]
    assert ["a"] in lines
    assert ["b", "exact"] in lines


def test_lower_lpips_is_better():
    lines = spread(
        [make_row("input", "a", 30.0), make_row("ccdnet", "a", 31.0, loss="grad", lpips_alex=0.05)]
    )
    assert marks(lines, LPIPS) == ["", "best"]


def test_markdown_marks_and_captions(rows):
    text = markdown(spread(rows))
    assert "### bunny, gif: 3 clips, 30 frames" in text
    assert "**34.83**" in text
    ccdnet = next(line for line in text.splitlines() if line.startswith("| ccdnet grad"))
    assert "+0.83" in ccdnet
    assert "33%" in ccdnet


def test_printed_table_names_every_number_and_lists_few_clips(rows):
    console = Console(record=True, width=160)
    print_table(rows, summarise(rows), console)
    text = console.export_text()
    for word in ("median", "minimum", "SSIM", "LPIPS", "below", "s/frame", "no border crop"):
        assert word in text
    assert "32.00 0.900 0.100" in text
    assert text.index("ccdnet grad") > text.index("input")


def test_long_clip_lists_are_not_printed():
    rows = [make_row("input", f"shot{place:02d}", 30.0) for place in range(41)]
    console = Console(record=True, width=160)
    print_table(rows, console=console)
    assert "shot00" not in console.export_text()


FLICKERS = {"warp_error": 2.5, "warp_floor": 2.0, "tof": 0.25, "flicker_flat": 1.5}


def test_flicker_has_a_table_of_its_own_where_it_was_measured(rows):
    rows.append(make_row("input", "a", 20.0, source="clips", **FLICKERS))
    rows.append(
        make_row("ccdnet", "a", 21.0, loss="grad", source="clips", **FLICKERS | {"tof": 0.125})
    )
    lines = spread(rows)
    text = markdown(lines, FLICKER)
    assert "### clips, gif: 1 clips, 10 frames" in text
    assert "bunny" not in text
    assert "| ccdnet grad | 2.50 | 2.00 | **0.125** | **1.500** |" in text
    assert "tLP" not in text  # nobody measured it
    assert markdown(lines).count("###") == 2
    console = Console(record=True, width=160)
    print_table(rows, console=console)
    assert "tOF" in console.export_text()


def test_rows_without_flicker_have_no_such_table(rows):
    assert markdown(spread(rows), FLICKER) == ""
    console = Console(record=True, width=160)
    print_table(rows, console=console)
    assert "tOF" not in console.export_text()


def test_pictures_have_a_table_of_the_columns_that_were_measured(rows):
    measured = {"consistency": 0.00412, "msssim_scaled": 0.81}
    rows.append(make_row("bicubic", "a", 20.0, source="patches", **measured))
    rows.append(make_row("pixelsr", "a", 19.0, loss="nll", source="patches", nll=3.25, **measured))
    text = markdown(spread(rows), PICTURES)
    assert "| model | NLL | consistency | MS-SSIM, 5 scaled |\n" in text
    assert "| bicubic |  | **0.00412** | **0.8100** |" in text
    assert "| pixelsr nll | 3.250 | 0.00412 ~ |" in text or "| pixelsr nll | 3.250 | **" in text
    assert "bunny" not in text
    console = Console(record=True, width=160)
    print_table(rows, console=console)
    assert "bits per sub-pixel" in " ".join(console.export_text().split())


def test_flicker_is_averaged_over_clips_and_seeds():
    seeded = [
        make_row("ccdnet", clip, 30.0, loss="grad", run=f"run{seed}", seed=seed, tof=tof + seed)
        for seed in range(2)
        for clip, tof in (("a", 1.0), ("b", 2.0), ("photo", math.nan))
    ]
    (line,) = spread(seeded)
    assert line["tof"] == pytest.approx(2.0)
    assert line["tof_seeds_std"] == pytest.approx(0.5**0.5)
