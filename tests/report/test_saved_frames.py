"""Frames come back from the disk as they went there, each beside its clean one."""

import errno

import numpy as np
import pytest
import torch
from PIL import Image

from unlossy.errors import UserError
from unlossy.report.saved_frames import SavedFrames, load_pairs, saved_pairs


def test_frames_are_saved_as_they_are_window_by_window(tmp_path):
    frames = torch.randint(0, 256, (5, 3, 6, 9), dtype=torch.uint8)
    grey = torch.randint(0, 256, (5, 1, 6, 9), dtype=torch.uint8)
    saved = SavedFrames(tmp_path / "frames")
    for label, shown in (("clean", frames), ("m", frames.flip(0)), ("grey", grey)):
        for start in (0, 2, 4):
            saved.write(label, "x/y", start, shown[start : start + 2])
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("clean/*/*"))
    assert files == [f"frames/clean/x_y/{k:04d}.png" for k in range(5)]
    clean, made = load_pairs(saved_pairs(tmp_path, "m"))
    assert torch.equal(clean, frames)
    assert torch.equal(made, frames.flip(0))
    path = tmp_path / "frames" / "grey" / "x_y" / "0003.png"
    assert np.array_equal(np.asarray(Image.open(path)), grey[3, 0])


def test_frames_of_two_sizes_are_no_sample(tmp_path):
    saved = SavedFrames(tmp_path / "frames")
    for label, side in (("clean", 8), ("same", 8), ("larger", 9)):
        saved.write(label, "a", 0, torch.zeros(2, 3, side, side, dtype=torch.uint8))
    assert load_pairs(saved_pairs(tmp_path, "same"))[1].shape == (2, 3, 8, 8)
    with pytest.raises(UserError, match="one size"):
        load_pairs(saved_pairs(tmp_path, "larger"))


def test_frames_without_a_clean_one_are_no_pairs_and_a_cut_file_is_named(tmp_path):
    saved = SavedFrames(tmp_path / "frames")
    for label, count in (("clean", 2), ("m", 3)):
        saved.write(label, "a", 0, torch.zeros(count, 3, 8, 8, dtype=torch.uint8))
    pairs = saved_pairs(tmp_path, "m")
    assert [(pair.clip, pair.frame) for pair in pairs] == [("a", "0000"), ("a", "0001")]
    pairs[1].made.write_bytes(pairs[1].made.read_bytes()[:40])
    with pytest.raises(UserError, match=r"0001\.png is not a whole PNG"):
        load_pairs(pairs)


def test_a_full_disk_gets_a_sentence(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UserError, match=r"No space left on device.*save=true"):
        SavedFrames(tmp_path).write("m", "a", 0, torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
