"""Shares of a folder by a hash of each name: files that are added move none of the others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from unlossy.errors import UserError
from unlossy.sample import Split


def by_hash(names: Sequence[str], val: float, test: float, where: str) -> dict[Split, list[str]]:
    """Return the names of each split, sorted.

    Args:
        names: all of them.
        val: share of the names for validation.
        test: share for testing; training gets the rest.
        where: what holds how many names, to begin a refusal with.

    Raises:
        UserError: fewer names than splits that have a share.
    """
    place = {name: int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) for name in names}
    shares: dict[Split, float] = {"test": test, "val": val, "train": 1.0 - test - val}
    splits: dict[Split, list[str]] = {split: [] for split in shares}
    for name in sorted(names, key=place.__getitem__):
        below = place[name] / 2**32
        held_out: Split = "test" if below < test else "val"
        splits[held_out if below < test + val else "train"].append(name)
    for split, share in shares.items():
        fullest = max(splits.values(), key=len)
        if share > 0 and not splits[split]:  # a small folder: the fullest split gives one
            if len(fullest) < 2:
                raise UserError(
                    f"{where}, too few to train, validate and test on; add some, or set "
                    "source.test=1 source.val=0 to evaluate only."
                )
            splits[split].append(fullest.pop(0))
    return {split: sorted(own) for split, own in splits.items()}
