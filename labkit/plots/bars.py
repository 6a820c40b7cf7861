"""Bars, one a layer or a class."""

from collections.abc import Sequence
from typing import cast

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from labkit.plots._base import BLACK, BLUE, GREEN, GREY, tidy
from labkit.plots.training import legend_above


def width_bars(ax: Axes, names: Sequence[str], colours: Sequence[str]) -> tuple[list[Rectangle], list[Text]]:
    """Bars for the share of every layer's units that is left, over a grey one for all of them, and texts for both."""
    rows, size = range(len(names)), layer_font(len(names))
    ax.barh(rows, [1] * len(names), color="#d0d0d0", height=0.7)
    bars = ax.barh(rows, [1] * len(names), color=[BLUE if colour == GREY else colour for colour in colours], height=0.7)
    texts = [ax.text(1.85, row, "", ha="right", va="center", fontsize=size) for row in rows]
    ax.set_yticks(rows, short_names(names), fontsize=size)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(0, 1.85)
    ax.set_xticks([0, 1], ["0", "100 %"])
    ax.set_xlabel("share of the layer")
    tidy(ax)
    ax.grid(False, axis="y")  # would run through the texts
    return cast(list[Rectangle], list(bars)), texts


def layer_bars(ax: Axes, names: Sequence[str], label: str, title: str = "", most: float = 1) -> list[Rectangle]:
    """Empty horizontal bars, one a layer, for figures in [0, most], read in per cent."""
    bars = ax.barh(range(len(names)), [0] * len(names), color=BLUE, height=0.7)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_yticks(range(len(names)), short_names(names), fontsize=layer_font(len(names)))
    ax.set_xlim(0, most)
    wide = ax.bbox.width / ax.figure.dpi > 0.95  # inches
    ax.set_xticks([0, 0.5, 1], ["0", "50 %" if wide else "", "100 %"])
    ax.set_xlabel(label)
    ax.set_title(title, fontsize=11, loc="left")
    tidy(ax)
    return cast(list[Rectangle], list(bars))


def short_names(names: Sequence[str]) -> list[str]:
    """Layers by their numbers and last word, "0.proj" of "blocks.0.attention.proj.weight", if that tells them apart."""
    full = [name.removesuffix(".weight") for name in names]
    words = [name.split(".") for name in full]
    short = [".".join([*filter(str.isdigit, parts[:-1]), parts[-1]]) for parts in words]
    return short if len(set(short)) == len(names) else full


def layer_font(layers: int) -> float:
    """The size of the names of so many layers, one below the other."""
    return 10 if layers < 15 else 9.3 if layers < 29 else 6.5


def class_bars(ax: Axes, names: Sequence[str]) -> tuple[list[Rectangle], Line2D, list[Text]]:
    """Empty bars, one a class, for a softened distribution, marks for the one at T = 1, a text at each row's end."""
    rows = range(len(names))
    soft = ax.barh(rows, [0] * len(names), color=BLUE, height=0.62, label="at T")
    (sharp,) = ax.plot([0] * len(names), rows, "|", ms=15, mew=2.5, color=BLACK, label="at T = 1")
    texts = [ax.text(1.42, i, "", ha="right", va="center", fontsize=10) for i in rows]
    _class_rows(ax, names)
    ax.set_xlim(0, 1.42)
    ax.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    ax.set_xlabel("teacher's probability")
    tidy(ax)
    legend_above(ax)
    return cast(list[Rectangle], list(soft)), sharp, texts


def signed_bars(ax: Axes, places: int, reach: float) -> list[Rectangle]:
    """Empty horizontal bars around 0, for figures in [-reach, reach]."""
    bars = ax.barh(range(places), [0] * places, color=GREEN, height=0.62)
    ax.axvline(0, color=BLACK, lw=0.8)
    _class_rows(ax, [""] * places)
    ax.set_xlim(-reach, reach)
    ax.set_xticks([0], ["0"])
    tidy(ax)
    return cast(list[Rectangle], list(bars))


def _class_rows(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), names, fontsize=layer_font(len(names)))
    ax.set_ylim(len(names) - 0.4, -0.6)
