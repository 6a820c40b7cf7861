"""Run a function over a grid of settings; keep every result as a row; go on where an interrupted run stopped.

The jobs are joblib's, so that a Dask or Ray cluster is one `joblib.parallel_config(backend=…)` around the call.
"""

import io
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import pandas as pd

from labkit.data import data_dir, register, verified
from labkit.data.files import replace


def sweep(
    function: Callable[..., Mapping[str, Any]],
    grid: Mapping[str, Sequence[Any]],
    path: str | Path | None = None,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """`function(**settings)` for every combination of `grid`, as a table: a row holds the settings and the result.

    With `path`, a CSV file, each row is written as soon as it is there, and rows found in the file are not run again.
    If a run raises, so does the sweep, and the rows before it are in the file.
    """
    path = Path(path) if path else None
    settings = {_key(values): dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())}
    rows = _finished(path, list(grid)) if path and path.exists() else {}
    rows = {key: row | settings.get(key, {}) for key, row in rows.items()}  # None, not NaN, where the grid has None
    todo = {key: setting for key, setting in settings.items() if key not in rows}
    jobs = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")  # as they end: none waits for a slower one
    for key, result in jobs(joblib.delayed(_run)(function, key, setting) for key, setting in todo.items()):
        rows[key] = settings[key] | result
        if path:
            _write(pd.DataFrame([rows[k] for k in dict.fromkeys([*settings, *rows]) if k in rows]), path)
    return pd.DataFrame([rows[key] for key in settings])


def _run(
    function: Callable[..., Mapping[str, Any]], key: tuple[Any, ...], setting: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return key, dict(function(**setting))


def _finished(path: Path, names: list[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The rows of a sweep's file, by their settings."""
    texts = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [name for name in names if name not in texts]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}; allowed: the file of a sweep over {names}")
    settings, rows = texts[names].to_dict("records"), pd.read_csv(path).to_dict("records")
    return {_key(s.values()): {str(k): v for k, v in (row | s).items()} for s, row in zip(settings, rows, strict=True)}


def _key(values: Iterable[Any]) -> tuple[Any, ...]:
    """Settings as they compare behind a CSV file, in which 0, 0.0 and "0" are one, and None and NaN are empty."""
    return tuple(_number_or_text("" if value is None or value != value else str(value)) for value in values)


def _number_or_text(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return text if math.isnan(number) else number  # NaN is not equal to itself


def _write(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, table.to_csv(index=False).encode())


def sweep_path(kind: str, model_name: str, data_name: str) -> str:
    """Where a shipped sweep lies below data/; `kind` says of what: "frontier", "distillation", …"""
    return f"sweeps/{kind}--{model_name}--{data_name}.csv"


def shipped_sweep(kind: str, model_name: str, data_name: str) -> pd.DataFrame:
    """A sweep that ships with the lab, as a table; ValueError if its file is damaged."""
    return pd.read_csv(io.BytesIO(verified(sweep_path(kind, model_name, data_name))))


def kept(
    run: Callable[..., Mapping[str, Any]], grid: Mapping[str, Sequence[Any]], kind: str, *names: str
) -> pd.DataFrame:
    """The sweep that ships as `sweep_path(kind, *names)`: run what its file lacks, and enter it in the manifest."""
    path = sweep_path(kind, *names)
    table = sweep(run, grid, data_dir() / path)
    register(path)
    return table
