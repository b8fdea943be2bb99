"""Two decoders that share no code, and clips to feed them."""

import io

import av
import numpy as np
import torch
from PIL import Image


def pillow_frames(stream: bytes) -> np.ndarray:
    """Composited frames (S, h, w, 3)."""
    image, frames = Image.open(io.BytesIO(stream)), []
    for number in range(image.n_frames):
        image.seek(number)
        frames.append(np.asarray(image.convert("RGB")))
    return np.stack(frames)


def pyav_frames(stream: bytes) -> np.ndarray:
    """Composited frames (S, h, w, 3)."""
    with av.open(io.BytesIO(stream)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def noise(count: int, height: int, width: int, levels: int = 256, seed: int = 0) -> torch.Tensor:
    """Random colours, uint8 (T, 3, H, W), each channel of so many levels."""
    values = np.random.default_rng(seed).integers(0, levels, (count, 3, height, width))
    return torch.from_numpy((values * 255 // (levels - 1)).astype(np.uint8))


def waves(count: int, height: int, width: int) -> torch.Tensor:
    """Moving gradients, uint8 (T, 3, H, W): many colours, most pixels near their neighbours."""
    t, y, x = np.mgrid[:count, :height, :width].astype(float)
    planes = [np.sin(x / 9 + t / 3), np.cos(y / 7 - t / 5), np.sin((x + y) / 11)]
    return torch.from_numpy(np.rint(127.5 + 127.5 * np.stack(planes, 1)).astype(np.uint8))
