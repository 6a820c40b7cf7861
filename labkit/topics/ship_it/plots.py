"""The picture of notebook 13: file, milliseconds and accuracy of a network in every format, and how a file begins."""

from collections.abc import Sequence
from typing import cast

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from labkit.drawing._base import BLUE, tidy


def format_bars(ax: Axes, names: Sequence[str], title: str) -> tuple[list[Rectangle], list[Text]]:
    """Empty bars, one for each format, from 0 to the longest, and the texts beside them."""
    bars = ax.barh(range(len(names)), [0] * len(names), color=BLUE, height=0.62)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_yticks(range(len(names)), names, fontsize=10)
    ax.set_xlim(0, 1.42)
    ax.set_xticks([])
    ax.set_title(title, fontsize=11, loc="left")
    tidy(ax)
    ax.grid(False)  # a line would run through the figure beside its bar
    ax.spines["bottom"].set_visible(False)
    texts = [ax.text(0, place, "", va="center", fontsize=10) for place in range(len(names))]
    return cast(list[Rectangle], list(bars)), texts


def fill(bars: Sequence[Rectangle], texts: Sequence[Text], values: Sequence[float], words: Sequence[str]) -> None:
    """Set the bars of `format_bars`, the longest to 1."""
    longest = max([*values, 1e-9])
    for bar, text, value, word in zip(bars, texts, values, words, strict=True):
        bar.set_width(value / longest)
        text.set_x(value / longest + 0.03)
        text.set_text(word)


def text_lines(ax: Axes, lines: int) -> list[Text]:
    """Empty lines of text, one below the other."""
    ax.set_axis_off()
    return [ax.text(0, 1 - (line + 0.5) / lines, "", fontsize=9.4, va="center", clip_on=True) for line in range(lines)]
