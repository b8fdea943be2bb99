"""FILM's official weights, in TensorFlow's layout or the PyTorch port's, as a network of ours.

    feat_net/.../cfeat_conv_0/kernel              extract.extract_sublevels.convs.0.0.0.weight
    predict_flow/.../flow_predictor_1/conv_0/...  predict_flow._predictors.1._convs.0.0....
    predict_flow/.../flow_predictor_shared/...    predict_flow._predictor._convs.0.0....
    fusion/.../conv2d_12/...                      fuse.convs.0.0.0....  fuse.output_conv....

TensorFlow's kernels are (height, width, inputs, outputs). Keras numbers layers of a kind on through
all models of a process, so the numbers say their order and no more; the port counts flow predictors
and fusion levels from coarse to fine. Every size but `pyramid_levels` is read off the shapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from unlossy.networks.film import FILMNet

# Sorted by level, then by number, each of the three parts stands in the order of FILMNet; what has
# no level comes last: the shared predictor, and the output. -1: levels count from coarse to fine.
_LEVEL, _NUMBER = r"(?P<level>\d+)", r"(?P<number>\d+)"
_NAME = r"(?P<name>kernel|weight|bias)"
_TENSORFLOW = (
    (1, rf"cfeat_conv_{_NUMBER}/{_NAME}"),
    (1, rf"flow_predictor_({_LEVEL}|shared)/conv_{_NUMBER}/{_NAME}"),
    (1, rf"fusion/(.*/)?conv2d(_{_NUMBER})?/{_NAME}"),
)
_PORT = (
    (1, rf"_sublevels\.convs\.{_LEVEL}\.{_NUMBER}\.0\.{_NAME}"),
    (-1, rf"_predictor(s\.{_LEVEL})?\._convs\.{_NUMBER}\.0\.{_NAME}"),
    (-1, rf"fuse\.(convs\.{_LEVEL}\.{_NUMBER}\.0|output_conv)\.{_NAME}"),
)


def film_network(weights: Mapping[str, Any], pyramid_levels: int) -> FILMNet:
    """Build a network from official weights.

    Args:
        weights: official names, under any prefix, to tensors or arrays of any float precision;
            other names are passed over.
        pyramid_levels: of the network; the shared predictor makes all of them look alike.

    Raises:
        ValueError: a convolution is missing, too many, or of a shape that no FILM has there.
    """
    extract, flow, fusion = _convolutions(weights)
    predictors: dict[float, list[dict[str, Tensor]]] = {}
    for (predictor, _), parts in flow.items():
        predictors.setdefault(predictor, []).append(parts)
    try:
        network = FILMNet(
            pyramid_levels=pyramid_levels,
            fusion_levels=(len(fusion) - 1) // 3 + 1,
            specialized_levels=len(predictors) - 1,
            sub_levels=len(extract) // 2,
            filters=len(next(iter(extract.values()))["bias"]),
            flow_convs=[len(convs) - 2 for convs in predictors.values()],
            flow_filters=[len(convs[0]["bias"]) for convs in predictors.values()],
        )
    except (StopIteration, KeyError) as error:
        raise ValueError("these weights lack a convolution that every FILM begins with") from error
    ours = {name: c for name, c in network.named_modules() if isinstance(c, nn.Conv2d)}
    theirs = [*extract.values(), *flow.values(), *fusion.values()]
    if len(ours) != len(theirs):
        raise ValueError(f"these weights have {len(theirs)} convolutions, such a FILM {len(ours)}")
    for (name, conv), parts in zip(ours.items(), theirs, strict=True):
        found = {part: tuple(value.shape) for part, value in parts.items()}
        wanted = {part: tuple(value.shape) for part, value in conv.state_dict().items()}
        if found != wanted:
            raise ValueError(f"the convolution {name} has {found} in these weights, not {wanted}")
        conv.load_state_dict(parts)
    return network


def _convolutions(
    weights: Mapping[str, Any],
) -> Iterator[dict[tuple[float, int], dict[str, Tensor]]]:
    """Yield for extractor, flow and fusion: (level, number) -> weight and bias, in order."""
    tensorflow = any("/kernel" in key for key in weights)
    for sign, pattern in _TENSORFLOW if tensorflow else _PORT:
        found: dict[tuple[float, int], dict[str, Tensor]] = {}
        for key, value in weights.items():
            if not (match := re.search(pattern, key)):
                continue
            groups, tensor = match.groupdict(), torch.as_tensor(value).float()
            level = sign * int(groups["level"]) if groups.get("level") else inf
            if groups["name"] == "kernel":
                tensor = tensor.permute(3, 2, 0, 1).contiguous()
            name = "bias" if groups["name"] == "bias" else "weight"
            found.setdefault((level, int(groups["number"] or 0)), {})[name] = tensor
        yield dict(sorted(found.items()))
