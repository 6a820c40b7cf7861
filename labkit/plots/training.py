"""The axes on which a live run and earlier ones are drawn."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from labkit.plots._base import accuracy_axis, tidy

LOSSES = (0.01, 0.03, 0.1, 0.3, 1, 3, 10)  # ticks; what is beyond the ends is drawn at them


def loss_axis(ax: Axes, lowest: float = 0.02, highest: float = 12.0) -> None:
    """A logarithmic axis of cross-entropies against the training done, in per cent; plain numbers as labels."""
    ax.set_yscale("log")
    ax.set_ylim(lowest, highest)
    ax.yaxis.set_major_locator(FixedLocator(LOSSES))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
    ax.set_ylabel("loss on the training batches")
    progress_axis(ax)
    tidy(ax)


def progress_axis(ax: Axes) -> None:
    """An axis of the share of the training that is done."""
    ax.set_xlim(0, 102)
    ax.set_xticks([0, 25, 50, 75, 100])
    ax.set_xlabel("training done, per cent")


def run_accuracy_axis(ax: Axes, lowest: float = 0.09, highest: float = 0.99) -> None:
    """An axis of accuracies against the training done, in per cent; plot `logit(accuracy)` against it."""
    accuracy_axis(ax, lowest, highest)
    progress_axis(ax)
    tidy(ax)


def key_rows(ax: Axes, colours: Sequence[str]) -> tuple[list[Line2D], list[Text]]:
    """A key of one row a colour, from the top: the dashes, and the texts behind them, empty so far."""
    ax.set_axis_off()
    ax.set_xlim(0, 1)
    ax.set_ylim(len(colours) - 0.5, -0.5)
    dashes = [ax.plot([0, 0.06], [i, i], "-", color=colour, lw=3)[0] for i, colour in enumerate(colours)]
    return dashes, [ax.text(0.08, i, "", fontsize=9, va="center") for i in range(len(colours))]
