"""Checks of notebook 06."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from labkit._verdict import Verdict, compare, in_words, name_of, raised, shown
from labkit.losses import soft_threshold
from labkit.train import stopping_epochs

__all__ = ["check_shrinkage", "check_soft_threshold", "check_stopping_epochs"]

WEIGHTS = torch.tensor([0.5, -0.125, -3.0, 0.25, 0.0])
HISTORY = (0.61, 0.70, 0.74, 0.73, 0.74, 0.72, 0.78, 0.77)
GRADIENTS = (100.0, 1.0, 0.01)


@in_words
def check_soft_threshold(answer: Callable[[Tensor, float], Tensor]) -> Verdict:
    """`answer(w, threshold)`: sign(w) · max(|w| - threshold, 0), elementwise."""
    for threshold in (0.25, 1.0, 0.0):
        call, expected = f"{name_of(answer)}({WEIGHTS.tolist()}, {threshold})", soft_threshold(WEIGHTS, threshold)
        try:
            given = answer(WEIGHTS.clone(), threshold)
        except Exception as error:  # noqa: BLE001 - a student's code may raise anything
            return raised(call, error)
        if not isinstance(given, Tensor) or given.shape != expected.shape:
            return Verdict(False, f"{call} should be a tensor of {len(WEIGHTS)} weights; yours is {shown(given)}")
        if not torch.allclose(given.double(), expected.double(), atol=1e-6):
            return Verdict(False, f"{call} should be {expected.tolist()}; yours is {_short(given)}")
    return Verdict(True, "every weight moves towards zero by the threshold; the small ones become zero")


def _short(given: Tensor) -> list[float]:
    return [round(value, 4) for value in given.tolist()]


@in_words
def check_stopping_epochs(answer: Callable[[Sequence[float], int], Any]) -> Verdict:
    """`answer(accuracies, patience)`: (best, last), counted from 1, of early stopping on a given history."""
    for patience in (1, 2, 3, 4, 9):
        call, expected = f"{name_of(answer)}({list(HISTORY)}, {patience})", stopping_epochs(HISTORY, patience)
        try:
            given = answer(HISTORY, patience)
        except Exception as error:  # noqa: BLE001 - a student's code may raise anything
            return raised(call, error)
        if given != expected and given != list(expected):
            return Verdict(False, f"{call} should be {expected}; yours is {shown(given)}")
    return Verdict(True, "a patience of 1 to 3 epochs stops before the second rise, a patience of 4 does not")


@in_words
def check_shrinkage(answer: Callable[[str, float, float, float, float], float]) -> Verdict:
    """`answer(optimizer, w, gradient, lr, lam)`: how far L2 alone moves a weight w > 0 towards zero in the first step.

    That is the step with λ minus the step without it, to six decimals: "SGD" and "Adam" with the penalty in the loss,
    "AdamW" with its own weight decay. `gradient` is that of the loss without the penalty.
    """
    cases = [(rule, w, g, 0.1, 0.5) for rule in ("SGD", "Adam", "AdamW") for w in (1.0, 2.0) for g in GRADIENTS]
    solved = "SGD and AdamW subtract lr λ w from the weight; Adam's first step has length lr, whatever the gradient is"
    return compare(answer, shrinkage, cases, solved)


def shrinkage(optimizer: str, w: float, gradient: float, lr: float, lam: float) -> float:
    """The slow specification: torch takes the step twice, without L2 and with it."""
    return round(_after(optimizer, w, gradient, lr, 0.0) - _after(optimizer, w, gradient, lr, lam), 6)


def _after(optimizer: str, w: float, gradient: float, lr: float, lam: float) -> float:
    weight = torch.tensor([w], dtype=torch.float64, requires_grad=True)
    coupled = optimizer != "AdamW"
    weight.grad = torch.tensor([gradient + lam * w * coupled], dtype=torch.float64)
    rules: dict[str, Any] = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}
    rules[optimizer]([weight], lr=lr, weight_decay=0.0 if coupled else lam).step()
    return weight.item()
