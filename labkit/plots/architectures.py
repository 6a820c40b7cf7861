"""Networks of different kinds on one plane, each measured by what it was, and the layers of one."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, NullLocator
from torch import Tensor

from labkit.frontier import frontier
from labkit.plots._base import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, YELLOW, tidy

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
STYLES = (("o", GREEN), ("s", BLUE), ("^", PURPLE), ("D", BLACK), ("v", RED))
POINTS = (-1, 0, 1, 2, 5, 10, 20, 40, 80)


def lost_scale(points: np.ndarray | float) -> np.ndarray:
    """arcsinh: even for the first point of accuracy that is lost, logarithmic from the third on."""
    return np.arcsinh(points)


def lost_plane(ax: Axes, tables: Mapping[str, pd.DataFrame], shown: str, most: float = 60) -> None:
    """Points of accuracy lost against compression ratio: the frontier of each network, that of `shown` in full colour.

    Each table has the columns sparsity, bits, size_bytes and accuracy, and a dense row (sparsity 0, 32 bits).
    """
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
    ax.legend(loc="lower left", fontsize=8, framealpha=0.9, title="one-shot, best of the sweep", title_fontsize=8)


def kind_bars(ax: Axes, kinds: Mapping[str, str]) -> list[Rectangle]:
    """Empty bars, one a weight, coloured by its kind, for points of accuracy lost; set widths by `lost_scale`."""
    names = [name.removesuffix(".weight") for name in kinds]
    bars = ax.barh(range(len(names)), [0] * len(names), color=[KIND_COLOURS[k] for k in kinds.values()], height=0.72)
    ax.set_yticks(range(len(names)), names, fontsize=10 if len(names) < 9 else 7)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(float(lost_scale(-1)), float(lost_scale(95)))
    ticks = [p for p in POINTS if p >= 0 and p != 2]
    ax.xaxis.set_major_locator(FixedLocator([float(lost_scale(p)) for p in ticks]))
    ax.xaxis.set_major_formatter(FixedFormatter([f"{p:g}" for p in ticks]))
    ax.axvline(0, color=BLACK, lw=0.8)
    ax.set_xlabel("points lost by this layer alone")
    tidy(ax)
    handles = [Patch(color=KIND_COLOURS[kind], label=kind) for kind in dict.fromkeys(kinds.values())]
    ax.legend(handles=handles, loc="lower right", fontsize=8, framealpha=0.9)
    return cast(list[Rectangle], list(bars))


def reach_dots(ax: Axes, weights: Mapping[str, Tensor], kinds: Mapping[str, str]) -> None:
    """How far each filter of a layer reaches, its largest |w| over that of the layer: one dot a filter, log scale."""
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
    handles = [Patch(color=KIND_COLOURS[kind], label=kind) for kind in dict.fromkeys(kinds.values())]
    ax.legend(handles=handles, loc="lower left", fontsize=8, framealpha=0.9)
