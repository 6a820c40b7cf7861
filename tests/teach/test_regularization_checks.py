"""The checks of notebook 06: a right answer passes, the stub and wrong answers are told what is wanted."""

import pytest
import torch

from labkit.teach import check_shrinkage, check_soft_threshold, check_stopping_epochs
from labkit.train import stopping_epochs


def verdict(check, answer, name="mine"):
    answer.__name__ = name
    result = check(answer)
    return result.passed, result.message


FIRST = "mine([0.5, -0.125, -3.0, 0.25, 0.0], 0.25)"
SHRUNK = "[0.25, 0.0, -2.75, 0.0, 0.0]"


@pytest.mark.parametrize(
    "right",
    [
        lambda w, t: w.sign() * (w.abs() - t).clamp(min=0),
        lambda w, t: torch.where(w.abs() > t, w - t * w.sign(), 0.0),
        lambda w, t: w.copy_(w - w.clamp(-t, t)),
    ],
    ids=["formula", "cases", "in place"],
)
def test_a_right_soft_threshold_passes(right):
    assert check_soft_threshold(right).passed


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda w, t: w, f"{FIRST} should be {SHRUNK}; yours is [0.5, -0.125, -3.0, 0.25, 0.0]"),
        (lambda w, t: w - t * w.sign(), f"{FIRST} should be {SHRUNK}; yours is [0.25, 0.125, -2.75, 0.0, 0.0]"),
        (lambda w, t: w * (w.abs() > t), f"{FIRST} should be {SHRUNK}; yours is [0.5, -0.0, -3.0, 0.0, 0.0]"),
        (lambda w, t: None, f"{FIRST} should be a tensor of 5 weights; yours is None"),
        (lambda w, t: 1 / 0, f"for {FIRST} your function raised ZeroDivisionError: division by zero"),
    ],
    ids=["stub", "jumps over zero", "hard threshold", "nothing", "raises"],
)
def test_a_wrong_soft_threshold_is_told_what_is_wanted(wrong, told):
    assert verdict(check_soft_threshold, wrong) == (False, told)


HISTORY = "mine([0.61, 0.7, 0.74, 0.73, 0.74, 0.72, 0.78, 0.77]"


def latest_best(accuracies, patience):
    """Takes a tie for an improvement."""
    best = 0
    for epoch, accuracy in enumerate(accuracies):
        best = epoch if accuracy >= accuracies[best] else best
        if epoch - best == patience:
            return best + 1, epoch + 1
    return best + 1, len(accuracies)


def test_right_stopping_epochs_pass():
    assert check_stopping_epochs(stopping_epochs).passed
    assert check_stopping_epochs(lambda accuracies, patience: list(stopping_epochs(accuracies, patience))).passed


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda accuracies, patience: (len(accuracies), len(accuracies)), ", 1) should be (3, 4); yours is (8, 8)"),
        (latest_best, ", 2) should be (3, 5); yours is (7, 8)"),
        (lambda accuracies, patience: accuracies.index(max(accuracies)) + 1, ", 1) should be (3, 4); yours is 7"),
    ],
    ids=["stub", "ties", "looks into the future"],
)
def test_wrong_stopping_epochs_are_told_what_is_wanted(wrong, told):
    assert verdict(check_stopping_epochs, wrong) == (False, HISTORY + told)


def test_stopping_epochs_that_raise_are_told_so():
    told = f"for {HISTORY}, 1) your function raised ZeroDivisionError: division by zero"
    assert verdict(check_stopping_epochs, lambda accuracies, patience: 1 / 0) == (False, told)


def test_the_shrinkage_of_adam_is_nothing():
    assert check_shrinkage(lambda optimizer, w, gradient, lr, lam: 0 if optimizer == "Adam" else lr * lam * w).passed


def test_a_wrong_shrinkage_is_told_where():
    told = "mine('Adam', 1.0, 100.0, 0.1, 0.5) should be 0.0; yours is 0.05"
    assert verdict(check_shrinkage, lambda optimizer, w, gradient, lr, lam: lr * lam * w) == (False, told)
    told = "mine('SGD', 2.0, 100.0, 0.1, 0.5) should be 0.1; yours is 0.05"
    assert verdict(check_shrinkage, lambda optimizer, w, gradient, lr, lam: lr * lam) == (False, told)
