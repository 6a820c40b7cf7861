"""The answer of an exercise check."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """Whether an exercise is solved, and a sentence about it."""

    passed: bool
    message: str

    def __repr__(self) -> str:
        return f"{'✓ solved' if self.passed else '… not yet'}: {self.message}"


def compare(
    answer: Callable[..., Any], specification: Callable[..., Any], cases: list[tuple[Any, ...]], solved: str
) -> Verdict:
    """Try a student's function on `cases` against a slow specification; the first difference is told in words."""
    for case in cases:
        expected = specification(*case)
        try:
            given = answer(*case)
        except Exception as error:  # noqa: BLE001 - a student's code may raise anything, and is told so
            return Verdict(False, f"for {_call(answer, case)} your function raised {type(error).__name__}: {error}")
        if not same(given, expected):
            return Verdict(False, f"{_call(answer, case)} should be {expected!r}; yours is {given!r}")
    return Verdict(True, solved)


def same(given: Any, expected: Any) -> bool:
    """Equal up to rounding; a wrong type is not equal."""
    try:
        return math.isclose(float(given), float(expected), rel_tol=1e-6, abs_tol=1e-9)
    except (TypeError, ValueError):
        return False


def name_of(answer: Callable[..., Any]) -> str:
    """What to call a student's function: a partial or an object has no `__name__`."""
    return getattr(answer, "__name__", type(answer).__name__)


def _call(answer: Callable[..., Any], case: tuple[Any, ...]) -> str:
    return f"{name_of(answer)}({', '.join(map(repr, case))})"
