"""Checks of notebook 05."""

from collections.abc import Callable, Sequence
from typing import Any

from labkit._verdict import Verdict, compare, in_words, name_of, raised

__all__ = ["check_folds", "check_log_uniform", "check_optimism"]


@in_words
def check_log_uniform(answer: Callable[[float, float, float], float]) -> Verdict:
    """`answer(low, high, u)`: the value at the fraction u of the way from low to high, on a log scale."""
    cases = [(1e-4, 1.0, 0.5), (1e-4, 1.0, 0.0), (1e-3, 10.0, 1.0), (1.0, 100.0, 0.25), (2.0, 2.0, 0.7)]
    solved = "drawn like this, every decade of learning rates is tried equally often"
    return compare(answer, lambda low, high, u: low * (high / low) ** u, cases, solved)


@in_words
def check_optimism(answer: Callable[[list[float], list[float]], float]) -> Verdict:
    """`answer(judged, fresh)`: by how much the trial that is best on `judged` is worse on `fresh`."""
    cases = [
        ([0.80, 0.90, 0.85], [0.82, 0.84, 0.86]),
        ([0.70, 0.60], [0.71, 0.75]),
        ([0.5], [0.5]),
        ([0.61, 0.70, 0.63, 0.60], [0.40, 0.66, 0.55, 0.90]),
    ]
    solved = "the chosen trial's unseen score, not the best unseen score: a search does not know which trial has that"
    return compare(answer, _optimism, cases, solved)


def _optimism(judged: Sequence[float], fresh: Sequence[float]) -> float:
    chosen = max(range(len(judged)), key=judged.__getitem__)
    return judged[chosen] - fresh[chosen]


@in_words
def check_folds(answer: Callable[[int, int], list[list[int]]]) -> Verdict:
    """`answer(n, k)`: k lists that split the indices 0 … n - 1; their lengths differ by at most one."""
    for n, k in ((10, 5), (7, 3), (5, 5), (23, 4)):
        call = f"{name_of(answer)}({n}, {k})"
        try:
            fault = _folds_fault(n, k, answer(n, k))
        except Exception as error:  # noqa: BLE001 - a student's code may raise anything
            return raised(call, error)
        if fault:
            return Verdict(False, f"{call} {fault}")
    return Verdict(True, "every image is held out once; `k_folds` shuffles first, as images may be sorted by class")


def _folds_fault(n: int, k: int, folds: Any) -> str:
    """What is wrong with a split into folds; "" if it is correct."""
    folds = [list(fold) for fold in folds]
    if len(folds) != k:
        return f"should give {k} folds; yours gives {len(folds)}"
    indices = [index for fold in folds for index in fold]
    missing = sorted(set(range(n)) - set(indices))
    if missing:
        return f"should hold out every image; yours never holds out image {missing[0]}"
    if len(indices) > n:
        twice = next(index for index in indices if indices.count(index) > 1)
        return f"should hold out every image once; yours holds out image {twice} more than once"
    sizes = [len(fold) for fold in folds]
    if max(sizes) - min(sizes) > 1:
        return f"should give folds of nearly equal sizes; yours have {sizes}"
    return ""
