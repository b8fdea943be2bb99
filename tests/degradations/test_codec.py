import hashlib
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import Interpolation
from coded_clips import degrade, panning, psnr, rng, values

from unlossy import video
from unlossy.degradations.chain import Chain
from unlossy.degradations.codec import AV1, H264, VP9
from unlossy.degradations.gif import Gif
from unlossy.degradations.hevc import HEVC, HEVCBitrate, HEVCIntra, HEVCQuality
from unlossy.degradations.still import AVIF, JPEG, JPEG2000, WebP
from unlossy.errors import UserError
from unlossy.sample import Sample, check, pristine

HM = HEVC(36, (45, 44, 45, 38))
CODECS = [HEVC(), HM, HEVCQuality(), HEVCBitrate(), HEVCIntra(), H264(), VP9(), AV1()]
SHORT = panning(5, 48, 64)
EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT
CUBIC = Interpolation.BICUBIC | EXACT
each = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)


@each
def test_the_stream_is_all_there_is_to_the_clip(codec):
    """A fresh decoder that is told only the format's name shows the same frames."""
    result = degrade(codec, SHORT)
    with av.open(BytesIO(result["stream"]), format=codec.coding(5).container) as opened:
        planes = [one.to_ndarray(format="yuv420p") for one in opened.decode(video=0)]
    pictures = [av.VideoFrame.from_ndarray(one, "yuv420p") for one in planes]
    shown = [one.reformat(format="rgb24", interpolation=CUBIC).to_ndarray() for one in pictures]
    np.testing.assert_array_equal(np.stack(shown), result["frames"].permute(0, 2, 3, 1))


@pytest.mark.parametrize(
    ("encoder", "container", "options"),
    [
        ("libx264", "h264", {"qp": "0"}),
        ("libx265", "hevc", {"x265-params": "lossless=1:log-level=none"}),
        ("libvpx-vp9", "ivf", {"lossless": "1"}),
    ],
)
def test_a_codec_without_loss_shows_its_reference(encoder, container, options):
    """Chroma lies where the reference has it, whatever place a decoder claims for it."""
    stream = video.encode(SHORT, video.Coding(encoder, container, options)).stream
    shown = video.decode(stream, container, (5, 48, 64)).frames
    assert torch.equal(shown, video.through_yuv420p(SHORT))


@pytest.mark.parametrize(
    ("best", "least"),
    [
        (HEVC(0), 55),
        (HEVCQuality(0), 44),
        (HEVCBitrate(100_000), 48),
        (HEVCIntra(0), 55),
        (H264(0), 99),
        (VP9(0), 99),
        (AV1(1), 43),
    ],
)
def test_at_its_best_a_codec_comes_near_its_reference(best, least):
    """A shift of chroma by a quarter of a pixel leaves 28 dB of this texture."""
    assert min(psnr(degrade(best, SHORT))) > least


@each
def test_the_result_is_a_sample(codec):
    result = degrade(codec, SHORT)
    side = {key: value[None] for key, value in result["side"].items()}
    check(
        Sample(
            name=["clip"],
            degraded=result["frames"][None] / 255,
            clean=result["reference"][None] / 255,
            t_in=result["t_in"][None],
            t_out=result["t_in"][None],
            side=side,
            target={},
            bits=torch.tensor([8.0 * len(result["stream"])]),
        )
    )
    assert side["qp"].dtype == torch.float32
    assert side["frame_type"].dtype == torch.uint8
    assert result["side"]["qp"].isfinite().all()
    assert result["side"]["frame_type"][0] == 1
    assert codec.keeps == side.keys()


@each
def test_the_reference_is_what_ffmpegs_filters_make_of_420(codec):
    how = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
    graph = f"scale={how}:out_range=tv,format=yuv420p,scale={how},format=rgb24"
    assert torch.equal(degrade(codec, SHORT)["reference"], video.filter_frames(SHORT, graph))


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (HEVC(30), HEVC(42)),
        (HEVC(30, (33, 32, 33, 30)), HM),
        (HEVCQuality(24), HEVCQuality(40)),
        (HEVCBitrate(300), HEVCBitrate(50)),
        (HEVCIntra(30), HEVCIntra(42)),
        (H264(24), H264(40)),
        (VP9(30), VP9(60)),
        (AV1(30), AV1(60)),
    ],
)
def test_fewer_bytes_show_less(better, worse):
    good, bad = degrade(better, SHORT), degrade(worse, SHORT)
    assert len(bad["stream"]) < 0.8 * len(good["stream"])
    assert np.mean(psnr(bad)) < np.mean(psnr(good)) - 1.0


@each
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 18)])
def test_one_frame_of_an_odd_or_tiny_size(codec, size):
    frames = panning(1)[..., : size[0], : size[1]]
    result = degrade(codec, frames)
    assert result["frames"].shape == result["reference"].shape == (1, 3, *size)
    assert result["side"]["qp"].shape == result["side"]["frame_type"].shape == (1,)
    assert psnr(result)[0] > 18


def test_padding_repeats_the_border():
    """Odd frames are coded as if they had been enlarged beforehand."""
    frames = panning(3)[..., :47, :63]
    enlarged = torch.cat((frames, frames[..., -1:, :]), -2)
    enlarged = torch.cat((enlarged, enlarged[..., -1:]), -1)
    odd, even = degrade(HEVC(), frames), degrade(HEVC(), enlarged)
    assert odd["stream"] == even["stream"]
    assert torch.equal(odd["frames"], even["frames"][..., :47, :63])
    assert torch.equal(odd["reference"], even["reference"][..., :47, :63])


STILLS = [JPEG(), WebP(), JPEG2000(), AVIF()]
SCRIPT = """
from test_codec import CODECS, STILLS, fingerprint
for codec in CODECS + STILLS:
    print(fingerprint(codec))
"""


def fingerprint(codec) -> str:
    result = degrade(codec, SHORT)
    return hashlib.sha256(result["stream"] + result["frames"].numpy().tobytes()).hexdigest()


def test_bytes_are_the_same_in_every_process_and_nothing_is_said():
    folder = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [fingerprint(codec) for codec in CODECS + STILLS]
    assert done.stderr == ""  # SVT-AV1 lists its settings there unless stopped


def test_vp9_and_av1_tell_the_quantiser_of_their_headers():
    vp9, av1 = degrade(VP9(), SHORT), degrade(AV1(), SHORT)
    assert vp9["side"]["qp"].tolist() == values(vp9["stream"], "ivf", "base_q_idx")
    indices = sorted(values(av1["stream"], "obu", "base_q_idx"))
    # AV1's header counts to 255 in steps of about four; frames are coded in another order.
    assert torch.tensor(indices) / 4 == pytest.approx(av1["side"]["qp"].sort().values, abs=1.0)


def test_h264_tells_the_mean_of_its_blocks():
    """With x264's adaptive quantiser off, every block has the QP of its slice."""
    options = {"qp": "33", "x264-params": "aq-mode=0:ipratio=1:bframes=0"}
    stream = video.encode(SHORT, video.Coding("libx264", "h264", options)).stream
    told = video.decode(stream, "h264", (5, 48, 64)).qp
    assert told.tolist() == [33.0] * 5
    adaptive = degrade(H264(), SHORT)["side"]["qp"]
    assert (adaptive % 1).any()


def test_a_chain_drops_what_no_longer_holds():
    chain = Chain({"gif": Gif(16), "hevc": HEVC()})
    result = chain(pristine("clip", SHORT), rng())
    assert set(result["side"]) == chain.keeps == {"qp", "frame_type"}
    assert "index" not in result
    twice = Chain({"first": H264(), "last": HEVC()})(pristine("clip", SHORT), rng())
    assert twice["side"]["qp"].tolist() == [37.0] * 5


def test_the_reference_that_came_in_may_have_another_size_and_length():
    clip = pristine("clip", SHORT[:2, :, ::2, ::2])
    result = HEVC()({**clip, "reference": SHORT}, rng())
    assert torch.equal(result["reference"], video.through_yuv420p(SHORT))


@pytest.mark.parametrize("codec", [HEVC, HEVCQuality, HEVCBitrate, HEVCIntra, H264, VP9, AV1])
def test_a_codec_that_pyav_lacks_is_refused_at_construction(codec, monkeypatch):
    monkeypatch.setattr("av.codec.codecs_available", {"mpeg4"})
    with pytest.raises(UserError, match=r"built without the encoder lib.*another degradation"):
        codec()


@pytest.mark.parametrize(
    ("kind", "arguments", "sentence"),
    [
        (H264, {"crf": 52}, "degradation.crf=52 is impossible; choose a number from 0 to 51"),
        (H264, {"preset": 8}, "degradation.preset=8 is unknown; choose one of ultrafast"),
        (VP9, {"crf": 64}, "degradation.crf=64 is impossible"),
        (VP9, {"speed": 9}, "degradation.speed=9 is impossible"),
        (AV1, {"crf": 0}, "degradation.crf=0 is impossible; choose a whole number from 1 to 63"),
        (AV1, {"preset": 12}, "degradation.preset=12 is impossible; .* from 0 to 11"),
        (AV1, {"preset": "slow"}, "degradation.preset=slow is impossible"),
    ],
)
def test_impossible_settings_are_refused_at_construction(kind, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        kind(**arguments)
