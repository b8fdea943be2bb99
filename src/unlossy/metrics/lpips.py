"""LPIPS and its trunks with the weights of the asset table: the only way to them from a config."""

from __future__ import annotations

from safetensors.torch import load_file

from unlossy import assets
from unlossy.networks.lpips import LPIPS, Trunk


def lpips(asset: str) -> LPIPS:
    """Return LPIPS v0.1 on a trunk of the asset table: `lpips_alex` or `lpips_vgg`.

    Raises:
        UserError: the asset is neither cached nor reachable.
    """
    return LPIPS(load_file(assets.fetch(asset)))


def trunk(asset: str) -> Trunk:
    """Return a trunk of the asset table alone, for distances between sets of frames."""
    return Trunk(load_file(assets.fetch(asset)))
