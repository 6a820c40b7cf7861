"""A search drawn: the best so far, the trials as lines over their settings, how important each setting is."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from labkit import _check
from labkit.drawing._base import (
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
    size_axis,
    tidy,
)
from labkit.drawing.axes import listed_axis
from labkit.search import best_so_far

SAMPLERS = {
    "grid": (GREY, "x", ":", "grid"),
    "random": (GREEN, "^", "--", "random"),
    "tpe": (BLUE, "o", "-", "TPE"),
    "tpe, hyperband": (PURPLE, "D", "-.", "TPE, Hyperband"),
    "nsga2": (RED, "s", "-", "NSGA-II"),
}
GRADES = (("#d0d0d0", 1.0), (GREY, 1.2), (BLUE, 1.6))  # colour and width of a trial's line: far, fair, good


# of a legend above its axes
LEGEND: dict[str, Any] = dict(
    fontsize=10, frameon=False, handlelength=1.5, columnspacing=1.1, handletextpad=0.5, labelspacing=0.25, borderpad=0
)


def sampler_menu(names: Sequence[str]) -> list[tuple[str, str]]:
    """(label, name) of each sampler."""
    return [(SAMPLERS[name][3], name) for name in names]


def cost_axes(ax: Axes, epochs: float, lowest: float) -> None:
    """Accuracy, from `lowest` on, against the total number of epochs that a search has trained."""
    accuracy_axis(ax, lowest, 0.86, (0.6, 0.65, 0.7, 0.75, 0.8, 0.85))
    ax.set_xlim(0, epochs)
    ax.set_xlabel("epochs trained in total")
    tidy(ax)


def sampler_lines(ax: Axes, names: Sequence[str], steps: bool) -> dict[str, Line2D]:
    """An empty line, or staircase, for each sampler of `names`, in the style that it has in every figure."""
    style = "steps-post" if steps else "default"
    lines = {}
    for name in names:
        colour, _, line, label = SAMPLERS[name]
        (lines[name],) = ax.plot([], [], line, drawstyle=style, color=colour, alpha=0.8, label=label)
    return lines


def parallel_axes(ax: Axes, axes: Mapping[str, Sequence[Any]], grades: Sequence[str]) -> tuple[list[Line2D], Line2D]:
    """A vertical axis for each name of `axes`, its ends written outside it, where no trial's line passes.

    Returns a line for the trials of each grade (far, fair, good), named by `grades` in the legend above, and the line
    of the chosen trial; `join_trials` and `place_trial` compute their points.
    """
    last = len(axes) - 1
    for i, (name, values) in enumerate(axes.items()):
        ax.axvline(i, color=GREY, lw=1)
        ends = values if isinstance(values, list) else values[:2]
        texts = [f"{100 * value:g} %" if name == "accuracy" else short(value) for value in ends]
        heights = [j / max(1, len(ends) - 1) for j in range(len(ends))]
        if i == 0 and isinstance(values, list):  # at the left there is room for all of them
            for y, text in zip(heights, texts, strict=True):
                ax.text(-0.08, y, text, fontsize=10, ha="right", va="center")
        else:
            ax.plot([i] * len(ends), heights, "_", ms=7, color=GREY)
            ax.text(i, -0.05, "≤ " * (name == "accuracy") + texts[0], fontsize=10, ha="center", va="top")
            ax.text(i, 1.04, texts[-1], fontsize=10, ha="center", va="bottom")
        ax.text(i, -0.19, name.replace("size_bytes", "file").replace("_", " "), fontsize=10, ha="center", va="top")
    ax.set_xlim(-1.0 - last / 40, last + 0.5)
    ax.set_ylim(0, 1)
    ax.set_axis_off()
    looks = zip(GRADES, grades, strict=True)
    lines = [ax.plot([], [], "-", color=colour, lw=lw, label=label)[0] for (colour, lw), label in looks]
    (chosen,) = ax.plot([], [], "-o", color=ORANGE, lw=3, ms=6, mec=BLACK, zorder=5, clip_on=False, label="chosen")
    key = [chosen, *lines[::-1]]
    ax.legend(handles=key, loc="lower right", bbox_to_anchor=(1.0, 1.15), ncol=4, **LEGEND)
    return lines, chosen


def join_trials(places: Sequence[np.ndarray]) -> np.ndarray:
    """The points of several trials as one line with gaps, (2, n)."""
    gap = np.full((1, 2), np.nan)
    return np.concatenate([gap, *(part for place in places for part in (place, gap))]).T


def place_trial(record: Mapping[str, Any], axes: Mapping[str, Sequence[Any]]) -> np.ndarray:
    """A trial as points (axis, height) of `parallel_axes`; axes that the record lacks are left out."""
    known = [(i, name) for i, name in enumerate(axes) if record.get(name) == record.get(name, math.nan)]
    return np.array([(i, height(record[name], axes[name])) for i, name in known])


def height(value: Any, values: Sequence[Any]) -> float:
    """The position of a value in a range, or in a list of choices, from 0 to 1."""
    if isinstance(values, list):
        return values.index(value) / max(1, len(values) - 1)
    low, high, *log = values
    scale = math.log if log else float
    return float(np.clip((scale(value) - scale(low)) / (scale(high) - scale(low)), 0, 1))


def short(value: Any) -> str:
    """A setting as a short text: 0.0035, 1e-5, 64, 4 KB, adamw."""
    if isinstance(value, int) and value >= 4_000:
        return kilobytes(value)
    if isinstance(value, float):
        return f"{value:.0e}".replace("e-0", "e-") if 0 < abs(value) < 1e-3 else f"{value:.3g}"
    return str(value)


def importance_bars(ax: Axes, names: Sequence[str], beside: Axes) -> tuple[list[Rectangle], list[Text]]:
    """Empty bars below the axes of the same names in `beside`, for importances that sum to 1, and their texts."""
    bars = ax.bar(range(len(names)), [0] * len(names), color=BLUE, width=0.35)
    texts = [ax.text(i, 0, "", fontsize=10, ha="center", va="bottom") for i in range(len(names))]
    ax.set_xlim(beside.get_xlim())
    ax.set_ylim(0, 1)
    ax.set_axis_off()
    ax.hlines(0, -0.25, len(names) - 0.75, color=GREY, lw=1)
    ax.text(-0.3, 0, "importance", fontsize=10, ha="right", va="bottom")
    return bars.patches, texts


def recipe_axes(ax: Axes, dense_bytes: int, dense_accuracy: float, lowest: float) -> None:
    """The accuracy-against-size plane of recipes, from `lowest` on, with the dense network on it."""
    ax.plot([dense_bytes], np.array([dense_accuracy]), "D", ms=8, color=BLACK, label="dense fp32", zorder=4)
    size_axis(ax, dense_bytes / 250, dense_bytes * 1.7, most=5)
    accuracy_axis(ax, lowest, dense_accuracy + 0.4 * (1 - dense_accuracy))
    tidy(ax)


def sampler_curves(ax: Axes, records: pd.DataFrame, epochs: np.ndarray, column: str = "accuracy") -> pd.DataFrame:
    """`column` of the best so far against the epochs trained, one line per sampler: mean over seeds, band of all.

    `records` has the columns sampler, seed, state, trained, accuracy and `column`. Returns the means.
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
    ax.set_xlabel("epochs trained in total")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:.0%}"))
    tidy(ax)
    ax.legend(loc="lower right", fontsize=8)
    return pd.DataFrame(means, index=epochs)


def optimism_curves(ax: Axes, records: pd.DataFrame) -> None:
    """Optimism, `accuracy` minus `fresh` in points, against the settings tried, one line per number of judges.

    The mean over the draws with its 95 % interval. `records` has the columns images, trials, accuracy and fresh.
    """
    _check.table("records", records, "images", "trials", "accuracy", "fresh")
    colours, markers = (RED, ORANGE, BLUE, GREEN, SKY), ("o", "s", "D", "^", "x")
    gaps = 100 * (records["accuracy"] - records["fresh"])
    for (images, rows), colour, marker in zip(gaps.groupby(records["images"]), colours, markers, strict=False):
        by = rows.groupby(records["trials"])
        mean, half = by.mean(), 1.96 * by.sem().to_numpy()
        ax.errorbar(mean.index, mean, half, marker=marker, color=colour, capsize=3, label=f"{images:,}")
    listed_axis(ax, records["trials"].unique(), "settings tried (log scale)")
    ax.axhline(0, color=BLACK, lw=1)
    ax.set_ylabel("optimism of the best, points")
    ax.legend(title="judges (images)", fontsize=8, title_fontsize=8)
