"""The pictures of notebook 01: accuracy against sparsity, the histogram of the weights."""

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch
from torch import Tensor

from labkit import _check
from labkit.drawing._base import BLACK, BLUE, GREEN, GREY, RED, accuracy_axis, count, seed_bands, tidy
from labkit.drawing.axes import SNUG
from labkit.drawing.bars import two_histograms

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
    placed = records.assign(place=records["sparsity"].map(place_sparsity))
    seed_bands(ax, placed, "method", "place", METHODS, alpha=0.2)
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


def pruned_histogram(
    ax: Axes, values: Tensor, reach: float, bins: int, name: str
) -> tuple[StepPatch, list[Line2D]]:  # fmt: skip
    """The histogram of weights before pruning; returns what moves: the one after it and the lines of thresholds."""
    stays = two_histograms(ax, values, reach, bins, ("pruned", "kept"), color=BLUE)
    lines = [ax.axvline(0, color=RED, lw=1.6, label="±θ" if i == 3 else None) for i in range(4)]
    ax.yaxis.set_major_formatter(lambda value, position: count(value))
    ax.set_ylim(0.5, 12 * float(torch.histc(values, bins, -reach, reach).max()))
    ax.set_xlabel("weight")
    ax.set_title(f"{name} (log count)", fontsize=11, loc="left")
    tidy(ax)
    ax.legend(loc="upper left", fontsize=10, handlelength=1, borderpad=0.2, borderaxespad=0.2, framealpha=0.9)
    return stays, lines
