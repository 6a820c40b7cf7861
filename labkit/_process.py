"""Protects the user's process: environment variables, warning filters, the generator of `random`."""

import contextlib
import importlib
import os
import random
import sys
import warnings


def load(name: str) -> None:
    """Import a module early, and undo its changes to environment variables, warning filters and `random`."""
    if name in sys.modules:
        return
    before, drawn = set(os.environ), random.getstate()
    with warnings.catch_warnings(), contextlib.suppress(ImportError):
        importlib.import_module(name)
    for variable in set(os.environ) - before:
        del os.environ[variable]
    random.setstate(drawn)
