"""Checks of notebook 10."""

from collections.abc import Callable

import numpy as np

from labkit._verdict import Verdict, compare, in_words
from labkit.store.coding import entropy_bits

__all__ = ["check_bits_a_weight", "check_mask_bytes"]


@in_words
def check_mask_bytes(answer: Callable[[int, int], float]) -> Verdict:
    """`answer(weights, kept)`: bytes that store which weights are kept, if all positions are equally likely."""
    cases = [(266_200, 26_620), (266_200, 5_324), (430_500, 2_153), (100, 50)]
    solved = "a coder needs less only if it also uses where the kept weights are, not just how many"
    return compare(answer, lambda n, kept: entropy_bits(np.array([n - kept, kept])) / 8, cases, solved)


@in_words
def check_bits_a_weight(answer: Callable[[int, int], float]) -> Verdict:
    """`answer(size_bytes, kept)`: bits of the file per kept weight."""
    cases = [(27_000, 21_324), (8_560, 4_000), (5_000, 5_324)]
    solved = "the paper's Table 1 counts bits per weight for the values alone; a file also stores their positions"
    return compare(answer, lambda size_bytes, kept: 8 * size_bytes / kept, cases, solved)
