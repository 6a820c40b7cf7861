"""Checks of notebook 12."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from torch import nn

from labkit._verdict import Verdict, compare, in_words, shown
from labkit.budget import METHODS, cost_of_whole, loss_of, size_bytes, spend
from labkit.budget.choices import weight_choices
from labkit.compress.magnitude import prune
from labkit.compress.quantize import quantize
from labkit.data import Data, load_data
from labkit.sweep import shipped_sweep
from labkit.topics.under_a_budget.experiment import table_from
from labkit.zoo import load_model

__all__ = ["check_allocation", "check_budget_for", "check_sum_of_parts"]

BUDGET = 24_000  # bytes
NAMES = "lenet-300-100", "mnist"


@in_words
def check_allocation(answer: Mapping[str, tuple[float, int]]) -> Verdict:
    """`answer`: {layer: (sparsity, bits)} of LeNet-300-100, in at most BUDGET bytes and better than one for all."""
    model, data, uniform = _uniform()
    if set(answer) != {"fc1", "fc2", "fc3"}:
        return Verdict(False, f"it should name the layers fc1, fc2 and fc3; yours is {shown(answer)}")
    small = prune(model, {f"{layer}.weight": sparsity for layer, (sparsity, _) in answer.items()})
    for layer, (_, bits) in answer.items():
        small = quantize(small, bits, layers=[f"{layer}.weight"])
    size, loss = size_bytes(small), loss_of(small, data.validation)
    told = f"your file has {size:,} bytes and a loss of {loss:.3f} on validation"
    if size > BUDGET:
        return Verdict(False, f"{told}; the budget is {BUDGET:,}")
    if loss >= uniform:
        return Verdict(False, f"{told}; one sparsity and bit width for all layers has {uniform:.3f}")
    return Verdict(True, f"{told}; one sparsity and bit width for all layers has {uniform:.3f}")


@functools.cache
def _uniform() -> tuple[nn.Module, Data, float]:
    """The network, its data, and the loss on validation of the best setting that is the same for all layers."""
    model, data = load_model(*NAMES), load_data(NAMES[1])
    table = table_from(weight_choices(model), shipped_sweep("parts", *NAMES))
    small = table.choices.build(spend(METHODS["uniform"], table, cost_of_whole(table, size_bytes), BUDGET))
    return model, data, loss_of(small, data.validation)


@in_words
def check_sum_of_parts(answer: Callable[[float, Mapping[str, float], float], float]) -> Verdict:
    """`answer(dense, alone, together)`: how much more the loss rises than the sum of the parts says.

    `dense` is the loss of the dense network, `alone` the loss with only one layer changed, by layer, `together` that
    with all of them changed.
    """

    def specification(dense: float, alone: Mapping[str, float], together: float) -> float:
        return (together - dense) - sum(loss - dense for loss in alone.values())

    cases: list[tuple[Any, ...]] = [
        (0.25, {"fc1": 0.5, "fc2": 0.375}, 1.0),
        (0.5, {"fc1": 0.75}, 0.75),
        (0.125, {"fc1": 0.25, "fc2": 0.5, "fc3": 0.25}, 0.5),
    ]
    return compare(answer, specification, cases, "above 0 the parts make each other worse; below 0 they share a damage")


@in_words
def check_budget_for(answer: Callable[[pd.DataFrame, float], Any]) -> Verdict:
    """`answer(table, accuracy)`: the smallest budget whose mean validation accuracy over the seeds is enough, or None.

    `table` has the columns budget, seed, validation and test.
    """

    def specification(table: pd.DataFrame, accuracy: float) -> int | None:
        means = table.groupby("budget")["validation"].mean()
        enough = means[means >= accuracy]
        return None if enough.empty else int(enough.index.min())

    rows = [
        (16_384, 0.91, 0.93),
        (16_384, 0.87, 0.94),
        (24_000, 0.93, 0.92),
        (24_000, 0.92, 0.91),
        (40_000, 0.97, 0.96),
    ]
    table = pd.DataFrame([dict(budget=b, seed=i, validation=v, test=t) for i, (b, v, t) in enumerate(rows)])
    for accuracy in (0.9, 0.925, 0.96, 0.88, 0.99):
        expected, given = specification(table, accuracy), answer(table.copy(), accuracy)
        if (given is None) != (expected is None) or (expected is not None and float(given) != expected):
            return Verdict(
                False, f"for an accuracy of {accuracy} it should be {expected}; yours is {shown(given, str)}"
            )
    return Verdict(True, "chosen on validation, by the mean over seeds; None where no budget is enough")
