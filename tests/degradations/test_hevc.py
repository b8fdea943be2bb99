import numpy as np
import pytest
import torch
from coded_clips import degrade, headers, panning, psnr, values

from unlossy import video
from unlossy.degradations.hevc import HEVC, HEVCBitrate, HEVCIntra, HEVCQuality
from unlossy.errors import UserError

HM = HEVC(36, (45, 44, 45, 38))
INTRA, P, B = 1, 2, 3


def slice_qps(stream: bytes) -> list[int]:
    """The QP in each slice's header, where no block may have another."""
    assert set(values(stream, "hevc", "cu_qp_delta_enabled_flag")) == {0}
    start = 26 + values(stream, "hevc", "init_qp_minus26")[0]
    return [start + change for change in values(stream, "hevc", "slice_qp_delta")]


def test_flat37_is_one_i_frame_then_p_frames_at_qp_37():
    result = degrade(HEVC(), panning())
    assert result["side"]["frame_type"].tolist() == [INTRA] + [P] * 12
    assert result["side"]["qp"].tolist() == [37.0] * 13
    assert slice_qps(result["stream"]) == [37] * 13
    assert values(result["stream"], "hevc", "slice_type") == [2] + [1] * 12  # the standard's I, P


def test_hm_ldp_gives_frame_t_the_qp_of_the_cycle():
    """x265 obeys zones one frame late, and ignores a file of QPs: read what the stream says."""
    result = degrade(HM, panning())
    expected = [36] + [45, 44, 45, 38] * 3
    assert slice_qps(result["stream"]) == expected
    assert result["side"]["qp"].tolist() == expected
    assert result["side"]["frame_type"].tolist() == [INTRA] + [P] * 12


def test_hm_ldps_quality_has_the_period_of_its_cycle():
    wave = np.array(psnr(degrade(HM, panning(21))))
    for good in (4, 8, 12, 16):
        assert wave[good] > wave[good - 1] + 0.3
        assert wave[good] > wave[good + 1] + 0.3
    periodic = wave[1:].reshape(5, 4).mean(0)
    assert periodic[3] > periodic[:3].max() + 1.0
    flat = np.array(psnr(degrade(HEVC(), panning(21))))[1:].reshape(5, 4).mean(0)
    assert np.ptp(flat) < 0.5 * np.ptp(periodic)


def test_cycle_and_p_frames_reach_the_end_of_a_long_clip():
    frames = panning(2, 16, 16).repeat(126, 1, 1, 1)  # 250 is where x265 would put an I frame
    result = degrade(HEVC(30, [40, 50], "ultrafast"), frames)
    assert result["side"]["frame_type"].tolist() == [INTRA] + [P] * 251
    assert slice_qps(result["stream"])[-2:] == [50, 40]


def test_users_hevc_has_b_frames_and_tells_the_mean_qp_of_each():
    result = degrade(HEVCQuality(crf=32), panning())
    types, qp = result["side"]["frame_type"], result["side"]["qp"]
    assert set(types.tolist()) == {INTRA, P, B}
    assert qp[types == B].mean() > qp[types == P].mean() > qp[types == INTRA].mean()
    # Slices come in coding order, their place on the screen is what the decoder sorts by.
    shown, kinds = [0], []
    for name, value in headers(result["stream"], "hevc"):
        if name == "slice_pic_order_cnt_lsb":
            shown.append(value)
        elif name == "slice_type":
            kinds.append({2: INTRA, 1: P, 0: B}[value])
    assert [kinds[shown.index(t)] for t in range(13)] == types.tolist()


def test_two_passes_meet_their_rate_and_leave_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    frames = panning(26, 48, 64)
    sizes = [len(degrade(HEVCBitrate(rate), frames)["stream"]) for rate in (60, 200)]
    for rate, size in zip((60, 200), sizes, strict=True):
        assert 8 * size / (26 / video.coding.RATE) == pytest.approx(1000 * rate, rel=0.2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", ["with space", "colon:equals=", "quote'back\\slash"])
def test_the_temporary_folder_may_have_any_name(tmp_path, monkeypatch, folder):
    (tmp_path / folder).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / folder))
    assert degrade(HEVCBitrate(100, "ultrafast"), panning(3))["stream"]


def test_intra_frames_are_all_i_and_the_qp_is_theirs():
    result = degrade(HEVCIntra(30), panning(3))
    assert result["side"]["frame_type"].tolist() == [INTRA] * 3
    assert result["side"]["qp"].tolist() == [30.0] * 3
    assert slice_qps(result["stream"]) == [30] * 3


def test_intra_frames_do_not_depend_on_each_other():
    frames = panning(3)
    together, alone = degrade(HEVCIntra(), frames), degrade(HEVCIntra(), frames[2:])
    assert torch.equal(together["frames"][2:], alone["frames"])


def test_full_chroma_is_judged_against_the_clean_clip():
    frames = panning(2)
    result = degrade(HEVCIntra(20, pixels="yuv444p"), frames)
    assert torch.equal(result["reference"], frames)
    subsampled = degrade(HEVCIntra(20), frames)
    error = (subsampled["frames"].double() - frames).square().mean()
    assert (result["frames"].double() - frames).square().mean() < error / 2


@pytest.mark.parametrize(
    ("kind", "arguments", "sentence"),
    [
        (HEVC, {"qp": 52}, "degradation.qp=52 is impossible; choose a whole number from 0 to 51"),
        (HEVC, {"qp": -1}, "degradation.qp=-1 is impossible"),
        (HEVC, {"qp": 36.5}, "degradation.qp=36.5 is impossible"),
        (HEVC, {"cycle": [45, 99]}, r"degradation.cycle\[1\]=99 is impossible"),
        (HEVC, {"qp": True}, "degradation.qp=True is impossible"),
        (HEVC, {"cycle": 45}, r"degradation.cycle=45 is no list of QPs; .* in brackets"),
        (HEVC, {"cycle": None}, "degradation.cycle=None is no list of QPs"),
        (HEVC, {"cycle": "45"}, "degradation.cycle=45 is no list of QPs"),
        (HEVC, {"cycle": ""}, "degradation.cycle= is no list of QPs"),
        (HEVC, {"cycle": [45, None]}, r"degradation.cycle\[1\]=None is impossible"),
        (HEVC, {"preset": "best"}, "degradation.preset=best is unknown; choose one of ultrafast"),
        (HEVCQuality, {"crf": float("nan")}, "degradation.crf=nan is impossible"),
        (HEVCQuality, {"crf": True}, "degradation.crf=True is impossible"),
        (HEVCQuality, {"crf": "good"}, "degradation.crf=good is impossible"),
        (HEVCBitrate, {"kilobits": 0}, "degradation.kilobits=0 is impossible"),
        (HEVCIntra, {"pixels": "rgb24"}, "pixels=rgb24 is unknown; choose one of yuv420p, yuv444p"),
    ],
)
def test_impossible_settings_are_refused_at_construction(kind, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        kind(**arguments)
