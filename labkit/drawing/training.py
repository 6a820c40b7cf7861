"""The axes for a live run and earlier ones."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import ArrayLike
from torch import Tensor

from labkit.drawing._base import SHARES, accuracy_axis, tidy

LOSSES = (0.01, 0.03, 0.1, 0.3, 1, 3, 10)  # ticks; values beyond the ends are drawn at the ends
FEW_SHARES, LOW = (0.1, 0.5, 0.8, 0.9, 0.95, 0.98), 1.8  # ticks of axes lower than this height, in inches


def loss_axis(ax: Axes, lowest: float = 0.02, highest: float = 12.0) -> None:
    """A logarithmic axis of cross-entropies against the training done, in per cent; plain numbers as labels."""
    ax.set_yscale("log")
    ax.set_ylim(lowest, highest)
    ax.yaxis.set_major_locator(FixedLocator(LOSSES))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
    ax.set_ylabel("training loss")
    progress_axis(ax)
    tidy(ax)


def progress_axis(ax: Axes) -> None:
    """An axis of training progress, in per cent."""
    ax.set_xlim(0, 102)
    ax.set_xticks([0, 25, 50, 75, 100])
    ax.set_xlabel("training done, per cent")


def run_accuracy_axis(ax: Axes, lowest: float = 0.07, highest: float = 0.99) -> None:
    """An axis of accuracies against the training done, in per cent; fewer ticks on low axes."""
    accuracy_axis(ax, lowest, highest, SHARES if ax.bbox.height > LOW * ax.figure.dpi else FEW_SHARES)
    ax.set_ylabel("accuracy")
    progress_axis(ax)
    tidy(ax)


def key_rows(ax: Axes, colours: Sequence[str]) -> tuple[list[Line2D], list[Text]]:
    """A legend of one row per colour, from the top: dashes, with empty texts to their right."""
    ax.set_axis_off()
    ax.set_xlim(0, 1)
    ax.set_ylim(len(colours) - 0.5, -0.5)
    dashes = [ax.plot([0, 0.06], [i, i], "-", color=colour, lw=3)[0] for i, colour in enumerate(colours)]
    return dashes, [ax.text(0.08, i, "", fontsize=10, va="center") for i in range(len(colours))]


def legend_above(ax: Axes) -> None:
    """The legend in one row above the axes, where no data are, in place of a title."""
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncol=9, fontsize=10, frameon=False, handlelength=1.3,
        handletextpad=0.4, columnspacing=0.9, borderaxespad=0.3, borderpad=0,
    )  # fmt: skip


def set_points(line: Line2D, points: ArrayLike) -> None:
    """Give a line its (x, y) points; it may have none."""
    line.set_data(*np.asarray(points, float).reshape(-1, 2).T)


def within(line: Line2D, values: ArrayLike) -> np.ndarray:
    """Heights of a line: those beyond the ends of its axis at the ends, NaN at the upper one."""
    low, high = line.axes.get_ylim()  # type: ignore[union-attr]
    return np.clip(np.nan_to_num(values, nan=high, posinf=high), low, high)


def log_counts(values: Tensor, edges: np.ndarray) -> np.ndarray:
    """How many values lie between two `edges`, powers of ten; those beyond the ends are in the first and last bin."""
    low, high = 10.0 ** edges[0], 10.0 ** edges[-1]
    powers = values.clamp(1.001 * low, 0.999 * high).log10()
    return torch.histc(powers, len(edges) - 1, edges[0], edges[-1]).numpy()
