"""Compositions of techniques: where their orders end on the plane, and effects with their intervals."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from labkit import _check
from labkit.plots._base import BLACK, BLUE, GREY, ORANGE, RED, accuracy_axis, kilobytes, logit, size_axis, tidy

ORDER_LOOKS = {"prune before quantize": (BLUE, "o"), "quantize before prune": (ORANGE, "^"), "not both": (GREY, "x")}


def order_of(steps: str) -> str:
    """Which of two techniques came first: a key of ORDER_LOOKS, of steps as a sweep names them, "prune, quantize"."""
    found = [step for step in steps.split(", ") if step in ("prune", "quantize")]
    return " before ".join(found) if len(found) == 2 else "not both"


def composed_means(records: pd.DataFrame) -> pd.DataFrame:
    """The mean size_bytes and accuracy over the seeds of an order sweep: a row for each (steps, bits), mild first."""
    _check.table("records", records, "steps", "bits", "size_bytes", "accuracy")
    mean = records.groupby(["steps", "bits"])[["size_bytes", "accuracy"]].mean()
    return mean.sort_index(ascending=[True, False]).reset_index()


def order_plane(ax: Axes, records: pd.DataFrame, dense_bytes: int, dense_accuracy: float) -> Line2D:
    """The accuracy-against-size plane with every measured composition: the mean over its seeds, by what came first.

    `records` has the columns steps, bits, accuracy, size_bytes (a row a seed) and may be empty. Returns an empty line
    for the measured way of one composition, from mild to hard.
    """
    mean = composed_means(records)
    for name, (colour, marker) in ORDER_LOOKS.items():
        rows = mean[mean["steps"].map(order_of) == name]
        ax.plot(rows["size_bytes"], logit(rows["accuracy"].to_numpy()), marker, ms=4.5, color=colour, label=name)
    (way,) = ax.plot([], [], "--o", ms=8, mfc="none", color=BLACK, lw=1, label="these steps, mild to hard")
    ax.plot([dense_bytes], logit(np.array([dense_accuracy])), "D", ms=8, color=RED, label="dense fp32", zorder=4)
    size_axis(ax, min([3_000, *records["size_bytes"]]) * 0.8, dense_bytes * 1.7, most=8)
    accuracy_axis(ax, min([0.43, *records["accuracy"]]) * 0.97, dense_accuracy + 0.4 * (1 - dense_accuracy))
    tidy(ax)
    ax.legend(loc="lower right", fontsize=8, framealpha=0.9, title="measured, trained", title_fontsize=8)
    return way


def effects(ax: Axes, table: pd.DataFrame, label: str) -> None:
    """Effects with their intervals, one row each from the top; `table` has the columns mean, low and high."""
    _check.table("table", table, "mean", "low", "high")
    y, mean = np.arange(len(table)), table["mean"].to_numpy()
    reach = np.stack([mean - table["low"].to_numpy(), table["high"].to_numpy() - mean])
    sure = ((table["low"] > 0) | (table["high"] < 0)).to_numpy()
    for rows, marker, name in ((sure, "s", "the interval is on one side of 0"), (~sure, "o", "it contains 0")):
        colour = BLUE if marker == "s" else GREY
        ax.errorbar(mean[rows], y[rows], xerr=reach[:, rows], fmt=marker, color=colour, capsize=3, label=name)
    ax.axvline(0, color=BLACK, lw=1)
    ax.set_yticks(y, [" · ".join(map(str, key)) if isinstance(key, tuple) else str(key) for key in table.index])
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set_xlabel(label)
    ax.legend(fontsize=8, framealpha=0.9)


def composed_caption(steps: str, sparsity: float, bits: int, accuracy: float, size: float) -> str:
    """A composition in a line: its steps, how far they go, where it ended."""
    names = steps.split(", ")
    far = [f"{sparsity:.0%}"] * ("prune" in names) + [f"{bits} bit"] * ("quantize" in names)
    told = ", ".join([" → ".join(names).replace("quantize", "quant"), *far])
    return f"{told}: {accuracy:.1%}, {kilobytes(size)}"
