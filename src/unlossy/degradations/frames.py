"""Dropping frames: a lower rate, with the clock of the clean clip."""

from __future__ import annotations

from unlossy.sample import Degraded


def keep_every(clip: Degraded, step: int) -> Degraded:
    """Keep frames 0, step, 2 step, ... with their times and side entries; `reference` stays whole.

    The stream goes, for it holds all frames.
    """
    if step == 1:
        return clip
    kept = Degraded(
        name=clip["name"],
        frames=clip["frames"][::step],
        t_in=clip["t_in"][::step],
        side={key: value[::step] for key, value in clip["side"].items()},
        stream=None,
        reference=clip["reference"],
    )
    if "index" in clip:
        kept["index"] = clip["index"][::step]
    return kept
