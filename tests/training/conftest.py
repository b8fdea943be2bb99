"""Footage for runs: clips small enough to train on in seconds, and where nothing needs fetching."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def footage(tmp_path_factory):
    """A folder of eight clips, each a drifting picture of six 40x56 frames, as PNG files."""
    folder = tmp_path_factory.mktemp("data") / "footage"
    y, x, c = np.meshgrid(np.arange(40), np.arange(56), np.arange(3), indexing="ij")
    for clip in range(8):
        (folder / f"clip{clip}").mkdir(parents=True)
        for t in range(6):
            wave = np.sin((0.1 + 0.02 * clip) * (c + 1) * (x + t) + 0.07 * (clip + 1) * y)
            frame = Image.fromarray(((wave + 1) * 127.5).astype(np.uint8))
            frame.save(folder / f"clip{clip}" / f"{t:03d}.png")
    return folder
