"""A proxy for people: how often a small network takes a generated picture for the real one.

    f: picture -> score, trained on half of the pairs to minimise  log(1 + exp(f(made) - f(real)))
    fooled_proxy = share of the other half with f(made) > f(real), ties counted half

50 % is indistinguishable, to this network. It is a classifier two-sample test (Lopez-Paz and Oquab,
"Revisiting Classifier Two-Sample Tests", 2017) put as the two-alternative question that people are
asked: both pictures of a pair are judged, so that what they have in common cannot decide, and no
threshold is chosen. No figure of it is a human one; few pairs or steps make a weak judge, which is
fooled more: compare models at equal ones.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH = 32  # pairs
WIDTH = 32  # maps of the first layer


def fooled_proxy(
    real: Tensor,
    made: Tensor,
    images: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    steps: int = 300,
) -> float:
    """Return the share of unseen pairs in which the generated picture looks the more real one.

    Args:
        real: uint8 (N, C, H, W), at least 8x8.
        made: the same, the generated twin of each.
        images: which image each pair was cut from: an image falls into one half as a whole. None
            takes every pair for an image of its own.
        seed: of the halves, the first weights and the batches.
        steps: of training, 32 pairs each.

    Raises:
        ValueError: the two do not match, or there are fewer than two images.
    """
    if real.dtype != torch.uint8 or made.dtype != torch.uint8 or real.shape != made.shape:
        raise ValueError(
            f"real is {real.dtype} {tuple(real.shape)} and made {made.dtype} {tuple(made.shape)}; "
            "wanted: two uint8 (N, C, H, W) alike."
        )
    draws = torch.Generator().manual_seed(seed)
    seen, unseen = _halves(range(len(real)) if images is None else images, draws)
    pairs = torch.stack([real, made], 1)  # (N, 2, C, H, W)
    judge = _train(pairs[seen], draws, seed, steps)
    with torch.no_grad():
        batches = (unseen[k : k + BATCH] for k in range(0, len(unseen), BATCH))
        scores = torch.cat([_scores(judge, pairs[batch]) for batch in batches])  # (n, 2)
    signs = (scores[:, 1] - scores[:, 0]).sign()
    return float((signs.double() + 1).mean() / 2)


def _halves(images: Sequence[Hashable], draws: torch.Generator) -> tuple[list[int], list[int]]:
    """Return the pairs of a random half of the images, and those of the other half."""
    names = list(dict.fromkeys(images))
    if len(names) < 2:
        raise ValueError(f"{len(names)} images cannot be halved; wanted: at least 2.")
    chosen = torch.randperm(len(names), generator=draws)[: len(names) // 2].tolist()
    seen = {names[k] for k in chosen}
    halves: tuple[list[int], list[int]] = ([], [])
    for index, image in enumerate(images):
        halves[image not in seen].append(index)
    return halves


def _train(pairs: Tensor, draws: torch.Generator, seed: int, steps: int) -> nn.Module:
    """Return a network that tells real from made on (N, 2, C, H, W), in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = _judge(pairs.shape[2])
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=1e-2)
    for _ in range(steps):
        batch = pairs[torch.randint(len(pairs), (BATCH,), generator=draws)]
        if torch.rand((), generator=draws) < 0.5:
            batch = batch.flip(-1)
        scores = _scores(judge, batch)
        optimizer.zero_grad()
        loss = functional.softplus(scores[:, 1] - scores[:, 0]).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return judge.eval()


def _judge(channels: int) -> nn.Sequential:
    """Return a network (N, C, H, W) -> (N, 1), that sees 9x9 pixels at a time: texture."""
    return nn.Sequential(
        nn.Conv2d(channels, WIDTH, 3),
        nn.LeakyReLU(0.1),
        nn.Conv2d(WIDTH, 2 * WIDTH, 3, stride=2, padding=1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(2 * WIDTH, 2 * WIDTH, 3, stride=2, padding=1),
        nn.LeakyReLU(0.1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * WIDTH, 1),
    )


def _scores(judge: nn.Module, pairs: Tensor) -> Tensor:
    """Return the scores (n, 2) of uint8 (n, 2, C, H, W)."""
    pictures = pairs.flatten(0, 1).float().div(127.5).sub(1)
    scores: Tensor = judge(pictures).view(-1, 2)
    return scores
