"""Checks of notebooks 02b and 02c: right answers written another way pass, near misses fail and are told why."""

import numpy as np
import pytest
import torch

from labkit.compress.codebook import to_indices
from labkit.teach import (
    check_centroid_gradient,
    check_lloyd_round,
    check_stochastic_rounding,
    check_straight_through,
)


def lloyd(x, centroids):
    nearest = to_indices(x + 1e-9, centroids).long() - 1
    return torch.tensor([float(x[nearest == i].mean()) for i in range(len(centroids))])


def sums(gradient, indices, k):
    return torch.from_numpy(np.bincount(indices.flatten(), gradient.flatten(), k))


RIGHT = {
    check_lloyd_round: lloyd,
    check_centroid_gradient: sums,
    check_straight_through: lambda g, x, low, high: torch.where((x - x.round().clamp(low, high)).abs() < 0.5, g, 0.0),
    check_stochastic_rounding: lambda x, u: torch.where(u < 1 - (x - x.floor()), x.floor(), x.floor() + 1),
}
WRONG = [
    (
        check_straight_through,
        lambda g, x, low, high: g,
        "should be [1.0, 0.0, -3.0, 0.0]; yours is [1.0, 2.0, -3.0, 4.0]",
    ),
    (
        check_straight_through,
        lambda g, x, low, high: torch.where((x >= low) & (x <= high), g, 0.0),
        "yours is [0.0, 0.0, 0.0, 0.0]",
    ),
    (check_lloyd_round, lambda x, c: c, "should be [1.0, 9.5]; yours is [0.5, 9.0]"),
    (check_lloyd_round, lambda x, c: lloyd(x, c).flip(0), "should be [1.0, 9.5]; yours is [9.5, 1.0]"),
    (check_centroid_gradient, lambda g, i, k: sums(g, i, k) / 2, "should be [1.5, 2.0]; yours is [0.75, 1.0]"),
    (check_centroid_gradient, lambda g, i, k: sums(g, i, k + 1), "should be [1.5, 2.0]; yours is [1.5, 2.0, 0.0]"),
    (
        check_stochastic_rounding,
        lambda x, u: x.round(),
        "should be [0.0, 0.0, 0.0, 1.0]; yours is [0.0, 0.0, 0.0, 0.0]",
    ),
    (check_stochastic_rounding, lambda x, u: (x + u).trunc(), "should be [-2.0, 2.0, 4.0]; yours is [-1.0, 2.0, 4.0]"),
    (check_stochastic_rounding, lambda x, u: 1 / 0, "your function raised ZeroDivisionError: division by zero"),
    (check_stochastic_rounding, lambda x, u: None, "should be a tensor; yours is a NoneType"),
]


@pytest.mark.parametrize("check", RIGHT, ids=lambda check: check.__name__)
def test_a_right_answer_passes(check):
    verdict = check(RIGHT[check])
    assert verdict.passed, verdict


@pytest.mark.parametrize(("check", "answer", "said"), WRONG)
def test_a_wrong_one_is_told_what_was_expected(check, answer, said):
    verdict = check(answer)
    assert not verdict.passed
    assert said in verdict.message
