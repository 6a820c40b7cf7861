"""The effect of regularization: the histogram of the weights, accuracy against sparsity, and the measured sweeps."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch
from matplotlib.ticker import FixedLocator, FuncFormatter

from labkit import _check
from labkit.drawing._base import BLACK, BLUE, GREEN, GREY, ORANGE, RED, SKY, accuracy_axis, root_shares, seed_band, tidy
from labkit.drawing.training import legend_above

PENALTY_LOOKS = {
    "none": (BLACK, "D", ":"),
    "L1": (BLUE, "o", "-"),
    "proximal L1": (SKY, "^", "-"),
    "L2": (ORANGE, "s", "--"),
    "weight decay": (RED, "v", "--"),
    "none, fine-tuned": (GREY, "P", ":"),
    "L1, fine-tuned": (GREEN, "X", "-"),
}
FINE_TICKS = (0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98)


def magnitude_histogram(ax: Axes, edges: np.ndarray) -> tuple[StepPatch, StepPatch]:
    """Empty histograms of the weights' magnitudes, filled for this network and outlined for an earlier one.

    `edges` are powers of ten, log10 |w|; what is smaller than the first is counted in the first bin.
    """
    nothing = np.full(len(edges) - 1, 0.0)
    now = ax.stairs(nothing, edges, fill=True, color=BLUE, label="this network")
    before = ax.stairs(nothing, edges, color=BLACK, lw=1.3, label="the run before")
    ax.set_xlim(edges[0], edges[-1])
    whole = range(int(np.ceil(edges[0])), int(edges[-1]) + 1)
    names = {-4: "0.0001", -3: "0.001", -2: "0.01", -1: "0.1", 0: "1", 1: "10"}
    ax.set_xticks([edges[0] + (edges[1] - edges[0]) / 2, *list(whole)[1:]], ["0", *(names[e] for e in list(whole)[1:])])
    root_shares(ax)  # L1 puts nearly all of them into one bin
    ax.yaxis.set_major_locator(FixedLocator([0, 0.05, 0.2, 0.5, 1]))
    ax.set_xlabel("magnitude of a weight (log scale)")
    ax.set_ylabel("share of weights")
    tidy(ax)
    legend_above(ax)
    return now, before


def gap_axis(ax: Axes, lowest: float = 0.4) -> None:
    """Make a `run_accuracy_axis` linear, up to 100 %, so that the gap is drawn to scale."""
    ax.set_yscale("linear")
    ax.set_ylim(lowest, 1.01)
    ax.yaxis.set_major_locator(FixedLocator([share / 10 for share in range(11) if share >= 10 * lowest]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{100 * value:g} %"))
    ax.set_ylabel("accuracy")


def pruned_axis(ax: Axes, sparsities: Sequence[float], ghosts: Sequence[str]) -> tuple[Line2D, list[Line2D]]:
    """Empty lines of accuracy against sparsity, for this network and for `ghosts`, colours of earlier ones."""
    earlier = [ax.plot([], [], "-", lw=1.3, color=colour, alpha=0.8)[0] for colour in ghosts]
    (now,) = ax.plot([], [], "-o", ms=5, lw=2, color=BLUE)
    ax.set_xticks(range(len(sparsities)), [f"{100 * s:g} %" for s in sparsities])
    ax.set_xlim(-0.2, len(sparsities) - 0.8)
    accuracy_axis(ax, 0.08, 0.99, (0.1, 0.3, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99))
    ax.set_xlabel("weights set to 0, not trained again")
    tidy(ax)
    return now, earlier


def penalty_curves(ax: Axes, records: pd.DataFrame, column: str, methods: Sequence[str] = ("L1", "L2")) -> None:
    """Accuracy against λ, one line per method: dense (thin) and `column` (thick, with the band of the seeds).

    `records` has the columns method, strength, accuracy and `column`, one row per seed; "none" is drawn as two levels.
    """
    _check.table("records", records, "method", "strength", "accuracy", column, rows=1)
    for method in methods:
        rows = records[records["method"] == method]
        colour, _, line = PENALTY_LOOKS[method]
        dense, small = (rows.groupby("strength")[c] for c in ("accuracy", column))
        x = dense.mean().index.to_numpy()
        ax.plot(x, dense.mean().to_numpy(), line, lw=1, color=colour, label=f"{method}, dense")
        seed_band(ax, x, small, PENALTY_LOOKS[method], f"{method}, pruned", alpha=0.2, ms=6, lw=2)
    none = records[records["method"] == "none"]
    for c, width in (("accuracy", 1), (column, 2)):
        label = "no penalty, " + ("dense" if c == "accuracy" else "pruned")
        ax.axhline(float(none[c].mean()), color=BLACK, ls=":", lw=width, label=label)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
    ax.set_xlabel("λ (log scale)")
    accuracy_axis(ax, 0.95 * records[records["method"].isin([*methods, "none"])][column].min(), 0.98, FINE_TICKS)
    ax.legend(loc="lower center", fontsize=8, ncol=3, framealpha=0.9)


def prunable_plane(ax: Axes, records: pd.DataFrame, column: str) -> None:
    """Accuracy `column` against dense accuracy: one line per method, one labelled point per strength.

    `records` has the columns method, strength, accuracy and `column`, one row per seed; a cross spans the seeds.
    """
    _check.table("records", records, "method", "strength", "accuracy", column, rows=1)
    for method, rows in records.groupby("method", sort=False):
        colour, marker, line = PENALTY_LOOKS[str(method)]
        by = rows.groupby("strength")[["accuracy", column]]
        low, mean, high = (table.to_numpy() for table in (by.min(), by.mean(), by.max()))
        spread = [np.abs(mean - end).T for end in (low, high)]
        across, upright = ([s[i] for s in spread] for i in (0, 1))
        ax.errorbar(mean[:, 0], mean[:, 1], xerr=across, yerr=upright, fmt="none", ecolor=colour, lw=1)
        ax.plot(*mean.T, line, lw=1.3, marker=marker, ms=7, color=colour, label=str(method))
        for strength, (x, y) in zip(by.mean().index, mean, strict=True):
            if len(by) > 1:
                ax.annotate(f"{strength:g}", (x, y), (5, -10), textcoords="offset points", fontsize=8, color=colour)
    accuracy_axis(ax, 0.95 * records[column].min(), 0.975, FINE_TICKS)
    dense = records.groupby(["method", "strength"])["accuracy"].mean()
    shares = [p for p in (0.9, 0.93, 0.95, 0.96, 0.97, 0.975, 0.98) if dense.min() - 0.02 < p < dense.max() + 0.01]
    ax.set_xscale("accuracy")
    ax.xaxis.set_major_locator(FixedLocator(shares))
    ax.set_xlabel("validation accuracy, dense")
    ax.set_ylabel("validation accuracy, pruned")
    ax.legend(loc="lower left", fontsize=8, framealpha=0.9)
