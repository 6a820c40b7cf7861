"""What is measured before somebody asks for it makes room for what somebody waits for."""

from collections.abc import Callable
from contextvars import ContextVar

# says whether what this thread measures is no longer wanted; None: somebody waits for it
given_up: ContextVar[Callable[[], bool] | None] = ContextVar("given_up", default=None)


class GivenUp(Exception):  # noqa: N818 - no error: something newer is to be measured
    """Measuring ahead has ended early."""


def give_up_if_overtaken() -> None:
    """Raise GivenUp if what this thread measures is in the way of a real move; called between two pieces of work."""
    overtaken = given_up.get()
    if overtaken is not None and overtaken():
        raise GivenUp
