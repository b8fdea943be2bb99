"""Official FILM weights: both layouts, numbers that start anywhere, and what is no FILM."""

import numpy as np
import pytest
import torch
from torch import nn

from unlossy.networks.film import FILMNet
from unlossy.networks.film_weights import film_network

SIZES = {
    "pyramid_levels": 5,
    "fusion_levels": 4,
    "specialized_levels": 2,
    "sub_levels": 3,
    "filters": 3,
    "flow_convs": (1, 3, 2),
    "flow_filters": (4, 6, 5),
}


def tensorflow(network: FILMNet, shift: int = 0) -> dict[str, torch.Tensor]:
    """Write it as the authors' code names its variables, Keras counting on from `shift`."""
    convs: dict[str, nn.Conv2d] = {}
    for k, pair in enumerate(network.extract):
        convs[f"feat_net/sub_extractor/cfeat_conv_{2 * k}"] = pair[0]
        convs[f"feat_net/sub_extractor/cfeat_conv_{2 * k + 1}"] = pair[2]
    for k, predictor in enumerate(network.flow):
        name = "shared" if k == len(network.flow) - 1 else str(k)
        own = [part for part in predictor.modules() if isinstance(part, nn.Conv2d)]
        convs |= {f"predict_flow/flow_predictor_{name}/conv_{i}": c for i, c in enumerate(own)}
    fused = [c for level in network.fusion for c in (level.up, level.conv1, level.conv2)]
    for k, conv in enumerate([*fused, network.out], shift):
        convs["fusion/conv2d" + (f"_{k}" if k else "")] = conv
    variables = {f"{name}/kernel:0": c.weight.permute(2, 3, 1, 0) for name, c in convs.items()}
    return variables | {f"{name}/bias:0": c.bias for name, c in convs.items()}


class Port(nn.Module):
    """Names as in the PyTorch port, whose lists run from coarse to fine."""

    def __init__(self, network: FILMNet) -> None:
        super().__init__()

        def wrapped(*convs: nn.Module) -> nn.ModuleList:
            return nn.ModuleList(nn.Sequential(conv, nn.LeakyReLU(0.2)) for conv in convs)

        def held(**parts: nn.Module) -> nn.Module:
            module = nn.Module()
            for name, part in parts.items():
                module.add_module(name, part)
            return module

        def predictor(part: nn.Module) -> nn.Module:
            return held(_convs=wrapped(*(c for c in part.modules() if isinstance(c, nn.Conv2d))))

        pairs = nn.ModuleList(nn.Sequential(*wrapped(pair[0], pair[2])) for pair in network.extract)
        self.extract = held(extract_sublevels=held(convs=pairs))
        *own, shared = network.flow
        self.predict_flow = held(
            _predictor=predictor(shared), _predictors=nn.ModuleList(map(predictor, own[::-1]))
        )
        levels = [wrapped(level.up, level.conv1, level.conv2) for level in network.fusion]
        self.fuse = held(convs=nn.ModuleList(levels[::-1]), output_conv=network.out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.fixture
def network() -> FILMNet:
    network = FILMNet(**SIZES)
    for weight in network.parameters():  # biases too: a swapped one must show
        nn.init.normal_(weight)
    return network


def equal(ours: FILMNet, theirs: FILMNet, **tolerance: float) -> bool:
    pairs = zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True)
    return all(a == b and torch.allclose(x, y, **tolerance) for (a, x), (b, y) in pairs)


@pytest.mark.parametrize("shift", [0, 7, 95])
def test_tensorflow_variables_in_any_order_and_numbered_from_anywhere(network, shift):
    variables = tensorflow(network, shift)
    assert ("fusion/conv2d/bias:0" in variables) == (shift == 0)
    reversed_ = {f"model/film_net/{key}": variables[key] for key in reversed(variables)}
    assert equal(film_network(reversed_ | {"save_counter": torch.tensor(1)}, 5), network)


def test_a_dump_of_arrays(network, tmp_path):
    variables = {k.removesuffix(":0"): v.detach().double() for k, v in tensorflow(network).items()}
    np.savez(tmp_path / "film.npz", **{key: value.numpy() for key, value in variables.items()})
    assert equal(film_network(np.load(tmp_path / "film.npz"), 5), network)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_ports_state_dict_and_torchscript_in_half_precision(network, tmp_path):
    port = Port(network)
    assert {
        "extract.extract_sublevels.convs.2.1.0.weight",
        "predict_flow._predictor._convs.3.0.bias",
        "predict_flow._predictors.1._convs.0.0.weight",
        "fuse.convs.2.0.0.weight",
        "fuse.output_conv.bias",
    } <= port.state_dict().keys()
    assert equal(film_network(port.state_dict(), 5), network)
    port.half()
    torch.jit.save(torch.jit.trace(port, torch.zeros(1)), tmp_path / "film.pt")
    state = torch.jit.load(tmp_path / "film.pt").state_dict()
    assert equal(film_network(state, 5), network.float(), atol=2e-3)


def test_what_is_missing_or_bent_is_refused(network):
    variables = tensorflow(network)
    for key in variables:
        with pytest.raises(ValueError, match=r"convolution|FILM"):
            film_network({k: v for k, v in variables.items() if k != key}, 5)
    key = "predict_flow/flow_predictor_0/conv_2/kernel:0"
    with pytest.raises(ValueError, match=r"the convolution flow\.0\.last has"):
        film_network(variables | {key: torch.zeros(3, 3, 4, 2)}, 5)
    with pytest.raises(ValueError, match="lack a convolution"):
        film_network({"net.0.weight": torch.zeros(3)}, 5)
    with pytest.raises(ValueError, match="no FILM has pyramid_levels=2"):
        film_network(variables, 2)
