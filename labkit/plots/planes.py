"""The accuracy-against-size plane, and the ledger of a file."""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from labkit import _check
from labkit.frontier import frontier
from labkit.plots._base import (
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
    logit,
    size_axis,
    tidy,
)


def plane(ax: Axes, records: pd.DataFrame, dense_bytes: int, dense_accuracy: float) -> None:
    """The accuracy-against-size plane: every measured setting, by bits; the frontier; the dense network.

    `records` has the columns size_bytes, accuracy and bits (one row a setting) and may be empty.
    """
    _check.table("records", records, "size_bytes", "accuracy", "bits")
    for bits, rows in records.groupby("bits"):
        name = "float" if bits == 32 else f"{bits} bit"
        colour = BITS_COLOURS.get(cast(int, bits), GREY)
        ax.plot(
            rows["size_bytes"],
            logit(rows["accuracy"].to_numpy()),
            "o",
            ms=5,
            color=colour,
            label=name,
            mec="white",
            mew=0.4,
        )
    if len(records):
        best = frontier(records)
        ax.plot(
            best["size_bytes"], logit(best["accuracy"].to_numpy()), "-", color=BLACK, lw=1.6, label="frontier", zorder=3
        )
    ax.plot([dense_bytes], logit(np.array([dense_accuracy])), "D", ms=8, color=RED, label="dense fp32", zorder=4)
    smallest = min([dense_bytes / 60, *records["size_bytes"]]) * 0.6
    size_axis(ax, smallest, dense_bytes * 1.7)
    accuracy_axis(ax, max(0.05, min([0.1, *records["accuracy"]]) * 0.9), dense_accuracy + 0.6 * (1 - dense_accuracy))
    tidy(ax)
    ax.legend(
        loc="lower right", fontsize=8, ncol=2, frameon=True, framealpha=0.9, title="one-shot sweep", title_fontsize=8
    )


def published_plane(ax: Axes, published: pd.DataFrame, dense_bytes: int, dense_accuracy: float) -> None:
    """The plane from a kilobyte up, with the figures of papers, numbered by their rows, and the dense network.

    `published` has the columns method, year, size_bytes and error_pct (on test); rows of method "labkit…" are our own.
    They are scored on test, all else on validation: the axis says so.
    """
    _check.table("published", published, "method", "year", "size_bytes", "error_pct")
    dense = logit(np.array([dense_accuracy]))
    ax.plot([dense_bytes], dense, "D", ms=8, color=RED, label="dense fp32 (validation)", zorder=4)
    ours = published["method"].str.startswith("labkit")
    papers, labkit = published[~ours], published[ours]
    for rows, style, label in ((papers, "s", "papers"), (labkit, "P", "files of this lab")):
        colour, heights = (BLUE if style == "s" else GREEN), logit(1 - rows["error_pct"].to_numpy() / 100)
        ax.plot(rows["size_bytes"], heights, style, ms=8, color=colour, label=f"{label} (test)", zorder=4)
    for row in papers.itertuples():
        place = (cast(float, row.size_bytes), float(logit(1 - cast(float, row.error_pct) / 100)))
        ax.annotate(str(row.Index), place, (5, 4), textcoords="offset points", fontsize=9)
    names = [f"{row.Index}  {str(row.method).split(' (')[0]}, {row.year}" for row in papers.itertuples()]
    ax.text(0.985, 0.985, "\n".join(names), transform=ax.transAxes, fontsize=8, va="top", ha="right")
    size_axis(ax, 800, dense_bytes * 1.7, most=8)
    accuracy_axis(ax, 0.85, 0.9945)
    ax.set_ylabel("accuracy (★ and ◆ validation, ■ and ✚ test)")
    tidy(ax)
    ax.legend(loc="lower right", fontsize=8, framealpha=0.9)


def waterfall(ax: Axes, components: Sequence[str]) -> tuple[list[Rectangle], list[Text]]:
    """Empty rows for a ledger, one a component and one for the whole file; returns the bars and their texts."""
    rows = [*components, "file"]
    colours = [BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW, GREY]
    bars = ax.barh(range(len(rows)), [0] * len(rows), color=[*colours[: len(components)], BLACK], height=0.66)
    texts = [ax.text(0, i, "", va="center", fontsize=9) for i in range(len(rows))]
    ax.set_yticks(range(len(rows)), rows, fontsize=9)
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
