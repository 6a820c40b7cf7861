"""The picture of notebook 02: accuracy against file size, one line per scheme."""

import pandas as pd
from matplotlib.axes import Axes

from labkit import _check
from labkit.drawing._base import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    accuracy_axis,
    size_axis,
    tidy,
)
from labkit.drawing.axes import SNUG, label_bits, ticks_in


def scheme_curves(ax: Axes, records: pd.DataFrame, dense_bytes: int, dense_accuracy: float) -> None:
    """Accuracy against file size, one line per scheme, points labelled with their bits where there is room.

    `records` has the columns symmetric, granularity, bits, accuracy, size_bytes and may be empty.
    """
    _check.table("records", records, "symmetric", "granularity", "bits", "accuracy", "size_bytes")
    looks = {("symmetric", "tensor"): (BLUE, "o"), ("symmetric", "channel"): (GREEN, "s"),
             ("affine", "tensor"): (ORANGE, "^"), ("affine", "channel"): (PURPLE, "D")}  # fmt: skip
    for (symmetric, granularity), rows in records.groupby(["symmetric", "granularity"], sort=False):
        scheme = "symmetric" if symmetric else "affine"
        colour, marker = looks[scheme, str(granularity)]
        label = f"{scheme}, per {granularity}"
        x, y = rows["size_bytes"].to_numpy(), rows["accuracy"].to_numpy()
        ax.plot(x, y, marker=marker, ms=5, color=colour, label=label, lw=1.2)
    if len(records):
        ax.legend(loc="lower right", **SNUG)
    smallest = records["size_bytes"].min() if len(records) else dense_bytes / 40
    size_axis(ax, smallest * 0.7, dense_bytes * 4, most=ticks_in(ax))  # wide enough for the legend
    ax.plot([dense_bytes], [dense_accuracy], "D", ms=8, color=RED, label="dense fp32")
    ax.annotate("fp32", (dense_bytes, dense_accuracy), (0, -14), textcoords="offset points", ha="center", va="center")
    lowest = min([0.07, *(0.8 * records["accuracy"])])
    accuracy_axis(ax, lowest, dense_accuracy + 0.6 * (1 - dense_accuracy))
    tidy(ax)
    few = records[records["bits"] <= 4]
    label_bits(ax, few["bits"], few["size_bytes"], few["accuracy"])
