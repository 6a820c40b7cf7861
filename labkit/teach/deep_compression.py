"""Checks of notebook 10."""

from collections.abc import Callable

import numpy as np

from labkit.store.coding import entropy_bits
from labkit.teach._verdict import Verdict, compare, in_words


@in_words
def check_mask_bytes(answer: Callable[[int, int], float]) -> Verdict:
    """`answer(weights, kept)`: bytes that say which weights are kept, if every place is as likely as any other."""
    cases = [(266_200, 26_620), (266_200, 5_324), (430_500, 2_153), (100, 50)]
    solved = "a coder gets below it only where it knows more than how many are kept: where they lie"
    return compare(answer, lambda n, kept: entropy_bits(np.array([n - kept, kept])) / 8, cases, solved)


@in_words
def check_bits_a_weight(answer: Callable[[int, int], float]) -> Verdict:
    """`answer(size_bytes, kept)`: bits of the file for each weight that is kept."""
    cases = [(27_000, 21_324), (8_560, 4_000), (5_000, 5_324)]
    solved = "the paper's Table 1 speaks of bits a weight of the values alone; a file has to say where they are, too"
    return compare(answer, lambda size_bytes, kept: 8 * size_bytes / kept, cases, solved)
