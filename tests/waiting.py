"""Waiting for events. A bound ends a test that would hang for ever; it says nothing about speed."""

import time
from collections.abc import Callable

PATIENCE = 240  # seconds; below pytest's own timeout, so that the test that waits is the one that fails


def until(condition: Callable[[], object]) -> None:
    """Wait until it holds; fail if it never does."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"it did not happen within {PATIENCE} s"
        time.sleep(0.005)
