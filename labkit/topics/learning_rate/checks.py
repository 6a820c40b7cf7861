"""Checks of notebook 07."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from labkit._verdict import Verdict, compare, in_words, name_of, raised

__all__ = ["check_scheduler_steps", "check_stable_lr", "check_warmup_cosine"]

Batches = list[tuple[Tensor, Tensor]]


@in_words
def check_stable_lr(answer: Callable[[list[float]], float]) -> Verdict:
    """`answer(curvatures)`: the learning rate η below which w ← w - η λ w shrinks for every curvature λ > 0."""
    cases: list[tuple[Any, ...]] = [([1.0],), ([0.5, 4.0],), ([10.0, 0.1, 2.0],), ([0.01, 0.02],)]
    return compare(answer, lambda curvatures: 2 / max(curvatures), cases, "the steepest direction limits all others")


@in_words
def check_warmup_cosine(answer: Callable[[float, float], float]) -> Verdict:
    """`answer(progress, warmup)`: the multiple of the peak, a linear rise from 0, then half a cosine down to 0."""
    cases = [(p, w) for w in (0.1, 0.25, 0.5) for p in (0.0, 0.05, 0.25, 0.5, 0.8, 1.0)]

    def specification(progress: float, warmup: float) -> float:
        if progress < warmup:
            return progress / warmup
        fallen = (progress - warmup) / (1 - warmup)
        return (1 + math.cos(math.pi * fallen)) / 2

    return compare(answer, specification, cases, "the cosine begins where the warm-up ends, and still reaches 0")


@in_words
def check_scheduler_steps(answer: Callable[[nn.Module, Batches, int], Sequence[float]]) -> Verdict:
    """`answer(model, batches, epochs)`: train, and return the lr of every batch: 0.1, divided by 10 every 2 epochs."""
    for batches_per_epoch, epochs in ((5, 6), (3, 4)):
        call = f"{name_of(answer)}(model, {batches_per_epoch} batches, {epochs} epochs)"
        model, batches = _small(batches_per_epoch)
        before = copy.deepcopy(model.state_dict())
        try:
            given = [float(lr) for lr in answer(model, batches, epochs)]
        except Exception as error:  # noqa: BLE001 - a student's code may raise anything
            return raised(call, error)
        fault = _fault(given, batches_per_epoch, epochs)
        if fault:
            return Verdict(False, f"{call}: {fault}")
        if all(value.equal(before[name]) for name, value in model.state_dict().items()):
            return Verdict(False, f"{call}: the learning rates are right, but no weight has moved")
    return Verdict(True, "all batches of an epoch have the same rate, and it falls after every second epoch")


def _fault(given: list[float], batches: int, epochs: int) -> str:
    """What is wrong with a sequence of learning rates; "" if it is correct."""
    expected = [0.1 * 0.1 ** (epoch // 2) for epoch in range(epochs) for _ in range(batches)]
    if len(given) != len(expected):
        return f"there should be {len(expected)} learning rates, one per batch; yours are {len(given)}"
    correct = [math.isclose(a, b, rel_tol=1e-6) for a, b in zip(given, expected, strict=True)]
    if all(correct):
        return ""
    wrong = correct.index(False)
    epoch, batch = divmod(wrong, batches)
    first = f"batch {batch + 1} of epoch {epoch + 1} should have lr {expected[wrong]:g}; yours has {given[wrong]:.2g}"
    return f"{first}, and the last batch {given[-1]:.2g} instead of {expected[-1]:g}"


def _small(batches: int) -> tuple[nn.Module, Batches]:
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
    return model, [(torch.randn(8, 4, generator=rng), torch.arange(8) % 3) for _ in range(batches)]
