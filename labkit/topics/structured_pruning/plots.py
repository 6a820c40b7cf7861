"""The pictures of notebook 04: accuracy against multiply-adds, units by importance."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from labkit import _check, drawing
from labkit.drawing._base import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, seed_band
from labkit.drawing.bars import layer_font


def width_bars(ax: Axes, names: Sequence[str], colours: Sequence[str]) -> tuple[list[Rectangle], list[Text]]:
    """Bars for the fraction of units left in each layer, over a grey bar for all units, and texts for both."""
    rows, size = range(len(names)), layer_font(len(names))
    ax.barh(rows, [1] * len(names), color="#d0d0d0", height=0.7)
    bars = ax.barh(rows, [1] * len(names), color=[BLUE if colour == GREY else colour for colour in colours], height=0.7)
    texts = [ax.text(1.85, row, "", ha="right", va="center", fontsize=size) for row in rows]
    ax.set_yticks(rows, drawing.short_names(names), fontsize=size)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(0, 1.85)
    ax.set_xticks([0, 1], ["0", "100 %"])
    ax.set_xlabel("share of the layer")
    drawing.tidy(ax)
    ax.grid(False, axis="y")  # it would cross the texts
    return cast(list[Rectangle], list(bars)), texts


UNIT_METHODS = {
    "one-shot": (RED, "o", "-"),
    "one-shot, random": (GREY, "x", ":"),
    "fine-tuned": (BLUE, "s", "-"),
    "fine-tuned, random": (GREY, "x", "-"),
    "from scratch, 1 epoch": (GREEN, "^", ":"),
    "from scratch, 13 epochs": (GREEN, "^", "-"),
}


def unit_methods(importance: str) -> dict[str, str]:
    """The methods of a sweep that `macs_curves` shows for an importance, and their names in UNIT_METHODS."""
    random = {"random": "one-shot, random", "random, fine-tuned": "fine-tuned, random"}
    scratch = {name: name for name in UNIT_METHODS if name.startswith("from scratch")}
    return {importance: "one-shot", f"{importance}, fine-tuned": "fine-tuned"} | random | scratch


def macs_curves(
    ax: Axes, records: pd.DataFrame, dense_macs: int, dense_accuracy: float, importance: str = "l1"
) -> None:
    """Accuracy against multiply-adds: an importance, one-shot and fine-tuned, random pruning, networks from scratch.

    A line is the mean over the seeds, its band spans from the worst to the best; the legend is on the right. `records`
    has the columns method ("l1"; "l1, fine-tuned"; …), sparsity, accuracy, macs (one row per seed) and may be empty.
    """
    _check.table("records", records, "method", "sparsity", "accuracy", "macs", rows=None)
    names = unit_methods(importance)
    for method, rows in records.groupby("method", sort=False) if len(records) else ():
        if method in names:  # else another importance
            name, by = names[str(method)], rows.groupby("sparsity")
            seed_band(ax, by["macs"].mean().to_numpy(), by["accuracy"], UNIT_METHODS[name], name, alpha=0.15)
    ax.plot([dense_macs], np.array([dense_accuracy]), "D", ms=8, color=RED, label="dense", zorder=4)
    smallest = min([dense_macs / 20, *(records["macs"] if len(records) else [])]) * 0.8
    drawing.size_axis(ax, smallest, dense_macs * 1.4, most=5)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, position: drawing.count(value)))
    ax.set_xlabel("multiply-adds for one image (log scale)")
    drawing.accuracy_axis(ax, 0.08, dense_accuracy + 0.6 * (1 - dense_accuracy))
    drawing.tidy(ax)
    if len(records):
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=10, frameon=False, handlelength=1.5)


def family_colours(families: int) -> list[str]:
    """A colour for each family of layers that share their units; all grey if there are too many."""
    colours = [BLUE, ORANGE, GREEN, PURPLE, SKY]
    return colours[:families] if families <= len(colours) else [GREY] * families


def importance_curves(
    ax: Axes, curves: Sequence[np.ndarray], colours: Sequence[str]
) -> tuple[Line2D, Line2D]:  # fmt: skip
    """The units of every layer from the least to the most important; returns the two lines of the cut, not yet placed.

    `curves` are importances divided by their mean, one line each; the axis ends at 4 times the mean.
    """
    for values, colour in zip(curves, colours, strict=True):
        share = (np.arange(len(values)) + 0.5) / len(values)
        ax.plot(share, np.sort(values), "-", color=colour, lw=1.2 if colour == GREY else 2)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, min(max(float(values.max()) for values in curves), 4) * 1.05)
    ax.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    ax.set_xlabel("units, least important first")
    drawing.tidy(ax)
    return ax.axvline(0, color=RED, lw=1.8, ls="--"), ax.axhline(0, color=RED, lw=1.8, ls="--")
