"""The checks of notebook 13b: right answers pass, near misses and broken code are told what was expected."""

import pytest
import torch

from labkit.teach import check_hottest, check_within_one


def within(outputs, y):
    return (outputs - y).abs() <= 1


def hottest(table):
    return table.loc[(table["bytes"] * table["damage"].clip(lower=0)).idxmax(), "layer"]


def test_solutions_pass():
    as_floats = lambda outputs, y: within(outputs, y).float().flatten()  # noqa: E731
    for verdict in (check_within_one(within), check_within_one(as_floats), check_hottest(hottest)):
        assert verdict.passed, verdict


@pytest.mark.parametrize(
    ("check", "wrong", "said"),
    [
        (check_within_one, lambda o, y: torch.ones(len(y)), "should be"),
        (check_within_one, lambda o, y: (o - y).abs() < 1, "should be"),
        (check_within_one, lambda o, y: o - y <= 1, "should be"),
        (check_within_one, lambda o, y: within(o, y).float().mean(), "should be a tensor of 7 scores"),
        (check_within_one, lambda o, y: o.nope, "your function raised AttributeError"),
        (check_hottest, lambda t: t.loc[t["damage"].idxmax(), "layer"], "should be 'middle'; yours is 'head'"),
        (check_hottest, lambda t: t.loc[t["bytes"].idxmax(), "layer"], "should be 'middle'; yours is 'tail'"),
        (check_hottest, lambda t: t.loc[(t["bytes"] * t["damage"].abs()).idxmax(), "layer"], "yours is 'tail'"),
        (check_hottest, lambda t: t["none"], "your function raised KeyError"),
    ],
)
def test_a_wrong_answer_is_told_what_was_expected(check, wrong, said):
    verdict = check(wrong)
    assert not verdict.passed
    assert said in verdict.message
