import gzip
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from unlossy.data.samples import TrainingSamples
from unlossy.data.two_corners import TwoCorners
from unlossy.data.video_data import VideoData
from unlossy.degradations.corners import Corners
from unlossy.errors import UserError
from unlossy.metrics.suite import VideoScores
from unlossy.models.model import EnhancementModel
from unlossy.report.pictures import strip
from unlossy.sample import Restored, check, to_float
from unlossy.training.scoring import score_clip

SPLITS = ("train", "val", "test")


def everything(source: TwoCorners, split: str) -> torch.Tensor:
    return torch.cat([source.read(clip, 0, clip.frames) for clip in source.clips(split)])


def halves(pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What is in the upper left, in the lower right, and elsewhere."""
    half = pictures.shape[-1] // 2
    first, last = pictures[..., :half, :half], pictures[..., half:, half:]
    rest = pictures.clone()
    rest[..., :half, :half] = rest[..., half:, half:] = 0
    return first, last, rest


def test_each_picture_is_one_digit_in_one_corner():
    source = TwoCorners()
    known = {d.tobytes() for d in (load_digits().images / 16 * 7).round().astype(np.uint8)}
    for split, digits in (("train", 1197), ("val", 100), ("test", 500)):
        pictures = everything(source, split)
        assert pictures.shape == (digits * (2 if split == "train" else 1), 1, 16, 16)
        first, last, rest = halves(pictures)
        assert not rest.any()
        inked = first.flatten(1).any(1).int() + last.flatten(1).any(1).int()
        assert (inked == 1).all()
        levels = torch.maximum(first, last).float().mul(7 / 255)
        assert (levels - levels.round()).abs().max() < 7 / 255 / 2 + 1e-6
        assert {d.numpy().tobytes() for d in levels.round().byte()} <= known


def test_training_has_both_corners_of_every_digit_and_a_held_out_one_tossed_a_coin():
    source = TwoCorners()
    pictures = everything(source, "train")
    upper, lower = pictures[::2], pictures[1::2]
    assert torch.equal(halves(upper)[0], halves(lower)[1])
    assert not halves(upper)[1].any()
    assert not halves(lower)[0].any()
    share = halves(everything(source, "test"))[0].flatten(1).any(1).float().mean()
    assert 0.45 < share < 0.55
    assert torch.equal(everything(TwoCorners(), "test"), everything(source, "test"))
    clips = [clip for split in SPLITS for clip in source.clips(split)]
    assert len({source.version(clip) for clip in clips}) == len(clips) == 48 + 2 + 10
    assert TwoCorners(levels=4).version(clips[0]) != source.version(clips[0])


@pytest.mark.parametrize("levels", [2, 8, 17, 256])
def test_levels_come_back_from_eight_bits(levels):
    grey = everything(TwoCorners(levels=levels), "val").float() / 255
    label = (grey * (levels - 1)).round()
    stored = (label / (levels - 1) * 255).round() / 255
    assert torch.equal(stored, grey)
    assert label.max() == levels - 1


def prepared(batch: int = 40) -> VideoData:
    data = VideoData(TwoCorners(), Corners(), batch=batch, crop=16, workers=0)
    data.prepare_data()
    return data


def test_a_training_sample_shows_a_digit_and_a_fair_coin_unflipped():
    data = prepared()
    batch = data.first_batch()
    check(batch)
    assert batch["degraded"].shape == (40, 1, 1, 16, 16)
    assert batch["clean"].shape == (40, 1, 1, 16, 16)
    first, last, rest = halves(batch["clean"])
    assert not rest.any()
    shown, again, nothing = halves(batch["degraded"])
    assert torch.equal(first + last, shown)
    assert torch.equal(shown, again)
    assert not nothing.any()
    samples = TrainingSamples(data.cache, data.clips["train"], 16, 1, 0)
    tossed = [halves(samples[i]["clean"])[0].any().item() for i in range(200)]
    assert 75 < sum(tossed) < 125


class Twice(EnhancementModel):
    """The digit in both corners."""

    trainable = False

    def forward(self, batch):
        return Restored(estimate=batch["degraded"], extras={})


def test_one_channel_is_scored_and_drawn(tmp_path):
    data = prepared()
    sample = next(iter(data.test_dataloader()))
    check(to_float(sample))
    scores = VideoScores(None)
    shown = {}

    def look(where, made):
        shown.setdefault("twice", made[""][0])

    model = Twice()
    truth = scores.reference(sample["clean"][0], sample["degraded"][0])
    row = score_clip(model, sample, truth, scores, look)[""]
    assert row["frames"] == 50
    wrong = (model.restore(to_float(sample)) - to_float(sample)["clean"]).square()
    expected = (-10 * wrong.mean((0, 2, 3, 4)).log10()).mean()
    assert row["psnr"] == pytest.approx(expected.item(), abs=1e-3)
    strip(shown, sample["clean"][0, 0], tmp_path / "a.png")
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    assert sheet.shape[2] == 3
    assert (sheet[..., 0] == sheet[..., 2]).all()
    frame = shown["twice"][0].numpy().repeat(20, 0).repeat(20, 1)  # enlarged to 320
    assert np.array_equal(sheet[31 : 31 + 320, 8 : 8 + 320, 1], frame)


def idx(path, pictures: np.ndarray) -> str:
    content = struct.pack(">4I", 0x803, *pictures.shape) + pictures.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"])
def test_mnist_is_averaged_down(tmp_path, name):
    pictures = np.random.default_rng(0).integers(0, 256, (12, 28, 28), np.uint8)
    source = TwoCorners(idx(tmp_path / name, pictures), levels=256, val=2, test=4)
    found = everything(source, "train")
    assert found.shape == (12, 1, 28, 28)
    averaged = pictures.reshape(12, 14, 2, 14, 2).mean((2, 4))
    digit = found[0, 0, :14, :14].numpy().astype(float)
    assert min(np.abs(averaged - digit).max((1, 2))) <= 0.5


def test_what_is_missing_or_impossible_is_one_sentence(tmp_path):
    cut = tmp_path / "train-images-idx3-ubyte"
    idx(cut, np.zeros((3, 28, 28), np.uint8))
    cut.write_bytes(cut.read_bytes()[:-1])
    (tmp_path / "labels").write_bytes(struct.pack(">4I", 0x801, 1, 1, 1) + b"\0")
    (tmp_path / "short").write_bytes(b"\0\0")
    (tmp_path / "broken.gz").write_bytes(b"no gzip")
    for arguments, sentence in (
        ({"levels": 1}, r"source.levels=1 is impossible"),
        ({"levels": 257}, r"source.levels=257 is impossible"),
        ({"val": 1000, "test": 797}, r"leave nothing to train on of 1797 digits"),
        ({"val": -1}, r"source.val=-1"),
        ({"path": str(tmp_path / "nowhere")}, r"nowhere does not exist; set source.path"),
        *(
            ({"path": str(tmp_path / name)}, rf"{name} is no whole idx file of pictures")
            for name in (cut.name, "labels", "short", "broken.gz")
        ),
    ):
        with pytest.raises(UserError, match=sentence):
            TwoCorners(**arguments)
