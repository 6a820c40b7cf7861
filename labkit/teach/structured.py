"""Checks of notebook 04."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.teach._verdict import Verdict, compare, in_words, name_of, raised

FIRST = torch.tensor([[0.5, -2.0, 1.0], [0.25, 0.25, -0.25], [-1.0, 0.0, 3.0], [1.5, -1.0, 0.5]])
BIAS = torch.tensor([0.5, -0.25, 0.125, -1.0])
SECOND = torch.tensor([[1.0, -2.0, 0.5, 0.25], [0.0, 1.5, -1.0, 2.0]])
IMAGES = torch.tensor([[1.0, 0.0, 2.0], [-1.0, 0.5, 1.0], [0.5, -2.0, 0.25]])


@in_words
def check_unit_importance(answer: Callable[[Tensor], Tensor]) -> Verdict:
    """`answer(weight)`: Li et al.'s importance of every neuron or filter, one number a row: Σ |w|."""
    filters = torch.arange(-12.0, 12.0).view(3, 2, 2, 2) / 8
    for weight in (FIRST, filters):
        call = f"{name_of(answer)}(a weight of shape {tuple(weight.shape)})"
        expected = torch.stack([row.abs().sum() for row in weight])
        try:
            fault = _differs(answer(weight.clone()), expected)
        except Exception as error:  # noqa: BLE001 - a student's code may raise anything, and is told so
            return raised(call, error)
        if fault:
            return Verdict(False, f"{call} {fault}")
    return Verdict(True, "one number a unit, for neurons and for filters alike")


@in_words
def check_removal(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Any]) -> Verdict:
    """`answer(first, bias, second, kept)`: (first, bias, second) of x → second · relu(first · x + bias), smaller.

    `kept` holds the numbers of the hidden neurons that stay. Right is what computes the same as the whole network with
    the others silenced.
    """
    for kept in (torch.tensor([0, 2]), torch.tensor([3]), torch.tensor([0, 1, 3])):
        call = f"{name_of(answer)}(…, kept={kept.tolist()})"
        silent = torch.zeros(len(BIAS)).index_fill_(0, kept, 1)
        expected = F.linear(F.relu(F.linear(IMAGES, FIRST, BIAS)) * silent, SECOND)
        try:
            first, bias, second = answer(FIRST.clone(), BIAS.clone(), SECOND.clone(), kept)
            shapes = [tuple(v.shape) for v in (first, bias, second)]
            wanted = [(len(kept), 3), (len(kept),), (2, len(kept))]
            if shapes != wanted:
                return Verdict(False, f"{call} should have the shapes {wanted}; yours are {shapes}")
            fault = _differs(F.linear(F.relu(F.linear(IMAGES, first, bias)), second), expected)
        except Exception as error:  # noqa: BLE001
            return raised(call, error)
        if fault:
            return Verdict(False, f"{call}: the smaller network's output {fault}")
    return Verdict(True, "rows of the first matrix, entries of the bias, columns of the second: gone for good")


@in_words
def check_macs_left(answer: Callable[[int, int, int, float], float]) -> Verdict:
    """`answer(inputs, hidden, outputs, sparsity)`: multiply-adds of a two-hidden-layer network when both lose a share.

    The network is inputs → hidden → hidden → outputs; round(sparsity · hidden) neurons leave each hidden layer.
    """

    def specification(inputs: int, hidden: int, outputs: int, sparsity: float) -> int:
        left = hidden - round(sparsity * hidden)
        return inputs * left + left * left + left * outputs

    cases = [(784, 100, 10, 0.0), (784, 100, 10, 0.5), (64, 32, 10, 0.75), (100, 1000, 10, 0.9)]
    return compare(answer, specification, cases, "between two narrowed layers the work falls with the square")


def _differs(given: Any, expected: Tensor) -> str:
    if not isinstance(given, Tensor):
        return f"should be a tensor; yours is a {type(given).__name__}"
    if given.shape != expected.shape:
        return f"should have the shape {tuple(expected.shape)}; yours has {tuple(given.shape)}"
    if not torch.allclose(given.float(), expected, atol=1e-5):
        return f"should be {_rounded(expected)}; yours is {_rounded(given)}"
    return ""


def _rounded(values: Tensor) -> list[Any]:
    return torch.round(values.detach().double(), decimals=3).tolist()
