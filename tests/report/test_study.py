"""The study: what the page shows and hides, what a rater's clicks become, what a CSV says."""

import base64
import io
import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unlossy import cli
from unlossy.errors import UserError
from unlossy.report.saved_frames import SavedFrames
from unlossy.report.study import COLUMNS, Fooled, read_answers, write_study

CLIP = 'shots/"one", <two>'  # what a name can do to HTML, JSON and CSV
RATER = Path(__file__).with_name("rate_study.js")


@pytest.fixture
def run(tmp_path):
    """A run whose clean frames are even and whose generated ones are odd throughout."""
    saved = SavedFrames(tmp_path / "run" / "frames")
    for clip in ("a/1", CLIP):
        frames = torch.randint(0, 128, (4, 3, 8, 8), dtype=torch.uint8) * 2
        for label, shown in (("clean", frames), ("input", frames + 1), ("toy:t1", frames + 1)):
            saved.write(label, clip, 0, shown[:3])
            saved.write(label, clip, 3, shown[3:])
    return tmp_path / "run"


def study_of(page: Path) -> dict:
    (found,) = re.findall(r"^const study = (\{.*\});$", page.read_text(encoding="utf-8"), re.M)
    return json.loads(found)


def is_clean(picture: str) -> bool:
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))
    parities = set((pixels % 2).flatten().tolist())
    assert len(parities) == 1
    return parities == {0}


def test_the_key_tells_the_clean_side_and_nothing_else_does(run, tmp_path):
    page = write_study(run, "toy:t1", tmp_path / "study.html", pairs=8)
    study = study_of(page)
    assert study["made"] == "toy:t1"
    for pair in study["pairs"]:
        left, right = (is_clean(picture) for picture in pair["pictures"])
        assert left != right
        assert left == (bin(pair["key"]).count("1") % 2 == 1)
        assert set(pair) == {"clip", "pictures", "key"}
    names = [pair["clip"] for pair in study["pairs"]]
    clips = ("a_1", CLIP.replace("/", "_"))
    assert sorted(names) == sorted(f"{clip}/{k:04d}" for clip in clips for k in range(4))


def test_a_seed_draws_pairs_order_and_sides_and_repeats_itself(run, tmp_path):
    def drawn(seed, pairs=6):
        return study_of(write_study(run, "toy:t1", tmp_path / "s.html", pairs, seed))["pairs"]

    assert drawn(0) == drawn(0)
    orders = [[pair["clip"] for pair in drawn(seed)] for seed in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert all(len(set(order)) == 6 for order in orders)
    sides = [is_clean(p["pictures"][0]) for seed in range(8) for p in drawn(seed, 8)]
    assert 16 < sum(sides) < 48  # of 64


class Tags(HTMLParser):
    """Gathers the start tags, and refuses an end tag that nothing opened."""

    VOID = ("meta", "img", "input", "br")

    def __init__(self):
        super().__init__()
        self.tags, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(run, tmp_path):
    text = write_study(run, "toy:t1", tmp_path / "s.html", 8).read_text(encoding="utf-8")
    parser = Tags()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    assert not [attrs for _, attrs in parser.tags if {"src", "href", "action"} & set(attrs)]
    assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttp|sendBeacon", text)
    (policy,) = (attrs["content"] for _, attrs in parser.tags if "http-equiv" in attrs)
    assert "default-src 'none'" in policy
    assert text.count("<script") == text.count("</script>") == 1
    (data,) = (line for line in text.splitlines() if line.startswith("const study"))
    assert "two" in data
    assert "<" not in data  # which could end the script, or hide its end
    ids = [attrs["id"] for _, attrs in parser.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'element\("(\w+)"\)', text)) <= set(ids)
    assert parser.tags[0] == ("html", {"lang": "en"})


def rate(page: Path, answers: list[str]) -> dict[str, str]:
    if (node := shutil.which("node")) is None:
        pytest.skip("no node to run the page's script with")
    command = [node, str(RATER), str(page), ",".join(answers)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


def test_answers_become_a_csv_that_is_read_back(run, tmp_path):
    page = write_study(run, "toy:t1", tmp_path / "s.html", 8)
    clean = ["left" if is_clean(p["pictures"][0]) else "right" for p in study_of(page)["pairs"]]
    wrong = {"left": "right", "right": "left"}
    told = [wrong[side] if k in (1, 4, 5) else side for k, side in enumerate(clean)]
    rated = rate(page, told)
    assert "3 of 8 pairs: 37.5 % (95 % interval 13.7 % to 69.4 %)" in rated["result"]
    assert rated["width"] == "160px"  # 5 x 32 pixels in a frame of 170
    assert re.fullmatch(r"answers_toy_t1_\d{14}\.csv", rated["file"])
    assert rated["csv"] == rated["text"]
    (tmp_path / "answers.csv").write_text(rated["csv"], encoding="utf-8", newline="")
    assert read_answers([tmp_path / "answers.csv"] * 2) == [Fooled("toy:t1", 6, 16)]
    assert rated["csv"].splitlines()[0] == ",".join(COLUMNS)
    assert rated["csv"].count('""one"", <two>/000') == 4


def test_a_rater_may_stop(run, tmp_path):
    page = write_study(run, "toy:t1", tmp_path / "s.html", 8)
    rated = rate(page, ["left", "left"])
    assert "of 2 pairs" in rated["result"]
    assert len(rated["csv"].splitlines()) == 3
    assert "nothing to return" in rate(page, [])["result"]


def write_csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n", encoding="utf-8-sig")
    return path


def test_several_raters_add_up_per_model(tmp_path):
    one = write_csv(tmp_path / "1.csv", "1,a,clean,m,left,0,900", "2,b,m,clean,left,1,800")
    two = write_csv(tmp_path / "2.csv", "1,a,clean,m,right,1,90", "1,c,clean,n,left,0,50")
    found = read_answers([one, two])
    assert found == [Fooled("m", 2, 3), Fooled("n", 0, 1)]
    assert str(found[0]).startswith("m: 66.7% fooled, 2 of 3 answers (95 % interval 20.8% to 93.9")


def test_the_interval_is_wilsons():
    z, n, p = 1.959964, 150, 41 / 150
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert Fooled("m", 41, 150).interval == pytest.approx((middle - half, middle + half), abs=1e-6)


def test_what_is_no_answer_is_refused(tmp_path):
    (tmp_path / "rows.csv").write_text("model,psnr\nx,30\n")
    refused = {
        "lacks the columns pair": tmp_path / "rows.csv",
        "Cannot read": tmp_path / "nowhere.csv",
        "line 3 is no answer": write_csv(
            tmp_path / "a.csv", "1,a,clean,m,left,0,9", "2,b,clean,m,up,0,9"
        ),
        "line 2 is no answer": write_csv(tmp_path / "b.csv", "1,a,m,m,left,0,9"),
        "No answer is in": write_csv(tmp_path / "c.csv"),
    }
    for words, path in refused.items():
        with pytest.raises(UserError, match=words):
            read_answers([path])


def test_what_cannot_be_asked_is_refused(run, tmp_path):
    out = tmp_path / "s.html"
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        ((tmp_path / "empty", "toy:t1", out), "save=true"),
        ((tmp_path / "nowhere", "toy:t1", out), "save=true"),
        ((run, "toy", out), "it has input, toy:t1"),
        ((run, "clean", out), "no saved frames of clean"),
        ((run, "toy:t1", out, 9), "choose 1 to 8"),
        ((run, "toy:t1", out, 0), "choose 1 to 8"),
        ((run, "toy:t1", tmp_path / "s.pdf"), "end in .html"),
        ((run, "toy:t1", tmp_path / "nowhere" / "s.html", 8), "Cannot write the study"),
    ):
        with pytest.raises(UserError, match=words):
            write_study(*arguments)
    assert not out.exists()


def test_the_door_writes_asks_the_proxy_and_counts(run, tmp_path, monkeypatch, capsys):
    def report(*arguments):
        monkeypatch.setattr(sys, "argv", ["report", *map(str, arguments)])
        cli.report()
        return capsys.readouterr().out.strip()

    page = tmp_path / "s.html"
    options = ["--of", "input", "--pairs", 5, "--seed", 3]
    assert report(run, "--study", page, *options) == str(page)
    by_hand = write_study(run, "input", tmp_path / "t.html", 5, 3)
    assert page.read_bytes() == by_hand.read_bytes()
    answers = [write_csv(tmp_path / f"{k}.csv", f"1,a,clean,m{k},right,1,90") for k in range(2)]
    assert [line.split()[:2] for line in report("--answers", *answers).splitlines()] == [
        ["m0:", "100.0%"],
        ["m1:", "100.0%"],
    ]
    monkeypatch.setattr("unlossy.metrics.two_sample.fooled_proxy", lambda *_, **__: 0.25)
    assert report(run, "--proxy", "--of", "input").startswith(
        "input: fooled_proxy 25.0% of 8 pairs"
    )
    for arguments in (["--study", page], ["--proxy"], ["--proxy", "--of", "x"]):
        with pytest.raises(SystemExit) as ended:
            report(run, *arguments)
        assert ended.value.code == 2
