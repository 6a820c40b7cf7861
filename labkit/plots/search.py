"""A search drawn: the best so far, the trials as lines over their settings, how important each setting is."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from labkit import _check
from labkit.plots._base import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    accuracy_axis,
    kilobytes,
    logit,
    size_axis,
    tidy,
)
from labkit.search import best_so_far

SAMPLERS = {
    "grid": (GREY, "x", ":", "grid"),
    "random": (GREEN, "^", "--", "random"),
    "tpe": (BLUE, "o", "-", "TPE"),
    "tpe, hyperband": (PURPLE, "D", "-.", "TPE, Hyperband"),
    "nsga2": (RED, "s", "-", "NSGA-II"),
}
LOW, HIGH = 0.6, 0.875  # of the axis of accuracies on which a search over training settings is drawn


def cost_axes(ax: Axes, epochs: int) -> None:
    """Accuracy against the epochs that a search has trained in all; `place_accuracy` keeps what is poor on the edge."""
    accuracy_axis(ax, LOW, HIGH)
    ticks = (0.6, 0.65, 0.7, 0.75, 0.8, 0.85)
    ax.yaxis.set_major_locator(FixedLocator([float(logit(p)) for p in ticks]))
    labels = {round(float(logit(p)), 6): f"{p:.0%}" for p in ticks}
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, position: labels.get(round(value, 6), "")))
    ax.set_xlim(0, epochs)
    ax.set_xlabel("epochs trained in all")
    tidy(ax)


def place_accuracy(accuracy: np.ndarray | Sequence[float]) -> np.ndarray:
    """Where accuracies lie on `cost_axes`; those below its end lie on it."""
    return logit(np.clip(np.asarray(accuracy, float), LOW + 0.004, HIGH))


def sampler_lines(ax: Axes, names: Sequence[str], steps: bool) -> dict[str, Line2D]:
    """An empty line, or staircase, for each sampler of `names`, in the look it has in every picture."""
    style = "steps-post" if steps else "default"
    lines = {}
    for name in names:
        colour, _, line, label = SAMPLERS[name]
        (lines[name],) = ax.plot([], [], line, drawstyle=style, color=colour, alpha=0.8, label=label)
    return lines


def parallel_axes(ax: Axes, axes: Mapping[str, Sequence[Any]]) -> tuple[LineCollection, Line2D]:
    """An upright axis for each name of `axes`, with its ends or choices written on it; no trials yet.

    Returns the lines of the trials and the line of the one that is chosen, for `place_trials` to move.
    """
    for i, (name, values) in enumerate(axes.items()):
        ax.axvline(i, color=GREY, lw=1)
        ends = values if isinstance(values, list) else values[:2]
        for j, value in enumerate(ends):
            height = j / max(1, len(ends) - 1)
            box = dict(boxstyle="round,pad=0.12", fc="white", ec="none", alpha=0.75)
            ax.text(i + 0.05, height, short(value), fontsize=7.5, va="center", bbox=box, zorder=4)
        ax.text(i, -0.09 - 0.065 * (i % 2), name.replace("size_bytes", "file"), fontsize=9, ha="center", va="top")
    ax.set_xlim(-0.15, len(axes) - 0.5)
    ax.set_ylim(-0.05, 1.05)
    ax.set_axis_off()
    lines = LineCollection([], linewidths=1.1, cmap="viridis", alpha=0.75)
    ax.add_collection(lines)
    (chosen,) = ax.plot([], [], "-o", color=ORANGE, lw=3, ms=5, mec=BLACK, zorder=5)
    return lines, chosen


def place_trial(record: Mapping[str, Any], axes: Mapping[str, Sequence[Any]]) -> np.ndarray:
    """A trial as points (axis, height) of `parallel_axes`; it leaves out what the record lacks."""
    told = [(i, name) for i, name in enumerate(axes) if record.get(name) == record.get(name, math.nan)]
    return np.array([(i, height(record[name], axes[name])) for i, name in told])


def height(value: Any, values: Sequence[Any]) -> float:
    """Where a value lies between the ends of a range, or among choices, in [0, 1]."""
    if isinstance(values, list):
        return values.index(value) / max(1, len(values) - 1)
    low, high, *log = values
    scale = math.log if log else float
    return float(np.clip((scale(value) - scale(low)) / (scale(high) - scale(low)), 0, 1))


def short(value: Any) -> str:
    """A setting in few letters: 0.0035, 1e-5, 64, 4 KB, adamw."""
    if isinstance(value, int) and value >= 4_000:
        return kilobytes(value)
    if isinstance(value, float):
        return f"{value:.0e}".replace("e-0", "e-") if 0 < abs(value) < 1e-3 else f"{value:.3g}"
    return str(value)


def importance_bars(ax: Axes, names: Sequence[str]) -> list[Rectangle]:
    """Empty horizontal bars for shares that add up to 1."""
    bars = ax.barh(range(len(names)), [0] * len(names), color=BLUE, height=0.65)
    ax.set_yticks(range(len(names)), names, fontsize=9)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(0, 1)
    ax.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    tidy(ax)
    return cast(list[Rectangle], list(bars))


def recipe_axes(ax: Axes, dense_bytes: int, dense_accuracy: float) -> None:
    """The accuracy-against-size plane of recipes, with the dense network on it."""
    ax.plot([dense_bytes], logit(np.array([dense_accuracy])), "D", ms=8, color=RED, label="dense fp32", zorder=4)
    size_axis(ax, dense_bytes / 250, dense_bytes * 1.7, most=5)
    accuracy_axis(ax, 0.3, dense_accuracy + 0.4 * (1 - dense_accuracy))
    tidy(ax)


def sampler_curves(ax: Axes, records: pd.DataFrame, epochs: np.ndarray, column: str = "accuracy") -> pd.DataFrame:
    """`column` of the best so far against the epochs trained, one line a sampler: mean over seeds, band of all of them.

    `records` has the columns sampler, seed, state, trained, accuracy and `column`. Returns what is drawn: the means.
    """
    _check.table("records", records, "sampler", "seed", "state", "trained", "accuracy", column)
    means = {}
    for sampler, rows in records.groupby("sampler", sort=False):
        colour, marker, line, label = SAMPLERS[str(sampler)]
        curves = [best_so_far(one, column) for _, one in rows.groupby("seed")]
        table = np.array([curve.reindex(epochs, method="ffill") for curve in curves])
        ax.plot(epochs, table.mean(0), line, marker=marker, ms=5, markevery=3, color=colour, label=label)
        ax.fill_between(epochs, table.min(0), table.max(0), color=colour, alpha=0.12, lw=0)
        means[label] = table.mean(0)
    ax.set_xlabel("epochs trained in all")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:.0%}"))
    tidy(ax)
    ax.legend(loc="lower right", fontsize=8)
    return pd.DataFrame(means, index=epochs)


def optimism_curves(ax: Axes, records: pd.DataFrame) -> None:
    """Optimism, `accuracy` minus `fresh` in points, against the settings tried, one line an amount of judges.

    The mean over the draws with its 95 % interval. `records` has the columns images, trials, accuracy and fresh.
    """
    _check.table("records", records, "images", "trials", "accuracy", "fresh")
    colours, markers = (RED, ORANGE, BLUE, GREEN, SKY), ("o", "s", "D", "^", "x")
    gaps = 100 * (records["accuracy"] - records["fresh"])
    for (images, rows), colour, marker in zip(gaps.groupby(records["images"]), colours, markers, strict=False):
        by = rows.groupby(records["trials"])
        mean, half = by.mean(), 1.96 * by.sem().to_numpy()
        ax.errorbar(mean.index, mean, half, marker=marker, color=colour, capsize=3, label=f"{images:,}")
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(sorted(records["trials"].unique())))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:.0f}"))
    ax.axhline(0, color=BLACK, lw=1)
    ax.set_xlabel("settings tried (log scale)")
    ax.set_ylabel("optimism of the best, points")
    ax.legend(title="images to judge by", fontsize=8, title_fontsize=8)
