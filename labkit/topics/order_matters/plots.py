"""Compositions of techniques: their results on the plane of size and accuracy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from labkit import _check
from labkit.drawing._base import BLACK, BLUE, GREY, ORANGE, RED, accuracy_axis, kilobytes, size_axis, tidy
from labkit.drawing.training import set_points

ORDER_LOOKS = ((ORANGE, "o", "-"), (BLUE, "^", "--"))  # of the compositions that are shown as lines


def composed_means(records: pd.DataFrame) -> pd.DataFrame:
    """The mean size_bytes and accuracy over the seeds of an order sweep: a row for each (steps, bits), mild first."""
    _check.table("records", records, "steps", "bits", "size_bytes", "accuracy")
    mean = records.groupby(["steps", "bits"])[["size_bytes", "accuracy"]].mean()
    return mean.sort_index(ascending=[True, False]).reset_index()


def order_plane(
    ax: Axes, records: pd.DataFrame, dense_bytes: int, dense_accuracy: float, shown: Sequence[str] = ()
) -> None:
    """The accuracy-against-size plane with every measured composition, the mean over its seeds, as a dot.

    `records` has the columns steps, bits, accuracy, size_bytes (one row per seed), or no rows. Up to two compositions
    that are `shown` are lines, from mild to hard.
    """
    mean = composed_means(records)
    if len(mean):
        ax.plot(mean["size_bytes"], mean["accuracy"].to_numpy(), "o", ms=4, color=GREY, label="other orders")
    for steps, (colour, marker, line) in zip(shown if len(mean) else (), ORDER_LOOKS, strict=False):
        rows = mean[mean["steps"] == steps]
        look: dict[str, Any] = dict(marker=marker, color=colour, label=arrows(steps), zorder=3)
        ax.plot(rows["size_bytes"], rows["accuracy"].to_numpy(), line, ms=7, lw=1.8, **look)
    ax.plot([dense_bytes], np.array([dense_accuracy]), "D", ms=8, color=RED, label="dense fp32", zorder=4)
    size_axis(ax, min([3_000, *records["size_bytes"]]) * 0.8, dense_bytes * 1.7, most=8)
    accuracy_axis(ax, min([0.43, *records["accuracy"]]) * 0.97, dense_accuracy + 0.4 * (1 - dense_accuracy))
    tidy(ax)
    title = "trained, mean of the seeds" if len(mean) else None
    ax.legend(loc="lower right", fontsize=10, title=title, title_fontsize=10, framealpha=0.9, labelspacing=0.3)


def arrows(steps: str) -> str:
    """Steps as a sweep names them, "quantize, prune", with arrows between them."""
    return steps.replace(", ", " → ")


def way_lines(ax: Axes, steps: int = 3) -> list[Line2D]:
    """An empty path on the plane, and an arrow for each step."""
    (way,) = ax.plot([], [], "-", color=BLACK, lw=1.2, zorder=4)
    return [way, *(ax.plot([], [], ms=9, color=BLACK, zorder=4)[0] for _ in range(steps))]


def fill_way(lines: Sequence[Line2D], places: Sequence[tuple[float, float]], steps: Sequence[int]) -> None:
    """Draw the path along `places`, and an arrow halfway to the first place of each step, if there is room.

    `steps` has the step that led to each place except the first.
    """
    way, *arrows = lines
    set_points(way, places if steps else [])
    to_screen = way.get_transform()
    for step, arrow in enumerate(arrows):
        i = steps.index(step) if step in steps else 0
        a, b = to_screen.transform([places[i], places[i + 1]] if step in steps else [places[0]] * 2)
        arrow.set_visible(bool(np.hypot(*(b - a)) > 2 * arrow.get_markersize()))
        arrow.set_data(*to_screen.inverted().transform([(a + b) / 2]).T)
        marker: Any = (3, 0, float(np.degrees(np.arctan2(b[1] - a[1], b[0] - a[0]))) - 90)
        arrow.set_marker(marker)


def composed_caption(steps: str, sparsity: float, bits: int, accuracy: float, size_bytes: float) -> str:
    """A composition in a line: its steps, how far they go, where it ended."""
    names = steps.split(", ")
    far = [f"{sparsity:.0%}"] * ("prune" in names) + [f"{bits} bit"] * ("quantize" in names)
    told = ", ".join([arrows(steps).replace("quantize", "quant"), *far])
    return f"{told}: {accuracy:.1%}, {kilobytes(size_bytes)}"
