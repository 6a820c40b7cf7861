"""Files that are written whole or not at all, by one process at a time. Whatever labkit writes goes through here."""

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

ABANDONED = 3600.0  # seconds after which an unfinished file is taken to be one of a process that was killed
PATIENCE = 5.0  # seconds of silence before a process says that it waits for another


def replace(path: str | Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write `pieces`, end to end, as the file `path`: a crash, a full disk or another writer leave one whole file.

    A symbolic link stays and its target is replaced; a file that was there keeps its mode. The new file is on disk when
    this returns. ValueError if `path` is something other than a regular file, OSError if it cannot be written.
    """
    target = Path(os.path.realpath(path))
    mode = _mode(target)
    if str(path).endswith(os.sep):
        raise ValueError(f"path is {path}, which names a folder; allowed: a regular file or a name that is free")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: its folder {target.parent} does not exist")
    part = target.with_name(f".labkit-{secrets.token_hex(8)}.part")  # only a rename within one folder is atomic
    try:
        with part.open("xb") as file:  # "x" opens nothing that is there already, such as a link somebody planted
            if mode is not None:
                os.chmod(file.fileno(), mode)
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
        _sync(target.parent)
    except OSError as error:
        raise OSError(error.errno, f"{path} cannot be written, and is as it was: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    _remove_abandoned(target.parent)


def read(path: str | Path, longest: float = math.inf) -> bytes:
    """The contents of a regular file of at most so many bytes; a device or a pipe may have no end. ValueError else."""
    _mode(Path(os.path.realpath(path)))
    if (size := Path(path).stat().st_size) > longest:
        raise ValueError(f"it has {size} bytes; allowed: {longest} at most")
    return Path(path).read_bytes()


def _mode(target: Path) -> int | None:
    """The permissions of a regular file, None where there is nothing."""
    try:
        found = target.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a device, a pipe or a socket"
        raise ValueError(f"path is {target}, {kind}; allowed: a regular file or a name that is free")
    return stat.S_IMODE(found.st_mode)


def _sync(folder: Path) -> None:
    """Have the names in a folder written to disk, too; Windows cannot and need not."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_abandoned(folder: Path) -> None:
    """Remove what a process that was killed left of its unfinished files."""
    for part in folder.glob(".labkit-*.part"):
        with contextlib.suppress(OSError):  # another writer has removed it, or it is not ours to remove
            if time.time() - part.lstat().st_mtime > ABANDONED:
                part.unlink()


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Keep every other process and thread that locks `path` waiting; a process that is killed holds nothing.

    `path` may be a file that does not exist yet. The lock is the file `.<name>.lock` beside it, and it stays there.
    """
    target = Path(os.path.realpath(path))
    # for everybody who may write into the folder, and not only for who was first
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
