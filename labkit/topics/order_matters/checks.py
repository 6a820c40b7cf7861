"""Checks of notebook 10b."""

from collections.abc import Callable

from labkit._verdict import Verdict, compare, in_words

__all__ = ["check_interaction", "check_tied"]

LEVELS = (  # whole numbers that weights were rounded to, and the share that shall be zero
    ([3, -2, 2, 1, -1, 0], 0.5),
    ([3, 2, -2, 1, -1, 0], 2 / 3),
    ([1, -1, 1, 1, -1, -1, 1, 1], 0.5),
    ([0, 0, 0, 0, 2, -3], 0.5),
)


@in_words
def check_interaction(answer: Callable[[float, float, float, float], float]) -> Verdict:
    """`answer(both, only_a, only_b, neither)`: the effect of a with b, minus the effect of a without b."""
    cases = [(2.0, 3.0, 3.5, 4.0), (3.0, 3.0, 4.0, 4.0), (3.5, 3.0, 3.25, 4.0), (1.5, 2.0, 2.5, 3.0)]
    solved = "it stays the same if a and b are swapped; zero would mean that the two effects add up"
    return compare(answer, lambda both, a, b, neither: (both - b) - (a - neither), cases, solved)


@in_words
def check_tied(answer: Callable[[list[int], float], int]) -> Verdict:
    """`answer(levels, sparsity)`: how many weights have exactly the magnitude of the last one that is pruned."""

    def specification(levels: list[int], sparsity: float) -> int:
        magnitudes = sorted(abs(level) for level in levels)
        last = magnitudes[round(sparsity * len(levels)) - 1]
        return magnitudes.count(last)

    solved = "magnitude cannot choose among these weights: rounding has made them equal"
    return compare(answer, specification, [(list(levels), sparsity) for levels, sparsity in LEVELS], solved)
