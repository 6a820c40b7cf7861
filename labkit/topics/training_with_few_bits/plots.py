"""Training with few bits: measured accuracy against bits, and the gradients that rounding turns into zeros."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch

from labkit import _check
from labkit.drawing._base import BLACK, BLUE, GREEN, GREY, ORANGE, RED, accuracy_axis, root_shares, seed_band, tidy
from labkit.drawing.training import legend_above

ROUNDED_LOOKS = {  # of a sweep's methods: (its look, its label)
    "QAT": ((BLUE, "s", "-"), "QAT"),
    "fine-tuned, then rounded": ((ORANGE, "o", "--"), "afterwards"),
    "fine-tuned, then clipped and rounded": ((GREY, "x", ":"), "clipped, afterwards"),
    "stochastic": ((GREEN, "^", "-"), "stochastic"),
    "nearest": ((RED, "v", "--"), "nearest"),
}


def bits_curves(ax: Axes, records: pd.DataFrame, column: str, bits: Sequence[int], lowest: float) -> None:
    """Accuracy against bits, evenly spaced, one line per method: the mean over the seeds, and their band.

    `records` has the columns `column` (the method), bits, accuracy (a row per seed); may be empty. 32 bits are float.
    """
    _check.table("records", records, column, "bits", "accuracy", rows=None)
    for method, rows in records.groupby(column, sort=False) if len(records) else ():
        by = rows.groupby("bits")["accuracy"]
        x = np.array([list(bits).index(b) for b in by.mean().index])
        seed_band(ax, x, by, *ROUNDED_LOOKS[str(method)], alpha=0.15)
    ax.set_xticks(range(len(bits)), ["float" if b == 32 else str(b) for b in bits])
    ax.set_xlim(-0.4, len(bits) - 0.6)
    accuracy_axis(ax, lowest, 0.985)
    tidy(ax)
    if len(records):
        legend_above(ax)


def gradient_histogram(ax: Axes, edges: np.ndarray) -> tuple[StepPatch, StepPatch, Line2D]:
    """Empty histograms of all gradient values and of those rounded to 0, and a line at half a step of the grid.

    `edges` are log10 of |g| over the largest |g| of its tensor; smaller values are in the first bin.
    """
    nothing = np.full(len(edges) - 1, 0.0)
    every = ax.stairs(nothing, edges, fill=True, color=BLUE, label="stays")
    zero = ax.stairs(nothing, edges, fill=True, color=RED, label="becomes 0")
    half = ax.axvline(0, color=BLACK, ls="--", lw=1.5, label="½ step")
    ax.set_xlim(edges[0], edges[-1] + 0.1)
    ticks = range(int(edges[0]), 1, 2)
    ax.set_xticks([*ticks], ["0" if t == edges[0] else f"{10.0**t:.{-t}f}" for t in ticks])
    root_shares(ax)  # large values are few
    ax.set_xlabel("|g| ÷ largest |g| of its tensor, last step")
    ax.set_ylabel("fraction of values")
    tidy(ax)
    legend_above(ax)
    return every, zero, half
