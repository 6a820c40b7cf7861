"""The result of an exercise check."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec

LONGEST = 300  # characters of a student's value in a message
P = ParamSpec("P")


@dataclass(frozen=True)
class Verdict:
    """Whether an exercise is solved, and a sentence about it."""

    passed: bool
    message: str

    def __repr__(self) -> str:
        return f"{'✓ solved' if self.passed else '… not yet'}: {self.message}"


def in_words(check: Callable[P, Verdict]) -> Callable[P, Verdict]:
    """`check`, so that it never raises: if an answer cannot be read, the verdict tells."""

    @functools.wraps(check)
    def checked(*args: P.args, **kwargs: P.kwargs) -> Verdict:
        try:
            return check(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - any method of a student's object may raise anything
            return Verdict(False, f"this answer cannot be checked: {type(error).__name__}: {shown(error, str)}")

    return checked


def raised(call: str, error: Exception) -> Verdict:
    """The verdict on a student's function that raised."""
    return Verdict(False, f"for {call} your function raised {type(error).__name__}: {shown(error, str)}")


def shown(value: Any, by: Callable[[Any], str] = repr) -> str:
    """A student's value as `by` shows it, cut to one line of a message."""
    try:
        text = " ".join(by(value).split())
    except Exception:  # noqa: BLE001 - as above; Python itself does not print an integer of 5,000 digits
        return f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def compare(
    answer: Callable[..., Any], specification: Callable[..., Any], cases: list[tuple[Any, ...]], solved: str
) -> Verdict:
    """Try a student's function on `cases` against a slow specification; report the first difference."""
    for case in cases:
        expected = specification(*case)
        try:
            given = answer(*case)
        except Exception as error:  # noqa: BLE001 - a student's code may raise anything; the verdict says so
            return raised(_call(answer, case), error)
        if not same(given, expected):
            return Verdict(False, f"{_call(answer, case)} should be {expected!r}; yours is {shown(given)}")
    return Verdict(True, solved)


def same(given: Any, expected: Any) -> bool:
    """Equal up to rounding; a wrong type is not equal, not even a number as text."""
    try:
        close = math.isclose(float(given), float(expected), rel_tol=1e-6, abs_tol=1e-9)
    except Exception:  # noqa: BLE001 - as above
        return False
    return close and not isinstance(given, str | bytes)


def name_of(answer: Callable[..., Any]) -> str:
    """The name of a student's function; that of its type if it has none, like a partial."""
    return getattr(answer, "__name__", type(answer).__name__)


def _call(answer: Callable[..., Any], case: tuple[Any, ...]) -> str:
    return f"{name_of(answer)}({', '.join(map(repr, case))})"
