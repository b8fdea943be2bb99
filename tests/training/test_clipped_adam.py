"""Adam with clipped gradients: one norm over all groups, before the moments are updated."""

import pytest
import torch

from unlossy.errors import UserError
from unlossy.training.clipped_adam import ClippedAdam


def moved(gradients, through_closure=False, **options):
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in gradients]
    optimizer = ClippedAdam([{"params": [weight]} for weight in weights], lr=0.1, **options)

    def closure():
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = torch.tensor([gradient])
        return 7.0

    if through_closure:
        assert optimizer.step(closure) == 7.0
    else:
        closure()
        optimizer.step()
    return [optimizer.state[weight]["exp_avg"].item() * 10 for weight in weights]


@pytest.mark.parametrize("through_closure", [False, True])
def test_the_norm_is_one_over_all_groups(through_closure):
    assert moved([3.0, 4.0], through_closure, max_norm=1.0) == pytest.approx([0.6, 0.8])
    assert moved([0.3, 0.4], through_closure, max_norm=1.0) == pytest.approx([0.3, 0.4])


def test_a_norm_of_nothing_is_refused():
    with pytest.raises(UserError, match="above 0"):
        moved([1.0], max_norm=0.0)
