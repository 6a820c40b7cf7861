"""Protects the user's process: environment variables and warning filters."""

import contextlib
import importlib
import os
import sys
import warnings


def load(name: str) -> None:
    """Import a module early, and undo its changes to environment variables and warning filters."""
    if name in sys.modules:
        return
    before = set(os.environ)
    with warnings.catch_warnings(), contextlib.suppress(ImportError):
        importlib.import_module(name)
    for variable in set(os.environ) - before:
        del os.environ[variable]
