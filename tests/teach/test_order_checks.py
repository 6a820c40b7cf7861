"""Checks of notebook 10b: right answers pass, the stubs of the notebook and near misses do not."""

from labkit.teach import check_interaction, check_tied


def tied(levels, sparsity):
    magnitudes = sorted(map(abs, levels))
    return magnitudes.count(magnitudes[round(sparsity * len(levels)) - 1])


def test_the_interaction():
    assert check_interaction(lambda both, a, b, neither: both - a - b + neither).passed
    assert not check_interaction(lambda both, a, b, neither: both - a).passed
    assert not check_interaction(lambda both, a, b, neither: a + b - both - neither).passed


def test_how_many_are_tied():
    assert check_tied(tied).passed
    assert not check_tied(lambda levels, sparsity: 0).passed
    assert not check_tied(lambda levels, sparsity: round(sparsity * len(levels))).passed
    verdict = check_tied(lambda levels, sparsity: max(levels.count(v) for v in levels))
    assert not verdict.passed
    assert "should be 2" in verdict.message
