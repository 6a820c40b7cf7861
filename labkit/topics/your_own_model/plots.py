"""The figure of merit against bytes, and two bars per layer: its share of the file, and its damage alone."""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedFormatter, FixedLocator

from labkit.drawing._base import BLACK, BLUE, GREY, ORANGE, RED, size_axis, tidy
from labkit.drawing.bars import layer_font, short_names

STEPS = (0, 1, 5, 20, 80, 400, 2_000, 10_000, 100_000, 1_000_000)  # of ticks, in units of damage
MANY = 22  # layer names that fit below each other
LETTERS = 16  # of a layer name
SHARES = (0.01, 0.03, 0.1, 0.3, 0.6, 1)  # of ticks
Ticks = Mapping[int, str]  # units of damage -> what stands there


def worse(units: np.ndarray | float) -> np.ndarray:
    """arcsinh: even for the first unit of damage, logarithmic from the third on."""
    return np.arcsinh(units)


def merit_plane(ax: Axes, smallest: float, dense_bytes: int, reach: float, ticks: Ticks) -> None:
    """A figure of merit against bytes: better is up, the dense network at height 0, `reach` units of damage below.

    `ticks` has the values at some units of damage. Points are (bytes, -worse(units)).
    """
    ax.plot([dense_bytes], [0], "D", ms=8, color=RED, zorder=4)
    ax.axhline(0, color=GREY, lw=1, ls=":")
    size_axis(ax, smallest, dense_bytes * 1.7, most=6)
    ax.set_ylim(-1.03 * float(worse(reach)), float(worse(1.5)))
    ax.yaxis.set_major_locator(FixedLocator([-float(worse(units)) for units in ticks]))
    ax.yaxis.set_major_formatter(FixedFormatter([*ticks.values()]))
    tidy(ax)


def hot_bars(
    share: Axes, damage: Axes, layers: Sequence[str], widest: float, reach: float, ticks: Ticks
) -> tuple[list[Rectangle], list[Rectangle], Line2D]:
    """Empty bars for the shares of the file and for the damage of each layer, and a line for the intervals.

    Layers in the order of the network; of more than MANY, some are labelled. Widths of damage are `worse(units)`; the
    axes end at the share `widest` and at `reach` units.
    """
    rows, every = range(len(layers)), -(-len(layers) // MANY)
    names = [name if len(name) <= LETTERS else f"…{name[1 - LETTERS :]}" for name in short_names(layers)]
    drawn: list[list[Rectangle]] = []
    for ax, colour in ((share, BLUE), (damage, ORANGE)):
        drawn.append(cast(list[Rectangle], list(ax.barh(rows, [0] * len(layers), color=colour, height=0.72))))
        ax.set_yticks(rows[::every], names[::every] if ax is share else [""] * len(rows[::every]))
        ax.tick_params("y", labelsize=layer_font(len(rows[::every])), length=0)
        ax.set_ylim(len(layers) - 0.4, -0.6)
        tidy(ax)
    (intervals,) = damage.plot([], [], "-", color=BLACK, lw=1.1 * min(1, MANY / len(layers)))
    share.set_xscale("function", functions=(lambda v: np.sqrt(np.abs(v)), np.square))
    share.set_xlim(0, 1.05 * widest)
    shares = [value for value in SHARES if widest / 20 < value <= widest]
    share.xaxis.set_major_locator(FixedLocator(shares))
    share.xaxis.set_major_formatter(FixedFormatter([f"{100 * value:g} %" for value in shares]))
    damage.set_xlim(-float(worse(1.5)), float(worse(reach)))
    damage.xaxis.set_major_locator(FixedLocator([float(worse(units)) for units in ticks]))
    damage.xaxis.set_major_formatter(FixedFormatter([*ticks.values()]))
    damage.axvline(0, color=BLACK, lw=0.8)
    return drawn[0], drawn[1], intervals
