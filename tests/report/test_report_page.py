"""The page as text: what it holds, that nothing in it can break it, and that it is honest."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from made_gallery import COLORS, write_gallery
from made_rows import make_row
from PIL import Image

from unlossy import cli
from unlossy.errors import UserError
from unlossy.report import write_page
from unlossy.report.markup import Markup, element, joined
from unlossy.report.page import HERE
from unlossy.report.page_gallery import BUDGET, gallery
from unlossy.report.page_pairs import BAR, pairs
from unlossy.report.paired import Comparison
from unlossy.report.rows import collect, find_runs

NASTY = "</script><img src=x onerror=alert(1)> & \"Ärger'"
VOID = {"meta", "img", "input"}
FIXED = (("input", "", 0.0), ("nlmeans", "", 0.1))
METRICS = "step,name,value\n2,val/psnr,30.0\n4,val/psnr,31.0\n"


class Tree(HTMLParser):
    """Every element with its attributes and own text, in order; refuses what is not balanced."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        entry = {"tag": tag, "text": "", "within": tuple(e["tag"] for e in self.open)}
        entry |= {key: value or "" for key, value in attributes}
        self.elements.append(entry)
        if tag not in VOID:
            self.open.append(entry)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for entry in self.open:
            entry["text"] += data

    def all(self, tag):
        return [entry for entry in self.elements if entry["tag"] == tag]


def _rows(gain, degradation="gif", clips=("a", "b"), **more):
    return [
        make_row(model, clip, 30.0 + place + added, loss=loss, degradation=degradation, **more)
        for place, clip in enumerate(clips)
        for model, loss, added in (*FIXED, ("ccdnet", "grad", gain))
    ]


@pytest.fixture
def nasty(make_run, tmp_path):
    """A page with everything on it, whose names try to get out."""
    config = {
        "seed": 0,
        "model": {"steps": NASTY},
        "source": {"shots": [[1, 2]]},
        "data": {"source": {"shots": [[1, 2]]}, "batch": 8},
    }
    for seed in range(2):
        folder = make_run(
            f"run{seed}", _rows(1.0 + seed, clips=(NASTY, "b")), seed=seed, metrics=METRICS
        )
        card = json.loads((folder / "run.json").read_text()) | {
            "config": config | {"seed": seed},
            "choices": {"model": "ccdnet", "trainer": "tiny", "logger": NASTY, "local": "default"},
            "git": f"abc{seed}",
            "started": f"2026-11-2{seed}T10:00:00+00:00",
            "versions": {"torch": "2.13"},
            "data": {"digest": "d1ge57"},
        }
        (folder / "run.json").write_text(json.dumps(card))
        write_gallery(folder, [NASTY, "b"], ["ccdnet"], color=(0, 100 + seed, 0))
    header = "job,status,objective,run,seconds,error,loss\n"
    jobs = f'1,finished,33.5,r,12,,grad\n2,failed,,,3,"{NASTY.replace(chr(34), chr(34) * 2)}",gan\n'
    (tmp_path / "runs" / "sweep.csv").write_text(header + jobs)
    return write_page(tmp_path / "runs", tmp_path / "out").read_text()


def test_no_name_gets_out_and_every_element_is_closed(nasty):
    tree = Tree(nasty)
    assert not [e for e in tree.elements if "onerror" in e or e.get("src") == "x"]
    assert len(tree.all("script")) == 2
    told = {e["tag"] for e in tree.elements if NASTY in e["text"]}
    assert {"th", "td", "h3", "dd"} <= told  # clip, error, exhibit, card


def test_plain_text_is_escaped_unless_it_was_made_as_markup():
    assert element("td", "a < b", title='"') == '<td title="&quot;">a &lt; b</td>'
    assert element("p", element("b", "x"), class_="n", hidden=None) == '<p class="n"><b>x</b></p>'
    assert joined([f"{element('b', 'x')}", Markup("<i>")]) == "&lt;b&gt;x&lt;/b&gt;<i>"


def test_only_its_own_scripts_may_run_and_nothing_may_be_asked_for(nasty):
    policy = next(m["content"] for m in Tree(nasty).all("meta") if "http-equiv" in m)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    scripts = re.findall(r"<script>(.*?)</script>", nasty, re.DOTALL)
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    assert rules["script-src"] == " ".join(
        f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests
    )
    links = [e["href"] for e in Tree(nasty).all("a")]
    assert links
    assert all(link.startswith("#") for link in links)


def test_landmarks_headings_labels_and_anchors(nasty):
    tree = Tree(nasty)
    for landmark in ("header", "nav", "main", "footer", "h1"):
        assert len(tree.all(landmark)) == 1, landmark
    levels = [int(e["tag"][1]) for e in tree.elements if re.fullmatch(r"h[1-6]", e["tag"])]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [e["id"] for e in tree.elements if "id" in e]
    assert len(ids) == len(set(ids))
    assert {e["href"][1:] for e in tree.all("a")} <= set(ids)
    assert all(e.get("alt") for e in tree.all("img"))
    for control in [*tree.all("select"), *tree.all("input")]:
        assert "label" in control["within"] or control.get("aria-label"), control
    assert all(e["scope"] in ("col", "row") for e in tree.all("th"))
    assert len(tree.all("caption")) == len(tree.all("table")) > 0


def test_without_a_script_all_is_there_and_nothing_hidden(nasty):
    tree = Tree(nasty)
    assert not [e for e in tree.elements if "hidden" in e]
    assert len(tree.all("svg")) > 3
    assert len([e for e in tree.all("img") if e["src"].startswith("data:image/webp")]) == 18


def test_the_same_runs_make_the_same_file(nasty, tmp_path):
    again = write_page(tmp_path / "runs", tmp_path / "again").read_text()
    assert again == nasty
    assert "newest run 2026-11-21 10:00" in nasty
    assert "revisions abc0, abc1" in nasty


def test_results_by_hand_with_spread_best_and_noise(make_run, tmp_path):
    for seed in range(2):
        ours = _rows(1.0 + seed)
        theirs = [row | {"model": "vrcnn"} for row in _rows(1.1 + seed) if row["loss"]]
        make_run(f"run{seed}", [*ours, *theirs], seed=seed)
    page = write_page(tmp_path / "runs", tmp_path / "out").read_text()
    table = page[page.index('id="results"') :]
    body = re.sub(r"<[^>]*>", "|", table[: table.index("</table>")])
    # The mean over clips is 30.5 + gain; gains differ by 1 between seeds: s = 0.71.
    order = re.findall(r"(vrcnn|ccdnet|nlmeans|input)\|", body)
    assert order == ["vrcnn", "ccdnet", "nlmeans", "input"]
    assert "<strong>32.10 ± 0.71</strong>" in table
    assert '32.00 ± 0.71<abbr title="within noise of the best"> ~</abbr>' in table
    assert 'aria-sort="descending"' in table


def test_several_degradations_make_a_matrix_for_every_metric(make_run, tmp_path):
    make_run("gif", _rows(1.0))
    make_run("hevc", _rows(2.0, degradation="hevc", bpp=0.1))
    page = write_page(tmp_path / "runs", tmp_path / "out").read_text()
    part = page[page.index('data-metric="psnr"') : page.index('data-metric="gain"')]
    assert re.findall(r'aria-sort="(\w+)"[^>]*>(\w+)<', part) == [("descending", "gif")]
    assert re.findall(r">(gif|hevc)</th>", part) == ["gif", "hevc"]
    line = part[part.index(">ccdnet<") :]
    assert re.findall(r"<strong>(.*?)</strong>", line[: line.index("</tr>")]) == ["31.50", "32.50"]
    assert "against rate" in page


def test_a_filter_that_is_the_best_of_no_medium_is_not_drawn_against_rate(make_run, tmp_path):
    others = {"gif": (1.2, 1.0, 1.1), "hevc": (1.0, 1.2, 1.1)}
    for medium, gains in others.items():
        filters = [
            make_row(
                model, clip, 30.0 + gain, degradation=medium, bpp=0.1, lpips_alex=0.5 - gain / 5
            )
            for clip in "ab"
            for model, gain in zip(("undither", "deblock", "gaussian"), gains, strict=True)
        ]
        make_run(medium, [*_rows(2.0, degradation=medium, bpp=0.1), *filters])
    page = write_page(tmp_path / "runs", tmp_path / "out").read_text()
    chart = page[page.index("against rate") : page.index("what every clip gained")]
    models = ("ccdnet", "input", "undither", "deblock", "gaussian")
    assert [name in chart for name in models] == [True, True, True, True, False]


def test_against_rate_the_best_filter_of_each_metric_is_drawn(make_run, tmp_path):
    scores = {"undither": (1.2, 0.3), "nlmeans": (1.0, 0.1), "gaussian": (0.5, 0.2)}
    for medium in ("gif", "hevc"):
        filters = [
            make_row(model, clip, 30.0 + gain, degradation=medium, lpips_alex=lpips)
            for clip in "ab"
            for model, (gain, lpips) in scores.items()
        ]
        others = [row for row in _rows(2.0, degradation=medium) if row["model"] != "nlmeans"]
        make_run(medium, [*others, *filters])
    page = write_page(tmp_path / "runs", tmp_path / "out").read_text()
    page = page[page.index("against rate") : page.index("what every clip gained")]
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    drawn = [[model for model in scores if model in chart] for chart in charts]
    assert drawn == [["undither"], ["nlmeans"]]


def test_the_matrix_stands_best_first_in_its_first_column(make_run, tmp_path):
    make_run("gif", _rows(1.0))
    make_run("alone", [row | {"model": "vrcnn"} for row in _rows(3.0) if row["loss"]])
    make_run("hevc", _rows(2.0, degradation="hevc"))
    page = write_page(tmp_path / "runs", tmp_path / "out").read_text()
    part = page[page.index('data-metric="psnr"') : page.index('data-metric="gain"')]
    order = re.findall(r"(vrcnn|ccdnet|nlmeans|input)<", part)
    assert order == ["vrcnn", "ccdnet", "nlmeans", "input"]  # vrcnn has no cell for hevc


def test_an_interval_is_drawn_towards_the_better_one():
    def drawn(column, mean):
        found = Comparison("s", "gif", "A", "B", column, 9, 2, mean, mean - 0.1, mean + 0.1, 0.9)
        html = pairs([found])
        (dot,) = re.findall(r'cx="([\d.]+)"', html)
        (low, high) = re.findall(r'class="interval" x1="([\d.]+)" x2="([\d.]+)"', html)[0]
        assert min(float(low), float(high)) < float(dot) < max(float(low), float(high))
        assert 0 <= float(dot) <= BAR
        return float(dot) - BAR / 2, "certain bar" in html

    assert drawn("psnr", 0.5)[0] > 0
    assert drawn("lpips_alex", 0.5)[0] < 0
    assert drawn("lpips_alex", -0.5)[0] > 0
    assert drawn("psnr", 0.5)[1]
    assert not drawn("psnr", 0.05)[1]


def test_pairs_stand_by_metric_and_then_by_source():
    asked = [("x", "ssim"), ("x", "psnr"), ("y", "ssim"), ("x", "psnr"), ("y", "psnr")]
    html = pairs([Comparison(s, "gif", "A", "B", c, 9, 1, 1, 1, 1, 0.5) for s, c in asked])
    titles = ["x, gif: PSNR", "y, gif: PSNR", "x, gif: SSIM", "y, gif: SSIM"]
    assert re.findall(r"<h3>(.*?) \(", html) == titles
    assert re.findall(r'<option value="(psnr|ssim)"', html) == ["psnr", "ssim"]


def test_of_many_pairs_those_with_the_best_are_shown(monkeypatch):
    monkeypatch.setattr("unlossy.report.page_pairs.MOST_PAIRS", 2)
    made = [("A", "B", 0.5), ("A", "C", -0.5), ("B", "C", -1.0)]
    html = pairs([Comparison("s", "gif", a, b, "psnr", 9, 1, m, m, m, 0.5) for a, b, m in made])
    assert "Of 3 pairs, those with the best in this metric: C." in html
    assert html.count('scope="row"') == 2


def _cells(page, section, row):
    """The texts of the cells of the first line of a section that is headed so."""
    body = page[page.index(f'id="{section}"') :]
    line = body[body.index(f">{row}</th>") :]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", line[: line.index("</tr>")])
    return [re.sub(r"<[^>]*>", "", cell) for cell in cells]


def test_models_that_share_only_some_clips(make_run, tmp_path):
    """Neither ranked by their means nor called exact where they have none; compared where both."""
    make_run("both", [row for row in _rows(2.0) if row["model"] != "nlmeans"])
    one = [row | {"model": "vrcnn"} for row in _rows(9.0, clips=("a",)) if row["loss"]]
    dead = [row | {"model": "dead", "psnr": float("nan")} for row in _rows(0.0) if row["loss"]]
    kept = [row | {"model": "gan", "psnr": "", "exact": 10} for row in _rows(0.0) if row["loss"]]
    for rows in (one, dead, kept):
        make_run(rows[0]["model"], rows)
    page = write_page(tmp_path / "runs", tmp_path / "out").read_text()
    results = page[page.index('id="results"') : page.index('id="pairs"')]
    assert "<strong>39.00</strong>" not in results
    assert re.findall(r'scope="col"[^>]*>(gif, .*?)</th>', results)[:2] == [
        "gif, 2 clips, 20 frames",
        "gif, 1 clips, 10 frames",
    ]
    # Clips by input, vrcnn, ccdnet, behind frames and bpp; models without a PSNR have no column.
    assert _cells(page, "clips", "b")[2:] == ["31.00", "", "33.00"]
    pair = page[page.index('id="pairs"') :]
    assert "−7.00" in pair[: pair.index("</table>")].replace("-7.00", "−7.00")


def test_exact_is_what_the_medium_kept_not_what_is_missing(make_run, tmp_path):
    rows = _rows(1.0, clips=("a", "b", "c"))
    lost = {("ccdnet", "b"): 0, ("ccdnet", "c"): 10, ("input", "c"): 10, ("nlmeans", "c"): 10}
    for row in rows:
        if (key := (row["model"], row["clip"])) in lost:
            row.update(psnr="", exact=lost[key])
    make_run("run", rows)
    page = write_page(tmp_path / "runs", tmp_path / "out").read_text()
    assert _cells(page, "clips", "b")[2:] == ["31.00", "", "31.10"]
    assert _cells(page, "clips", "c")[2:] == ["exact"] * 3


def test_a_clip_counts_once_whatever_it_went_through(make_run, tmp_path):
    for degradation in ("gif", "hevc", "av1"):
        make_run(degradation, _rows(1.0, degradation=degradation))
    page = write_page(tmp_path / "runs", tmp_path / "out").read_text()
    assert "3 runs · 1 trained recipe · 2 clips · 20 frames" in page


def test_a_page_to_be_sent_tells_no_path_of_the_machine(make_run, tmp_path):
    folder = make_run("run", _rows(1.0))
    root = tmp_path / "runs"
    card = {
        "checkpoint": str(root / "run/2026/checkpoints/best.ckpt"),
        "choices": {"model": "ccdnet"},
        "config": {"source": {"root": "/srv/ann/films"}, "run_root": str(root)},
    }
    (folder / "run.json").write_text(json.dumps(card))
    (root / "sweep.csv").write_text(
        f"job,status,run,error\n1,failed,{folder},Cannot read /srv/ann/films/a.mp4.\n"
    )
    page = write_page(root, tmp_path / "out").read_text()
    assert str(tmp_path) not in page
    assert "/srv/ann" not in page
    assert "eval.py ckpt=run/2026/checkpoints/best.ckpt" in page


def picture(source):
    content = base64.b64decode(source.partition(",")[2])
    return Image.open(io.BytesIO(content)).convert("RGB")


def test_one_clip_of_two_recipes_is_one_exhibit_of_the_newest_runs(make_run, tmp_path):
    for name, loss, color in (("old", "grad", 50), ("new", "grad", 90), ("other", "l1", 120)):
        rows = [row | {"loss": row["loss"] and loss} for row in _rows(1.0)]
        folder = make_run(name, rows, stamp=f"{color:03d}")
        write_gallery(folder, ["a"], ["ccdnet"], color=(0, color, 0))
    root = tmp_path / "runs"
    shown = gallery(collect(root), find_runs(root), root)
    tree = Tree(f"<div>{shown.html}</div>")
    stills = {e["alt"].rpartition(": ")[2]: e for e in tree.all("img") if "one frame" in e["alt"]}
    assert list(stills) == ["input", "ccdnet grad", "ccdnet l1", "clean"]
    greens = [picture(e["src"]).getpixel((0, 0))[1] for e in stills.values()]
    assert greens == [0, 90, 120, 0]
    assert picture(stills["clean"]["src"]).getpixel((3, 3)) == COLORS["clean"]
    assert shown.shown == 1
    assert len(shown.html) > shown.size == sum(len(e["src"]) - 23 for e in tree.all("img"))


def test_pictures_beyond_the_budget_are_left_out_and_named(make_run, tmp_path):
    folder = make_run("run", _rows(1.0, clips=("a", "b", "c")))
    write_gallery(folder, ["a", "b", "c"], ["ccdnet"])
    root = tmp_path / "runs"
    whole = gallery(collect(root), find_runs(root), root)
    part = gallery(collect(root), find_runs(root), root, budget=whole.size - 1)
    assert (part.shown, part.left_out) == (2, ("c (gif)",))
    assert BUDGET < 14e6


def test_a_run_without_gallery_curves_or_card_still_makes_a_page(make_run, tmp_path):
    folder = make_run("run", [row for row in _rows(1.0) if not row["loss"]])
    (folder / "run.json").unlink()
    text = write_page(tmp_path / "runs", tmp_path / "out").read_text()
    present = re.findall(r'<section id="(\w+)"', text)
    assert present == ["results", "clips", "runs"]


def test_failed_jobs_of_a_sweep_are_listed_with_their_error(nasty):
    section = nasty[nasty.index('id="sweeps"') : nasty.index('id="runs"')]
    assert "1 finished, 1 failed" in section
    assert '<strong class="unfinished">failed</strong>' in section
    assert 'data-v="33.5"' in section


def test_a_card_tells_the_command_and_the_whole_configuration_once(nasty):
    section = nasty[nasty.index('id="runs"') :]
    assert "python train.py model=ccdnet trainer=tiny" in section
    assert "seed=1</code>" in section
    assert "local=" not in section
    assert section.index("run1/") < section.index("run0/")  # newest first
    assert "d1ge57" in section
    (first, *_) = re.findall(r"<pre tabindex=\"0\">([^<]*)</pre>", section)
    assert first.count("shots: [[1, 2]]") == 1
    assert "  batch: 8" in first


def luminance(color):
    channels = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", [0, 1])
def test_colors_stand_out_from_their_background(theme):
    """WCAG 2.2 AA: 4.5 to 1 for text, 3 to 1 for marks and edges of controls."""
    style = (HERE / "page.css").read_text()
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", style)
    colors = {name: pair[theme] for name, *pair in found}

    def ratio(name, ground):
        lighter, darker = sorted((luminance(colors[name]), luminance(colors[ground])))[::-1]
        return (lighter + 0.05) / (darker + 0.05)

    for ground in ("paper", "raised"):
        for name in ("ink", "quiet", "accent", "bad"):
            assert ratio(name, ground) >= 4.5, (name, ground)
        for name in ("edge", "better", "worse", *(f"c{k}" for k in range(8))):
            assert ratio(name, ground) >= 3, (name, ground)


def test_an_unwritable_place_gets_a_sentence(make_run, tmp_path):
    make_run("run", _rows(1.0))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write the page"):
        write_page(tmp_path / "runs", tmp_path / "file" / "out")


def test_the_command_makes_both_reports(make_run, tmp_path, monkeypatch, capsys):
    make_run("run", _rows(1.0))
    monkeypatch.setattr("sys.argv", ["report", str(tmp_path / "runs")])
    cli.report()
    made = capsys.readouterr().out.splitlines()
    assert [line.rpartition("/")[2] for line in made] == ["report.md", "index.html"]
