"""Files that are written completely or not at all, by one process at a time. labkit writes every file through here."""

import contextlib
import math
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import filelock

ABANDONED = 3600.0  # seconds after which an unfinished file is assumed to belong to a killed process
PATIENCE = 5.0  # seconds before a process says that it waits for another


def replace(path: str | Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write `pieces`, end to end, as the file `path`: a crash, a full disk or another writer leaves one complete file.

    A symbolic link stays and its target is replaced; an existing file keeps its mode. The new file is on disk when this
    returns. ValueError if `path` is something other than a regular file, OSError if it cannot be written.
    """
    target = Path(os.path.realpath(path))
    mode = _mode(target)
    if str(path).endswith(os.sep):
        raise ValueError(f"path is {path}, which names a folder; allowed: a regular file or a name that is free")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: its folder {target.parent} does not exist")
    part = target.with_name(f".labkit-{secrets.token_hex(8)}.part")  # only a rename within one folder is atomic
    try:
        with part.open("xb") as file:  # "x" opens nothing that exists already, such as a link that someone placed there
            if mode is not None:
                os.chmod(file.fileno(), mode)
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
        _sync(target.parent)
    except OSError as error:
        raise OSError(error.errno, f"{path} cannot be written, and is unchanged: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    _remove_abandoned(target.parent)


def read(path: str | Path, longest: float = math.inf) -> bytes:
    """The contents of a regular file of at most `longest` bytes; ValueError for a longer one, a device or a pipe."""
    _mode(Path(os.path.realpath(path)))
    if (size := Path(path).stat().st_size) > longest:
        raise ValueError(f"it has {size} bytes; allowed: {longest} at most")
    return Path(path).read_bytes()


def _mode(target: Path) -> int | None:
    """The permissions of a regular file; None if there is no file."""
    try:
        found = target.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a device, a pipe or a socket"
        raise ValueError(f"path is {target}, {kind}; allowed: a regular file or a name that is free")
    return stat.S_IMODE(found.st_mode)


def _sync(folder: Path) -> None:
    """Write the names in a folder to disk, too; Windows cannot do this and does not need it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_abandoned(folder: Path) -> None:
    """Remove the unfinished files of killed processes."""
    for part in folder.glob(".labkit-*.part"):
        with contextlib.suppress(OSError):  # another writer has removed it, or we may not remove it
            if time.time() - part.lstat().st_mtime > ABANDONED:
                part.unlink()


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Make every other process and thread that locks `path` wait; a killed process releases its lock.

    `path` may be a file that does not exist yet. The lock is the file `.<name>.lock` beside it, and it stays there.
    """
    target = Path(os.path.realpath(path))
    # usable by everybody who may write into the folder, not only by the one who came first
    lock = filelock.FileLock(target.with_name(f".{target.name}.lock"), mode=0o666)
    try:
        lock.acquire(timeout=PATIENCE)
    except filelock.Timeout:
        sys.stderr.write(f"waiting for another process to be done with {path}\n")  # a warning might be made an error
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
