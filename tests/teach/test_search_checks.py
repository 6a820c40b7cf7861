"""The checks of notebook 05: a right answer passes, the stub and wrong answers are told what is wanted."""

import math

import numpy as np
import pytest
from sklearn.model_selection import KFold

from labkit.teach import check_folds, check_log_uniform, check_optimism


def verdict(check, answer):
    answer.__name__ = "mine"
    given = check(answer)
    return given.passed, given.message


def test_right_answers_pass():
    assert check_log_uniform(lambda low, high, u: math.exp(math.log(low) + u * (math.log(high) - math.log(low)))).passed
    assert check_optimism(lambda judged, fresh: max(judged) - fresh[int(np.argmax(judged))]).passed
    assert check_folds(lambda n, k: [held.tolist() for _, held in KFold(k).split(range(n))]).passed
    assert check_folds(lambda n, k: [list(range(i, n, k)) for i in range(k)]).passed


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda low, high, u: low + u * (high - low), "mine(0.0001, 1.0, 0.5) should be 0.01; yours is 0.50005"),
        (lambda low, high, u: u / 0, "for mine(0.0001, 1.0, 0.5) your function raised ZeroDivisionError"),
    ],
    ids=["stub", "raises"],
)
def test_a_wrong_draw_is_told(wrong, told):
    passed, message = verdict(check_log_uniform, wrong)
    assert not passed
    assert message.startswith(told)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda judged, fresh: 0.0,
        lambda judged, fresh: max(judged) - max(fresh),
        lambda judged, fresh: max(a - b for a, b in zip(judged, fresh, strict=True)),
    ],
    ids=["stub", "best against best", "largest gap"],
)
def test_a_wrong_optimism_fails(wrong):
    assert not check_optimism(wrong).passed


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda n, k: [list(range(n))], "mine(10, 5) should give 5 folds; yours gives 1"),
        (lambda n, k: [[0]] * k, "mine(10, 5) should hold out every image; yours never holds out image 1"),
        (lambda n, k: [list(range(n)), [3]] + [[]] * (k - 2),
         "mine(10, 5) should hold out every image once; yours holds out image 3 more than once"),
        (lambda n, k: [[i] for i in range(k - 1)] + [list(range(k - 1, n))],
         "mine(10, 5) should give folds of nearly equal sizes; yours have [1, 1, 1, 1, 6]"),
    ],
    ids=["stub", "missing", "twice", "unequal"],
)  # fmt: skip
def test_wrong_folds_are_told(wrong, told):
    assert verdict(check_folds, wrong) == (False, told)


def test_folds_that_fit_only_where_k_divides_n_fail():
    assert not check_folds(lambda n, k: [list(range(i * (n // k), (i + 1) * (n // k))) for i in range(k)]).passed
