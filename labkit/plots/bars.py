"""Bars, one a layer or a class."""

from collections.abc import Sequence
from typing import cast

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from labkit.plots._base import BLACK, BLUE, GREEN, tidy


def width_bars(ax: Axes, names: Sequence[str]) -> tuple[list[Rectangle], list[Text]]:
    """Bars for the share of every layer's units that is left, over a grey one for all of them, and texts for both."""
    small = 9 if len(names) < 9 else 7
    ax.barh(range(len(names)), [1] * len(names), color="#d0d0d0", height=0.7)
    bars = ax.barh(range(len(names)), [1] * len(names), color=BLUE, height=0.7)
    texts = [ax.text(1.48, i, "", ha="right", va="center", fontsize=small) for i in range(len(names))]
    ax.set_yticks(range(len(names)), names, fontsize=10 if len(names) < 9 else 7)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(0, 1.5)
    ax.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    ax.set_xlabel("share of the layer")
    tidy(ax)
    return cast(list[Rectangle], list(bars)), texts


def layer_bars(ax: Axes, places: int, label: str) -> list[Rectangle]:
    """Empty horizontal bars, one a layer, for figures in [0, 1]."""
    bars = ax.barh(range(places), [0] * places, color=BLUE, height=0.7)
    ax.set_ylim(places - 0.4, -0.6)
    ax.set_xlim(0, 1)
    ax.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    ax.set_xlabel(label)
    tidy(ax)
    return cast(list[Rectangle], list(bars))


def class_bars(ax: Axes, names: Sequence[str]) -> tuple[list[Rectangle], list[Rectangle], list[Text]]:
    """Empty bars, one a class, for a softened distribution and the one at T = 1, and a text at the end of each row."""
    rows = range(len(names))
    soft = ax.barh(rows, [0] * len(names), color=BLUE, height=0.62, label="at T")
    sharp = ax.barh(rows, [0] * len(names), color="none", edgecolor=BLACK, height=0.8, label="at T = 1")
    texts = [ax.text(1.33, i, "", ha="right", va="center", fontsize=9) for i in rows]
    ax.set_yticks(rows, names, fontsize=10)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(0, 1.35)
    ax.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    ax.set_title("what the teacher says", fontsize=11, loc="left")
    tidy(ax)
    ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.045), ncol=2, fontsize=8, frameon=False)
    return cast(list[Rectangle], list(soft)), cast(list[Rectangle], list(sharp)), texts


def signed_bars(ax: Axes, places: int, reach: float) -> list[Rectangle]:
    """Empty horizontal bars around 0, for figures in [-reach, reach]."""
    bars = ax.barh(range(places), [0] * places, color=GREEN, height=0.62)
    ax.axvline(0, color=BLACK, lw=0.8)
    ax.set_ylim(places - 0.4, -0.6)
    ax.set_yticks(range(places), [""] * places)
    ax.set_xlim(-reach, reach)
    ax.set_xticks([0], [""])
    ax.set_xlabel("minus the gradient", labelpad=12)
    tidy(ax)
    return cast(list[Rectangle], list(bars))
