"""Checks of notebook 00."""

from collections.abc import Callable

from torch import nn

from labkit._verdict import Verdict, compare, in_words
from labkit.compress.compose import one_shot
from labkit.data import Data
from labkit.measure import accuracy, size_bytes

__all__ = ["check_budget", "check_paper_bytes"]


@in_words
def check_paper_bytes(answer: Callable[[int, float, int], float]) -> Verdict:
    """`answer(weights, sparsity, bits)`: the size in bytes if only the bits of the kept weights are counted."""
    cases = [(266_200, 0.0, 32), (266_200, 0.9, 4), (1_000, 0.5, 8), (8, 0.0, 1)]
    solved = "many slides quote this number. The file also has to store which weights were kept: see the ledger"
    return compare(answer, lambda n, sparsity, bits: n * (1 - sparsity) * bits / 8, cases, solved)


@in_words
def check_budget(
    model: nn.Module, data: Data, sparsity: float, bits: int, *, max_bytes: int = 60_000, max_loss: float = 0.01
) -> Verdict:
    """Whether one-shot pruning and rounding at these settings meets both the byte and the accuracy budget."""
    small = one_shot(model, sparsity, bits)
    size = size_bytes(small)
    loss = accuracy(model, data.validation)["accuracy"] - accuracy(small, data.validation)["accuracy"]
    found = f"{size:,} bytes (allowed: {max_bytes:,}), {100 * loss:.2f} points lost (allowed: {100 * max_loss:g})"
    return Verdict(size <= max_bytes and loss <= max_loss, found)
