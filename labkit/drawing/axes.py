"""Axes and labels for curves of measured sweeps, and effects with their intervals."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from labkit import _check
from labkit.drawing._base import BLACK, BLUE, GREY

# of a legend inside the axes
SNUG: dict[str, Any] = dict(fontsize=10, framealpha=0.9, handlelength=1.4, handletextpad=0.4, borderpad=0.3)


def ticks_in(ax: Axes) -> int:
    """How many tick labels of sizes fit below an axis."""
    return int(ax.bbox.width / ax.figure.dpi / 0.65)  # inches


def label_bits(ax: Axes, bits: Iterable[int], x: Iterable[float], y: Iterable[float]) -> None:
    """Label points with their bits, where there is room between all points and the other labels."""
    inch, inside = 72 / ax.figure.dpi, ax.bbox.padded(-ax.figure.dpi / 12)
    marks = list(zip(bits, x, y, strict=True))
    taken = [ax.transData.transform(mark[1:]) * inch for mark in marks]
    for (number, *place), point in zip(marks, list(taken), strict=True):
        for step in ((9, -9), (-9, 9), (-9, -9), (9, 9)):
            middle = point + step
            if inside.contains(*middle / inch) and all(np.hypot(*(middle - other)) > 12 for other in taken):
                look: dict[str, Any] = dict(textcoords="offset points", fontsize=10, ha="center", va="center")
                ax.annotate(str(number), (place[0], place[1]), step, **look)
                taken.append(middle)
                break


def lr_axis(ax: Axes, lowest: float, highest: float, label: str = "peak learning rate (log scale)") -> None:
    """A logarithmic axis of learning rates with one tick per power of ten, in plain text."""
    ax.set_xscale("log")
    ax.set_xlim(lowest, highest)
    powers = range(math.ceil(math.log10(lowest) - 1e-9), math.floor(math.log10(highest) + 1e-9) + 1)
    ax.xaxis.set_major_locator(FixedLocator([10.0**power for power in powers]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, position: lr_text(value)))
    ax.set_xlabel(label)


def listed_axis(ax: Axes, values: Iterable[float], label: str) -> None:
    """A logarithmic axis with a tick at each of `values`, whole numbers in plain text."""
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(sorted(values)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:.0f}"))
    ax.set_xlabel(label)


def lr_text(lr: float) -> str:
    """A learning rate for a tick or a label: 0.003, 1e-5."""
    return f"{lr:g}" if lr >= 0.001 else np.format_float_scientific(lr, precision=1, trim="-", exp_digits=1)


def effects(ax: Axes, table: pd.DataFrame, label: str) -> None:
    """Effects with their intervals, one row each, the largest on top; `table` has the columns mean, low and high."""
    _check.table("table", table, "mean", "low", "high")
    table = table.sort_values("mean", ascending=False, kind="stable")
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
    ax.legend(fontsize=10, framealpha=0.9)
