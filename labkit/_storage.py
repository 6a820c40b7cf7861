"""Where a search is stored: a journal of complete lines or a database; and which of its searches are still running.

Beside a study in `study.db` there are locks: `.study.db.ask.lock`, which a search holds while it begins a trial, and
`.study.db.<worker>.lock`, which it holds until it ends. The system releases both when the process ends for any reason.
"""

import contextlib
import itertools
import json
import os
import secrets
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import optuna
import sqlalchemy
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from labkit._files import locked

Storage = str | Path | optuna.storages.BaseStorage | None
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
HEAD = b'{"op_code":'  # the beginning of every line of a journal
_asking = threading.Lock()
_level = threading.Lock()
_quiet: list[int] = []  # the user's verbosity, once for each call in progress


class Journal(JournalFileBackend):
    """Optuna's journal, but its lines stay complete if a process is killed while writing one or the disk is full."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        with path.open("rb") as file:
            head = file.read(len(HEAD))
        if head != HEAD[: len(head)]:
            raise ValueError(
                f"storage is {path}, which is not a journal of a study; allowed: a journal, or a free name"
            )

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Every entry from line `log_number_from` on. ValueError for a damaged line."""
        if not _is_whole(self._file_path):
            with locked(self._file_path):
                _cut(self._file_path)
        try:
            for log in super().read_logs(log_number_from):
                if not isinstance(log, dict) or "op_code" not in log:
                    raise ValueError("not an entry of a study")
                yield log
        except ValueError as error:  # of JSON, or of text that is not UTF-8
            told = f"storage is {self._file_path}, in which a line is damaged; allowed: a journal of whole lines"
            raise ValueError(told) from error

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add a line for each entry. OSError if they cannot be written: the earlier lines are kept."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        try:
            with locked(self._file_path):
                _cut(self._file_path)
                with open(self._file_path, "ab") as file:
                    file.write(lines.encode())
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            told = f"the study in {self._file_path} could not be written: {error.strerror}; the trials before are kept"
            raise OSError(error.errno, told) from error


def _is_whole(path: str) -> bool:
    """Whether the last line is complete; if not, it is being written, or its writer was killed."""
    with open(path, "rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _cut(path: str) -> None:
    """Remove the last line if it is incomplete. The caller must hold the lock."""
    if not _is_whole(path):
        with open(path, "r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
            os.fsync(file.fileno())


def file_of(storage: Storage) -> Path | None:
    """The file that holds a study; None for a study in memory, on a server, or in a storage object of Optuna's."""
    if isinstance(storage, Path) or (isinstance(storage, str) and "://" not in storage):
        file = Path(storage).absolute()  # an objective may change the folder
    elif isinstance(storage, str) and storage.startswith("sqlite"):
        database = sqlalchemy.engine.make_url(storage).database
        if database in (None, "", ":memory:") or database.startswith("file:"):
            return None
        file = Path(database)
    else:
        return None
    if not file.parent.is_dir() or (file.exists() and not file.is_file()):
        raise ValueError(f"storage is {storage}; allowed: a file in a folder that exists")
    return Path(os.path.realpath(file))


def connect(storage: Storage) -> optuna.storages.BaseStorage | None:
    """The storage object of Optuna; see `labkit.search.open_study`."""
    if storage is None or isinstance(storage, optuna.storages.BaseStorage):
        return storage
    if not isinstance(storage, str | Path):
        kinds = "a path, the URL of a database, a storage object of Optuna's or None"
        raise TypeError(f"storage is {storage!r}; allowed: {kinds}")
    if isinstance(storage, Path):
        return optuna.storages.JournalStorage(Journal(storage.absolute()))
    if "://" not in storage:
        return connect(Path(storage))
    patience: dict[str, Any] = {"connect_args": {"timeout": 60}} if storage.startswith("sqlite") else {}
    with warnings.catch_warnings():  # Optuna calls its heartbeat experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            return optuna.storages.RDBStorage(storage, patience, heartbeat_interval=10, grace_period=30)
        except sqlalchemy.exc.ArgumentError as error:
            told = f"storage is {storage}; allowed: a path, or the URL of a database that SQLAlchemy knows"
            raise ValueError(told) from error
        except sqlalchemy.exc.DBAPIError as error:
            told = f"storage is {storage}, which cannot be used ({error.orig}); allowed: a database, or a free name"
            raise ValueError(told) from error


@contextlib.contextmanager
def alone(file: Path | None) -> Iterator[None]:
    """Make other searches that begin a trial of the study wait; without a file, only those of this process."""
    with locked(file.with_name(f"{file.name}.ask")) if file else _asking:
        yield


@contextlib.contextmanager
def at_work(file: Path | None) -> Iterator[str]:
    """A name for a running search, with which others find out whether it `lives`."""
    worker = secrets.token_hex(8)
    if file is None:
        yield worker
        return
    try:
        with filelock.FileLock(_lock_of(file, worker)):
            yield worker
    finally:
        _lock_of(file, worker).unlink(missing_ok=True)


def lives(file: Path | None, worker: str) -> bool:
    """Whether the search of that name is running, on any machine that shares the file; True without a file."""
    if file is None:
        return True
    lock = _lock_of(file, worker)
    if not lock.exists():
        return False
    try:
        with filelock.FileLock(lock, timeout=0):
            pass
    except filelock.Timeout:
        return True
    lock.unlink(missing_ok=True)
    return False


def _lock_of(file: Path, worker: str) -> Path:
    return file.with_name(f".{file.name}.{worker}.lock")


def give_up_lost(study: optuna.Study, file: Path | None) -> None:
    """Mark the trials of killed searches as failed."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
        worker = trial.user_attrs.get("worker")
        if worker is not None and not lives(file, worker):
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # ended since the trials were read
                study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def counts(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a trial has ended or is running; a trial that did not end is tried again, with its index."""
    if trial.state == TrialState.FAIL:
        return "reason" in trial.user_attrs
    return trial.state in FINISHED or "worker" in trial.user_attrs


def index_of(trial: optuna.trial.FrozenTrial) -> int:
    """The position of a trial in the sequence of settings; its number, if no earlier trial was lost."""
    return trial.user_attrs.get("index", trial.number)


def free_index(study: optuna.Study) -> int:
    """The lowest index that no counting trial has: the number of the next trial, if none was lost."""
    taken = {index_of(trial) for trial in study.get_trials(deepcopy=False) if counts(trial)}
    return next(index for index in itertools.count() if index not in taken)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let Optuna report errors only, until the last such call ends; then restore the user's level."""
    with _level:
        _quiet.append(_quiet[-1] if _quiet else optuna.logging.get_verbosity())
        optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        with _level:
            level = _quiet.pop()
            if not _quiet and optuna.logging.get_verbosity() == optuna.logging.ERROR:  # unless the user set another
                optuna.logging.set_verbosity(level)
