"""Networks of different kinds on one plane, each measured by what it was, and the layers of one."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, NullLocator
from torch import Tensor

from labkit import _check
from labkit.frontier import frontier
from labkit.plots._base import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, YELLOW, Picture, tidy

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


def lost_scale(points: np.ndarray | float) -> np.ndarray:
    """arcsinh: even for the first point of accuracy that is lost, logarithmic from the third on."""
    return np.arcsinh(points)


def lost_plane(ax: Axes, tables: Mapping[str, pd.DataFrame], shown: str, most: float = 60) -> None:
    """Points of accuracy lost against compression ratio: the frontier of each network, that of `shown` in full colour.

    Each table has the columns sparsity, bits, size_bytes and accuracy, and a dense row (sparsity 0, 32 bits).
    """
    for name, table in tables.items():
        _check.table(f"tables[{name!r}]", table, "sparsity", "bits", "size_bytes", "accuracy", rows=1)
    for (name, table), (marker, colour) in zip(tables.items(), STYLES, strict=False):
        dense = table.query("sparsity == 0 and bits == 32").iloc[0]
        best = frontier(table)
        x = (dense["size_bytes"] / best["size_bytes"]).to_numpy()
        y = lost_scale(100 * (dense["accuracy"] - best["accuracy"]).to_numpy())
        alone = name == shown
        ax.plot(
            x, y, "-", marker=marker, color=colour, label=name, lw=2.4 if alone else 1.3, ms=7 if alone else 5,
            alpha=1 if alone else 0.55, zorder=4 if alone else 3,
        )  # fmt: skip
    ax.plot([1], [0], "P", ms=10, color=RED, mec="black", label="dense fp32", zorder=5)
    ax.set_xscale("log")
    ax.set_xlim(0.9, most)
    ax.xaxis.set_major_locator(FixedLocator([1, 2, 4, 8, 16, 32, 64]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}×"))
    ax.set_xlabel("compression ratio: fp32 file ÷ this file")
    ax.set_ylim(float(lost_scale(95)), float(lost_scale(-1.5)))
    ax.yaxis.set_major_locator(FixedLocator([float(lost_scale(p)) for p in POINTS]))
    ax.yaxis.set_major_formatter(FixedFormatter([f"{p:g}".replace("-", "+") for p in POINTS]))
    ax.set_ylabel("points of accuracy lost")
    tidy(ax)
    ax.legend(loc="upper right", fontsize=7.5, framealpha=0.9, title="one-shot, best of the sweep", title_fontsize=7.5)


def lost_bars(ax: Axes, kinds: Mapping[str, str]) -> tuple[list[Rectangle], LineCollection]:
    """Empty bars for points of accuracy lost, one a part, coloured by its kind, and a line each for their intervals.

    `kinds` maps a part to its kind, in the order of the network. Set widths and ends by `lost_scale`.
    """
    names = [name.removesuffix(".weight") for name in kinds]
    bars = ax.barh(range(len(names)), [0] * len(names), color=[KIND_COLOURS[k] for k in kinds.values()], height=0.72)
    intervals = LineCollection([], colors=BLACK, linewidths=1.1)
    ax.add_collection(intervals)
    ax.set_yticks(range(len(names)), names, fontsize=10 if len(names) < 9 else 7)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(float(lost_scale(-2)), float(lost_scale(95)))
    ticks = [p for p in POINTS if p >= 0 and p != 2]
    ax.xaxis.set_major_locator(FixedLocator([float(lost_scale(p)) for p in ticks]))
    ax.xaxis.set_major_formatter(FixedFormatter([f"{p:g}" for p in ticks]))
    ax.axvline(0, color=BLACK, lw=0.8)
    ax.set_xlabel("points lost alone; line: 95 % interval")
    tidy(ax)
    kind_key(ax, kinds.values())
    return cast(list[Rectangle], list(bars)), intervals


def kind_key(ax: Axes, kinds: Iterable[str], place: Literal["lower right", "lower left"] = "lower right") -> None:
    """The legend of the colours of kinds."""
    handles = [Patch(color=KIND_COLOURS[kind], label=kind) for kind in dict.fromkeys(kinds)]
    ax.legend(handles=handles, loc=place, fontsize=8, framealpha=0.9)


def layer_dots(ax: Axes, losses: pd.DataFrame) -> None:
    """Points lost by each layer alone, in the order of the network: dots in the colours of kinds, lines to the ends.

    `losses` has the columns part, kind, lost, low and high, a row a layer.
    """
    _check.table("losses", losses, "part", "kind", "lost", "low", "high")
    colours = [KIND_COLOURS[kind] for kind in losses["kind"]]
    x, lost, low, high = np.arange(len(losses)), *(lost_scale(losses[c].to_numpy()) for c in ("lost", "low", "high"))
    ax.vlines(x, low, high, colors=colours, lw=2)
    ax.scatter(x, lost, s=26, c=colours, edgecolors=BLACK, linewidths=0.5, zorder=3)
    ax.axhline(0, color=BLACK, lw=0.8)
    ax.set_xticks(x, losses["part"].str.removesuffix(".weight"), rotation=90, fontsize=6.5)
    ax.set_xlim(-0.7, len(losses) - 0.3)
    ax.set_ylim(float(lost_scale(-2)), float(lost_scale(95)))
    ax.yaxis.set_major_locator(FixedLocator([float(lost_scale(p)) for p in POINTS if p >= 0]))
    ax.yaxis.set_major_formatter(FixedFormatter([f"{p:g}" for p in POINTS if p >= 0]))
    tidy(ax)


def scan_picture(scans: Mapping[str, pd.DataFrame], changes: Sequence[str]) -> Picture:
    """`layer_dots` of several networks side by side, a row for each change; scans as `scan_losses` gives them."""
    for name, scan in scans.items():
        _check.table(f"scans[{name!r}]", scan, "part", "kind", "lost", "low", "high", "change", rows=1)
    picture = Picture(figsize=(12, 1 + 1.9 * len(changes)), layout="constrained", dpi=100)
    picture.alt = f"points lost by each layer alone, in the order of each network, for {'; '.join(changes)}"
    wide = [max(6, scan["part"].nunique()) for scan in scans.values()]
    grid = picture.subplots(len(changes), len(scans), sharex="col", sharey=True, width_ratios=wide, squeeze=False)
    for row, change in zip(grid, changes, strict=True):
        row[0].set_ylabel(f"points lost\n{change}", fontsize=9)
        for ax, scan in zip(row, scans.values(), strict=True):
            layer_dots(ax, scan[scan["change"] == change])
    for ax, name in zip(grid[0], scans, strict=True):
        ax.set_title(name, fontsize=8.5)
    every = dict.fromkeys(kind for scan in scans.values() for kind in scan["kind"])
    dots = [Line2D([], [], ls="", marker="o", mec=BLACK, mew=0.5, color=KIND_COLOURS[k], label=k) for k in every]
    picture.legend(handles=dots, loc="outside upper center", ncols=len(dots), fontsize=9, frameon=False)
    return picture


def reach_dots(ax: Axes, weights: Mapping[str, Tensor], kinds: Mapping[str, str]) -> None:
    """How far each filter of a layer reaches, its largest |w| over that of the layer: one dot per filter, log scale."""
    for row, (name, weight) in enumerate(weights.items()):
        reach = weight.flatten(1).abs().amax(1)
        share = (reach / reach.max()).clamp(min=1e-3).numpy()
        ax.plot(share, np.full(len(share), row), "o", ms=4, alpha=0.5, mew=0, color=KIND_COLOURS[kinds[name]])
    ax.set_yticks(range(len(weights)), [name.removesuffix(".weight") for name in weights], fontsize=8)
    ax.set_ylim(len(weights) - 0.4, -0.6)
    ax.set_xscale("log")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(FixedLocator([0.001, 0.01, 0.1, 1]))
    ax.xaxis.set_major_formatter(FixedFormatter(["0.1 %", "1 %", "10 %", "100 %"]))
    ax.set_xlabel("reach of a filter, as a share of its layer's (log scale)")
    tidy(ax)
    kind_key(ax, kinds.values(), "lower left")
