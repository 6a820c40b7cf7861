"""Checks of notebooks 02b and 02c."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labkit._verdict import Verdict, in_words, name_of, raised, shown

__all__ = ["check_centroid_gradient", "check_lloyd_round", "check_stochastic_rounding", "check_straight_through"]

ROUNDS = (  # values, centroids; no value is half-way between two centroids, and each centroid has members
    ([0.0, 1.0, 2.0, 9.0, 10.0], [0.5, 9.0]),
    ([-3.0, -2.0, 0.25, 0.5, 4.0, 6.0], [-2.0, 0.0, 3.0]),
    ([5.0, -5.0, 4.0], [-1.0, 2.0]),
)
GRADIENTS = (  # gradients of the weights, their indices, number of centroids
    ([1.0, -2.0, 0.5, 4.0], [0, 1, 0, 1], 2),
    ([[0.25, 1.0], [-3.0, 2.0]], [[2, 2], [0, 2]], 3),
)
CLIPPED = (  # gradients of x_hat, weights in steps of the grid, its lowest and highest level
    ([1.0, 2.0, -3.0, 4.0], [-2.25, -2.75, 1.25, 1.75], -2, 1),
    ([0.5, -0.5], [0.0, 9.0], 0, 3),
)
DRAWS = (  # numbers, uniform draws
    ([0.25, 0.25, 0.25, 0.25], [0.125, 0.5, 0.6875, 0.875]),
    ([-1.5, 2.0, 3.75], [0.25, 0.0, 0.5]),
)


@in_words
def check_lloyd_round(answer: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """`answer(x, centroids)`: the new centroids, each the mean of the values that are nearest to the old one."""
    cases = [((torch.tensor(x), torch.tensor(c)), _means(x, c)) for x, c in ROUNDS]
    return _tensors(answer, cases, "assign, then average; k-means repeats this until no assignment changes")


@in_words
def check_centroid_gradient(answer: Callable[[Tensor, Tensor, int], Tensor]) -> Verdict:
    """`answer(gradient, indices, k)`: the gradient of each of k centroids, the sum over its members (Han et al.)."""
    cases = [((torch.tensor(g), torch.tensor(i), k), _sums(g, i, k)) for g, i, k in GRADIENTS]
    return _tensors(answer, cases, "a centroid's gradient is the sum over its members; in labkit autograd adds it up")


@in_words
def check_straight_through(answer: Callable[[Tensor, Tensor, int, int], Tensor]) -> Verdict:
    """`answer(gradient, x, quant_min, quant_max)`: the straight-through gradient of x, given in steps of its grid.

    It equals the gradient of x_hat where x rounds to a level of the grid, and is 0 elsewhere.
    """
    cases = [
        (
            (torch.tensor(g), torch.tensor(x), low, high),
            [a * (low <= round(v) <= high) for a, v in zip(g, x, strict=True)],
        )
        for g, x, low, high in CLIPPED
    ]
    return _tensors(answer, cases, "a weight out of range is clipped to one level; a small step does not change it")


@in_words
def check_stochastic_rounding(answer: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """`answer(x, u)`: x rounded down or up to a whole number, up with the probability of its fraction; u in [0, 1)."""
    cases = [
        ((torch.tensor(x), torch.tensor(u)), [float((v + w) // 1) for v, w in zip(x, u, strict=True)]) for x, u in DRAWS
    ]
    return _tensors(answer, cases, "0.25 becomes 1 in a quarter of the draws: correct on average, but never in one")


def _means(x: list[float], centroids: list[float]) -> list[float]:
    members: list[list[float]] = [[] for _ in centroids]
    for value in x:
        members[min(range(len(centroids)), key=lambda i: abs(value - centroids[i]))].append(value)
    return [sum(values) / len(values) for values in members]


def _sums(gradient: list[Any], indices: list[Any], k: int) -> list[float]:
    sums = [0.0] * k
    for g, i in zip(torch.tensor(gradient).flatten().tolist(), torch.tensor(indices).flatten().tolist(), strict=True):
        sums[i] += g
    return sums


def _tensors(answer: Callable[..., Any], cases: list[tuple[tuple[Any, ...], list[float]]], solved: str) -> Verdict:
    """Try a student's function; report the first difference from the expected values."""
    for case, expected in cases:
        values = [value.tolist() if isinstance(value, Tensor) else value for value in case]
        call = f"{name_of(answer)}({', '.join(map(str, values))})"
        try:
            given = answer(*(value.clone() if isinstance(value, Tensor) else value for value in case))
            if not isinstance(given, Tensor):
                return Verdict(False, f"{call} should be a tensor; yours is a {type(given).__name__}")
            correct = given.shape == (len(expected),) and torch.allclose(given.float(), torch.tensor(expected))
        except Exception as error:  # noqa: BLE001 - a student's code may raise anything; the verdict says so
            return raised(call, error)
        if not correct:
            rounded = [round(v, 4) for v in expected]
            return Verdict(False, f"{call} should be {rounded}; yours is {shown(given.tolist())}")
    return Verdict(True, solved)
