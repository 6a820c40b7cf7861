"""Networks of different kinds on one plane, each compared with its dense version, and the layers of one."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, NullLocator
from torch import Tensor

from labkit import _check
from labkit.drawing._base import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, YELLOW, Picture, tidy
from labkit.drawing.bars import layer_font, short_names
from labkit.frontier import frontier

KIND_COLOURS = {
    "convolution": BLUE,
    "depthwise": ORANGE,
    "pointwise": SKY,
    "attention": PURPLE,
    "linear": GREEN,
    "head": GREY,
    "patches": YELLOW,
    "embedding": RED,
}
STYLES = (("o", GREEN), ("s", BLUE), ("^", PURPLE), ("D", BLACK), ("v", RED), ("X", ORANGE))
POINTS = (-1, 0, 1, 2, 5, 10, 20, 40, 80)
MANY = 22  # layer names that fit below each other


def lost_scale(points: np.ndarray | float) -> np.ndarray:
    """arcsinh: even for the first point of accuracy that is lost, logarithmic from the third on."""
    return np.arcsinh(points)


def _lost_ticks(axis: Axis, points: Sequence[int]) -> None:
    """Ticks at points of accuracy lost; a gain is +."""
    axis.set_major_locator(FixedLocator([float(lost_scale(p)) for p in points]))
    axis.set_major_formatter(FixedFormatter([f"{p:g}".replace("-", "+") for p in points]))


Measured = tuple[list[tuple[float, float]], list[dict[Any, Any]]]  # places of points, and their rows


def lost_plane(ax: Axes, tables: Mapping[str, pd.DataFrame], shown: str) -> dict[str, Measured]:
    """Points of accuracy lost against compression ratio: the frontier of each network, that of `shown` in full colour.

    Each table has the columns sparsity, bits, size_bytes and accuracy, and a dense row (sparsity 0, 32 bits). The
    legend stands above the axes. Returns the points of each line with their rows.
    """
    for name, table in tables.items():
        _check.table(f"tables[{name!r}]", table, "sparsity", "bits", "size_bytes", "accuracy", rows=1)
    drawn: dict[str, Measured] = {}
    handles: list[Line2D] = []
    for (name, table), (marker, colour) in zip(tables.items(), STYLES, strict=False):
        dense = table.query("sparsity == 0 and bits == 32").iloc[0]
        best = frontier(table)
        x = (dense["size_bytes"] / best["size_bytes"]).to_numpy()
        y = lost_scale(100 * (dense["accuracy"] - best["accuracy"]).to_numpy())
        alone = name == shown
        handles += ax.plot(
            x, y, "-", marker=marker, color=colour, label=name, lw=2.4 if alone else 1.3, ms=7 if alone else 5,
            alpha=1 if alone else 0.55, zorder=4 if alone else 3,
        )  # fmt: skip
        drawn[name] = list(zip(x.tolist(), y.tolist(), strict=True)), best.to_dict("records")
    ax.plot([1], [0], "D", ms=9, color=RED, label="dense fp32", zorder=5)
    ax.set_xscale("log")
    ax.set_xlim(0.9, 1.15 * max([60, *(x for places, _ in drawn.values() for x, _ in places)]))
    ax.xaxis.set_major_locator(FixedLocator([1, 2, 4, 8, 16, 32, 64, 128]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}×"))
    ax.set_xlabel("compression ratio: fp32 file ÷ this file")
    ax.set_ylim(float(lost_scale(95)), float(lost_scale(-1.5)))
    _lost_ticks(ax.yaxis, POINTS)
    ax.set_ylabel("points of accuracy lost")
    tidy(ax)
    _above(ax, handles, [name.partition(" on ")[0] for name in drawn], 3)
    return drawn


def _above(
    ax: Axes, handles: Sequence[Artist], labels: Sequence[str], columns: int,
    place: Literal["lower left", "lower right"] = "lower left",
) -> None:  # fmt: skip
    """A legend of two rows above the axes, where there are no data."""
    ax.legend(
        handles, labels, loc=place, bbox_to_anchor=(float(place == "lower right"), 1), ncols=columns, fontsize=10,
        frameon=False, borderaxespad=0.1, borderpad=0.1, handlelength=1.2, handletextpad=0.4, columnspacing=0.9,
        labelspacing=0.2,
    )  # fmt: skip


def lost_bars(ax: Axes, kinds: Mapping[str, str]) -> tuple[list[Rectangle], Line2D]:
    """Empty bars for points of accuracy lost, one per part, coloured by its kind, and a line for their intervals.

    `kinds` maps a part to its kind, in the order of the network. Set widths and ends by `lost_scale`. With more than
    MANY parts, every second one is labelled.
    """
    names = short_names(list(kinds))
    rows, every = range(len(names)), 1 if len(names) <= MANY else 2
    bars = ax.barh(rows, [0] * len(names), color=[KIND_COLOURS[k] for k in kinds.values()], height=0.72)
    (intervals,) = ax.plot([], [], "-", color=BLACK, lw=1.1)
    ax.set_yticks(rows[::every], names[::every], fontsize=layer_font(len(rows[::every])))
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(float(lost_scale(-2)), float(lost_scale(95)))
    _lost_ticks(ax.xaxis, (0, 1, 5, 20, 80))
    ax.axvline(0, color=BLACK, lw=0.8)
    ax.set_xlabel("points lost; line: 95 %")
    tidy(ax)
    if list(kinds) != list(kinds.values()):  # else the labels of the rows name the kinds
        kind_key(ax, kinds.values())
    return cast(list[Rectangle], list(bars)), intervals


def kind_key(ax: Axes, kinds: Iterable[str]) -> None:
    """The legend of the colours of kinds, above the axes."""
    handles = {kind: Patch(color=KIND_COLOURS[kind]) for kind in kinds}
    _above(ax, list(handles.values()), list(handles), 2 if len(handles) < 5 else 3, "lower right")


def layer_dots(ax: Axes, losses: pd.DataFrame) -> None:
    """Points lost by each layer alone, in the order of the network: dots in the colours of kinds, lines to the ends.

    `losses` has the columns part, kind, lost, low and high, one row per layer.
    """
    _check.table("losses", losses, "part", "kind", "lost", "low", "high")
    colours = [KIND_COLOURS[kind] for kind in losses["kind"]]
    x, lost, low, high = np.arange(len(losses)), *(lost_scale(losses[c].to_numpy()) for c in ("lost", "low", "high"))
    ax.vlines(x, low, high, colors=colours, lw=2)
    ax.scatter(x, lost, s=26, c=colours, edgecolors=BLACK, linewidths=0.5, zorder=3)
    ax.axhline(0, color=BLACK, lw=0.8)
    ax.set_xticks(x, short_names(list(losses["part"])), rotation=90, fontsize=9.5)
    ax.set_xlim(-0.7, len(losses) - 0.3)
    ax.set_ylim(float(lost_scale(-2)), float(lost_scale(95)))
    _lost_ticks(ax.yaxis, POINTS[1:])
    tidy(ax)


def scan_picture(scans: Mapping[str, pd.DataFrame], changes: Sequence[str]) -> Picture:
    """`layer_dots` of several networks side by side, a row for each change; scans as `scan_losses` gives them."""
    for name, scan in scans.items():
        _check.table(f"scans[{name!r}]", scan, "part", "kind", "lost", "low", "high", "change", rows=1)
    picture = Picture(figsize=(11, 1.3 + 2.1 * len(changes)), layout="constrained", dpi=100)
    picture.alt = f"points lost by each layer alone, in the order of each network, for {'; '.join(changes)}"
    wide = [max(8, scan["part"].nunique()) for scan in scans.values()]
    grid = picture.subplots(len(changes), len(scans), sharex="col", sharey=True, width_ratios=wide, squeeze=False)
    for row, change in zip(grid, changes, strict=True):
        row[0].set_ylabel(f"points lost\n{change}", fontsize=10)
        for ax, scan in zip(row, scans.values(), strict=True):
            layer_dots(ax, scan[scan["change"] == change])
    for top, bottom, name in zip(grid[0], grid[-1], scans, strict=True):
        top.set_title(name, fontsize=9.5)
        if len(labels := bottom.get_xticklabels()) > 8:  # side by side there is room for the name of every second layer
            bottom.set_xticks(bottom.get_xticks()[::2], [label.get_text() for label in labels[::2]])
    every = dict.fromkeys(kind for scan in scans.values() for kind in scan["kind"])
    dots = [Line2D([], [], ls="", marker="o", mec=BLACK, mew=0.5, color=KIND_COLOURS[k], label=k) for k in every]
    picture.legend(
        handles=dots, loc="outside upper center", ncols=len(dots), fontsize=10, frameon=False, handletextpad=0.1,
        columnspacing=1,
    )  # fmt: skip
    return picture


def reach_dots(ax: Axes, weights: Mapping[str, Tensor], kinds: Mapping[str, str]) -> None:
    """The reach of each filter of a layer, its largest |w| over that of the layer: one dot per filter, log scale."""
    for row, (name, weight) in enumerate(weights.items()):
        reach = weight.flatten(1).abs().amax(1)
        share = (reach / reach.max()).clamp(min=1e-3).numpy()
        ax.plot(share, np.full(len(share), row), "o", ms=4, alpha=0.5, mew=0, color=KIND_COLOURS[kinds[name]])
    ax.set_yticks(range(len(weights)), short_names(list(weights)), fontsize=layer_font(len(weights)))
    ax.set_ylim(len(weights) - 0.4, -0.6)
    ax.set_xscale("log")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(FixedLocator([m * 10.0**-e for e in (3, 2, 1) for m in (1, 2, 5)] + [1]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{100 * value:g} %"))
    ax.set_xlabel("reach of a filter, as a share of its layer's (log scale)")
    tidy(ax)
    kind_key(ax, kinds.values())
