"""A training step of CCDNet2 with GAN: the authors' formulation against ours, and the conv peak.

    python benchmarks/training_step.py [--channels 64] [--crop 128] [--batch 2] [--compile]

authors    NCHW, float32, f_C as a loop over images with the whole distance matrix, gradients of
           the discriminator computed (and thrown away) in the generator's pass
ours       `CCDNet` and `conf/loss/grad_gan.yaml` with the discriminator frozen in that pass, in
           channels_last; in float32, in bfloat16 autocast, and compiled where asked for

U1 is frozen in all, as published; U2 and the discriminator take an Adam step each, ours fused. All
variants take their turns in one process; times are medians. The share is floating-point operations
per second over those of the fastest convolution that this machine shows in the same precision.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from quantizer import whole_matrix
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from unlossy.losses.adversarial import Adversary
from unlossy.losses.objective import Objective, Weighted
from unlossy.losses.pixel import GradientLoss, PixelLoss, image_gradients
from unlossy.models.ccdnet import CCDNet
from unlossy.models.weights import EMBEDDED
from unlossy.networks.patchgan import PatchGAN
from unlossy.networks.unet import UNet
from unlossy.sample import Sample

Step = Callable[[], None]
ADAM = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999), weight_decay=1e-4)
COLORS = 32


def sample(batch: int, crop: int) -> Sample:
    """Random frames made of the colours of their palettes."""
    palette = torch.randint(0, 256, (batch, 1, COLORS, 3)) / 255
    index = torch.randint(0, COLORS, (batch, crop, crop))
    gif = torch.stack([p[0][i] for p, i in zip(palette, index, strict=True)])
    return Sample(
        name=["random"] * batch,
        degraded=gif.permute(0, 3, 1, 2)[:, None].contiguous(),
        clean=torch.rand(batch, 1, 3, crop, crop),
        t_in=torch.zeros(batch, 1),
        t_out=torch.zeros(batch, 1),
        side={"palette": palette, "palette_size": torch.full((batch, 1), COLORS)},
        target={},
        bits=torch.zeros(batch),
    )


def authors_step(channels: int, batch: Sample) -> Step:
    first, second = UNet(3, 3, channels).eval().requires_grad_(False), UNet(12, 3, channels)
    critic = PatchGAN(12, channels)
    model_adam, critic_adam = ADAM(second.parameters()), ADAM(critic.parameters())
    gif, clean = (x[:, 0] * 2 - 1 for x in (batch["degraded"], batch["clean"]))
    palette, size = batch["side"]["palette"][:, 0] * 2 - 1, batch["side"]["palette_size"][:, 0]

    def judge(image: Tensor, label: float) -> Tensor:
        gradients = functional.pad(image_gradients(image), (1, 0, 1, 0))
        logits = critic(torch.cat([gif, image, gradients], 1))
        return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))

    def step() -> None:
        with torch.no_grad():
            start = first(gif).tanh()
            requantized = whole_matrix(start, palette, size)
        seen = torch.cat([start, gif, requantized, gif - requantized], 1)
        estimate = (start + second(seen)).tanh()
        critic_adam.zero_grad()
        ((judge(clean, 1.0) + judge(estimate.detach(), 0.0)) / 2).backward()
        critic_adam.step()
        ours, theirs = image_gradients(estimate).abs(), image_gradients(clean).abs()
        pixel, gradient = (estimate - clean).abs().mean(), 2 * (ours - theirs).abs().mean()
        model_adam.zero_grad()
        (100 * pixel + 100 * gradient + judge(estimate, 1.0)).backward()
        model_adam.step()

    return step


def our_step(channels: int, batch: Sample, dtype: torch.dtype, compiled: bool) -> Step:
    model = CCDNet(2, channels, base_ckpt=EMBEDDED).train()
    adam = partial(ADAM, fused=True)
    player = Adversary(PatchGAN(12, channels), adam)
    terms = {"pixel": Weighted(100, PixelLoss()), "gradient": Weighted(100, GradientLoss())}
    objective = Objective(terms, player)
    for module in (model, objective):
        module.to(memory_format=torch.channels_last)
    if compiled:
        for network in (model.base, model.refine, player.network):
            network.compile()
    model_adam, player_adam = adam(model.param_groups(2e-4)), player.make_optimizer()
    draws = torch.Generator()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            restored = model(batch)
            played = player.loss(restored, batch, draws)
        player_adam.zero_grad()
        played["loss"].backward()
        player_adam.step()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            total = objective(restored, batch, 0)["total"]
        model_adam.zero_grad()
        total.backward()
        model_adam.step()

    return step


def seconds(run: Step) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def convolution_peak(dtype: torch.dtype, rounds: int) -> float:
    """Return the best FLOP/s of 3x3 convolutions over a few sizes of the network."""
    best = 0.0
    for width, size in ((64, 128), (128, 64), (256, 32), (512, 32)):
        x = torch.rand(2, width, size, size, dtype=dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        conv = nn.Conv2d(width, width, 3, padding=1).to(dtype=dtype)
        conv.to(memory_format=torch.channels_last)
        with torch.no_grad():
            conv(x)
            fastest = min(seconds(partial(conv, x)) for _ in range(3 * rounds))
        best = max(best, 2 * 2 * 9 * width**2 * size**2 / fastest)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    batch = sample(arguments.batch, arguments.crop)
    print(f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}")
    single, half = torch.float32, torch.bfloat16
    ours = partial(our_step, arguments.channels, batch)
    variants = {
        "authors": (authors_step(arguments.channels, batch), single),
        "ours float32": (ours(single, False), single),
        "ours bfloat16": (ours(half, False), half),
    }
    if arguments.compile:
        variants["ours float32 compiled"] = (ours(single, True), single)
        variants["ours bfloat16 compiled"] = (ours(half, True), half)
    for step, _ in variants.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(arguments.rounds):
        for name, (step, _) in variants.items():
            times[name].append(seconds(step))
    peaks = {dtype: convolution_peak(dtype, arguments.rounds) for dtype in (single, half)}
    for dtype, peak in peaks.items():
        print(f"convolution peak {str(dtype).removeprefix('torch.')}: {peak / 1e9:.0f} GFLOP/s")
    work = {}
    for name in ("authors", "ours float32"):
        with FlopCounterMode(display=False) as counter:
            variants[name][0]()
        work[name] = counter.get_total_flops()
    reference = statistics.median(times["authors"])
    for name, (_, dtype) in variants.items():
        median = statistics.median(times[name])
        rate = work["authors" if name == "authors" else "ours float32"] / median
        print(
            f"{name:23s} {median:.3f} s  {reference / median:.2f}x  {rate / 1e9:.0f} GFLOP/s  "
            f"{rate / peaks[dtype]:.0%} of the peak"
        )


if __name__ == "__main__":
    main()
