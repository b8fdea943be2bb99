"""The gallery that a test leaves: pixels of the right frames, whatever clip and model are."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from unlossy.errors import UserError
from unlossy.metrics.suite import VideoScores
from unlossy.models.baselines import Identity
from unlossy.models.model import EnhancementModel
from unlossy.report.gallery import Exhibit, read_gallery
from unlossy.sample import Clip, Restored, Sample
from unlossy.training import gallery as galleries
from unlossy.training.gallery import Gallery, Views, exhibited
from unlossy.training.scoring import Strips, score


class Brighter(EnhancementModel):
    """Two outputs in windows of three frames: every pixel 2 and 5 levels brighter."""

    outputs = ("early", "late")
    pictures = ("mask",)
    window = 3

    def forward(self, batch: Sample) -> Restored:
        return Restored(estimate=batch["degraded"], extras={})

    def restore_all(self, batch, *, generator=None, samples=1):
        frames = batch["degraded"]
        return {
            "early": frames + 2 / 255,
            "late": frames + 5 / 255,
            "mask": torch.ones_like(frames),
        }


def whole(
    frames: int = 7, factor: int = 1, scale: int = 1, channels: int = 3, width: int = 24
) -> Sample:
    """A clip of noise in [0, 200], of which every factor-th frame, and pixel, was kept."""
    noise = torch.Generator().manual_seed(frames)
    size = (1, frames, channels, 16, width)
    clean = torch.randint(0, 200, size, dtype=torch.uint8, generator=noise)
    times = torch.arange(frames)[None].float()
    return Sample(
        name=["film/one"],
        degraded=clean[:, ::factor, :, ::scale, ::scale].contiguous(),
        clean=clean,
        t_in=times[:, ::factor],
        t_out=times,
        side={},
        target={},
        bits=torch.tensor([48.0]),
    )


def hung(folder: Path, sample: Sample, model: EnhancementModel, labels=("input",)) -> Exhibit:
    """Score one clip as a test does, and return what its gallery reads back."""
    _, frames, _, height, width = sample["clean"].shape
    clips = [Clip(sample["name"][0], frames, height, width, "film")]
    gallery = Gallery(folder, clips, "gif", labels)
    scores = VideoScores(None)
    strips = Strips(folder / "panels", [], [], every=99)
    models = {"input": Identity(height // sample["degraded"].shape[3])}
    models |= {} if isinstance(model, Identity) else {"ours": model}
    rows = score(
        models, [sample], scores, scores.start_set(), strips, None, torch.device("cpu"), 0, gallery
    )
    assert len(list(rows)) >= 1
    gallery.write_index()
    (exhibit,) = read_gallery(folder)
    return exhibit


def pixels(path: Path) -> Tensor:
    """(3, H, W), as a program of ours that never wrote it sees it."""
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)


def test_stills_and_rows_keep_their_pixels_through_windows_and_outputs(tmp_path):
    sample = whole(frames=7)
    exhibit = hung(tmp_path, sample, Brighter(), ["input", "ours:early", "ours:late"])
    assert [shown.label for shown in exhibit.outputs] == [
        "input", "ours:early", "ours:late", "clean",
    ]  # fmt: skip
    told = (exhibit.clip, exhibit.source, exhibit.degradation)
    assert told == ("film/one", "film", "gif")
    assert (exhibit.width, exhibit.height, exhibit.frames, exhibit.row) == (24, 16, 7, 8)
    clean = sample["clean"][0]
    for shown, added in zip(exhibit.outputs, (0, 2, 5, 0), strict=True):
        assert torch.equal(pixels(shown.still), clean[3] + added)
        for t in range(7):
            assert torch.equal(pixels(shown.rows)[:, t], clean[t, :, 8] + added)
        assert Image.open(shown.film).size == (5 * 144 + 4 * 4, 96)  # enlarged 6 times
    # 20 log10(255 / 2), 20 log10(255 / 5)
    assert [shown.psnr for shown in exhibit.outputs] == [
        None, pytest.approx(42.110, abs=1e-3), pytest.approx(34.151, abs=1e-3), None,
    ]  # fmt: skip


def test_files_stay_inside_the_gallery_and_have_plain_names(tmp_path):
    hung(tmp_path, whole(), Brighter(), ["input", "ours:late"])
    names = sorted(path.name for path in (tmp_path / "gallery" / "film_one").iterdir())
    kinds = ("film", "rows", "still")
    outputs = ("clean", "input", "ours_late")
    assert names == [f"{label}.{kind}.webp" for label in outputs for kind in kinds]
    index = json.loads((tmp_path / "gallery" / "index.json").read_text())
    assert index["exhibits"][0]["outputs"][2]["rows"] == "film_one/clean.rows.webp"


def test_dropped_frames_are_what_is_looked_at_and_the_input_holds(tmp_path):
    sample = whole(frames=9, factor=2)  # 0 2 4 6 8 are kept, 1 3 5 7 are not
    exhibit = hung(tmp_path, sample, Identity())
    held, clean = exhibit.outputs
    frames = sample["clean"][0]
    assert torch.equal(pixels(clean.still), frames[5])
    assert torch.equal(pixels(held.still), frames[4])
    assert 0 < held.psnr < 20
    rows = pixels(held.rows)
    for t, nearest in enumerate([0, 0, 2, 2, 4, 4, 6, 6, 8]):  # of equally near ones the first
        assert torch.equal(rows[:, t], frames[nearest, :, 8])
    assert Image.open(held.film).width == 4 * 144 + 3 * 4


@pytest.mark.parametrize(("frames", "still"), [(1, 0), (2, 1), (3, 1), (11, 5)])
def test_short_clips_have_short_films(frames, still, tmp_path):
    exhibit = hung(tmp_path, whole(frames=frames), Identity())
    clean = exhibit.outputs[-1]
    assert torch.equal(pixels(clean.still), whole(frames=frames)["clean"][0, still])
    shown = min(frames, 5)
    assert Image.open(clean.film).width == shown * 144 + (shown - 1) * 4
    assert Image.open(clean.rows).size == (24, frames)
    assert exhibit.row_height == math.ceil(96 / frames)


def test_a_small_input_is_shown_enlarged(tmp_path):
    sample = whole(scale=4)
    shown = hung(tmp_path, sample, Identity()).outputs[0]
    still, small = pixels(shown.still), sample["degraded"][0, 3]
    assert still.shape == (3, 16, 24)
    assert torch.equal(still[:, 3::4, 1::4], small)


def test_digits_of_one_channel_are_grey(tmp_path):
    sample = whole(channels=1)
    still = pixels(hung(tmp_path, sample, Identity()).outputs[0].still)
    assert torch.equal(still, sample["clean"][0, 3].expand(3, -1, -1))


def test_a_film_is_averaged_down_in_the_order_of_time(tmp_path):
    sample = whole(frames=10, width=320)
    sample["clean"] = torch.arange(10, dtype=torch.uint8).view(1, 10, 1, 1, 1) * 20
    sample["clean"] = sample["clean"].expand(1, 10, 3, 16, 320).contiguous()
    sample["degraded"] = sample["clean"]
    film = pixels(hung(tmp_path, sample, Identity()).outputs[0].film).float()
    assert film.shape == (3, 8, 816)
    tones = [film[:, :, k * 164 : k * 164 + 160].mean().item() for k in range(5)]
    assert tones == pytest.approx([20, 60, 100, 140, 180], abs=3)  # 1 3 5 7 9


def test_no_window_is_held():
    """What a clip takes while it waits: its rows, and of whole frames only the still."""
    sample = whole(frames=40, width=64)
    views = Views(["ours"], sample, range(40))
    window = sample["clean"][0]
    views.add("ours", 0, window)
    held = [*views._rows.values(), *views._stills.values()]
    assert sum(tensor.untyped_storage().nbytes() for tensor in held) == 3 * 64 * (40 + 16)
    assert all(t.untyped_storage().data_ptr() != window.untyped_storage().data_ptr() for t in held)


def clip(number: int, frames: int, source: str = "film") -> Clip:
    return Clip(f"{source}/{number}", frames, 16, 24, source)


def test_clips_are_the_longest_of_each_sixth_of_every_source():
    film = [clip(k, frames=1 + k % 5) for k in range(30)]
    live = [clip(k, frames=9, source="live") for k in range(4)]
    chosen = exhibited([*film[:20], *live, *film[20:]])
    assert [c.name for c in chosen] == [f"film/{k}" for k in (4, 9, 14, 19, 24, 29)] + [
        f"live/{k}" for k in range(4)
    ]
    assert exhibited(chosen) == chosen


def test_clips_that_are_not_shown_leave_nothing(tmp_path):
    crowd = [clip(k, frames=9) for k in range(6)]
    sample = whole()
    gallery = Gallery(tmp_path, [*crowd, clip(6, frames=7)], "gif", ["input"])
    views = gallery.views(sample, range(7))
    views.add("input", 0, sample["clean"][0])
    gallery.add(sample, views)
    gallery.write_index()
    assert list(tmp_path.iterdir()) == []


def test_ranks_write_their_own_clips_and_the_first_one_the_index(tmp_path, monkeypatch):
    samples = [Sample(**{**whole(), "name": [f"film/{k}"]}) for k in range(3)]
    clips = [clip(k, frames=7) for k in range(3)]
    ranks = [Gallery(tmp_path, clips, "gif", ["input"]) for _ in range(2)]
    for number in (1, 0, 2):
        gallery, sample = ranks[number % 2], samples[number]
        views = gallery.views(sample, range(7))
        views.add("input", 0, sample["clean"][0])
        gallery.add(sample, views)
    every = [entry for gallery in ranks for entry in gallery._entries]
    monkeypatch.setattr(galleries, "gathered", lambda _: every)
    monkeypatch.setattr(galleries, "first_rank", lambda: False)
    ranks[1].write_index()
    assert read_gallery(tmp_path) == []
    monkeypatch.setattr(galleries, "first_rank", lambda: True)
    ranks[0].write_index()
    assert [exhibit.clip for exhibit in read_gallery(tmp_path)] == [c.name for c in clips]


def test_large_stills_are_lossy_and_their_rows_are_not(tmp_path):
    sample = whole(frames=2, width=648)
    shown = hung(tmp_path, sample, Identity()).outputs[-1]
    assert not torch.equal(pixels(shown.still), sample["clean"][0, 1])
    assert torch.equal(pixels(shown.rows)[:, 1], sample["clean"][0, 1, :, 8])


def test_a_disk_that_refuses_is_told(tmp_path):
    (tmp_path / "gallery").write_text("in the way")
    with pytest.raises(UserError, match=r"Cannot write pictures into .*gallery"):
        hung(tmp_path, whole(), Identity())
