import numpy as np
import pytest
import torch
from PIL import Image

from unlossy.data.faces import GROUP, Faces
from unlossy.errors import UserError

SPLITS = ("train", "val", "test")


def face(number: int, width: int = 44, height: int = 54) -> Image.Image:
    """A smooth picture of its own."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    wave = np.sin(0.2 * (c + 1) * x + 0.1 * y + number)
    return Image.fromarray((128 + 100 * wave).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ninety pictures, some of them deeper, as CelebA's are: larger than the crop, and upright."""
    root = tmp_path_factory.mktemp("faces")
    (root / "more").mkdir()
    for number in range(90):
        place = root / "more" if number >= 85 else root
        face(number).save(place / f"{number:06d}.png")
    (root / ".hidden.png").write_bytes(b"")
    (root / "list.csv").write_text("not a picture")
    partition = [f"{n:06d}.png  {0 if n < 70 else 1 + n % 2}" for n in range(80)]
    (root / "list_eval_partition.txt").write_text("\n".join(partition) + "\n\n")
    return root


def small(number: int, crop: int, size: int) -> torch.Tensor:
    """Crop and shrink with Pillow."""
    picture = face(number)
    left, top = (picture.width - crop) // 2, (picture.height - crop) // 2
    area = picture.crop((left, top, left + crop, top + crop))
    shrunk = area.resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(shrunk)).permute(2, 0, 1)


def test_a_partition_says_which_picture_is_in_which_split(folder):
    source = Faces(str(folder), "list_eval_partition.txt", crop=40, size=10)
    assert [(c.name, c.frames) for c in source.clips("train")] == [
        ("faces/train/00000", GROUP),
        ("faces/train/00001", 6),
    ]
    assert [c.frames for s in ("val", "test") for c in source.clips(s)] == [5, 5]
    last = source.clips("train")[1]
    assert (last.height, last.width, last.source) == (10, 10, "faces")
    for clip, start, number in ((last, 2, GROUP + 2), (source.clips("test")[0], 1, 73)):
        found = source.read(clip, start, 1)
        assert found.shape == (1, 3, 10, 10)
        assert (found[0].int() - small(number, 40, 10).int()).abs().max() <= 1
    assert len(source.read(last, 4, 9)) == 2


def test_the_largest_square_may_be_taken(folder):
    source = Faces(str(folder), "list_eval_partition.txt", crop=None, size=11)
    found = source.read(source.clips("train")[0], 0, 1)[0]
    assert (found.int() - small(0, 44, 11).int()).abs().max() <= 1


def test_without_a_partition_names_are_split_by_a_hash(folder):
    source = Faces(str(folder), crop=40, size=10)
    counts = {split: sum(clip.frames for clip in source.clips(split)) for split in SPLITS}
    assert sum(counts.values()) == 90
    assert 50 < counts["train"] < 85
    assert min(counts.values()) > 0
    everything = Faces(str(folder), val=0, test=1, crop=40, size=10)
    assert [clip.frames for clip in everything.clips("test")] == [GROUP, 26]
    assert everything.clips("train") == everything.clips("val") == []


def test_a_changed_picture_is_a_new_version_of_its_clip_alone(tmp_path):
    for number in range(GROUP + 1):
        face(number, 12, 12).save(tmp_path / f"{number:03d}.png")
    before = Faces(str(tmp_path), val=0, test=1, crop=12, size=4)
    first, last = before.clips("test")
    kept = before.version(first), before.version(last), before.read(last, 0, 1).clone()
    face(7, 12, 12).save(tmp_path / f"{GROUP:03d}.png")
    after = Faces(str(tmp_path), val=0, test=1, crop=12, size=4)
    assert after.version(first) == kept[0]
    assert after.version(last) != kept[1]
    assert not torch.equal(after.read(last, 0, 1), kept[2])
    assert Faces(str(tmp_path), val=0, test=1, crop=10, size=4).version(first) != kept[0]


def test_only_mirroring_can_be_asked_for(folder):
    for mirror, axes in ((False, ()), (True, (-1,))):
        source = Faces(str(folder), crop=40, mirror=mirror)
        assert source.flips(source.clips("test")[0]) == axes


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("000001.png 0\nnobody.png 1\n", r"line 2: 'nobody.png 1' is not `name 0`"),
        ("000001.png 3\n", r"line 1: '000001.png 3' is not"),
        ("000001.png\n", r"line 1: '000001.png' is not"),
        ("000001.png 0\n000001.png 2\n", r"line 2: .* that no other line names"),
    ],
)
def test_a_wrong_partition_is_named_with_its_line(folder, tmp_path, lines, sentence):
    (tmp_path / "partition.txt").write_text(lines)
    with pytest.raises(UserError, match=sentence):
        Faces(str(folder), str(tmp_path / "partition.txt"), crop=40)


def test_what_is_missing_or_impossible_is_one_sentence(folder, tmp_path):
    for arguments, sentence in (
        ((None,), r"needs source.path=FOLDER"),
        ((str(tmp_path / "nowhere"),), r"nowhere is no folder; set source.path"),
        ((str(tmp_path),), r"holds no pictures; put some there"),
        ((str(folder), "nowhere.txt"), r"source.partition: the file nowhere.txt does not exist"),
        ((str(folder), None, 0.6, 0.6), r"shares that sum to at most 1"),
        ((str(folder), None, 0.1, 0.1, 16), r"source.crop=16 cannot be shrunk to source.size=32"),
        ((str(folder), None, 0.1, 0.1, None, 0), r"cannot be shrunk to source.size=0"),
    ):
        with pytest.raises(UserError, match=sentence):
            Faces(*arguments)


@pytest.mark.parametrize(("crop", "least"), [(48, 48), (None, 46)])
def test_a_picture_smaller_than_the_crop_is_named(folder, crop, least):
    source = Faces(str(folder), "list_eval_partition.txt", crop=crop, size=46)
    with pytest.raises(UserError, match=rf"000000.png is 44x54, smaller than {least} pixels"):
        source.read(source.clips("train")[0], 0, 1)
