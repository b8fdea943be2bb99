"""Clips that move, and what an independent reader says about a coded stream."""

import math
import re
from io import BytesIO

import av
import numpy as np
import torch
from av.bitstream import BitStreamFilterContext
from torch.nn import functional

from unlossy.sample import pristine


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def panning(frames: int = 13, height: int = 64, width: int = 96) -> torch.Tensor:
    """A textured picture under a camera that pans by 2.3 pixels and sways, uint8 (T, 3, H, W)."""
    texture = torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(0))
    picture = functional.interpolate(texture, scale_factor=4, mode="bicubic").clamp(0, 1)
    shown = []
    for t in range(frames):
        y = torch.arange(height)[:, None] + 20 + 10 * math.sin(t / 3)
        x = torch.arange(width)[None] + 20 + 2.3 * t
        axes = [x / 239 * 2 - 1, y / 159 * 2 - 1]
        grid = torch.stack([axis.expand(height, width) for axis in axes], -1)[None]
        shown.append(functional.grid_sample(picture, grid, align_corners=True)[0])
    return torch.stack(shown).mul(255).round().byte()


def psnr(result) -> list[float]:
    """PSNR of each frame against the reference, in dB, at most 100."""
    error = result["frames"].numpy().astype(float) - result["reference"].numpy()
    mean = np.square(error).mean(axis=(1, 2, 3)).clip(255**2 / 1e10)
    return (10 * np.log10(255**2 / mean)).tolist()


def degrade(degradation, frames):
    return degradation(pristine("clip", frames), rng())


def headers(stream: bytes, container: str) -> list[tuple[str, int]]:
    """Every syntax element of a stream's headers, in coding order, as FFmpeg's parser reads it."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        with av.logging.Capture() as lines, av.open(BytesIO(stream), format=container) as opened:
            reader = BitStreamFilterContext("trace_headers", opened.streams.video[0])
            for packet in opened.demux(video=0):
                if packet.size:
                    reader.filter(packet)
    finally:
        av.logging.set_level(level)
    text = "".join(message for _, _, message in lines)
    found = re.findall(r"(\w+(?:\[\d+\])?) +[01]+ += (-?\d+)", text)
    return [(name, int(value)) for name, value in found]


def values(stream: bytes, container: str, name: str) -> list[int]:
    return [value for key, value in headers(stream, container) if key == name]
