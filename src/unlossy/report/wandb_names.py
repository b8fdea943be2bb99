"""Under which names W&B knows what a run measured: training logs by them, the dashboard asks.

trainer/global_step                x of every curve, written by Lightning
val/psnr                           a curve; any other name of metrics.csv likewise
panels/<clip>                      input | restored | clean, as training goes on
test/clips                         the rows of the run, a table
test/<source>/<model>/<metric>     mean over the clips of a source, in the run's summary
test/panels/<clip>                 the strip of a scored clip
config: choices.<group>            what was chosen in a Hydra group, such as choices.loss

A run's test values stand once, in its summary, so that every chart of them is a chart of runs.
"""

from __future__ import annotations

from typing import Literal

JobType = Literal["train", "stage", "eval"]

STEP = "trainer/global_step"
CLIPS = "test/clips"
CHOICES = "choices"
TESTED = ("psnr", "gain", "ssim", "lpips_alex", "share_below_input", "seconds_per_frame")


def tested(source: str, model: str, metric: str) -> str:
    """Return the summary's name of a mean; a dot would nest it, `astf:e1` becomes `astf-e1`."""
    return f"test/{_plain(source)}/{_plain(model)}/{metric}"


def choice(group: str) -> str:
    """Return where a run's configuration holds what was chosen in a group."""
    return f"{CHOICES}.{group}"


def panel(clip: str) -> str:
    """Return the name of a validation clip's pictures over time."""
    return f"panels/{clip}"


def test_panel(clip: str) -> str:
    """Return the name of a scored clip's strip."""
    return f"test/panels/{clip}"


def _plain(name: str) -> str:
    return name.replace(":", "-").replace(".", "-").replace("/", "-")
