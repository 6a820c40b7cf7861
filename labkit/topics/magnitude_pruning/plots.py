"""The pictures of notebook 01: accuracy against sparsity."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from labkit import _check
from labkit.drawing._base import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    RED,
    accuracy_axis,
    seed_band,
    tidy,
)
from labkit.drawing.axes import SNUG

METHODS = {
    "one-shot": (RED, "o", "-"),
    "fine-tuned": (BLUE, "s", "-"),
    "gradual": (GREEN, "^", "-"),
    "random, fine-tuned": (GREY, "x", "--"),
}


def sparsity_curves(ax: Axes, records: pd.DataFrame, dense_accuracy: float) -> None:
    """Accuracy against sparsity, one line per method: mean over the seeds, band from the worst to the best.

    `records` has the columns method, sparsity, accuracy (one row per seed) and may be empty.
    """
    _check.table("records", records, "method", "sparsity", "accuracy")
    for method, rows in records.groupby("method", sort=False):
        by = rows.groupby("sparsity")["accuracy"]
        x = -np.log10(1 - by.mean().index.to_numpy())
        seed_band(ax, x, by, METHODS.get(str(method), (PURPLE, "d", "-")), str(method), alpha=0.2)
    ax.axhline(dense_accuracy, color=BLACK, lw=1, ls=":", label="dense")
    shown = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
    ax.set_xticks([-np.log10(1 - s) for s in shown], [f"{s:.0%}" for s in shown])
    ax.set_xlim(-0.05, 2.1)
    ax.set_xlabel("sparsity (scale: log of the density)")
    accuracy_axis(ax, 0.08, dense_accuracy + 0.6 * (1 - dense_accuracy))
    tidy(ax)
    ax.legend(loc="lower left", **SNUG)


def place_sparsity(sparsity: float) -> float:
    """Where a sparsity lies on the axis of `sparsity_curves`."""
    return float(-np.log10(1 - min(sparsity, 0.992)))
