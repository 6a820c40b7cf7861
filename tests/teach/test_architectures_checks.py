"""The checks of notebook 11: right answers pass, near misses and broken code are told what was expected."""

import pytest

from labkit.teach import check_frailest, check_range_spread, check_separable_macs


def separable(pixels, channels_in, channels_out, kernel):
    return pixels * channels_in * (kernel**2 + channels_out)


def spread(weight):
    reach = weight.flatten(1).abs().amax(1)
    return float(reach.max() / reach.min())


def frailest(table):
    return table.loc[((table["lost"] - table["won"]) / table["weights"]).idxmax(), "part"]


def test_solutions_pass():
    for verdict in (check_separable_macs(separable), check_range_spread(spread), check_frailest(frailest)):
        assert verdict.passed, verdict


@pytest.mark.parametrize(
    ("check", "wrong", "said"),
    [
        (check_separable_macs, lambda p, i, o, k: p * i * o * k**2, "should be"),
        (check_separable_macs, lambda p, i, o, k: p * (i * k**2 + o), "should be"),
        (check_separable_macs, lambda p, i, o, k: 0, "should be 125440; yours is 0"),
        (check_range_spread, lambda w: 0.0, "should be"),
        (check_range_spread, lambda w: float(w.abs().max() / w.abs().min()), "should be"),
        (check_range_spread, lambda w: float(w.flatten(1).amax(1).max() / w.flatten(1).amax(1).min()), "should be"),
        (check_range_spread, lambda w: w.nope, "your function raised AttributeError"),
        (check_frailest, lambda t: "", "should be 'stem'; yours is ''"),
        (check_frailest, lambda t: t.loc[t["lost"].idxmax(), "part"], "should be 'stem'; yours is 'late'"),
        (check_frailest, lambda t: t.loc[(t["lost"] - t["won"]).idxmax(), "part"], "yours is 'middle'"),
        (check_frailest, lambda t: t["none"], "your function raised KeyError"),
    ],
)
def test_wrong_answers_are_told_what_was_expected(check, wrong, said):
    verdict = check(wrong)
    assert not verdict.passed
    assert said in verdict.message
