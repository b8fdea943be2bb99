from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unlossy.data.folder import Folder
from unlossy.data.frame_store import check_room
from unlossy.errors import UserError


def picture(value: int, width: int = 12, height: int = 8) -> Image.Image:
    plane = np.full((height, width, 3), value, np.uint8)
    plane[0, 0] = 255 - value
    return Image.fromarray(plane)


def gif(path: Path, frames: int = 4) -> None:
    pictures = [picture(20 * t) for t in range(frames)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=50)


def frame_folder(path: Path, frames: int = 3) -> None:
    path.mkdir(parents=True)
    for t in range(frames):
        picture(10 * t).save(path / f"frame{t + 8}.png")  # 8, 9, 10: not in the order of text


@pytest.fixture
def folder(tmp_path):
    """Twelve clips and a text file."""
    root = tmp_path / "mine"
    for i in range(9):
        gif(root / f"{i}.gif")
    gif(root / "deep" / "inside.gif", 6)
    frame_folder(root / "faces" / "ann")
    picture(99).save(root / "photo.png")
    (root / "notes.txt").write_text("not a clip")
    return root


def every_clip(source: Folder) -> dict[str, list[str]]:
    return {split: [c.name for c in source.clips(split)] for split in ("train", "val", "test")}


def test_videos_gifs_and_frame_folders_are_clips(folder):
    source = Folder(str(folder))
    splits = every_clip(source)
    names = sorted(name for split in splits.values() for name in split)
    digits = [f"{i}.gif" for i in range(9)]
    assert names == [*digits, "deep/inside.gif", "faces/ann", "photo.png"]
    assert all(splits.values())
    frames = {c.name: c.frames for s in splits for c in source.clips(s)}
    assert frames["faces/ann"] == 3
    assert frames["deep/inside.gif"] == 6
    assert frames["photo.png"] == 1
    ann = next(c for s in splits for c in source.clips(s) if c.name == "faces/ann")
    assert source.read(ann, 0, 3)[:, 0, 4, 4].tolist() == [0, 10, 20]
    assert source.read(ann, 1, 1).shape == (1, 3, 8, 12)


def test_what_is_hidden_is_passed_over(folder):
    before = every_clip(Folder(str(folder)))
    gif(folder / ".cache" / "deep" / "a.gif")
    gif(folder / "deep" / ".a.gif")
    frame_folder(folder / ".thumbnails")
    assert every_clip(Folder(str(folder))) == before


@pytest.mark.parametrize("looks", [0, 1])
def test_a_file_that_vanishes_while_the_cache_is_measured(tmp_path, monkeypatch, looks):
    monkeypatch.setenv("UNLOSSY_CACHE", str(tmp_path))
    monkeypatch.setenv("UNLOSSY_CACHE_CAP", "1e-6")  # 1000 bytes
    (tmp_path / "a.npy").write_bytes(bytes(600))
    (tmp_path / "b.part").touch()
    stat, seen = Path.stat, []

    def gone(path, **options):
        if path.suffix == ".part":
            if len(seen) == looks:
                path.unlink()
            seen.append(path)
        return stat(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", gone)
        check_room(400, "frames")
    assert seen
    with pytest.raises(UserError, match="above its cap"):
        check_room(401, "frames")


def test_a_clip_stays_in_its_split_when_files_are_added(folder):
    before = every_clip(Folder(str(folder)))
    for i in range(20, 40):
        gif(folder / f"{i}.gif", 1)
    after = every_clip(Folder(str(folder)))
    assert all(set(before[split]) <= set(after[split]) for split in before)


def test_frames_are_thinned_and_downscaled(folder):
    source = Folder(str(folder), every=2, size=(6, 4), val=0.0, test=1.0)
    clip = next(c for c in source.clips("test") if c.name == "deep/inside.gif")
    assert (clip.frames, clip.height, clip.width) == (3, 4, 6)
    assert source.read(clip, 0, 3)[:, 0, 2, 2].tolist() == [0, 40, 80]
    assert source.clips("train") == source.clips("val") == []


def test_lists_of_gif_faces_and_moments(folder):
    (folder / "train.txt").write_text("0 3\n1.gif\n\nfaces/ann 2\n")
    (folder / "test.txt").write_text("2 4\n")
    source = Folder(str(folder), lists={"train": "train.txt", "test": "test.txt"})
    frames = {clip.name: clip.frames for clip in source.clips("train")}
    assert frames == {"0": 3, "1.gif": 4, "faces/ann": 2}
    assert [clip.name for clip in source.clips("test")] == ["2"]
    assert source.clips("val") == []


def test_the_lists_of_gif_moments_and_a_list_that_validates_and_tests(folder, tmp_path):
    frame_folder(folder / "qRWB_001.mp4", 5)  # their frame folders keep the videos' names
    lists = tmp_path / "valid.txt"
    lists.write_text("video height width nframe\nqRWB_001.mp4 8 12 4\n")
    source = Folder(str(folder), lists={"val": str(lists), "test": str(lists)})
    assert [(c.name, c.frames) for c in source.clips("val")] == [("qRWB_001.mp4", 4)]
    assert source.clips("val") == source.clips("test")


@pytest.mark.parametrize(
    ("train", "test", "sentence"),
    [
        ("0 3\nnobody 4\n", "", r"train.txt, line 2: 'nobody 4' is not"),
        ("0 three\n", "", r"line 1: '0 three' is not"),
        ("0\n", "1\n0\n", r"0 is in train and held out"),
        ("0\n", None, r"source.lists.test: the list .*test.txt does not exist"),
    ],
)
def test_a_wrong_list_is_named_with_its_line(folder, train, test, sentence):
    (folder / "train.txt").write_text(train)
    if test is not None:
        (folder / "test.txt").write_text(test)
    with pytest.raises(UserError, match=sentence):
        Folder(str(folder), lists={"train": "train.txt", "test": "test.txt"})


def test_a_list_that_asks_for_more_frames_than_there_are_is_refused(folder):
    (folder / "train.txt").write_text("0 5\n")
    source = Folder(str(folder), lists={"train": "train.txt"})
    with pytest.raises(UserError, match=r"0\.gif .* 5 .*wanted, 4 there"):
        source.clips("train")


def test_no_folder_no_path_and_no_clips_are_one_sentence_each(tmp_path):
    with pytest.raises(UserError, match=r"needs source.path=FOLDER"):
        Folder(None)
    with pytest.raises(UserError, match=r"nowhere does not exist; set source.path"):
        Folder(str(tmp_path / "nowhere"))
    file = tmp_path / "file.gif"
    gif(file)
    with pytest.raises(UserError, match="is a file, not a folder"):
        Folder(str(file))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no clips; put videos"):
        Folder(str(tmp_path / "empty"))
    with pytest.raises(UserError, match=r"holds 1 clip\(s\), too few .*source.test=1"):
        Folder(str(tmp_path))
    assert len(Folder(str(tmp_path), val=0.0, test=1.0).clips("test")) == 1


@pytest.mark.parametrize("shares", [{"val": 0.7, "test": 0.6}, {"test": -0.1}, {"every": 0}])
def test_shares_are_checked(folder, shares):
    with pytest.raises(UserError, match="shares that sum to at most 1"):
        Folder(str(folder), **shares)


@pytest.mark.parametrize(
    ("name", "content"),
    [("text.gif", b"I am text"), ("nothing.gif", b""), ("nothing.mp4", b""), ("text.mp4", b"text")],
)
def test_a_broken_file_is_named(folder, name, content):
    (folder / name).write_bytes(content)
    source = Folder(str(folder), val=0.0, test=1.0)
    with pytest.raises(UserError, match=name):
        source.clips("test")


def test_a_truncated_gif_is_named_and_nothing_of_it_is_kept(folder):
    path = folder / "3.gif"
    path.write_bytes(path.read_bytes()[:-60])
    source = Folder(str(folder), val=0.0, test=1.0)
    with pytest.raises(UserError, match=r"3\.gif"):
        source.clips("test")
    gif(path)
    repaired = Folder(str(folder), val=0.0, test=1.0)
    assert len(repaired.clips("test")) == 12


def test_a_changed_file_is_a_new_version(folder):
    source = Folder(str(folder), val=0.0, test=1.0)
    clip = source.clips("test")[0]
    before = source.version(clip), source.read(clip, 0, 4).clone()
    pictures = [picture(200 - t) for t in range(4)]
    pictures[0].save(folder / clip.name, save_all=True, append_images=pictures[1:])
    changed = Folder(str(folder), val=0.0, test=1.0)
    assert changed.version(clip) != before[0]
    assert not torch.equal(changed.read(clip, 0, 1), before[1][:1])
