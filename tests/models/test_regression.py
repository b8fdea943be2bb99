"""L2 regression: where its optimum lies, and what it refuses."""

import pytest
import torch

from unlossy.errors import UserError
from unlossy.models.regression import Regression
from unlossy.networks.conditioning import Conditioning


def test_it_starts_at_grey_and_has_three_planes_of_the_large_size():
    made = Regression(Conditioning(3, 8, 1)).eval()
    estimate = made({"degraded": torch.rand(2, 3, 3, 8, 9)})["estimate"]
    assert estimate.shape == (2, 3, 3, 32, 36)
    assert (estimate - 0.5).abs().max() < 0.3


def test_of_two_equally_likely_images_it_predicts_the_mean():
    made = Regression(Conditioning(1, 8, 1, 1, 1, 0.1))
    x = torch.rand(1, 1, 1, 4, 4).expand(2, 1, 1, 4, 4)
    clean = torch.rand(2, 1, 1, 8, 8)
    optimizer = torch.optim.Adam(made.parameters(), 1e-2)
    for _ in range(150):
        loss = (made({"degraded": x})["estimate"] - clean).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = made.eval().restore({"degraded": x})
    assert (found - clean.mean(0)).abs().max() < 0.05


def test_mistakes_have_a_sentence():
    with pytest.raises(UserError, match=r"the colours of a pixel.*outputs=3"):
        Regression(Conditioning(768, 4, 1))
    with pytest.raises(UserError, match="reads 3 colours and got frames of 1"):
        Regression(Conditioning(3, 4, 1)).restore({"degraded": torch.rand(1, 1, 1, 8, 8)})
