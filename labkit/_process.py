"""What belongs to the user's process and not to labkit: environment variables and warning filters."""

import contextlib
import importlib
import os
import sys
import warnings


def load(name: str) -> None:
    """Import a module that others would import later, and undo what it adds to the environment and to the filters."""
    if name in sys.modules:
        return
    before = set(os.environ)
    with warnings.catch_warnings(), contextlib.suppress(ImportError):
        importlib.import_module(name)
    for variable in set(os.environ) - before:
        del os.environ[variable]
