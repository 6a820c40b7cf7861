"""Checks of notebooks 03 and 03b."""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labkit._verdict import Verdict, compare, in_words, name_of, raised, same
from labkit.compress.distill import best_offset, raise_logit

__all__ = ["check_distillation_loss", "check_offset", "check_soften"]

LOGITS = ([2.0, -1.0, 0.5], [8.0, 6.0, -3.0, 0.0])
STUDENTS = ([[1.0, -0.5, 0.25], [0.0, 2.0, -1.5]], [[3.0, 0.0], [-1.0, 1.0], [0.5, 0.25]])
TEACHERS = ([[4.0, 2.0, -1.0], [-2.0, 3.0, 2.5]], [[2.0, -2.0], [0.0, 5.0], [-1.0, 1.0]])
LABELS = ([0, 1], [0, 1, 0])


def softened(z: list[float], temperature: float) -> list[float]:
    """softmax(z / T), number by number."""
    powers = [math.exp(v / temperature) for v in z]
    return [power / sum(powers) for power in powers]


@in_words
def check_soften(answer: Callable[[Tensor, float], Tensor]) -> Verdict:
    """`answer(z, temperature)`: the softened distribution softmax(z / T) of the logits z of one image."""
    for temperature in (1.0, 4.0, 0.5):
        for z in LOGITS:
            call = f"{name_of(answer)}({z}, {temperature})"
            try:
                given = torch.as_tensor(answer(torch.tensor(z), temperature)).flatten().tolist()
            except Exception as error:  # noqa: BLE001 - a student's code may raise anything; the verdict says so
                return raised(call, error)
            expected = softened(z, temperature)
            if len(given) != len(expected) or not all(map(_close, given, expected)):
                return Verdict(False, f"{call} should be {_rounded(expected)}; yours is {_rounded(given)}")
    return Verdict(True, "a larger T keeps the order of the classes and shrinks the differences, to 0 as T → ∞")


def _close(given: Any, expected: float) -> bool:
    try:
        return math.isclose(float(given), expected, rel_tol=1e-4, abs_tol=1e-6)
    except (TypeError, ValueError):
        return False


def _rounded(values: list[Any]) -> list[Any]:
    return [round(v, 4) if isinstance(v, float) else v for v in values]


@in_words
def check_distillation_loss(answer: Callable[[Tensor, Tensor, Tensor, float, float], Tensor]) -> Verdict:
    """`answer(student, teacher, y, temperature, alpha)`: α · T² · KL(teacher ‖ student) + (1 - α) · cross-entropy."""

    @functools.wraps(answer)
    def tried(student: list[Any], teacher: list[Any], y: list[Any], temperature: float, alpha: float) -> float:
        given = answer(torch.tensor(student), torch.tensor(teacher), torch.tensor(y), temperature, alpha)
        return round(float(given), 4)

    def specification(student: list[Any], teacher: list[Any], y: list[Any], temperature: float, alpha: float) -> float:
        return round(_loss(student, teacher, y, temperature, alpha, factor=temperature**2), 4)

    settings = ((1.0, 0.0), (1.0, 1.0), (3.0, 1.0), (5.0, 0.7))
    cases = [(*example, t, a) for t, a in settings for example in zip(STUDENTS, TEACHERS, LABELS, strict=True)]
    verdict = compare(tried, specification, cases, "labels and teacher both count, with the weights that α sets")
    if verdict.passed:
        return verdict
    for fault, hint in FAULTS.items():
        if all(_matches(tried, case, fault(*case)) for case in cases):
            return Verdict(False, f"{verdict.message}; {hint}")
    return verdict


def _loss(
    student: list[Any], teacher: list[Any], y: list[Any], temperature: float, alpha: float, factor: float
) -> float:
    """The mixed loss, image by image and class by class, with `factor` before the divergence."""
    total = 0.0
    for z, v, label in zip(student, teacher, y, strict=True):
        p, q = softened(v, temperature), softened(z, temperature)
        divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        total += alpha * factor * divergence - (1 - alpha) * math.log(softened(z, 1)[label])
    return total / len(student)


FAULTS: dict[Callable[..., float], str] = {
    lambda z, v, y, t, a: _loss(z, v, y, t, a, factor=1): "the factor T² is missing",
    lambda z, v, y, t, a: _loss(z, v, y, t, 1 - a, factor=t**2): "α is the weight of the teacher, not of the labels",
    lambda z, v, y, t, a: (
        a * _loss(v, z, y, t, 1, factor=t**2) + (1 - a) * _loss(z, v, y, t, 0, factor=1)
    ): "the teacher comes first in the divergence: KL(teacher ‖ student)",
}  # fmt: skip


def _matches(tried: Callable[..., float], case: tuple[Any, ...], value: float) -> bool:
    try:
        return same(tried(*case), round(value, 4))
    except Exception:  # noqa: BLE001 - a student's code may raise anything
        return False


@in_words
def check_offset(
    logits: Tensor, y: Tensor, label: int, answer: Callable[[Tensor, Tensor, int], float], step: float = 0.25
) -> Verdict:
    """`answer(logits, y, label)`: what to add to the logit of class `label` so that accuracy is highest.

    An offset passes if it is as good as the best among 0, `step`, 2 · `step`, … 30.
    """
    call = f"{name_of(answer)}(logits, y, {label})"
    try:
        given = float(answer(logits.clone(), y.clone(), label))
    except Exception as error:  # noqa: BLE001 - a student's code may raise anything; the verdict says so
        return raised(call, error)
    best = best_offset(logits, y, label, torch.arange(0, 30 + step, step))
    most, yours = (int((raise_logit(logits, label, by).argmax(1) == y).sum()) for by in (best, given))
    found = f"with {given:g} added, {yours:,} of {len(y):,} images are correct"
    if yours < most:
        return Verdict(False, f"{call}: {found}; another offset makes {most:,} correct")
    return Verdict(True, found)
