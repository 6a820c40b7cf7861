"""Figures of notebook 09: slopes against slopes, learning rate by fault, accuracy against the pruning threshold."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from labkit import _check
from labkit.drawing._base import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, accuracy_axis, seed_bands, tidy
from labkit.drawing.axes import SNUG

PARAMETERS = {"W1": (BLUE, "o"), "b1": (SKY, "v"), "W2": (ORANGE, "s"), "b2": (RED, "D")}
ACROSS, UP = 1.15, 2.3  # ends of the axes of slopes, in units of the parameter's largest numeric slope
NO_SLOPE = 1e-7  # smaller slopes count as 0: at a loss near 1, the error of numeric ones is about 1e-11
CODES = {
    "article": (RED, "X", "-"),
    "article + tanh′": (GREY, "x", "--"),
    "article + small weights": (ORANGE, "s", "-"),
    "small weights, tanh′": (SKY, "v", "-"),
    "small weights, mean": (PURPLE, "D", "--"),
    "mended": (BLUE, "o", "-"),
    "softmax": (GREEN, "^", "-"),
}
CLIPPED = {"one-shot": (RED, "o", "-"), "retrained": (BLUE, "s", "-"), "random, retrained": (GREY, "x", "--")}


def slopes_axes(ax: Axes) -> dict[str, Line2D]:
    """Axes of analytic against numeric slopes, the line on which they agree; one empty series per parameter."""
    ax.set_xlim(-ACROSS, ACROSS)
    ax.set_ylim(-UP, UP)
    ax.plot([-ACROSS, ACROSS], [-ACROSS, ACROSS], "-", color=BLACK, lw=1, label="they agree")
    series = {
        name: ax.plot([], [], marker, ms=6, color=colour, mec="white", mew=0.5, alpha=0.9, label=name, clip_on=False)[0]
        for name, (colour, marker) in PARAMETERS.items()
    }
    ax.set_xlabel("measured slope (largest = 1)")
    ax.set_ylabel("slope by the code, same unit")
    tidy(ax)
    ax.legend(loc="upper left", **SNUG)
    return series


def place_slopes(analytic: np.ndarray, numeric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) of one parameter on `slopes_axes`: values beyond the ends are drawn at the ends."""
    unit = max(float(np.abs(numeric).max(initial=0)), NO_SLOPE)
    return np.clip(numeric / unit, -ACROSS, ACROSS), np.clip(analytic / unit, -UP, UP)


def fault_curves(ax: Axes, records: pd.DataFrame) -> None:
    """Accuracy against the learning rate, one line per code: the mean over the seeds, a band from worst to best.

    `records` has the columns code, lr, accuracy (one row per seed).
    """
    _check.table("records", records, "code", "lr", "accuracy")
    seed_bands(ax, records, "code", "lr", CODES, alpha=0.18)
    tidy(ax)
    ax.set_xscale("log")
    ticks = [1e-3, 1e-2, 1e-1, 1, 10]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.axvline(0.01, color=BLACK, lw=1, ls=":")
    ax.set_xlabel("learning rate (log scale); dotted: the article's 0.01")
    accuracy_axis(ax, 0.06, 0.97)
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)


def clipping_curves(ax: Axes, records: pd.DataFrame) -> None:
    """Accuracy against the pruning threshold, one line per method: mean over the seeds, a band from worst to best.

    `records` has the columns method, threshold, accuracy (one row per seed).
    """
    _check.table("records", records, "method", "threshold", "accuracy", rows=1)
    seed_bands(ax, records, "method", "threshold", CLIPPED, alpha=0.18)
    threshold_axis(ax, records["threshold"].max())
    ax.legend(loc="lower left", fontsize=8, framealpha=0.9)


def threshold_axis(ax: Axes, highest: float) -> None:
    """Axes of the accuracy against the pruning threshold."""
    ax.set_xlim(-0.02 * highest, 1.02 * highest)
    ax.set_xlabel("threshold θ")
    accuracy_axis(ax, 0.08, 0.96)
    tidy(ax)


def step_curves(ax: Axes, records: pd.DataFrame) -> None:
    """Relative error of the gradient check against its step h, one line per precision; columns precision, h, error."""
    _check.table("records", records, "precision", "h", "error")
    for (precision, rows), look in zip(records.groupby("precision", sort=False), ("-o", "--s"), strict=False):
        ax.loglog(rows["h"], rows["error"], look, ms=5, color=BLUE if look == "-o" else RED, label=precision)
    ax.set_xlabel("step h")
    ax.set_ylabel("relative error of the check")
    tidy(ax)
    ax.legend(fontsize=9, framealpha=0.9)
