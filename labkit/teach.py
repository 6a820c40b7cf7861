"""Checks for the exercises: each compares a student's answer with a slow specification and returns a sentence.

A check never raises for a wrong answer: it returns a `Verdict` that says what was expected, so that a notebook with
unsolved exercises still runs from top to bottom. A grader reads `verdict.passed`.
"""

import importlib
import importlib.util
from typing import Any

from labkit._verdict import Verdict
from labkit.topics import TOPICS


def _checks() -> dict[str, Any]:
    """Every check of every topic, by its name."""
    found: dict[str, Any] = {"Verdict": Verdict}
    for topic in TOPICS:
        name = f"labkit.topics.{topic}.checks"
        if importlib.util.find_spec(name):
            module = importlib.import_module(name)
            found |= {name: getattr(module, name) for name in module.__all__}
    return found


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"labkit.teach has no {name!r}")
    checks = _checks()
    if name in checks:
        return checks[name]
    raise AttributeError(f"labkit.teach has no {name!r}; it has {', '.join(sorted(checks))}")


def __dir__() -> list[str]:
    return sorted(_checks())
