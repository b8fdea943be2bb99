import struct
from io import BytesIO

import av
import numpy as np
import pytest
import torch
from coded_clips import degrade, panning, psnr, rng
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from unlossy.degradations.chain import Chain
from unlossy.degradations.gif import Gif
from unlossy.degradations.still import AVIF, JPEG, JPEG2000, WebP, shown
from unlossy.errors import UserError
from unlossy.sample import pristine

CODECS = [JPEG(), WebP(), JPEG2000(), AVIF()]
SHORT = panning(3, 48, 64)
each = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)


def files(stream: bytes) -> list[bytes]:
    reader, found = BytesIO(stream), []
    while head := reader.read(4):
        found.append(reader.read(int.from_bytes(head, "little")))
    return found


@each
def test_the_stream_is_a_row_of_whole_files(codec):
    result = degrade(codec, SHORT)
    pictures = [Image.open(BytesIO(file)) for file in files(result["stream"])]
    assert {picture.format for picture in pictures} == {codec.format}
    seen = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
    np.testing.assert_array_equal(seen, result["frames"].permute(0, 2, 3, 1))
    assert torch.equal(shown(result["stream"]), result["frames"])


@each
def test_another_decoder_sees_the_same_picture(codec):
    """FFmpeg's own decoders, where Pillow has libjpeg, libwebp, OpenJPEG and libavif."""
    result = degrade(codec, SHORT[:1])
    (file,) = files(result["stream"])
    kind = {"JPEG": "jpeg_pipe", "WEBP": "webp_pipe", "JPEG2000": "j2k_pipe", "AVIF": "mov"}
    with av.open(BytesIO(file), format=kind[codec.format]) as opened:
        seen = next(opened.decode(video=0)).to_ndarray(format="rgb24")
    ours = result["frames"][0].permute(1, 2, 0).numpy()
    assert peak_signal_noise_ratio(ours, seen) > peak_signal_noise_ratio(
        SHORT[0].permute(1, 2, 0).numpy(), ours
    )


@each
def test_frames_are_judged_by_themselves_against_the_clean_clip(codec):
    result = degrade(codec, SHORT)
    assert torch.equal(result["reference"], SHORT)
    assert torch.equal(degrade(codec, SHORT[2:])["frames"], result["frames"][2:])
    assert result["side"]["frame_type"].tolist() == [1] * 3
    assert result["side"]["qp"].isnan().all()
    assert result["side"]["qp"].shape == (3,)
    assert result["side"].keys() == codec.keeps


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (JPEG(60), JPEG(5)),
        (JPEG(20, "4:4:4"), JPEG(20, "4:2:0")),
        (WebP(80), WebP(5)),
        (JPEG2000(10), JPEG2000(60)),
        (AVIF(70), AVIF(5)),
    ],
)
def test_fewer_bytes_show_less(better, worse):
    good, bad = degrade(better, SHORT), degrade(worse, SHORT)
    assert len(bad["stream"]) < 0.9 * len(good["stream"])
    assert np.mean(psnr(bad)) < np.mean(psnr(good)) - 0.5


def test_jpeg_2000_keeps_the_share_that_was_asked_for():
    frames = panning(1, 150, 230)
    for ratio in (10, 40, 80):
        size = len(degrade(JPEG2000(ratio), frames)["stream"])
        assert size == pytest.approx(frames.numel() / ratio, rel=0.1)


def test_jpeg_2000_uses_the_lossy_wavelet():
    """The codestream says so in COD: 0 is the irreversible 9/7 transform, 1 the 5/3."""
    (file,) = files(degrade(JPEG2000(), SHORT[:1])["stream"])
    assert file[:2] == b"\xff\x4f"  # a bare codestream
    start = file.index(b"\xff\x52")
    assert struct.unpack_from(">xxHBBHBBBBBB", file, start)[-1] == 0


@each
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 17)])
def test_one_frame_of_an_odd_or_tiny_size(codec, size):
    frames = panning(1)[..., : size[0], : size[1]]
    result = degrade(codec, frames)
    assert result["frames"].shape == (1, 3, *size)
    assert psnr(result)[0] > 10


def test_a_palette_does_not_survive():
    result = Chain({"gif": Gif(16), "jpeg": JPEG()})(pristine("clip", SHORT), rng())
    assert set(result["side"]) == {"qp", "frame_type"}
    assert "index" not in result


@pytest.mark.parametrize("codec", [JPEG, WebP, JPEG2000, AVIF])
def test_a_format_that_pillow_lacks_is_refused_at_construction(codec, monkeypatch):
    monkeypatch.setattr("PIL.features.check", lambda _: False)
    with pytest.raises(UserError, match=f"built without {codec.format}; install its wheel"):
        codec()


def test_a_size_that_the_format_cannot_hold_is_told():
    with pytest.raises(UserError, match="WEBP refuses the 16384x1 frames of clip"):
        degrade(WebP(), torch.zeros(1, 3, 1, 16384, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("kind", "arguments", "sentence"),
    [
        (JPEG, {"quality": 0}, "degradation.quality=0 is impossible; choose a whole number from 1"),
        (JPEG, {"quality": 96}, "degradation.quality=96 is impossible"),
        (JPEG, {"subsampling": "4:1:1"}, "subsampling=4:1:1 is unknown; choose one of 4:4:4"),
        (WebP, {"quality": 101}, "degradation.quality=101 is impossible"),
        (WebP, {"method": 7}, "degradation.method=7 is impossible"),
        (JPEG2000, {"ratio": 0.5}, "degradation.ratio=0.5 is impossible; choose a number from 1"),
        (AVIF, {"quality": -1}, "degradation.quality=-1 is impossible"),
        (AVIF, {"speed": 11}, "degradation.speed=11 is impossible"),
        (AVIF, {"subsampling": "4:1:1"}, "subsampling=4:1:1 is unknown"),
    ],
)
def test_impossible_settings_are_refused_at_construction(kind, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        kind(**arguments)
