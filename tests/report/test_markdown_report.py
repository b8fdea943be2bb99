"""The Markdown report: every part is there, every link leads to a picture that says so."""

import csv
import json
import re

import numpy as np
import pytest
import torch
from made_rows import make_row
from PIL import Image

from unlossy.errors import UserError
from unlossy.report import write_report
from unlossy.report.pictures import AMPLIFY, MARGIN, TEXT, strip
from unlossy.report.plots import LONGEST, metrics_of, plot_clips, read_curves

METRICS = """step,name,value
1,train/total,0.5
2,val/psnr,30.0
2,val/ssim,0.9
4,val/psnr,31.0
4,val/ssim,0.91
"""


def _rows(gain):
    clips = {"a": 30.0, "b": 35.0}
    return [
        *(make_row("input", clip, psnr) for clip, psnr in clips.items()),
        *(make_row("nlmeans", clip, psnr + 0.1) for clip, psnr in clips.items()),
        *(make_row("ccdnet", clip, psnr + gain, loss="grad") for clip, psnr in clips.items()),
    ]


def test_report_has_tables_plots_and_pictures(make_run, tmp_path):
    for seed in range(2):
        folder = make_run(f"run{seed}", _rows(1.0 + seed), seed=seed, metrics=METRICS)
        (folder / "panels" / "test").mkdir(parents=True)
        sets = {"fd_vgg16": 2.0 + seed, "frames_vgg16": 20, "fid": "unavailable", "frames_fid": 0}
        (folder / "summary.json").write_text(json.dumps({"ccdnet": sets, "input": {}}))
        Image.new("RGB", (8, 8)).save(folder / "panels" / "val_00010_000002.png")
        for clip in range(7):
            picture = Image.new("RGB", (8, 8), (seed, clip, 0))
            picture.save(folder / "panels" / "test" / f"shot_{clip:05d}.png")
    page = write_report(tmp_path / "runs", tmp_path / "out")
    text = page.read_text()
    assert "36.00 ± 0.71" not in text  # the mean over clips is 32.5 + gain
    assert "**34.00 ± 0.71**" in text
    assert "| ccdnet grad | gif | 2.5 ± 0.71 | 20 | unavailable | 0 |" in text
    links = re.findall(r"!\[.*?\]\((.*?)\)", text)
    strips = [f"panel_ccdnet-grad_shot-{clip:05d}.png" for clip in (0, 3, 6)]
    assert {"steps.png", "clips_bunny_gif.png", *strips} == set(links)
    assert all(Image.open(page.parent / link).size > (4, 4) for link in links)
    assert Image.open(page.parent / strips[1]).getpixel((0, 0)) == (1, 3, 0)  # of the newest run
    with (page.parent / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["model"] for line in lines] == ["input", "nlmeans", "ccdnet"]
    assert float(lines[2]["psnr_seeds_std"]) == pytest.approx(0.5**0.5)


def test_flicker_has_a_section_where_it_was_measured(make_run, tmp_path):
    folder = make_run("run", _rows(1.0))
    assert "## Flicker" not in write_report(tmp_path / "runs", tmp_path / "out").read_text()
    header, *lines = (folder / "rows.csv").read_text().splitlines()
    widened = [f"{header},tof,psnr_std", *(f"{line},0.25,1.5" for line in lines)]
    (folder / "rows.csv").write_text("\n".join(widened))
    text = write_report(tmp_path / "runs", tmp_path / "out").read_text()
    assert text.index("## Flicker") > text.index("### bunny, gif")
    assert "| input | **0.250** |" in text


def test_an_unwritable_place_gets_a_sentence(make_run, tmp_path):
    make_run("run", _rows(1.0))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write the report"):
        write_report(tmp_path / "runs", tmp_path / "file" / "out")


def test_curves_take_the_last_of_a_repeated_step_and_pass_over_a_cut_line(tmp_path):
    (tmp_path / "metrics.csv").write_text(METRICS + "4,val/psnr,32.0\n6,val/ps")
    curves = read_curves(tmp_path)
    assert curves == {
        "val/psnr": [(2.0, 30.0), (4.0, 32.0)],
        "val/ssim": [(2.0, 0.9), (4.0, 0.91)],
    }


def test_metrics_are_drawn_in_the_order_of_their_titles_and_others_behind():
    runs = [("a", {"val/z": [], "val/lpips_alex": []}), ("b", {"val/b": [], "val/psnr": []})]
    assert metrics_of(runs) == ["val/psnr", "val/lpips_alex", "val/b", "val/z"]
    assert metrics_of([]) == []


def test_long_names_of_clips_do_not_squeeze_the_bars(tmp_path):
    def height(clip):
        plot_clips({"ccdnet": {clip: 1.0}}, tmp_path / "a.png")
        return Image.open(tmp_path / "a.png").height

    assert height("00010") < height("n" * LONGEST) == height("n" * 200)


def test_strip_shows_frames_unchanged_over_their_amplified_difference(tmp_path):
    clean = torch.randint(0, 200, (3, 20, 160), dtype=torch.uint8)
    changed = clean.clone()
    changed[0, 3, 5] += 10
    strip({"input": changed, "same": clean}, clean, tmp_path / "strip.png")
    sheet = np.asarray(Image.open(tmp_path / "strip.png"))
    top, step = TEXT + 2 * MARGIN, 2 * 160 + MARGIN
    for place, frame in enumerate([changed, clean, clean]):
        left = MARGIN + place * step
        shown = sheet[top : top + 40 : 2, left : left + 320 : 2]
        assert np.array_equal(shown, frame.permute(1, 2, 0).numpy())
    below = top + 40 + TEXT + 2 * MARGIN
    difference = sheet[below : below + 40 : 2, MARGIN : MARGIN + 320 : 2]
    assert difference[3, 5].tolist() == [10 * AMPLIFY, 0, 0]
    assert difference.sum() == 10 * AMPLIFY


def test_strip_draws_pictures_without_comparing_them(tmp_path):
    clean = torch.randint(0, 200, (3, 20, 160), dtype=torch.uint8)
    strip({"same": clean}, clean, tmp_path / "strip.png", {"mask": clean.flip(0)})
    sheet = np.asarray(Image.open(tmp_path / "strip.png"))
    top, left = TEXT + 2 * MARGIN, MARGIN + 2 * 160 + MARGIN
    shown = sheet[top : top + 40 : 2, left : left + 320 : 2]
    assert np.array_equal(shown, clean.flip(0).permute(1, 2, 0).numpy())
    assert (sheet[top + 40 :, left : left + 320] == 255).all()


def test_strip_refuses_frames_of_another_shape(tmp_path):
    clean = torch.zeros(3, 4, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match="'input' is"):
        strip({"input": clean[:, :2]}, clean, tmp_path / "strip.png")
