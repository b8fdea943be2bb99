"""How well `other_scene` tells a cut from motion, on the shots of source=footage.

    python benchmarks/scene_cuts.py

Counted are the pairs of frames 4 and 8 apart within its shots of the film, of which none is a cut,
and the pairs of the last frame of each shot and the first one of the next, which all are.
"""

from itertools import pairwise

import hydra
import torch

from unlossy import cli
from unlossy.models.interpolator import grey_difference, other_scene
from unlossy.training.configs import build

CUT = 25.0  # that of the models


def main() -> None:
    with hydra.initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = hydra.compose("train", ["source=footage", "degradation=none", "name=x"])
    source = build(cfg.data.source)
    splits = ("train", "val", "test")
    listed = [clip for split in splits for clip in source.clips(split) if clip.source == "bunny"]
    shots = [source.read(clip, 0, clip.frames) for clip in sorted(listed, key=lambda c: c.name)]
    within = [
        (shot[start], shot[start + lag])
        for shot in shots
        for lag in (4, 8)
        for start in range(0, len(shot) - lag, 4)
    ]
    across = [(shot[-1], after[0]) for shot, after in pairwise(shots)]
    for name, pairs in (("motion within shots", within), ("cuts between shots", across)):
        by_grey = both = 0
        for first, last in pairs:
            a, b = (x[None, None].float() / 255 for x in (first, last))
            by_grey += int(grey_difference(a, b) > CUT)
            both += int(other_scene(a, b, CUT))
        print(f"{name}: {len(pairs)} pairs; taken for cuts {both}, by grey alone {by_grey}")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
