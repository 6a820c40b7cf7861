"""Losses, against their formulas."""

import torch

from labkit import losses


def test_cross_entropy_is_the_mean_negative_log_of_the_right_class(mlp, digits):
    x, y = digits.test.x[:20], digits.test.y[:20]
    probability = mlp(x).exp() / mlp(x).exp().sum(1, keepdim=True)
    expected = -probability[torch.arange(20), y].log().mean()
    assert torch.allclose(losses.cross_entropy(mlp, x, y), expected, atol=1e-6)


def test_bfloat16_changes_only_the_precision(mlp, digits):
    x, y = digits.test.x[:200], digits.test.y[:200]
    exact, rough = losses.cross_entropy(mlp, x, y), losses.cross_entropy_bf16(mlp, x, y)
    assert rough != exact
    assert torch.allclose(rough.float(), exact, rtol=0.02)
