"""The picture of notebook 10: our results and published ones."""

from typing import cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from labkit import _check
from labkit.drawing._base import BLUE, GREEN, GREY, RED, accuracy_axis, size_axis, tidy
from labkit.drawing.planes import key_above
from labkit.frontier import frontier


def published_plane(
    ax: Axes, published: pd.DataFrame, dense_bytes: int, dense_accuracy: float, sweep: pd.DataFrame | None = None
) -> list[str]:
    """The plane from 1 KB up, with the dense network and published results, numbered by row.

    `published` has the columns method, year, size_bytes and error_pct (on test); rows of method "labkit…" are our own.
    They are scored on test, all else on validation, as the legend says. The frontier of a one-shot `sweep`, with the
    columns size_bytes and accuracy, is drawn. Returns the meaning of the numbers.
    """
    _check.table("published", published, "method", "year", "size_bytes", "error_pct")
    if sweep is not None and len(sweep):
        best = frontier(sweep)
        ax.plot(best["size_bytes"], best["accuracy"].to_numpy(), "-", color=GREY, lw=1.4, label="one-shot frontier")
    dense = np.array([dense_accuracy])
    ax.plot([dense_bytes], dense, "D", ms=8, color=RED, label="dense (validation)", zorder=4)
    ours = published["method"].str.startswith("labkit")
    papers, labkit = published[~ours], published[ours]
    for rows, style, label in ((papers, "s", "papers"), (labkit, "o", "this lab")):
        if len(rows):
            colour, heights = (BLUE if style == "s" else GREEN), 1 - rows["error_pct"].to_numpy() / 100
            ax.plot(rows["size_bytes"], heights, style, ms=7, color=colour, label=f"{label} (test)", zorder=4)
    for row in papers.itertuples():
        place = (cast(float, row.size_bytes), float(1 - cast(float, row.error_pct) / 100))
        ax.annotate(str(row.Index), place, (0, 6), textcoords="offset points", fontsize=10, ha="center")
    size_axis(ax, 800, dense_bytes * 1.7, most=8)
    best_accuracy = max([dense_accuracy, *(1 - published["error_pct"] / 100)])
    accuracy_axis(ax, 0.7, best_accuracy + 0.3 * (1 - best_accuracy))
    ax.set_ylabel("accuracy")
    tidy(ax)
    key_above(ax)
    return [f"{row.Index}  {str(row.method).split(' (')[0]}, {row.year}" for row in papers.itertuples()]
