import gc
from io import BytesIO
from pathlib import Path

import av
import pytest
import torch

from unlossy import video
from unlossy.errors import UserError
from unlossy.video import Coding

CODINGS = {
    "libx265": Coding("libx265", "hevc", {"x265-params": "crf=28:log-level=none"}),
    "libx264": Coding("libx264", "h264", {}),
    "libvpx-vp9": Coding("libvpx-vp9", "ivf", {"cpu-used": "5"}),
    "libsvtav1": Coding("libsvtav1", "obu", {"preset": "12"}),
}
each = pytest.mark.parametrize("coding", CODINGS.values(), ids=CODINGS.keys())


def ramps(frames: int = 4, height: int = 34, width: int = 50) -> torch.Tensor:
    """Frame t is a flat colour that rises with t, uint8 (T, 3, H, W)."""
    levels = torch.arange(frames) * 40 + 60
    return levels.view(-1, 1, 1, 1).expand(-1, 3, height, width).byte().contiguous()


@each
def test_frames_come_back_in_their_order(coding):
    """B frames are stored out of order."""
    frames = ramps()
    decoded = video.decode(video.encode(frames, coding).stream, coding.container, (4, 34, 50))
    assert (decoded.frames.float().mean((1, 2, 3)) - frames.float().mean((1, 2, 3))).abs().max() < 8


@each
def test_a_cut_stream_is_refused(coding):
    stream = video.encode(ramps(), coding).stream
    for cut in (b"", stream[: len(stream) // 3]):
        with pytest.raises(UserError, match=r"frames, not 4|cannot be decoded"):
            video.decode(cut, coding.container, (4, 34, 50))


@pytest.mark.parametrize("container", ["hevc", "h264", "obu", "ivf"])
def test_no_stream_at_all_is_refused(container):
    with pytest.raises(UserError, match=rf"the {container} stream of 700 bytes"):
        video.decode(b"garbage" * 100, container, (4, 34, 50))


def test_an_encoder_that_pyav_lacks_is_refused():
    with pytest.raises(UserError, match="built without the encoder libx267; install its wheel"):
        Coding("libx267", "hevc", {})


def test_what_an_encoder_refuses_is_told():
    with pytest.raises(UserError, match="libx264 refuses 50x34 frames in yuv420p with preset=best"):
        video.encode(ramps(), Coding("libx264", "h264", {"preset": "best"}))


def test_420_halves_chroma_and_nothing_else():
    """Grey passes, blocks of 2x2 keep their colour inside, a stripe of one pixel does not."""
    grey = torch.arange(20, 236, 3, dtype=torch.uint8).expand(1, 3, 32, -1)
    assert (video.through_yuv420p(grey).int() - grey.int()).abs().max() <= 2
    stripe = torch.full((1, 3, 32, 32), 60, dtype=torch.uint8)
    stripe[:, 0, :, 15] = 200
    wide = stripe.clone()
    wide[:, 0, :, 8:24] = 200
    error = (video.through_yuv420p(stripe).int() - stripe.int()).abs()
    assert error[0, 0, :, 15].min() > 30
    error = (video.through_yuv420p(wide).int() - wide.int()).abs()
    assert error[..., 10:22].max() <= 3


@pytest.mark.parametrize("size", [(1, 1), (3, 8), (17, 16), (33, 49)])
def test_any_size_passes_420(size):
    frames = torch.full((2, 3, *size), 77, dtype=torch.uint8)
    assert (video.through_yuv420p(frames).int() - 77).abs().max() <= 1


def test_a_high_definition_picture_has_the_matrix_of_bt709():
    """Pure green: 709's luma weight is 0.715, 601's 0.587; a player that guesses sees the same."""
    green = torch.zeros(1, 3, 720, 64, dtype=torch.uint8)
    green[:, 1] = 255
    stream = video.encode(green, CODINGS["libx264"]).stream
    with av.open(BytesIO(stream), format="h264") as opened:
        luma = next(opened.decode(video=0)).to_ndarray(format="gray")[:720].mean()
    assert luma == pytest.approx(255 * 0.7152, abs=3)  # format=gray widens limited range


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_no_thread_is_left_for_a_forked_worker_to_wait_for():
    """Garbage with threads, collected in a worker that has none of them, hangs or kills it."""
    frames, running = ramps(), Path("/proc/self/task")
    gc.collect()
    gc.disable()
    try:
        before = len(list(running.iterdir()))
        for coding in CODINGS.values():
            stream = video.encode(frames, coding).stream
            video.decode(stream, coding.container, (4, 34, 50))
        video.through_yuv420p(frames)
        assert len(list(running.iterdir())) == before
    finally:
        gc.enable()
