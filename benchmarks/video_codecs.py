"""Every codec of conf/degradation on one shot of the film: speed, size and error.

    python benchmarks/video_codecs.py [--start 1836] [--frames 48] [--rounds 5] [--strip FILE.png]

Speed is that of the whole degradation, coding, decoding and reference, after a warm-up: CPU time of
one process, and the rate at which two processes, as `data.workers=2` has, degrade a clip each. The
codecs take turns; `ratio` is a codec's CPU time over that of `hevc`. PSNR is against the reference
of each codec, averaged over frames; `wave` is its standard deviation over the frames.

`--strip` saves one frame as the clean clip, and as some codecs, show it.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

import av
import PIL
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from unlossy import assets, cli, video
from unlossy.degradations.codec import VideoCodec
from unlossy.degradations.still import StillCodec
from unlossy.sample import Degradation, Degraded, pristine

SIZE = (320, 180)
SHOWN = ("hevc", "h264", "jpeg")


def codecs() -> dict[str, Degradation]:
    """Return the codecs of conf/degradation by name."""
    found = {}
    for path in sorted((Path(cli.CONF) / "degradation").glob("*.yaml")):
        degradation = instantiate(OmegaConf.load(path), _convert_="all")
        if isinstance(degradation, VideoCodec | StillCodec):
            found[path.stem] = degradation
    return found


def degrade(codec: Degradation, frames: Tensor) -> Degraded:
    return codec(pristine("film", frames), torch.Generator())


def timed(codec: Degradation, frames: Tensor) -> float:
    start = time.process_time()
    degrade(codec, frames)
    return time.process_time() - start


def psnr(result: Degraded) -> Tensor:
    error = (result["frames"].double() - result["reference"]).square().mean((1, 2, 3))
    return 10 * torch.log10(255**2 / error)


def save_strip(path: str, frames: Tensor, results: dict[str, Degraded]) -> None:
    """Save the middle frame, clean and as `SHOWN`, at twice the size."""
    at = len(frames) // 2
    pictures = [frames[at], *(results[name]["frames"][at] for name in SHOWN)]
    strip = torch.cat(pictures, 2).permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(strip)
    picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.NEAREST).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--start", type=int, default=1836, help="first frame; no cut follows")
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--strip")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    frames = video.read_frames(assets.fetch("bunny"), arguments.start, arguments.frames, SIZE)
    count, area = len(frames), SIZE[0] * SIZE[1]
    print(f"{platform.machine()}, {os.cpu_count()} cores, PyAV {av.__version__}, ", end="")
    print(f"Pillow {PIL.__version__}, {count} frames {SIZE[0]}x{SIZE[1]} from {arguments.start}")

    found = codecs()
    results = {name: degrade(codec, frames) for name, codec in found.items()}
    alone, both = defaultdict(list), defaultdict(list)
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(degrade, [found["hevc"]] * 2, [frames[:2]] * 2))
        for _ in range(arguments.rounds):
            for name, codec in found.items():
                alone[name].append(timed(codec, frames))
                start = time.perf_counter()
                list(pool.map(timed, [codec] * 2, [frames] * 2))
                both[name].append(time.perf_counter() - start)
    print(f"{'codec':12} {'ms/frame':>8} {'ratio':>6} {'frames/s':>8} {'on two':>7}", end="")
    print(f" {'bpp':>7} {'dB':>6} {'wave':>5}")
    for name, result in results.items():
        spent, scores = median(alone[name]) / count, psnr(result)
        print(f"{name:12} {1e3 * spent:8.1f} {spent * count / median(alone['hevc']):6.2f}", end="")
        print(f" {1 / spent:8.0f} {2 * count / median(both[name]):7.0f}", end="")
        print(f" {8 * len(result['stream'] or b'') / count / area:7.4f}", end="")
        print(f" {scores.mean():6.2f} {scores.std():5.2f}")
    if arguments.strip:
        save_strip(arguments.strip, frames, results)


if __name__ == "__main__":
    main()
