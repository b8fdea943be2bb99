"""Training samples from the cache against decoding the GIF for every sample.

    python benchmarks/data_reading.py [--samples 400] [--crop 64]

Both read the same frame, one after the other in one process, so that the ratio holds on a busy
machine. The reference opens the cached GIF with Pillow and seeks to the frame, as a loader over
files does; its clean frame comes from the memory map in both ways, which favours it. The last line
reads whole batches through the loader with two workers, as a training run does.
"""

from __future__ import annotations

import argparse
import io
import time

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from torch.utils.data import DataLoader

from unlossy import cli
from unlossy.data.samples import Steps, TrainingSamples, collate
from unlossy.data.video_data import VideoData


def decoded(data: VideoData, name: str, frame: int, crop: int) -> torch.Tensor:
    """Read a crop of a frame as a loader over GIF files would, palette included."""
    clip = next(clip for clip in data.clips["train"] if clip.name == name)
    kept = data.cache.load(clip)
    with Image.open(io.BytesIO(kept.stream.numpy().tobytes())) as gif:
        gif.seek(frame)
        shown = torch.from_numpy(np.array(gif.convert("RGB")))
    clean = data.source.read(clip, frame, 1)
    return torch.cat([shown[:crop, :crop].permute(2, 0, 1)[None], clean[:, :, :crop, :crop]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--crop", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose("train", [f"data.crop={arguments.crop}"])
    nodes = {key: cfg[key] for key in ("data", "source", "degradation", "seed")}
    data: VideoData = instantiate(OmegaConf.create(nodes).data, _convert_="all")
    data.prepare_data()
    samples = TrainingSamples(data.cache, data.clips["train"], arguments.crop, 1, 0)
    for i in range(arguments.samples):
        samples[i]  # both ways find their files in memory
    seconds = {"cache": 0.0, "decode": 0.0}
    for i in range(arguments.samples):
        start = time.perf_counter()
        sample = samples[i]
        seconds["cache"] += time.perf_counter() - start
        start = time.perf_counter()
        decoded(data, sample["name"][0], int(sample["t_in"][0, 0]), arguments.crop)
        seconds["decode"] += time.perf_counter() - start
    for way, spent in seconds.items():
        print(f"{way:8} {arguments.samples / spent:8.0f} samples/s")
    print(f"ratio    {seconds['decode'] / seconds['cache']:8.1f}")

    steps, batch = arguments.samples, 8
    loader = DataLoader(
        samples, batch_sampler=Steps(0, steps, batch), collate_fn=collate, num_workers=2
    )
    batches = iter(loader)
    next(batches)
    start = time.perf_counter()
    for _ in batches:
        pass
    rate = (steps - 1) * batch / (time.perf_counter() - start)
    print(f"loader   {rate:8.0f} samples/s, batch {batch}, two workers")


if __name__ == "__main__":
    main()
