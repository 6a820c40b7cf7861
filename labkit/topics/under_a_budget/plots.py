"""The picture of notebook 12: bits and sparsity of every layer, and what was predicted beside what was measured."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from labkit import _check
from labkit.drawing._base import GREY, ORANGE, RED, SKY, accuracy_axis, size_axis, tidy
from labkit.drawing.bars import layer_font, short_names
from labkit.drawing.planes import key_above
from labkit.frontier import frontier

RISES = (0, 0.1, 0.5, 2)  # ticks, of the loss
METHODS = ("uniform", "linear program", "swaps")


def setting_bars(
    ax: Axes, names: Sequence[str], label: str, ticks: Sequence[str], colour: str, most: float
) -> list[Rectangle]:
    """Empty horizontal bars, one per layer, in [0, most], with evenly spread ticks."""
    bars = ax.barh(range(len(names)), [0] * len(names), color=colour, height=0.7)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_yticks(range(len(names)), short_names(names), fontsize=layer_font(len(names)))
    ax.set_xlim(0, most)
    ax.set_xticks(np.linspace(0, most, len(ticks)), ticks)
    ax.set_xlabel(label)
    tidy(ax)
    return cast(list[Rectangle], list(bars))


def rise_scale(rise: np.ndarray | float) -> np.ndarray:
    """arcsinh: even near 0, logarithmic from a rise of a tenth on; a fall counts as 0."""
    return np.arcsinh(20 * np.maximum(rise, 0))


def rise_bars(ax: Axes) -> dict[str, list[Rectangle]]:
    """Two empty bars for each method: the sum of the parts, and what the joint network really loses."""
    made: dict[str, list[Rectangle]] = {}
    places = np.arange(len(METHODS))
    for kind, colour, up in (("sum of the parts", SKY, -0.19), ("measured", ORANGE, 0.19)):
        made[kind] = cast(list[Rectangle], list(ax.barh(places + up, 0 * places, 0.36, color=colour, label=kind)))
    ax.set_yticks(places, [name.replace(" ", "\n") for name in METHODS], fontsize=10)
    ax.set_ylim(len(METHODS) - 0.5, -0.5)
    ax.set_xlim(0, float(rise_scale(4)))
    ax.xaxis.set_major_locator(FixedLocator(rise_scale(np.array(RISES)).tolist()))
    ax.xaxis.set_major_formatter(FixedFormatter([f"{rise:g}" for rise in RISES]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("rise of the loss")
    tidy(ax)
    key_above(ax)
    return made


def budget_plane(ax: Axes, records: pd.DataFrame, dense_bytes: int, dense_accuracy: float) -> None:
    """Accuracy against bytes: the dense network, and the frontier of one sparsity and one bit width for all layers."""
    _check.table("records", records, "size_bytes", "accuracy")
    if len(records):
        best = frontier(records)
        ax.plot(best["size_bytes"], best["accuracy"].to_numpy(), ".-", color=GREY, lw=1.4, label="one-shot frontier")
    ax.plot([dense_bytes], np.array([dense_accuracy]), "D", ms=8, color=RED, label="dense fp32", zorder=4)
    size_axis(ax, 3_500, max(1.7 * dense_bytes, 1.3e6), most=7)
    accuracy_axis(ax, 0.3, dense_accuracy + 0.6 * (1 - dense_accuracy))
    tidy(ax)
    key_above(ax)
