import csv
import json
from pathlib import Path

import pytest
from made_rows import make_row

from unlossy.errors import UserError
from unlossy.report.lab_book import publish
from unlossy.report.published import refreshed, rewrite, stale

ROOT = Path(__file__).parents[2]
CLIPS = [20.0, 22.0, 25.0, 21.0]


def rows_of(model, gain, loss="", clips=CLIPS, **more):
    return [make_row(model, f"c{k}", x + gain, loss=loss, **more) for k, x in enumerate(clips)]


@pytest.fixture
def page(tmp_path):
    """Write rows.csv, and a page with one region; return what the region then holds."""

    def made(options, rows=None, body="\n", kind="table"):
        rows = rows or [*rows_of("input", 0), *rows_of("a", 1, "l1"), *rows_of("b", 3, "l1")]
        with (tmp_path / "rows.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        path = tmp_path / "README.md"
        path.write_text(f"before <!-- {kind} rows.csv {options} -->{body}<!-- /{kind} --> after")
        text = refreshed(path)
        assert text.startswith("before <!-- ")
        assert text.endswith(f"<!-- /{kind} --> after")
        return text.partition(" -->")[2].partition("<!-- /")[0].strip()

    return made


def test_every_committed_table_is_what_its_csv_says():
    assert not stale(ROOT), "tables are not what their CSV files say: run `make table`"


def test_a_stale_table_is_found_and_made_anew(tmp_path, page):
    page("columns=psnr")
    assert stale(tmp_path) == [tmp_path / "README.md"]
    assert rewrite(tmp_path) == [tmp_path / "README.md"]
    assert stale(tmp_path) == []
    (tmp_path / "README.md").write_text(
        (tmp_path / "README.md").read_text().replace("| 23.00 |", "| 23.01 |")
    )
    assert stale(tmp_path) == [tmp_path / "README.md"]


def test_a_table_has_the_models_columns_digits_and_names_asked_for(page):
    text = page(
        'models="b = the second | input" columns="psnr:.1f | gain = more" title="{clips} of it"'
    )
    assert text.splitlines() == [
        "| 4 of it | PSNR | more |",
        "| --- | ---: | ---: |",
        "| the second | **25.0** | +3.00 |",
        "| input | 22.0 |  |",
    ]


def test_means_are_over_clips_and_then_over_seeds(page):
    rows = [*rows_of("a", 0, "l1", seed=0), *rows_of("a", 2, "l1", seed=1)]
    assert page("columns=psnr", rows).splitlines()[-1] == "| a l1 | 23.00 ± 1.41 |"


def test_only_rows_with_the_text_asked_for_count(page):
    rows = [*rows_of("a", 0), *rows_of("a", 5, source="clips")]
    assert "| 27.00 |" in page("source=clips columns=psnr", rows)
    assert "| 24.50 |" in page("columns=psnr", rows)  # clips of both count alike


def test_values_of_a_column_become_columns_with_two_numbers_in_a_cell(page):
    rows = [
        *rows_of("a", 0, psnr_clip="", degradation="x"),
        *rows_of("a", 1, psnr_clip=9.5, degradation="y=2"),
    ]
    options = 'across="degradation: x = D = 1 | y=2 = D = 2" columns="{psnr:.1f} ({psnr_clip:.2f})"'
    assert page(options, rows).splitlines()[::2] == [
        "| model | D = 1 | D = 2 |",
        "| a | 22.0 | 23.0 (9.50) |",
    ]


@pytest.mark.parametrize(
    ("across", "message"),
    [
        ("degradation: gif = D = 1 | hevc = D = 2", "no row has degradation=hevc"),
        ("nope: gif", 'rows.csv has no column "nope" to make blocks across'),
        (": gif", 'rows.csv has no column ""'),
        ("source: bunny | clips = live", "no row of these models for the block live"),
    ],
)
def test_a_block_of_nothing_is_refused(page, across, message):
    rows = [*rows_of("a", 0), *rows_of("b", 1), *rows_of("b", 2, source="clips")]
    with pytest.raises(UserError, match=message):
        page(f'models="a" across="{across}"', rows)


def test_numbers_can_be_values_of_blocks(page):
    rows = [*rows_of("a", 0, "l1", qp="37"), *rows_of("a", 2, "l1", qp="42")]
    text = page('across="qp: 37 | 42 = more" columns=psnr', rows)
    assert text.splitlines()[::2] == ["| model | 37 | more |", "| a l1 | 22.00 | 24.00 |"]


def test_a_template_has_the_spread_over_seeds_of_its_first_number(page):
    """Means over clips of two seeds: 22 and 24, 9 and 13; s = 2 / sqrt 2 and 4 / sqrt 2."""
    rows = [
        *rows_of("a", 0, "l1", psnr_clip=9.0, speed=1.0, seed=0),
        *rows_of("a", 2, "l1", psnr_clip=13.0, speed=2.0, seed=1),
        *rows_of("input", 0, psnr_clip="", speed="", seed=""),
    ]

    def cells(columns):
        return [line.split(" | ")[1].rstrip(" |") for line in page(columns, rows).splitlines()[2:]]

    assert cells('columns="{psnr:.2f} ({psnr_clip:.1f})"') == ["22.00 ~", "**23.00 ± 1.41 (11.0)**"]
    assert cells('columns="{psnr:+.1f} dB"') == ["+22.0 dB ~", "**+23.0 ± 1.4 dB**"]
    assert cells('columns="{speed:.1f} [{psnr:.0f}]"') == ["", "1.5 ± 0.7 [23]"]  # no direction
    assert cells('columns="speed:.1f"') == ["", "1.5"]  # which as a plain column is as it was
    said = 'columns="{psnr:.1f} ({psnr_clip:.1f} / {psnr_clip_seeds_std:.1f})"'
    assert cells(said) == ["22.0 ~", "**23.0 (11.0 / 2.8)**"]


def test_pairs_take_a_file_that_tells_what_was_trained(page):
    rows = [*rows_of("a", 0), *rows_of("b", 1)]
    for row in rows:
        del row["loss"]
    assert "| b | **23.00** |" in page("columns=psnr", rows)
    with pytest.raises(UserError, match=r"rows\.csv has no column loss, which tells trained rows"):
        page("columns=psnr", rows, kind="paired")


def test_settings_side_by_side_are_lines_of_one_model(page):
    rows = [*rows_of("a", 0, "l1", setting="w=1"), *rows_of("a", 2, "l1", setting="w=2")]
    text = page('across="setting: w=1 = narrow | w=2 = wide" columns=psnr', rows)
    assert text.splitlines()[::2] == ["| model | narrow | wide |", "| a l1 | 22.00 | 24.00 |"]


def test_pairs_have_an_interval(page):
    text = page('pairs="b - a" columns=psnr title=film', kind="paired")
    assert text.splitlines() == [
        "| film | clips | PSNR |",
        "| --- | ---: | ---: |",
        "| b - a | 4 | +2.00 [+2.00, +2.00], P > 0.99 |",
    ]
    names = page('models="b = B | a | input" columns=psnr', kind="paired")
    assert [line.split(" | ")[0] for line in names.splitlines()[2:]] == [
        *("| B - a", "| B - input", "| a - input"),
    ]


def test_a_sentence_holds_one_pair(page):
    assert page('pairs="b - a" columns=psnr', body="", kind="paired") == (
        "+2.00 [+2.00, +2.00], P > 0.99"
    )
    with pytest.raises(UserError, match="room for one comparison, not 2"):
        page('pairs="b - a | a - input" columns=psnr', body="", kind="paired")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("models=c", "c is not one model; there are input, a l1, b l1"),
        ("columns=speed", "rows.csv has no column speed"),
        ("split=test", "split is neither an option nor a column"),
        ("source=moon", "no row has source=moon"),
        ("bold", "bold is no option"),
        ('title="x', "a quote is left open"),
        ("columns=psnr:.2q", "cannot be made of rows.csv .*'q'.*digits written as .2f"),
        ('columns="{psnr:.2f} {"', "has braces that name no column"),
        ('columns="{psnr:.2f} {model}"', "rows.csv has no column model of numbers"),
        ('columns="{psnr:.2f} {psnr_clop}"', "rows.csv has no column psnr_clop of numbers"),
        ("columns=clip", "rows.csv has no column clip of numbers"),
        ('title="{nope}"', "title names {nope}; it may name {clips}"),
        ('title="{clips.x}"', "has braces that name no column"),
        ('title="{0}"', "title names {0}"),
    ],
)
def test_what_is_not_there_is_named_with_its_place(page, options, message):
    with pytest.raises(UserError, match=f"README.md, <!-- table rows.csv .*{message}"):
        page(options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model,psnr\n", "rows.csv has no rows"),
        ("name,psnr\na,30\n", "rows.csv has no column model"),
        ("model,psnr\na,30,1\n", "a line of rows.csv has more or fewer cells"),
        ("model,psnr\na,30\nb\n", "a line of rows.csv has more or fewer cells"),
        ("model,psnr\na,30\nb,high\n", "cannot be made of rows.csv .*high"),
    ],
)
def test_a_file_that_no_table_can_be_made_of_gets_a_sentence(tmp_path, content, message):
    (tmp_path / "rows.csv").write_text(content)
    (tmp_path / "README.md").write_text("<!-- table rows.csv -->\n<!-- /table -->")
    with pytest.raises(UserError, match=f"README.md, <!-- table rows.csv -->: .*{message}"):
        refreshed(tmp_path / "README.md")


def test_a_word_among_numbers_spoils_its_column_alone(page):
    rows = [*rows_of("a", 0, fid="unavailable"), *rows_of("b", 1, fid="3.5")]
    assert "| b | **23.00** |" in page("columns=psnr", rows)
    with pytest.raises(UserError, match=r"rows\.csv has no column fid of numbers"):
        page("columns=fid", rows)


def test_degradations_are_not_averaged(page):
    rows = [*rows_of("a", 0), *rows_of("a", 5, degradation="hevc")]
    with pytest.raises(UserError, match=r"choose one degradation=.*: gif, hevc"):
        page("columns=psnr", rows)


def test_what_is_published_of_runs(make_run, tmp_path):
    for seed in (0, 1):
        config = {
            "loss": {"weight": seed},
            "trainer": {"max_steps": 9},
            "init": f"{tmp_path}/x/y.ckpt",
        }
        folder = make_run(
            f"run{seed}",
            [*rows_of("input", 0), *rows_of("a", seed, "l1")],
            seed=seed,
            config=config,
        )
        card = json.loads((folder / "run.json").read_text())
        card |= {"choices": {"loss": "l1", "hydra/env": "default"}, "seconds": 60.0, "steps": 9}
        (folder / "run.json").write_text(json.dumps(card | {"data": {"digest": "abc"}}))
    out = tmp_path / "01_question"
    publish(tmp_path / "runs", out)
    with (out / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["setting"], row["seed"]) for row in rows} == {
        ("", ""),
        ("loss.weight=0", "0"),
        ("loss.weight=1", "1"),
    }
    assert "run" not in rows[0]
    cards = json.loads((out / "runs.json").read_text())["trainings"]
    assert cards["common"]["choices.loss"] == "l1"
    assert cards["common"]["data"] == "abc"
    assert [card["settings.loss.weight"] for card in cards["runs"]] == [0, 1]
    assert "hydra" not in (out / "runs.json").read_text()
    assert str(tmp_path) not in (out / "runs.json").read_text()
    assert (out / "clips_bunny_gif.png").exists()


def test_only_figures_that_the_readme_shows_are_published(make_run, tmp_path):
    make_run("run", rows_of("a", 0, "l1"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("No figure.")
    assert {path.name for path in publish(tmp_path / "runs", tmp_path / "out")} == {
        "rows.csv",
        "runs.json",
    }


def test_rows_that_a_table_cannot_be_made_of_replace_nothing(make_run, tmp_path):
    make_run("run", rows_of("a", 0, "l1"), seed=0)
    out = tmp_path / "out"
    out.mkdir()
    (out / "rows.csv").write_text("as it was", encoding="utf-8")
    (out / "README.md").write_text(
        '<!-- table rows.csv models="nobody" -->\n<!-- /table -->\n', encoding="utf-8"
    )
    with pytest.raises(UserError, match="nobody"):
        publish(tmp_path / "runs", out)
    assert {path.name for path in out.iterdir()} == {"README.md", "rows.csv"}
    assert (out / "rows.csv").read_text(encoding="utf-8") == "as it was"
