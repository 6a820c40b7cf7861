"""Child processes that start at once, and are killed: a server that has imported labkit forks them in milliseconds."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
# torch._dynamo: the first optimizer imports it, in seconds
CONTEXT.set_forkserver_preload(["torch._dynamo", "labkit.sweep", "labkit.search", "labkit.zoo", "tests.conftest"])


@contextmanager
def child(work: Callable[..., Any], *args: Any) -> Iterator[BaseProcess]:
    """A process that does `work(*args)`, both importable; killed at the end if it still runs."""
    # the server's own environment is the one it began with, not what a test has set since then
    process = CONTEXT.Process(target=_begin, args=(dict(os.environ), work, *args))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _begin(environment: dict[str, str], work: Callable[..., Any], *args: Any) -> None:
    os.environ.update(environment)
    work(*args)


def killed_at(call: int, work: Callable[..., Any], *args: Any) -> bool:
    """Do `work(*args)` in a child that kills itself just before its n-th change of a file; false once it came through.

    The changes are what `labkit._files` and `labkit.data` ask of the system: a file opened to be written, its contents
    forced to disk, a file renamed.
    """
    with child(_die_at, call, work, *args) as process:
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        return process.exitcode != 0


def _die_at(call: int, work: Callable[..., Any], *args: Any) -> None:
    left = call

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return wrapper

    os.replace, os.fsync, os.chmod = counted(os.replace), counted(os.fsync), counted(os.chmod)
    work(*args)
