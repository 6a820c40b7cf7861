"""The picture of notebook 02b: accuracy against file size, one line per method."""

import pandas as pd
from matplotlib.axes import Axes

from labkit import _check
from labkit.drawing._base import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    accuracy_axis,
    size_axis,
    tidy,
)
from labkit.drawing.axes import SNUG, label_bits, ticks_in

FEW_BITS = {
    "grid": (RED, "o", "-"),
    "codebook": (ORANGE, "^", "-"),
    "fine-tuned, then codebook": (GREY, "x", "--"),
    "codebook, then fine-tuned": (BLUE, "s", "-"),
}


def sharing_curves(ax: Axes, records: pd.DataFrame, dense_bytes: int, dense_accuracy: float) -> None:
    """Accuracy against file size, one line per method: mean over the seeds, labelled with the bits where there is room.

    `records` has the columns method, bits, accuracy, size_bytes (one row per seed) and may be empty.
    """
    _check.table("records", records, "method", "bits", "accuracy", "size_bytes")
    means = records.groupby(["method", "bits"], sort=False)[["size_bytes", "accuracy"]].mean().reset_index()
    for method, rows in means.groupby("method", sort=False):
        rows = rows.sort_values("bits")
        colour, marker, line = FEW_BITS[str(method)]
        x, y = rows["size_bytes"].to_numpy(), rows["accuracy"].to_numpy()
        ax.plot(x, y, line, marker=marker, ms=5, color=colour, label=method, lw=1.4)
    if len(records):
        ax.legend(loc="lower right", **SNUG)
    smallest = records["size_bytes"].min() if len(records) else dense_bytes / 40
    size_axis(ax, smallest * 0.7, dense_bytes * 1.5, most=ticks_in(ax))
    ax.plot([dense_bytes], [dense_accuracy], "D", ms=8, color=RED, label="dense fp32")
    ax.annotate("fp32", (dense_bytes, dense_accuracy), (0, -14), textcoords="offset points", ha="center", va="center")
    accuracy_axis(ax, 0.2, dense_accuracy + 0.6 * (1 - dense_accuracy))  # room for the legend
    tidy(ax)
    label_bits(ax, means["bits"], means["size_bytes"], means["accuracy"])
