"""Video codecs: what H.264, VP9 and AV1 keep of a clip, and what they share with HEVC.

    clean ──► 4:2:0 ──encoder──► stream (bits) ──decoder──► degraded, QP and type of each frame
       └────► 4:2:0 ──────────────────────────────────────► reference

The reference goes through 4:2:0 as the clip does, so that the loss of chroma resolution, which no
QP changes, does not count as the codec's error. Frames of odd or tiny size are coded with their
last row and column repeated, and cropped after decoding.

Everything runs in one thread, at 25 frames/s as far as rate control is concerned. The same clip
yields the same bytes as long as PyAV stays the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from unlossy import video
from unlossy.degradations.limits import check_choice, check_whole, check_within
from unlossy.sample import Degraded
from unlossy.video import Coded, Coding

Preset = Literal[
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
]


class VideoCodec(ABC):
    """What the codecs share. Draws nothing from `rng`.

    `side` holds `qp` (S,) float32 on the codec's own scale and `frame_type` (S,) uint8 (1 = I,
    2 = P, 3 = B; VP9 and AV1 know no B), in display order. QP is the mean over a frame's blocks for
    HEVC and H.264, the frame's base quantiser for VP9 (0 to 255) and AV1 (0 to 63).
    """

    scale: ClassVar[int] = 1
    every: ClassVar[int] = 1
    keeps: ClassVar[frozenset[str]] = frozenset({"qp", "frame_type"})

    @abstractmethod
    def coding(self, frames: int) -> Coding:
        """Return how a clip of so many frames is coded."""

    def encode(self, frames: Tensor) -> Coded:
        """Code frames, uint8 (S, 3, h, w)."""
        return video.encode(frames, self.coding(len(frames)))

    def __call__(self, clip: Degraded, rng: torch.Generator) -> Degraded:
        """Return the decoded frames, their QPs and types, the stream, and a 4:2:0 reference.

        Raises:
            UserError: the encoder refuses the clip.
        """
        frames = clip["frames"]
        count, _, height, width = frames.shape
        coding, coded = self.coding(count), self.encode(frames)
        decoded = video.decode(coded.stream, coding.container, (count, height, width))
        told = not decoded.qp.isnan().all()
        subsampled = coding.pixels == "yuv420p"
        reference = clip["reference"]
        return recoded(
            clip,
            decoded.frames,
            stream=coded.stream,
            qp=decoded.qp if told else coded.qp,
            frame_type=decoded.frame_type,
            reference=video.through_yuv420p(reference) if subsampled else reference,
        )


def recoded(
    clip: Degraded,
    frames: Tensor,
    *,
    stream: bytes,
    qp: Tensor,
    frame_type: Tensor,
    reference: Tensor,
) -> Degraded:
    """Return `clip` with other frames; the index and palettes of what it was are dropped."""
    kept = {k: v for k, v in clip["side"].items() if not k.startswith("palette")}
    return Degraded(
        name=clip["name"],
        frames=frames,
        t_in=clip["t_in"],
        side={**kept, "qp": qp, "frame_type": frame_type},
        stream=stream,
        reference=reference,
    )


@dataclass(frozen=True)
class ConstantQuality(VideoCodec):
    """What users make with x264 and x265: constant quality, B frames, the encoder's own choices.

    Args:
        crf: constant rate factor, 0 to 51; x264's default is 23, x265's 28.
        preset: the encoder's trade of time for bits.

    Raises:
        UserError: an argument is out of its range, or PyAV lacks the encoder.
    """

    crf: float = 32.0
    preset: Preset = "medium"

    def __post_init__(self) -> None:
        check_within("crf", self.crf, 0, 51)
        check_choice("preset", self.preset, get_args(Preset))
        self.coding(1)


@dataclass(frozen=True)
class H264(ConstantQuality):
    """H.264 by x264.

    Its stream begins with some 700 bytes in which x264 lists its settings; no option stops it.
    """

    def coding(self, frames: int) -> Coding:
        """Return how a clip of so many frames is coded."""
        return Coding("libx264", "h264", {"preset": self.preset, "crf": str(self.crf)})


@dataclass(frozen=True)
class VP9(VideoCodec):
    """VP9 at constant quality.

    Args:
        crf: 0 to 63.
        speed: libvpx's `cpu-used`, 0 (slow) to 5.

    Raises:
        UserError: an argument is out of its range, or PyAV lacks libvpx.
    """

    crf: int = 50
    speed: int = 4

    def __post_init__(self) -> None:
        check_whole("crf", self.crf, 0, 63)
        check_whole("speed", self.speed, 0, 5)
        self.coding(1)

    def coding(self, frames: int) -> Coding:
        """Return how a clip of so many frames is coded."""
        options = {"crf": str(self.crf), "b": "0", "cpu-used": str(self.speed)}
        return Coding("libvpx-vp9", "ivf", options)


@dataclass(frozen=True)
class AV1(VideoCodec):
    """AV1 by SVT-AV1 at constant quality.

    Args:
        crf: 1 to 63; SVT's default is 35.
        preset: 0 (slow) to 11; SVT-AV1 takes 12 and 13 too, for the same bytes as 11.

    Raises:
        UserError: an argument is out of its range, or PyAV lacks SVT-AV1.
    """

    crf: int = 50
    preset: int = 8

    def __post_init__(self) -> None:
        check_whole("crf", self.crf, 1, 63)
        check_whole("preset", self.preset, 0, 11)
        self.coding(1)

    def coding(self, frames: int) -> Coding:
        """Return how a clip of so many frames is coded."""
        options = {"crf": str(self.crf), "preset": str(self.preset), "svtav1-params": "lp=1"}
        return Coding("libsvtav1", "obu", options)
