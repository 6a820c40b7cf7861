"""The accuracy-against-size plane, and the ledger of a file."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from labkit import _check
from labkit.drawing._base import (
    BITS_COLOURS,
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    YELLOW,
    accuracy_axis,
    size_axis,
    tidy,
)
from labkit.drawing.axes import SNUG, label_bits, ticks_in
from labkit.frontier import frontier


def plane(ax: Axes, records: pd.DataFrame, dense_bytes: int, dense_accuracy: float) -> None:
    """The accuracy-against-size plane: every measured setting, by bits; the frontier; the dense network.

    `records` has the columns size_bytes, accuracy and bits (one row per setting) and may be empty.
    """
    _check.table("records", records, "size_bytes", "accuracy", "bits")
    for place, (bits, rows) in enumerate(records.groupby("bits")):
        name = "float" if bits == 32 else str(bits) if place else f"{bits} bit"
        colour = BITS_COLOURS.get(cast(int, bits), GREY)
        edge: dict[str, Any] = dict(mec=GREY, mew=0.7)  # so that dark points are visible on a dark page
        ax.plot(rows["size_bytes"], rows["accuracy"].to_numpy(), "o", ms=5, color=colour, label=name, **edge)
    if len(records):
        best = frontier(records)
        ax.plot(best["size_bytes"], best["accuracy"].to_numpy(), "-", color=BLACK, lw=1.6, label="frontier", zorder=3)
    ax.plot([dense_bytes], np.array([dense_accuracy]), "D", ms=8, color=RED, label="dense fp32", zorder=4)
    smallest = min([dense_bytes / 60, *records["size_bytes"]]) * 0.6
    size_axis(ax, smallest, dense_bytes * 1.7)
    accuracy_axis(ax, max(0.05, min([0.1, *records["accuracy"]]) * 0.9), dense_accuracy + 0.6 * (1 - dense_accuracy))
    tidy(ax)
    key_above(ax)


def bits_curves(
    ax: Axes, records: pd.DataFrame, looks: Mapping[str, tuple[str, str, str]], dense_bytes: int, dense_accuracy: float,
    lowest: float, widest: float, lw: float,
) -> None:  # fmt: skip
    """Accuracy against file size, one line per method: mean over the seeds, with bits up to 4 where there is room.

    `records` has the columns method, bits, accuracy, size_bytes (one row per seed) and may be empty; `looks` has
    (colour, marker, line) of each method. The axes end at the accuracy `lowest` and `widest` times the dense file.
    """
    _check.table("records", records, "method", "bits", "accuracy", "size_bytes")
    means = records.groupby(["method", "bits"], sort=False)[["size_bytes", "accuracy"]].mean().reset_index()
    for method, rows in means.groupby("method", sort=False):
        colour, marker, line = looks[str(method)]
        x, y = rows["size_bytes"].to_numpy(), rows["accuracy"].to_numpy()
        ax.plot(x, y, line, marker=marker, ms=5, color=colour, label=method, lw=lw)
    if len(records):
        ax.legend(loc="lower right", **SNUG)
    smallest = records["size_bytes"].min() if len(records) else dense_bytes / 40
    size_axis(ax, smallest * 0.7, dense_bytes * widest, most=ticks_in(ax))  # wide enough for the legend
    ax.plot([dense_bytes], [dense_accuracy], "D", ms=8, color=RED, label="dense fp32")
    ax.annotate("fp32", (dense_bytes, dense_accuracy), (0, -14), textcoords="offset points", ha="center", va="center")
    accuracy_axis(ax, lowest, dense_accuracy + 0.6 * (1 - dense_accuracy))
    tidy(ax)
    few = means[means["bits"] <= 4]
    label_bits(ax, few["bits"], few["size_bytes"], few["accuracy"])


def key_above(ax: Axes) -> None:
    """The legend in a row above the axes, where it covers no data."""
    look: dict[str, Any] = dict(handlelength=1, handletextpad=0.35, columnspacing=0.9, borderaxespad=0.1, borderpad=0)
    entries = len(ax.get_legend_handles_labels()[0])
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1.01), ncol=entries, fontsize=10, frameon=False, **look)


def waterfall(ax: Axes, components: Sequence[str]) -> tuple[list[Rectangle], list[Text]]:
    """Empty rows for a ledger, one per component and one for the whole file; returns the bars and their texts."""
    rows = [*components, "file"]
    colours = [BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW, GREY]
    bars = ax.barh(range(len(rows)), [0] * len(rows), color=[*colours[: len(components)], BLACK], height=0.66)
    texts = [ax.text(0, i, "", va="center", fontsize=10) for i in range(len(rows))]
    ax.set_yticks(range(len(rows)), rows, fontsize=10)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, 1.45)
    ax.set_xticks([])
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    return cast(list[Rectangle], list(bars)), texts


def fill_waterfall(
    bars: list[Rectangle], texts: list[Text], sizes: Mapping[str, int], components: Sequence[str]
) -> None:
    """Set the rows of `waterfall` to `sizes`, bytes by component, each bar starting where the one above it ends."""
    total, start = max(1, sum(sizes.values())), 0
    for bar, text, name in zip(bars, texts, [*components, "file"], strict=True):
        size = total if name == "file" else sizes.get(name, 0)
        begin = 0 if name == "file" else start
        bar.set_x(begin / total)
        bar.set_width(size / total)
        text.set_x((begin + size) / total + 0.02)
        text.set_text(f"{size:,} B")
        text.set_visible(size > 0)
        start = begin + size
