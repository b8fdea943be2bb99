"""Prove on reference tensors that our networks give the authors' results.

    python tests/parity/check.py FILE...

A file holds an official network's weights, its inputs and its outputs; the kind is found from the
keys, every size from the shapes. Prints the mean and maximum absolute error of each output. Exit
code 0: all within the target (mean < 1e-5, and 99.9 % of the values within 1e-4); 1: not; 2: a file
that cannot be used.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from unlossy.models.basicvsr import BasicVSR
from unlossy.models.ccdnet import CCDNet
from unlossy.models.film import FILM
from unlossy.models.superslomo import SuperSloMo
from unlossy.networks.patchgan import PatchGAN
from unlossy.networks.slomo import intermediate_flows, interpolated

MEAN, CLOSE, SHARE = 1e-5, 1e-4, 0.999

Tensors = Mapping[str, Tensor]
Pairs = dict[str, tuple[Tensor, Tensor]]  # output name -> (ours, the authors')


def ccdnet(file: Tensors) -> Pairs:
    """`base.*`, `refine.*` (but for one step), `gif`, `palette`, `init`, `iter1`, `iter2`, ..."""
    names = ["init"]
    while f"iter{len(names)}" in file:
        names.append(f"iter{len(names)}")
    refine = within(file, "refine.") if len(names) > 1 else None
    model = CCDNet.from_official(within(file, "base."), refine, len(names)).eval()
    side = {}
    if "palette" in file:
        palette = (file["palette"][:, None] + 1) / 2  # (B, 1, P, 3) in [0, 1]
        side = {"palette": palette, "palette_size": torch.full(palette.shape[:2], palette.shape[2])}
    batch = {"degraded": (file["gif"][:, None] + 1) / 2, "side": side}
    steps = model(batch)["extras"]["steps"][:, :, 0] * 2 - 1  # (B, K, 3, H, W) in [-1, 1]
    return {name: (steps[:, k], file[name]) for k, name in enumerate(names)}


def patchgan(file: Tensors) -> Pairs:
    """`net.*`, `input`, `logits`."""
    network = PatchGAN.from_weights(within(file, "net.")).eval()
    return {"logits": (network(file["input"]), file["logits"])}


def basicvsr(file: Tensors) -> Pairs:
    """`net.*`, `frames` (B, T, 3, h, w), `upsampled_x4`, and where T > 1 `flow_0_to_1`."""
    model = BasicVSR.from_official(within(file, "net.")).eval()
    frames = file["frames"]
    pairs = {"upsampled_x4": (model({"degraded": frames})["estimate"], file["upsampled_x4"])}
    if "flow_0_to_1" in file:
        flow = model.spynet(frames[:, 0], frames[:, 1])
        pairs["flow_0_to_1"] = (flow, file["flow_0_to_1"])
    return pairs


def slomo(file: Tensors) -> Pairs:
    """`netA.*`, `netB.*`, `gif0/1`, `frame0/1`, `times` (T,), and what came out, flows in tanh."""
    networks = {key: value for key, value in file.items() if key.startswith("net")}
    model, times = SuperSloMo.from_official(networks).eval(), file["times"].flatten()
    gif0, gif1, frame0, frame1 = (
        (file[key] + 1) / 2 for key in ("gif0", "gif1", "frame0", "frame1")
    )
    flows = model.flow(gif0, gif1), model.flow(gif1, gif0)
    scale = model.max_flow
    made = interpolated(model.refine, frame0, frame1, flows, times, scale, residual=False)
    t = times.view(-1, 1, 1, 1)
    to_first, to_last = intermediate_flows(flows[0][:, None], flows[1][:, None], t)
    ours = {
        "interpolated": made.frames * 2 - 1,
        "flow01": flows[0] / scale,
        "flow10": flows[1] / scale,
        "flow_t0": to_first / scale,
        "flow_t1": to_last / scale,
        "visibility_t0": made.visibility,
    }
    return {name: (value, file[name]) for name, value in ours.items()}


def film(file: Tensors) -> Pairs:
    """`weights/*` in TensorFlow's layout, `pyramid_levels`, `frame0`, `frame1`, what came out."""
    weights = within(file, "weights/")
    network = FILM.from_official(weights, int(file["pyramid_levels"])).eval().network
    seen = network.see(file["frame0"]), network.see(file["frame1"])
    forward, backward = network.flows(*seen)
    found = network.between(*seen, forward, backward)
    ours = {
        "image": found.image,
        "x0_warped": found.warped_first,
        "x1_warped": found.warped_last,
        "forward_flow": forward[0],
        "backward_flow": backward[0],
    }
    return {name: (value, file[name]) for name, value in ours.items()}


# The keys that only files of this kind have -> how to run it.
KINDS: tuple[tuple[frozenset[str], Callable[[Tensors], Pairs]], ...] = (
    (frozenset({"base.inconv.0.weight", "gif", "init"}), ccdnet),
    (frozenset({"net.0.weight", "input", "logits"}), patchgan),
    (frozenset({"net.fusion.weight", "frames", "upsampled_x4"}), basicvsr),
    (frozenset({"netA.inconv.0.weight", "gif0", "frame0", "times"}), slomo),
    (frozenset({"pyramid_levels", "frame0", "frame1", "image"}), film),
)


def within(file: Tensors, prefix: str) -> dict[str, Tensor]:
    """Return the tensors under a prefix, without it."""
    return {key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)}


def report(name: str, ours: Tensor, theirs: Tensor) -> bool:
    """Print one output's errors and return whether they are within the target."""
    if ours.shape != theirs.shape:
        print(f"  {name}: shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}  FAILED")
        return False
    error = (ours.double() - theirs.double()).abs()
    share = (error <= CLOSE).double().mean().item()
    passed = error.mean().item() < MEAN and share >= SHARE  # false for NaN
    print(
        f"  {name}: mean {error.mean():.2e}  max {error.max():.2e}  "
        f"within {CLOSE:g}: {share:.3%}  {'ok' if passed else 'FAILED'}"
    )
    return passed


def main(paths: list[str]) -> int:
    if not paths:
        print(__doc__, file=sys.stderr)
        return 2
    passed = True
    for path in paths:
        try:
            file = load_file(path)
            run = next((run for keys, run in KINDS if keys <= file.keys()), None)
            if run is None:
                known = ", ".join(run.__name__ for _, run in KINDS)
                raise ValueError(f"its keys are of none of the kinds that can be checked: {known}")
            with torch.no_grad():
                pairs = run(file)
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 2
        print(f"{Path(path).name} ({run.__name__})")
        for name, (ours, theirs) in pairs.items():
            passed = report(name, ours, theirs) and passed
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
