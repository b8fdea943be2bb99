"""Still codecs: each frame coded by itself, as JPEG, WebP, JPEG 2000 or AVIF keeps it.

    frame ──Pillow──► file (bits) ──Pillow──► degraded frame
    stream = file_0, file_1, ...   each after its length, 4 bytes, little-endian

Pictures are judged against the RGB original, as tables of still codecs are: the reference stays the
clean clip, and what a codec loses by subsampling chroma is its own loss. Sizes are those of whole
files, headers and tables included, which is what a user stores.

No quantiser is comparable across these formats: `qp` is nan, `frame_type` I. Everything runs in one
thread. HEVC's still picture is `HEVCIntra` of `hevc.py`.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor

from unlossy.degradations.codec import recoded
from unlossy.degradations.limits import check_choice, check_whole, check_within
from unlossy.errors import UserError
from unlossy.sample import Degraded

Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]


class StillCodec(ABC):
    """What the still codecs share. Draws nothing from `rng`."""

    scale: ClassVar[int] = 1
    every: ClassVar[int] = 1
    keeps: ClassVar[frozenset[str]] = frozenset({"qp", "frame_type"})
    format: ClassVar[str]  # Pillow's name of it
    feature: ClassVar[str]  # Pillow's name of the library behind it

    def __post_init__(self) -> None:
        if not features.check(self.feature):
            raise UserError(
                f"this Pillow was built without {self.format}; install its wheel "
                "(pip install --only-binary pillow pillow) or choose another degradation."
            )

    @abstractmethod
    def options(self) -> Mapping[str, Any]:
        """Return what Pillow is told when it saves a frame."""

    def __call__(self, clip: Degraded, rng: torch.Generator) -> Degraded:
        """Return the decoded frames and their files; `reference` stays the clean clip.

        Raises:
            UserError: the codec refuses the size of the frames.
        """
        frames = clip["frames"].permute(0, 2, 3, 1).contiguous().numpy()  # (S, h, w, 3)
        try:
            files = [self._file(Image.fromarray(frame)) for frame in frames]
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.format} refuses the {frames.shape[2]}x{frames.shape[1]} frames of "
                f"{clip['name']} ({error}); use another size or degradation."
            ) from error
        stream = b"".join(struct.pack("<I", len(file)) + file for file in files)
        return recoded(
            clip,
            shown(stream),
            stream=stream,
            qp=torch.full((len(frames),), torch.nan),
            frame_type=torch.ones(len(frames), dtype=torch.uint8),
            reference=clip["reference"],
        )

    def _file(self, picture: Image.Image) -> bytes:
        buffer = BytesIO()
        picture.save(buffer, self.format, **self.options())
        return buffer.getvalue()


def shown(stream: bytes) -> Tensor:
    """Return the frames of a stream of still pictures, uint8 (S, 3, h, w)."""
    pictures = [np.asarray(Image.open(BytesIO(file)).convert("RGB")) for file in _files(stream)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def _files(stream: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(stream):
        (size,) = struct.unpack_from("<I", stream, start)
        start += 4 + size
        yield stream[start - size : start]


@dataclass(frozen=True)
class JPEG(StillCodec):
    """JPEG with the standard's tables, scaled by libjpeg's quality.

    Args:
        quality: 1 to 95; libjpeg's default is 75.
        subsampling: of chroma.

    Raises:
        UserError: an argument is out of its range.
    """

    quality: int = 20
    subsampling: Subsampling = "4:2:0"

    format: ClassVar[str] = "JPEG"
    feature: ClassVar[str] = "jpg"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("quality", self.quality, 1, 95)
        check_choice("subsampling", self.subsampling, get_args(Subsampling))

    def options(self) -> Mapping[str, Any]:
        """Return what Pillow is told when it saves a frame."""
        return {"quality": self.quality, "subsampling": self.subsampling}


@dataclass(frozen=True)
class WebP(StillCodec):
    """Lossy WebP, VP8's intra coding; always 4:2:0.

    Args:
        quality: 0 to 100; libwebp's default is 75.
        method: effort, 0 (fast) to 6.

    Raises:
        UserError: an argument is out of its range, or Pillow lacks WebP.
    """

    quality: int = 20
    method: int = 4

    format: ClassVar[str] = "WEBP"
    feature: ClassVar[str] = "webp"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("quality", self.quality, 0, 100)
        check_whole("method", self.method, 0, 6)

    def options(self) -> Mapping[str, Any]:
        """Return what Pillow is told when it saves a frame."""
        return {"quality": self.quality, "method": self.method, "lossless": False}


@dataclass(frozen=True)
class JPEG2000(StillCodec):
    """JPEG 2000 by OpenJPEG with the lossy 9/7 wavelet, a bare codestream of one given size.

    Args:
        ratio: bytes of the raw frame per byte kept, at least 1; 80 is 0.3 bits per pixel. Headers
            of some 130 bytes are the least that a frame takes.

    Raises:
        UserError: an argument is out of its range, or Pillow lacks OpenJPEG.
    """

    ratio: float = 60.0

    format: ClassVar[str] = "JPEG2000"
    feature: ClassVar[str] = "jpg_2000"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_within("ratio", self.ratio, 1, 10_000)

    def options(self) -> Mapping[str, Any]:
        """Return what Pillow is told when it saves a frame."""
        return {
            "quality_mode": "rates",
            "quality_layers": [self.ratio],
            "irreversible": True,
            "no_jp2": True,
        }


@dataclass(frozen=True)
class AVIF(StillCodec):
    """AVIF, AV1's intra coding.

    Args:
        quality: 0 to 100; Pillow's default is 75.
        subsampling: of chroma.
        speed: 0 (slow) to 10.

    Raises:
        UserError: an argument is out of its range, or Pillow lacks AVIF.
    """

    quality: int = 30
    subsampling: Subsampling = "4:2:0"
    speed: int = 6

    format: ClassVar[str] = "AVIF"
    feature: ClassVar[str] = "avif"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("quality", self.quality, 0, 100)
        check_choice("subsampling", self.subsampling, get_args(Subsampling))
        check_whole("speed", self.speed, 0, 10)

    def options(self) -> Mapping[str, Any]:
        """Return what Pillow is told when it saves a frame."""
        return {
            "quality": self.quality,
            "subsampling": self.subsampling,
            "speed": self.speed,
            "max_threads": 1,
        }
