"""Walks of optimizers over a surface, and the accuracy at each learning rate."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from labkit import _check
from labkit.drawing import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, YELLOW, accuracy_axis, tidy
from labkit.drawing._base import seed_bands
from labkit.drawing.axes import lr_axis, lr_text

OPTIMIZERS = {
    "SGD": (BLACK, "o"),
    "momentum": (BLUE, "s"),
    "Nesterov": (SKY, "^"),
    "Adagrad": (GREEN, "v"),
    "RMSprop": (PURPLE, "D"),
    "Adam": (RED, "P"),
    "AMSGrad": (YELLOW, "X"),
    "AdamW": (ORANGE, "*"),
}
PLAIN = ("SGD", "momentum", "Nesterov")  # one rate for all weights; the others adapt it to each


def surface_map(ax: Axes, losses: np.ndarray, reach: float, lowest: Sequence[tuple[float, float]]) -> None:
    """Contours, evenly spaced in log loss, of losses (n, n) over [-reach, reach]², rows y; rings at `lowest` points."""
    axis = np.linspace(-reach, reach, len(losses))
    heights = np.log10(losses - losses.min() + 1e-3 * (losses.max() - losses.min()))
    levels = np.linspace(heights.min(), heights.max(), 16)
    ax.contourf(axis, axis, heights, levels, cmap="Greys_r", alpha=0.35)
    ax.contour(axis, axis, heights, levels, colors=GREY, linewidths=0.6, linestyles="solid")
    for x, y in lowest:
        ax.plot([x], [y], "o", ms=13, mfc="none", mec=BLACK, mew=1.5)
    ax.set_xlim(-reach, reach)
    ax.set_ylim(-reach, reach)
    ax.set_xticks([-2, -1, 0, 1, 2])
    ax.set_yticks([-2, -1, 0, 1, 2])
    ax.set_xlabel("x", labelpad=1)
    ax.set_ylabel("y", labelpad=-2)


def walk_axis(ax: Axes, steps: int, lowest: float, highest: float) -> None:
    """Axes of losses (log scale) against steps, both labelled with plain numbers."""
    ax.set_xlim(0, steps)
    ax.set_yscale("log")
    ax.set_ylim(lowest, highest)
    powers = range(round(np.log10(lowest)), round(np.log10(highest)) + 1)
    ax.yaxis.set_major_locator(FixedLocator([10.0**p for p in powers if (powers[-1] - p) % 2 == 0 or len(powers) < 6]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, position: lr_text(value)))
    ax.set_xlabel("step", labelpad=1)
    tidy(ax)


def walk_lines(ax: Axes, names: Iterable[str] = OPTIMIZERS) -> dict[str, tuple[Line2D, Line2D]]:
    """An empty line for each optimizer in its colour, and one of its markers alone, for `fill_walk`."""
    lines = {}
    for name in names:
        colour, marker = OPTIMIZERS[name]
        (line,) = ax.plot([], [], "-", color=colour, lw=1.6)
        (dots,) = ax.plot([], [], marker, color=colour, ms=6, mec=BLACK, mew=0.5)
        lines[name] = (line, dots)
    return lines


def fill_walk(ax: Axes, lines: tuple[Line2D, Line2D], places: np.ndarray, every: int) -> None:
    """Give the lines of a walk its places (n, 2), a marker every so many of them.

    A walk that leaves the axes for good ends at their edge. The line omits places within half a point of the
    straight line between others: they are invisible, and every place is sent at every move.
    """
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    inside = ((places >= [left, bottom]) & (places <= [right, top])).all(1)
    places = places[: int(np.flatnonzero(inside).max(initial=-1)) + 2]
    places = np.clip(places[np.isfinite(places).all(1)], [left, bottom], [right, top])
    path = Path(ax.transData.transform(places))
    path.simplify_threshold = 0.5
    corners = np.round(np.asarray(path.cleaned(simplify=True).vertices)[:-1], 1)
    kept = np.r_[True, (np.diff(corners, axis=0) != 0).any(1)]
    lines[0].set_data(*ax.transData.inverted().transform(corners[kept]).T)
    lines[1].set_data(*places[::every].T)


def optimizer_key(ax: Axes, names: Iterable[str] = OPTIMIZERS) -> dict[str, Text]:
    """A key in two columns, colour and marker of each optimizer; returns the texts beside them, empty so far."""
    names = list(names)
    ax.set_axis_off()
    ax.set_xlim(0, 2)
    ax.set_ylim(max(1, (len(names) + 1) // 2) - 0.5, -0.5)
    texts = {}
    for i, name in enumerate(names):
        x, y = i % 2, i // 2
        colour, marker = OPTIMIZERS[name]
        ax.plot([x + 0.03, x + 0.13], [y, y], "-", color=colour, lw=2)
        ax.plot([x + 0.08], [y], marker, color=colour, ms=8, mec=BLACK, mew=0.5)
        texts[name] = ax.text(x + 0.16, y, "", fontsize=10, va="center")
    return texts


def rate_curves(ax: Axes, records: pd.DataFrame, legend: bool = True) -> None:
    """Accuracy against the learning rate, one line per optimizer: the mean over the seeds, a band from worst to best.

    `records` has the columns optimizer, lr, accuracy (one row per seed), or no rows.
    """
    _check.table("records", records, "optimizer", "lr", "accuracy", rows=None)
    looks = {name: (*look, "-" if name in PLAIN else "--") for name, look in OPTIMIZERS.items()}
    seed_bands(ax, records, "optimizer", "lr", looks, alpha=0.12, ms=6, lw=1.4)
    lr_axis(ax, 6e-5, 1.6, "learning rate (log scale)")
    accuracy_axis(ax, 0.06, 0.9)  # a mark at 10 % is not on the edge
    tidy(ax)
    if legend and len(records):
        ax.legend(fontsize=8, ncol=2, loc="lower center", framealpha=0.9)


def optimizer_dots(ax: Axes, table: pd.DataFrame, columns: Mapping[str, str]) -> None:
    """One row per optimizer, one dot per column of `table` (mean over the seeds), bars from worst to best seed.

    `table` has the column optimizer (one row per seed); `columns` maps columns of accuracies to labels.
    """
    _check.table("table", table, "optimizer", *columns)
    looks = [(BLACK, "o"), (BLUE, "s"), (SKY, "^"), (ORANGE, "D"), (GREY, "v")]
    names = list(dict.fromkeys(table["optimizer"]))
    for i, ((column, label), (colour, marker)) in enumerate(zip(columns.items(), looks, strict=False)):
        by = 100 * table.groupby("optimizer", sort=False)[column].agg(["mean", "min", "max"]).loc[names]
        rows = np.arange(len(names)) + 0.15 * (i - (len(columns) - 1) / 2)
        ax.hlines(rows, by["min"], by["max"], color=colour, lw=1.6)
        ax.plot(by["mean"], rows, marker, color=colour, ms=6, mec="white", mew=0.5, label=label)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlabel("test accuracy, per cent")
    tidy(ax)
    ax.legend(fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1), ncol=len(columns), frameon=False)
