"""The checks of notebook 09: right answers pass, the stub and wrong answers are told what is wanted."""

import math

import numpy as np
import pytest

from labkit.article import Variant, gradient_check, new_net, relative_error
from labkit.teach import (
    broken_gradients,
    check_central_difference,
    check_faulty_lines,
    check_masked_step,
    check_output_slope,
)


def verdict(check, answer):
    said = check(answer)
    return said.passed, said.message


def central(f, w, h):
    return (f(w + h) - f(w - h)) / (2 * h)


def slope(p, y):
    return 2 / y.size * (p - y) * (1 - p**2)


def step(w, slope, lr, mask):
    return (w - lr * slope) * mask


def test_right_answers_pass():
    assert check_central_difference(central).passed
    assert check_output_slope(slope).passed
    assert check_masked_step(step).passed
    assert check_faulty_lines({"A": "db2", "B": "dZ1", "C": "dZ2"}).passed


def test_a_forward_difference_is_told():
    def forward(f, w, h):
        return (f(w + h) - f(w)) / h

    passed, told = verdict(check_central_difference, forward)
    assert not passed
    wanted, given = central(math.sin, 1.0, 0.25), forward(math.sin, 1.0, 0.25)
    assert told == f"forward(<built-in function sin>, 1.0, 0.25) should be {wanted!r}; yours is {given!r}"


@pytest.mark.parametrize(
    ("wrong", "given"),
    [
        (lambda p, y: p - y, "[[-0.5, -0.25]]"),
        (lambda p, y: 2 / y.size * (p - y), "[[-0.5, -0.25]]"),
        (lambda p, y: (p - y) * (1 - p), "[[-0.25, -0.3125]]"),
        (lambda p, y: slope(p, y)[0], "[-0.375, -0.2344]"),
    ],
    ids=["article", "no derivative", "tanh for its square", "wrong shape"],
)
def test_a_wrong_slope_is_told_what_is_wanted(wrong, given):
    wrong.__name__ = "my_slope"
    told = f"my_slope([[0.5, -0.25]], [[1.0, 0.0]]) should be [[-0.375, -0.2344]]; yours is {given}"
    assert verdict(check_output_slope, wrong) == (False, told)


def test_a_slope_that_is_right_for_one_row_of_two_fails():
    assert not check_output_slope(lambda p, y: (p - y) * (1 - p**2)).passed


def test_a_step_that_forgets_the_mask_is_told():
    def my_step(w, slope, lr, mask):
        return w - lr * slope

    call = "my_step([0.5, 0.0, -1.0], [1.0, 2.0, -0.5], 0.5, [True, False, True])"
    told = f"{call} should be [0.0, 0.0, -0.75]; yours is [0.0, -1.0, -0.75]"
    assert verdict(check_masked_step, my_step) == (False, told)
    assert not check_masked_step(lambda w, slope, lr, mask: np.where(w == 0, 0, w - lr * slope)).passed


def test_code_that_raises_is_told():
    def my_slope(p, y):
        return p / None

    passed, told = verdict(check_output_slope, my_slope)
    assert not passed
    assert "your function raised TypeError" in told


def test_arguments_are_copies():
    def my_slope(p, y):
        result = slope(p, y)
        p[:] = 0
        return result

    assert check_output_slope(my_slope).passed
    assert check_output_slope(slope).passed


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({}, "0 of 3 lines are found"),
        ({"A": "?", "B": "?", "C": "?"}, "0 of 3 lines are found"),
        ({"A": "db2", "B": "dZ1", "C": "dW1"}, "2 of 3 lines are found"),
        ({"A": "b2"}, "a line is one of dZ2, dZ1, dW1, db1, dW2, db2; yours has b2"),
    ],
)
def test_lines_that_are_not_found_are_counted(answer, told):
    said = check_faulty_lines(answer)
    assert not said.passed
    assert said.message.startswith(told)


@pytest.mark.parametrize(("name", "failing"), [("A", {"b2"}), ("B", {"W1", "b1"}), ("C", {"W1", "b1", "W2", "b2"})])
def test_each_hidden_fault_fails_the_check_where_its_line_leads(name, failing):
    rng = np.random.default_rng(0)
    net, x, y = new_net(5, 4, 3), rng.normal(size=(6, 5)), np.eye(3)[rng.integers(0, 3, 6)]
    checked = gradient_check(net, x, y, Variant(gradient=broken_gradients[name]))
    errors = {parameter: relative_error(*pair) for parameter, pair in checked.items()}
    assert {parameter for parameter, error in errors.items() if error > 1e-2} == failing
    assert all(error < 1e-7 for parameter, error in errors.items() if parameter not in failing)
