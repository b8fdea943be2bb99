"""HEVC (H.265) by x265: constant QP, as users make it, at a fixed rate, and intra only.

    flat37    I P P P P P P P P ...    QP 37 37 37 37 37 37 37 37 37
    hm_ldp    I P P P P P P P P ...    QP 36 45 44 45 38 45 44 45 38

`HEVC` approximates the compression of NTIRE 2021 (R. Yang, R. Timofte et al., CVPRW 2021), HM 16.20
in low-delay P at QP 37: one I frame, then P frames with four references, one QP for all blocks of a
frame, no psychovisual tools.

Departures: x265 is another encoder, at its own search effort. HM varies the QP of its P frames in a
cycle; `flat37` leaves that out, `hm_ldp` has one. Its length and QPs are our guess at those of HM
16.20, inferred from a later version's configuration, not read from a stream. Results of the two do
not compare.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

import torch
from torch import Tensor

from unlossy import video
from unlossy.degradations.codec import ConstantQuality, Preset, VideoCodec
from unlossy.degradations.limits import check_choice, check_whole
from unlossy.errors import UserError
from unlossy.video import Coded, Coding

Pixels = Literal["yuv420p", "yuv444p"]

_FLAT = "aq-mode=0:cutree=0:psy-rd=0:psy-rdoq=0"  # one QP for a whole frame, no taste
_LOW_DELAY = (
    f"{_FLAT}:keyint=-1:min-keyint=1:scenecut=0:no-open-gop=1:bframes=0:b-adapt=0:rc-lookahead=0:"
    "ref=4:weightp=0:rdoq-level=2:ipratio=1.0:pbratio=1.0"  # or I frames get a lower QP
)
# info=0 leaves out the list of settings, which outweighs a small clip.
_QUIET = "info=0:pools=1:frame-threads=1:log-level=none"


@dataclass(frozen=True)
class HEVC(VideoCodec):
    """H.265 at constant QP, one I frame, then P frames.

    Args:
        qp: of the I frame, and of all others unless there is a cycle; 0 to 51.
        cycle: QPs that the P frames take in turn; none repeats `qp`.
        preset: x265's trade of time for bits.

    Raises:
        UserError: an argument is out of its range, or PyAV lacks x265.
    """

    qp: int = 37
    cycle: Sequence[int] = ()
    preset: Preset = "medium"

    def __post_init__(self) -> None:
        check_whole("qp", self.qp, 0, 51)
        given: object = self.cycle
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise UserError(
                f"degradation.cycle={given} is no list of QPs; write whole numbers from 0 to "
                "51 in brackets, as in degradation.cycle=[45,44,45,38], or [] for none."
            )
        object.__setattr__(self, "cycle", tuple(given))  # hydra hands over a list of its own
        for position, qp in enumerate(self.cycle):
            check_whole(f"cycle[{position}]", qp, 0, 51)
        check_choice("preset", self.preset, get_args(Preset))
        self.coding(1)

    def qps(self, frames: int) -> list[int]:
        """Return the QP of each frame."""
        return list(islice(chain([self.qp], cycle(self.cycle or [self.qp])), frames))

    def coding(self, frames: int) -> Coding:
        """Return how a clip of so many frames is coded."""
        parameters = f"qp={self.qp}:{_LOW_DELAY}"
        if self.cycle:
            # A qpfile is ignored by the library, and frame t obeys the zone numbered t + 1.
            zones = (f"{t},{t},q={qp}" for t, qp in enumerate(self.qps(frames), start=1))
            parameters += f":zones={'/'.join(zones)}"
        return _x265(parameters, self.preset)

    def encode(self, frames: Tensor) -> Coded:
        """Code frames; x265 tells the QP before it looks at zones, so ours is the one asked for."""
        coded = super().encode(frames)
        return coded._replace(qp=torch.tensor(self.qps(len(frames)), dtype=torch.float32))


@dataclass(frozen=True)
class HEVCQuality(ConstantQuality):
    """H.265 as users make it, by x265."""

    def coding(self, frames: int) -> Coding:
        """Return how a clip of so many frames is coded."""
        return _x265(f"crf={self.crf}", self.preset)


@dataclass(frozen=True)
class HEVCBitrate(VideoCodec):
    """H.265 at a fixed rate in two passes, as the third track of NTIRE 2021.

    Args:
        kilobits: per second of 25 frames; at least 1.
        preset: x265's trade of time for bits.

    Raises:
        UserError: as `HEVC`.
    """

    kilobits: int = 200
    preset: Preset = "medium"

    def __post_init__(self) -> None:
        check_whole("kilobits", self.kilobits, 1, 1_000_000)
        check_choice("preset", self.preset, get_args(Preset))
        self.coding(1)

    def coding(self, frames: int) -> Coding:
        """Return how a clip of so many frames is coded, but for the number of the pass."""
        return _x265(f"bitrate={self.kilobits}", self.preset)

    def encode(self, frames: Tensor) -> Coded:
        """Code frames twice; what the first pass learns waits in a temporary folder."""
        with TemporaryDirectory() as folder:
            stats = re.sub(r"([\\':=])", r"\\\1", (Path(folder) / "stats").as_posix())
            for number in (1, 2):
                parameters = f"bitrate={self.kilobits}:pass={number}:stats={stats}"
                coded = video.encode(frames, _x265(parameters, self.preset))
        return coded


@dataclass(frozen=True)
class HEVCIntra(VideoCodec):
    """H.265 with I frames only, which is near what BPG and HEIC do to a still picture.

    Args:
        qp: 0 to 51.
        preset: x265's trade of time for bits.
        pixels: `yuv420p`, or `yuv444p`, whose reference is the clean clip itself.

    Raises:
        UserError: as `HEVC`.
    """

    qp: int = 37
    preset: Preset = "medium"
    pixels: Pixels = "yuv420p"

    def __post_init__(self) -> None:
        check_whole("qp", self.qp, 0, 51)
        check_choice("preset", self.preset, get_args(Preset))
        check_choice("pixels", self.pixels, get_args(Pixels))
        self.coding(1)

    def coding(self, frames: int) -> Coding:
        """Return how a clip of so many frames is coded."""
        return _x265(f"qp={self.qp}:{_FLAT}:keyint=1:ipratio=1.0", self.preset, self.pixels)


def _x265(parameters: str, preset: Preset, pixels: Pixels = "yuv420p") -> Coding:
    options = {"preset": preset, "x265-params": f"{parameters}:{_QUIET}"}
    return Coding("libx265", "hevc", options, pixels)
