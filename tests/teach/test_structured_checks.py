"""The checks of notebook 04: a right answer passes, the stub and wrong answers are told what is wanted."""

import pytest
import torch

from labkit.teach import check_macs_left, check_removal, check_unit_importance


def verdict(check, answer):
    answer.__name__ = "mine"
    told = check(answer)
    return told.passed, told.message


def removed(first, bias, second, kept):
    return first[kept], bias[kept], second[:, kept]


def test_right_answers_pass():
    assert check_unit_importance(lambda weight: weight.flatten(1).abs().sum(1)).passed
    assert check_unit_importance(lambda weight: weight.flatten(1).norm(p=1, dim=1)).passed
    assert check_removal(removed).passed

    def macs(inputs, hidden, outputs, sparsity):
        left = hidden - round(sparsity * hidden)
        return inputs * left + left**2 + left * outputs

    assert check_macs_left(macs).passed


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda weight: torch.ones(len(weight)),
         "mine(a weight of shape (4, 3)) should be [3.5, 0.75, 4.0, 3.0]; yours is [1.0, 1.0, 1.0, 1.0]"),
        (lambda weight: weight.sum(1),
         "mine(a weight of shape (4, 3)) should be [3.5, 0.75, 4.0, 3.0]; yours is [-0.5, 0.25, 2.0, 1.0]"),
        (lambda weight: weight.abs().sum(0),
         "mine(a weight of shape (4, 3)) should have the shape (4,); yours has (3,)"),
        (lambda weight: weight.abs().sum(1),
         "mine(a weight of shape (3, 2, 2, 2)) should have the shape (3,); yours has (3, 2, 2)"),
        (lambda weight: None, "mine(a weight of shape (4, 3)) should be a tensor; yours is a NoneType"),
        (lambda weight: 1 / 0,
         "for mine(a weight of shape (4, 3)) your function raised ZeroDivisionError: division by zero"),
    ],
    ids=["stub", "forgets abs", "columns", "neurons only", "nothing", "raises"],
)  # fmt: skip
def test_a_wrong_importance_is_told(wrong, told):
    assert verdict(check_unit_importance, wrong) == (False, told)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda first, bias, second, kept: (first, bias, second),
         "mine(…, kept=[0, 2]) should have the shapes [(2, 3), (2,), (2, 2)]; yours are [(4, 3), (4,), (2, 4)]"),
        (lambda first, bias, second, kept: (first[kept], bias[kept], second[:, :len(kept)]),
         "mine(…, kept=[0, 2]): the smaller network's output should be"),
        (lambda first, bias, second, kept: (first[kept], 0 * bias[kept], second[:, kept]),
         "mine(…, kept=[0, 2]): the smaller network's output should be"),
        (lambda first, bias, second, kept: None, "for mine(…, kept=[0, 2]) your function raised TypeError"),
    ],
    ids=["stub", "wrong columns", "no bias", "nothing"],
)  # fmt: skip
def test_a_wrong_removal_is_told(wrong, told):
    passed, message = verdict(check_removal, wrong)
    assert not passed
    assert message.startswith(told)


def test_wrong_macs_are_told():
    assert verdict(check_macs_left, lambda inputs, hidden, outputs, sparsity: 0) == (
        False, "mine(784, 100, 10, 0.0) should be 89400; yours is 0",
    )  # fmt: skip
    passed, message = verdict(
        check_macs_left, lambda i, h, o, s: (i * h + h * h + h * o) * (1 - s)  # as scattered zeros would count
    )  # fmt: skip
    assert (passed, message) == (False, "mine(784, 100, 10, 0.5) should be 42200; yours is 44700.0")
