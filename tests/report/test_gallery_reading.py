"""Reading a gallery: what is there, and what is refused."""

import json
from pathlib import Path

import pytest

from unlossy.errors import UserError
from unlossy.report.gallery import Exhibit, Shown, read_gallery

PICTURES = {"still": "a/input.still.webp", "film": "a/input.film.webp", "rows": "a/input.rows.webp"}


def written(run: Path, **changes: object) -> Path:
    """A gallery of one clip and one output, some of whose entries are changed."""
    folder = run / "gallery"
    (folder / "a").mkdir(parents=True)
    for name in PICTURES.values():
        (folder / name).write_bytes(b"RIFF")
    output = {"label": "input", "psnr": 31.5, **PICTURES}
    entry = {"clip": "a", "source": "film", "degradation": "gif", "width": 320, "height": 180}
    entry |= {"frames": 7, "row": 90, "outputs": [output]}
    for key, value in changes.items():
        (output if key in output else entry)[key] = value
    (folder / "index.json").write_text(json.dumps({"exhibits": [entry]}))
    return folder


def test_what_was_written_is_read(tmp_path):
    folder = written(tmp_path)
    shown = Shown("input", *(folder / name for name in PICTURES.values()), 31.5)
    assert read_gallery(tmp_path) == [Exhibit("a", "film", "gif", 320, 180, 7, 90, (shown,))]


def test_a_run_without_gallery_has_no_exhibits(tmp_path):
    assert read_gallery(tmp_path) == []
    assert read_gallery(tmp_path / "nowhere") == []


@pytest.mark.parametrize(("frames", "height"), [(1, 96), (7, 14), (96, 1), (97, 1), (250, 1)])
def test_rows_are_enlarged_by_a_whole_factor(frames, height, tmp_path):
    written(tmp_path, frames=frames)
    assert read_gallery(tmp_path)[0].row_height == height


@pytest.mark.parametrize("name", ["a/gone.webp", "a", "../../outside.webp", "/etc/hostname"])
def test_pictures_that_are_not_in_the_gallery_are_refused(name, tmp_path):
    (tmp_path.parent / "outside.webp").write_bytes(b"RIFF")
    written(tmp_path, still=name)
    with pytest.raises(UserError, match=r"is damaged .*no picture"):
        read_gallery(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"exhibits": [{}]}', '{"exhibits": 3}', '{"exhibits": [[1]]}', "null"]
)
def test_a_damaged_index_is_one_sentence(content, tmp_path):
    (written(tmp_path) / "index.json").write_text(content)
    with pytest.raises(UserError, match=r"index\.json is damaged .*; evaluate the run again"):
        read_gallery(tmp_path)


def test_numbers_that_are_none_are_refused(tmp_path):
    written(tmp_path, psnr="high")
    with pytest.raises(UserError, match="is damaged"):
        read_gallery(tmp_path)
