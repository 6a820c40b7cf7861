"""Used by every picture: colours, axes for bytes and accuracies, a figure that displays itself."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.scale import FuncScale, register_scale
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, BLACK, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000", "#8A8A8A",
)  # fmt: skip
BITS_COLOURS = {
    1: "#440154",
    2: "#46327e",
    3: "#365c8d",
    4: "#277f8e",
    5: "#1fa187",
    6: "#4ac16d",
    8: "#a0da39",
    32: "#b8b8b8",
}
LOWEST, HIGHEST = 0.02, 0.9995  # accuracies between which the axis is a logit
SHARES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)


def kilobytes(size: float) -> str:
    """A size for a tick or a label: 812 B, 23.4 KB, 1.07 MB (1 KB is 1,000 bytes)."""
    if size < 999.5:
        return f"{size:.0f} B"
    power, unit = next((p, unit) for p, unit in ((3, "KB"), (6, "MB"), (9, "GB")) if size < 999.5 * 10**p or p == 9)
    return f"{size / 10**power:.3g} {unit}"


def spread(accuracy: np.ndarray | float) -> np.ndarray:
    """log(p / (1 - p)): spreads the high end, so that 98 and 99 % are as far apart as 90 and 95 %.

    Below 2 and above 99.95 %, where the logit goes to infinity, it continues as a straight line.
    """
    p = np.asarray(accuracy, float)
    inside = np.clip(p, LOWEST, HIGHEST)
    return np.log(inside / (1 - inside)) + np.where(p < LOWEST, 15, 600) * (p - inside)


def gathered(place: np.ndarray | float) -> np.ndarray:
    """The accuracy that `spread` puts at a place."""
    y = np.asarray(place, float)
    low, high = np.log([LOWEST / (1 - LOWEST), HIGHEST / (1 - HIGHEST)])
    inside = np.clip(y, low, high)
    return 1 / (1 + np.exp(-inside)) + (y - inside) / np.where(y < low, 15, 600)


class AccuracyScale(FuncScale):
    """matplotlib's scale "accuracy": `spread`, with ticks in per cent."""

    name = "accuracy"

    def __init__(self) -> None:
        super().__init__((spread, gathered))  # type: ignore[call-arg,arg-type]  # its types still name an axis

    def set_default_locators_and_formatters(self, axis: Any) -> None:
        """Ticks at SHARES."""
        axis.set_major_locator(FixedLocator(SHARES))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, position: f"{100 * value:g} %"))


register_scale(AccuracyScale)


def tidy(ax: Axes) -> None:
    """House style: no box, a light grid below the data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, color="#e6e6e6", linewidth=0.8)
    ax.set_axisbelow(True)


def root_shares(ax: Axes) -> None:
    """An axis of shares, 0 to 100 %, on a square root scale, so that small ones stay visible next to large ones."""
    ax.set_yscale("function", functions=(np.sqrt, np.square))
    ax.set_ylim(0, 1)
    ax.yaxis.set_major_locator(FixedLocator([0, 0.01, 0.05, 0.2, 0.5, 1]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:.0%}"))


def size_axis(ax: Axes, smallest: float, largest: float, most: int = 9) -> None:
    """A logarithmic axis of bytes, labelled in plain text, with at most about `most` ticks."""
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10**e for e in range(1, 10) for m in steps if smallest <= m * 10**e <= largest]
        if len(ticks) <= most:
            break
    ax.set_xscale("log")
    ax.set_xlim(smallest, largest)
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, position: kilobytes(value)))
    ax.set_xlabel("file size (log scale)")


def accuracy_axis(ax: Axes, lowest: float, highest: float, ticks: Sequence[float] = SHARES) -> None:
    """A vertical axis of accuracies, spread by the logit."""
    ax.set_yscale("accuracy")
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.set_ylim(lowest, moved(highest, 0.1))  # a margin for a point at the top
    ax.set_ylabel("validation accuracy")


def moved(accuracy: float, by: float) -> float:
    """The accuracy that lies `by` higher on the axis."""
    return float(gathered(spread(accuracy) + by))


def seed_band(
    ax: Axes,
    x: np.ndarray,
    by: Any,
    look: tuple[str, str, str],
    label: str,
    alpha: float,
    ms: float = 5,
    lw: float = 1.5,
) -> None:
    """Accuracies of several seeds against x: a line of their means, and a band from the worst to the best.

    `by` is a column of accuracies grouped by what x stands for, in the order of x; `look` is (colour, marker, line).
    """
    colour, marker, line = look
    ax.plot(x, by.mean().to_numpy(), line, marker=marker, ms=ms, color=colour, label=label, lw=lw)
    ax.fill_between(x, by.min().to_numpy(), by.max().to_numpy(), color=colour, alpha=alpha, lw=0)


def seed_bands(
    ax: Axes, records: pd.DataFrame, by: str, x: str, looks: Mapping[str, tuple[str, str, str]], **look: Any
) -> None:
    """A `seed_band` of accuracy against the column `x` for every value of the column `by`; `records` may be empty."""
    for name, rows in records.groupby(by, sort=False) if len(records) else ():
        accuracies = rows.groupby(x)["accuracy"]
        shown = looks.get(str(name), (PURPLE, "d", "-"))
        seed_band(ax, accuracies.mean().index.to_numpy(), accuracies, shown, str(name), **look)


def make_room(ax: Axes, size: float, accuracy: float) -> bool:
    """Widen a `size_axis` and an `accuracy_axis`, if necessary, until the point is inside; True if they changed."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    if left < size < right and bottom < accuracy < top:
        return False
    if not left < size < right:
        ax.set_xlim(min(left, 0.7 * size), max(right, 1.5 * size))
    ax.set_ylim(min(bottom, moved(accuracy, -0.3)), max(top, moved(accuracy, 0.1)))
    return True


def count(number: float) -> str:
    """A number for a tick or a label: 812, 23.4 k, 1.07 M."""
    if number < 999.5:
        return f"{number:.0f}"
    power, unit = (3, "k") if number < 999_500 else (6, "M")
    return f"{number / 10**power:.3g} {unit}"


def filmstrip(images: np.ndarray, places: int) -> np.ndarray:
    """Up to `places` pictures (n, h, w, 3) in [0, 1], side by side, RGBA, with transparent gaps of 2 pixels."""
    height, width = images.shape[1:3]
    strip = np.zeros((height, places * (width + 2), 4), np.float32)
    for i, image in enumerate(images[:places]):
        here = strip[:, i * (width + 2) : i * (width + 2) + width]
        here[..., :3], here[..., 3] = image, 1
    return strip


class Picture(Figure):
    """A figure outside pyplot that displays itself at the end of a cell, with `alt` as its alt text."""

    alt = "figure"

    def _repr_mimebundle_(self, **kwargs: object) -> tuple[dict[str, Any], dict[str, Any]]:
        buffer = io.BytesIO()
        FigureCanvasAgg(self).print_png(buffer)
        return {"image/png": buffer.getvalue(), "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def new_figure(alt: str, width: float = 8, height: float = 4) -> tuple[Picture, Axes]:
    """A picture with alt text and one tidy Axes, for a notebook cell that ends with it."""
    figure = Picture(figsize=(width, height), layout="constrained", dpi=100)
    figure.alt = alt
    ax = figure.add_subplot()
    tidy(ax)
    return figure, ax
