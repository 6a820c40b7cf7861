"""The frontier of accuracy against size: the settings that no other setting beats in both."""

import io

import numpy as np
import pandas as pd

from labkit import _check
from labkit.data import verified

PUBLISHED = {"lenet-300-100": "LeNet-300-100", "lenet-5": "LeNet-5-Caffe"}


def pareto_mask(size: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """True where no other point is at least as small and at least as accurate, and better in one of the two.

    Small `size` and large `accuracy` are better; both are one-dimensional and equally long. Equal points are all kept.
    """
    size, accuracy = (_check.array(name, value) for name, value in (("size", size), ("accuracy", accuracy)))
    if size.shape != accuracy.shape or size.ndim != 1:
        raise ValueError(f"size has shape {size.shape} and accuracy {accuracy.shape}; allowed: two equal 1-D lengths")
    smaller_equal = size[:, None] <= size[None, :]
    better_equal = accuracy[:, None] >= accuracy[None, :]
    strictly = (size[:, None] < size[None, :]) | (accuracy[:, None] > accuracy[None, :])
    dominates = smaller_equal & better_equal & strictly  # [i, j]: i dominates j
    return np.logical_not(np.any(dominates, axis=0))


def frontier(records: pd.DataFrame) -> pd.DataFrame:
    """The non-dominated rows of a table with the columns size_bytes and accuracy, smallest first.

    No other row is at least as small and at least as accurate, and better in one of the two.

    Args:
        records: at least these two columns; small sizes and large accuracies are better.

    Returns:
        A new table of these rows, with all columns.

    Raises:
        ValueError: a column is missing.

    Example:
        >>> import pandas as pd
        >>> records = pd.DataFrame(dict(size_bytes=[30, 10, 20], accuracy=[0.9, 0.7, 0.6]))
        >>> lk.frontier(records).size_bytes.tolist()  # 20 bytes are more than 10, and less accurate
        [10, 30]
    """
    _check.table("records", records, "size_bytes", "accuracy")
    best = records[pareto_mask(records["size_bytes"].to_numpy(), records["accuracy"].to_numpy())]
    return best.sort_values("size_bytes", ignore_index=True)


def hypervolume(records: pd.DataFrame, worst_bytes: float, worst_accuracy: float) -> float:
    """Area that the rows of a table dominate, in decades of size_bytes times accuracy, up to a worst corner.

    A row of s bytes and accuracy a covers the rectangle from (log10 s, a) to (log10 worst_bytes, worst_accuracy). The
    area of their union is one number by which frontiers can be compared (Zitzler & Thiele 1998). 0 if no row is better
    than the corner in both.
    """
    _check.table("records", records, "size_bytes", "accuracy")
    worst_bytes = _check.number("worst_bytes", worst_bytes, 0, float("inf"), open_low=True, open_high=True)
    worst_accuracy = _check.number("worst_accuracy", worst_accuracy, 0, 1)
    inside = records[(records["size_bytes"] < worst_bytes) & (records["accuracy"] > worst_accuracy)]
    best = frontier(inside).drop_duplicates(["size_bytes", "accuracy"])
    decades = np.log10([*best["size_bytes"], worst_bytes])
    return float((np.diff(decades) * (best["accuracy"].to_numpy() - worst_accuracy)).sum())


def published(model_name: str, data_name: str) -> pd.DataFrame:
    """File sizes that papers and we report for a network: method, paper, year, error_pct on test, size_bytes, source.

    Only figures in bytes: a ratio of weights is not a ratio of bytes. Numbered from 1; empty for other networks and
    data.
    """
    _check.kind(str, model_name=model_name, data_name=data_name)
    table = pd.read_csv(io.BytesIO(verified("records/published.csv")))
    rows = table[(table["model"] == PUBLISHED.get(model_name)) & (table["dataset"].str.lower() == data_name)]
    return rows.sort_values("size_bytes", ascending=False, ignore_index=True).set_index(pd.RangeIndex(1, len(rows) + 1))
