"""Checks of notebook 04."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit._verdict import Verdict, compare, in_words, name_of, raised

__all__ = ["check_macs_left", "check_removal", "check_unit_importance"]

FIRST = torch.tensor([[0.5, -2.0, 1.0], [0.25, 0.25, -0.25], [-1.0, 0.0, 3.0], [1.5, -1.0, 0.5]])
BIAS = torch.tensor([0.5, -0.25, 0.125, -1.0])
SECOND = torch.tensor([[1.0, -2.0, 0.5, 0.25], [0.0, 1.5, -1.0, 2.0]])
IMAGES = torch.tensor([[1.0, 0.0, 2.0], [-1.0, 0.5, 1.0], [0.5, -2.0, 0.25]])


@in_words
def check_unit_importance(answer: Callable[[Tensor], Tensor]) -> Verdict:
    """`answer(weight)`: Li et al.'s importance of every neuron or filter, Σ |w|: one number per row."""
    filters = torch.arange(-12.0, 12.0).view(3, 2, 2, 2) / 8
    for weight in (FIRST, filters):
        call = f"{name_of(answer)}(a weight of shape {tuple(weight.shape)})"
        expected = torch.stack([row.abs().sum() for row in weight])
        try:
            fault = _differs(answer(weight.clone()), expected)
        except Exception as error:  # noqa: BLE001 - a student's code may raise anything; the verdict says so
            return raised(call, error)
        if fault:
            return Verdict(False, f"{call} {fault}")
    return Verdict(True, "one number per unit; the same formula for neurons and filters")


@in_words
def check_removal(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Any]) -> Verdict:
    """`answer(first, bias, second, kept)`: smaller (first, bias, second) of x → second · relu(first · x + bias).

    `kept` holds the indices of the hidden neurons to keep. The result should compute the same as the whole network with
    the outputs of the other neurons set to 0.
    """
    for kept in (torch.tensor([0, 2]), torch.tensor([3]), torch.tensor([0, 1, 3])):
        call = f"{name_of(answer)}(…, kept={kept.tolist()})"
        mask = torch.zeros(len(BIAS)).index_fill_(0, kept, 1)
        expected = F.linear(F.relu(F.linear(IMAGES, FIRST, BIAS)) * mask, SECOND)
        try:
            first, bias, second = answer(FIRST.clone(), BIAS.clone(), SECOND.clone(), kept)
            shapes = [tuple(v.shape) for v in (first, bias, second)]
            target = [(len(kept), 3), (len(kept),), (2, len(kept))]
            if shapes != target:
                return Verdict(False, f"{call} should have the shapes {target}; yours are {shapes}")
            fault = _differs(F.linear(F.relu(F.linear(IMAGES, first, bias)), second), expected)
        except Exception as error:  # noqa: BLE001
            return raised(call, error)
        if fault:
            return Verdict(False, f"{call}: the smaller network's output {fault}")
    return Verdict(True, "rows of the first matrix, entries of the bias and columns of the second are removed")


@in_words
def check_macs_left(answer: Callable[[int, int, int, float], float]) -> Verdict:
    """`answer(inputs, hidden, outputs, sparsity)`: multiply-adds of a network whose two hidden layers are pruned.

    The network is inputs → hidden → hidden → outputs; each hidden layer loses round(sparsity · hidden) neurons.
    """

    def specification(inputs: int, hidden: int, outputs: int, sparsity: float) -> int:
        left = hidden - round(sparsity * hidden)
        return inputs * left + left * left + left * outputs

    cases = [(784, 100, 10, 0.0), (784, 100, 10, 0.5), (64, 32, 10, 0.75), (100, 1000, 10, 0.9)]
    return compare(answer, specification, cases, "between two pruned layers the work falls with the density squared")


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
