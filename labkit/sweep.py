"""Run a function over a grid of settings and seeds; keep every result as a row; resume an interrupted run."""

import contextlib
import io
import itertools
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from labkit import _check
from labkit._files import locked, read, replace
from labkit.data import manifest, verified, working_on

Function = Callable[..., Mapping[str, Any]]
Key = tuple[float | str, ...]  # settings as they compare after a CSV file
Row = dict[str, Any]


def run(
    function: Function,
    grid: Mapping[str, Collection[Any]],
    seeds: Collection[int] | None = None,
    path: str | Path | None = None,
    *,
    n_jobs: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """`function(**settings, seed=seed)` for every combination of `grid` and `seeds`, as a table.

    Every row is computed with one torch thread, so it is the same on one worker and on many. A Dask cluster computes
    the rows with `with joblib.parallel_config("dask"): lk.sweep.run(…)`; give its workers one thread each.

    Args:
        function: returns a record, a mapping of names to numbers, texts, truth values or None. Workers get it by
            pickle, with what it refers to: let it call `load_data` rather than hold the images.
        grid: for each setting its values.
        seeds: whole numbers from 0, passed on as the setting `seed`; None for a function without one.
        path: a CSV file. Each row is in it as soon as it is ready, and rows in it are not computed again. Several
            processes may fill one file: each adds its rows; if two have computed the same setting, the first row stays.
        n_jobs: worker processes, -1 for one per processor; None for joblib's own setting, which is 1.
        progress: show a bar with the time left.

    Returns:
        One row per combination, the seed varying fastest: the settings, then the record.

    Raises:
        ValueError: a result changes when it is written and read, or differs from the setting of the same name; a file
            cannot distinguish two settings; `path` is the file of another sweep.
        Exception: what the function raises. Unfinished rows are lost, earlier rows are in the file.

    Example:
        >>> def score(bits, seed):
        ...     return {"levels": 2**bits, "draw": 10 * bits + seed}
        >>> lk.sweep.run(score, {"bits": (2, 8)}, seeds=(0, 1), progress=False)["draw"].tolist()
        [20, 21, 80, 81]
    """
    _check.kind(Callable, function=function)
    _check.kind(str | Path | None, path=path)
    _check.flags(progress=progress)
    n_jobs = None if n_jobs is None else _check.whole("n_jobs", n_jobs, -1024, 1024)
    if n_jobs == 0:
        raise ValueError("n_jobs is 0; allowed: how many processes, or -1 for one per processor")
    path = Path(path).absolute() if path else None  # the function may change the folder
    axes = _axes(grid, seeds)
    settings, names = _combinations(axes), list(axes)
    rows = _finished(read(path), names, path) if path and path.exists() else {}
    todo = {key: setting for key, setting in settings.items() if key not in rows}
    # results come one by one as jobs end: none waits for slower jobs or for a batch
    jobs = joblib.Parallel(n_jobs=n_jobs, batch_size=1, return_as="generator_unordered")
    done = len(settings) - len(todo)
    with tqdm(total=len(settings), initial=done, desc="sweep", unit="row", disable=not progress) as bar:
        try:
            for key, result in jobs(joblib.delayed(_run)(function, key, todo[key], os.getpid()) for key in todo):
                rows[key] = _joined(todo[key], result)
                if path:
                    rows = _add(key, rows, settings, names, path)
                bar.update()
        except KeyboardInterrupt:
            done = len(settings.keys() & rows.keys())
            where = f" and in {path}: the same call resumes there" if path else ", and lost, as the sweep has no path"
            raise KeyboardInterrupt(f"{done} of {len(settings)} rows are done{where}") from None
    # take the settings from the grid: it may have None, where the file gives NaN
    return pd.DataFrame([rows[key] | setting for key, setting in settings.items()])


def _axes(grid: Mapping[str, Collection[Any]], seeds: Collection[int] | None) -> dict[str, Collection[Any]]:
    """The values of each setting, the seeds last."""
    _check.kind(Mapping, grid=grid)
    if "seed" in grid:
        raise ValueError("grid has the setting 'seed'; allowed: other names, as the seeds go into the argument seeds")
    lists = {f"grid[{name!r}]": values for name, values in grid.items()} | ({} if seeds is None else {"seeds": seeds})
    for name, values in lists.items():
        if isinstance(values, str) or not isinstance(values, Collection):
            raise TypeError(f"{name} is {_check.shown(values)}; allowed: a list of values")
    if seeds is None:
        return {**grid}
    return {**grid, "seed": [_check.whole(f"seeds[{i}]", seed, 0, 2**63 - 1) for i, seed in enumerate(seeds)]}


def _combinations(axes: Mapping[str, Collection[Any]]) -> dict[Key, Row]:
    """Every combination of settings, by its key."""
    settings: dict[Key, Row] = {}
    for values in itertools.product(*axes.values()):
        if (key := _key(values)) in settings:
            raise ValueError(f"{values} comes twice, as a file stores it; allowed: settings that differ in a file")
        settings[key] = dict(zip(axes, values, strict=True))
    return settings


def _run(function: Function, key: Key, setting: Row, parent: int) -> tuple[Key, Row]:
    with _worker_of(parent), _one_thread():
        result = function(**setting)
    _check.kind(Mapping, **{"the result": result})
    for name in result:
        if not (isinstance(name, str) and name):
            raise ValueError(f"the result has the name {name!r}; allowed: a text that is not empty")
    return key, {name: v.item() if isinstance(v, np.generic) else v for name, v in result.items()}


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread: with another number, sums have other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _worker_of(parent: int) -> Iterator[None]:
    """Leave Ctrl-C to the process that collects the rows, and end with it; joblib's workers would go on."""
    if os.getppid() != parent or threading.current_thread() is not threading.main_thread():
        yield  # not a joblib worker process
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    if not any(thread.name == "labkit-worker" for thread in threading.enumerate()):
        threading.Thread(target=watch, daemon=True, name="labkit-worker").start()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _joined(setting: Row, result: Row) -> Row:
    for name in setting.keys() & result.keys():
        if result[name] != setting[name]:
            raise ValueError(
                f"the result {name}={result[name]!r} has the name of a setting, which is {setting[name]!r}; "
                "allowed: other names"
            )
    return setting | result


def _add(key: Key, rows: dict[Key, Row], settings: Mapping[Key, Row], names: list[str], path: Path) -> dict[Key, Row]:
    """Write the row of `key` and keep rows that other processes wrote; return all rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        there = _finished(read(path), names, path) if path.exists() else {}
        rows = rows | there
        rows = {k: rows[k] | settings.get(k, {}) for k in dict.fromkeys([*settings, *there, *rows]) if k in rows}
        raw = pd.DataFrame(list(rows.values())).to_csv(index=False).encode()
        again = _finished(raw, names, path)
        for k in rows if key not in there else ():  # the new row may change how a column is read
            _check_same(rows[k], again[k], names)
        replace(path, [raw])
    return rows


def _finished(raw: bytes, names: list[str], path: Path | None) -> dict[Key, Row]:
    """The rows of a sweep's file, by setting. Only an empty field is a missing value: "NA" and "None" are texts."""
    if not raw.strip():
        return {}
    how: dict[str, Any] = dict(keep_default_na=False, index_col=False, encoding="utf-8-sig")
    try:
        texts = pd.read_csv(io.BytesIO(raw), dtype=str, **how)
        table = pd.read_csv(io.BytesIO(raw), na_values=[""], **how)
    except ValueError as error:  # of pandas' parser, or text that is not UTF-8
        raise ValueError(f"{path} is damaged ({' '.join(str(error).split())}); allowed: the file of a sweep") from error
    missing = [name for name in names if name not in texts]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}; allowed: the file of a sweep over {names}")
    rows: dict[Key, Row] = {}
    for setting, row in zip(texts[names].to_dict("records"), table.to_dict("records"), strict=True):
        if (key := _key(setting.values())) in rows:
            raise ValueError(f"{path} has two rows for {setting}; allowed: the file of a sweep over {names} alone")
        rows[key] = {str(name): value for name, value in (row | setting).items()}
    return rows


def _check_same(row: Row, again: Row, names: list[str]) -> None:
    """ValueError for a result that changes when it is written to a CSV file and read."""
    for name in row.keys() - set(names):
        value, found = row[name], again[name]
        if _is_missing(value) != _is_missing(found) or not (_is_missing(value) or _equal(value, found)):
            allowed = "in a column numbers, truth values, or texts that look like neither; None for a missing value"
            raise ValueError(f"the result {name}={value!r} comes back from the file as {found!r}; allowed: {allowed}")


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _equal(value: object, found: object) -> bool:
    return isinstance(value, str) == isinstance(found, str) and bool(value == found)


def _key(values: Iterable[Any]) -> Key:
    """Settings as they compare after a CSV file, where 0, 0.0 and "0" are equal, and None and NaN are empty."""
    return tuple(_number_or_text("" if value is None or value != value else str(value)) for value in values)


def _number_or_text(text: str) -> float | str:
    if text.removeprefix("-").isdecimal():
        return int(text)  # as floats, two long numbers could become equal
    try:
        number = float(text)
    except ValueError:
        return text
    return text if math.isnan(number) else number  # NaN is not equal to itself


def sweep_path(kind: str, model_name: str, data_name: str) -> str:
    """The path of a shipped sweep below data/; `kind` is its name: "frontier", "distillation", …"""
    _check.kind(str, kind=kind, model_name=model_name, data_name=data_name)
    return f"sweeps/{kind}--{model_name}--{data_name}.csv"


def shipped_sweep(kind: str, model_name: str, data_name: str) -> pd.DataFrame:
    """A sweep that ships with the lab, as a table; ValueError if its file is damaged."""
    path = sweep_path(kind, model_name, data_name)
    if path not in manifest():
        given = f"kind, model_name and data_name are {kind!r}, {model_name!r} and {data_name!r}"
        raise ValueError(f"{given}; allowed: a sweep in data/sweeps")
    return pd.read_csv(io.BytesIO(verified(path)))


def run_and_ship(
    function: Function, grid: Mapping[str, Collection[Any]], seeds: Collection[int] | None, kind: str, *names: str
) -> pd.DataFrame:
    """The sweep that ships as `sweep_path(kind, *names)`: run the missing rows, and update the manifest."""
    with working_on(sweep_path(kind, *names)) as work:
        return run(function, grid, seeds, work)
