"""Intervals and p-values against slow, independent computations and figures worked out by hand."""

import math
from fractions import Fraction

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labkit.significance import difference, mcnemar, wilson, with_difference, with_range

Z95 = 1.959963984540054


# the interval


def score_interval(correct, n, z):
    """The shares p that the score test |correct/n - p| ≤ z √(p(1 - p)/n) does not reject, by bisection."""
    share = correct / n

    def rejected(p):
        return (share - p) ** 2 > z * z * p * (1 - p) / n

    ends = []
    for outside in (0.0, 1.0):
        inside = share
        for _ in range(100):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if rejected(middle) else (middle, outside)
        ends.append(inside)
    return tuple(ends)


counts_of = st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts_of)
def test_wilson_is_what_the_score_test_does_not_reject(case):
    assert wilson(*case) == pytest.approx(score_interval(*case, Z95), abs=1e-9)


@given(counts_of)
def test_wilson_holds_the_share_and_is_symmetric_in_right_and_wrong(case):
    correct, n = case
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    assert wilson(n - correct, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize("n", [1, 7, 5_000])
def test_nothing_right_and_everything_right_keep_a_width(n):
    assert wilson(0, n) == (0, pytest.approx(Z95**2 / (n + Z95**2)))
    assert wilson(n, n) == (pytest.approx(n / (n + Z95**2)), 1)


def test_wilson_at_another_confidence():
    assert wilson(40, 50, 0.6826894921370859) == pytest.approx(score_interval(40, 50, 1.0), abs=1e-9)
    assert wilson(40, 50, 0.99)[0] < wilson(40, 50)[0] < wilson(400, 500)[0]


def test_wilson_covers_the_truth_as_often_as_it_says():
    n, p = 60, 0.9
    chance = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    covered = sum(c for k, c in enumerate(chance) if wilson(k, n)[0] <= p <= wilson(k, n)[1])
    assert covered == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ((1, 0), ValueError, f"images is 0; allowed: a whole number from 1 to {2**62}"),
        ((6, 5), ValueError, "correct is 6; allowed: a whole number from 0 to 5"),
        ((0.5, 5), TypeError, "correct is 0.5; allowed: a whole number from 0 to 5"),
        ((1, 5, 1), ValueError, "confidence is 1; allowed: a number in (0, 1)"),
    ],
)
def test_wilson_refuses(refuses, arguments, error, said):
    refuses(error, said, wilson, *arguments)


# the paired test


def sign_test(lost, won):
    """2 · P(Binomial(lost + won, ½) ≤ min), in whole numbers."""
    n = lost + won
    below = sum(math.comb(n, k) for k in range(min(lost, won) + 1))
    return min(Fraction(1), Fraction(2 * below, 2**n))


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_exact_sign_test(lost, won):
    assert mcnemar(lost, won) == pytest.approx(float(sign_test(lost, won)), rel=1e-9)
    assert mcnemar(lost, won) == mcnemar(won, lost)


def test_mcnemar_by_hand_and_at_size():
    assert mcnemar(0, 0) == 1
    assert mcnemar(0, 5) == pytest.approx(1 / 16)
    assert mcnemar(3_000, 3_200) == pytest.approx(float(sign_test(3_000, 3_200)), rel=1e-7)
    assert mcnemar(0, 5_000) == 0


def test_mcnemar_refuses(refuses):
    refuses(ValueError, f"lost is -1; allowed: a whole number from 0 to {2**31}", mcnemar, -1, 2)
    refuses(TypeError, f"won is 2.0; allowed: a whole number from 0 to {2**31}", mcnemar, 1, 2.0)


# the interval of a difference


def test_a_difference_by_hand():
    d, low, high = difference(lost=30, won=10, images=1_000)
    # half an image more in each of four counts; twice over, so that they are whole: 61 times 1, 21 times -1, the rest 0
    values = torch.tensor([1.0] * 61 + [-1.0] * 21 + [0.0] * 1_922, dtype=torch.float64)
    centre, error = float(values.mean()), float(values.std(correction=0)) / math.sqrt(1_002)
    assert (d, low, high) == pytest.approx((0.02, centre - 1.959964 * error, centre + 1.959964 * error))


def test_a_difference_of_nothing_still_has_an_interval_and_none_leaves_its_range():
    d, low, high = difference(lost=0, won=0, images=1_000)
    assert d == 0
    assert low == -high < 0
    assert difference(lost=50, won=0, images=50)[2] == 1
    assert difference(lost=0, won=50, images=50)[1] == -1


def test_a_difference_in_the_cells_of_a_table():
    # by hand: (68 - 41) / 10,000 lost; δ = 27 / 10,002, spread 1.96 · √(110 - 10,002 δ²) / 10,002 = 0.00205
    cells = with_difference(dict(lost=68, won=41, p=0.012403), 10_000)
    assert cells == dict(lost=68, won=41, points_lost="+0.27 (+0.06 to +0.48)", p="0.012")
    assert with_difference(dict(lost=0, won=90, p=1e-27), 10_000)["p"] == "< 0.001"


def test_a_difference_covers_the_truth_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    draws = torch.multinomial(torch.tensor([0.06, 0.03, 0.91]), 400 * 500, True, generator=generator).view(400, 500)
    covered = [
        low <= 0.03 <= high
        for row in draws
        for _, low, high in [difference(int((row == 0).sum()), int((row == 1).sum()), 500)]
    ]
    assert 0.91 < sum(covered) / len(covered) < 0.98


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((11, 0, 10), "lost is 11; allowed: a whole number from 0 to 10"),
        ((6, 5, 10), "won is 5; allowed: a whole number from 0 to 4"),
        ((1, 1, 10, 1.0), "confidence is 1.0; allowed: a number in (0, 1)"),
    ],
)
def test_a_difference_refuses(refuses, arguments, said):
    refuses(ValueError, said, difference, *arguments)


def test_figures_of_several_seeds_in_a_cell():
    row = pd.Series([97.44, 97.61, 97.84]).agg(["mean", "min", "max"])
    assert with_range(row) == "97.6 (97.4–97.8)"
    assert with_range(dict(mean=sum([9.65] * 3) / 3 - 1e-14, min=9.65, max=9.65)) == "9.7 (9.7–9.7)"
