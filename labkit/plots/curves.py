"""Curves of measured sweeps, one line a method, and the axes on which a panel draws its own."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from labkit import _check
from labkit.plots._base import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    accuracy_axis,
    count,
    logit,
    seed_band,
    size_axis,
    tidy,
)

METHODS = {
    "one-shot": (RED, "o", "-"),
    "fine-tuned": (BLUE, "s", "-"),
    "gradual": (GREEN, "^", "-"),
    "random, fine-tuned": (GREY, "x", "--"),
}


def sparsity_curves(ax: Axes, records: pd.DataFrame, dense_accuracy: float) -> None:
    """Accuracy against sparsity, one line a method: the mean over the seeds, and a band from the worst to the best.

    `records` has the columns method, sparsity, accuracy (a row a seed) and may be empty.
    """
    _check.table("records", records, "method", "sparsity", "accuracy")
    for method, rows in records.groupby("method", sort=False):
        by = rows.groupby("sparsity")["accuracy"]
        x = -np.log10(1 - by.mean().index.to_numpy())
        seed_band(ax, x, by, METHODS.get(str(method), (PURPLE, "d", "-")), str(method), alpha=0.2)
    ax.axhline(float(logit(dense_accuracy)), color=BLACK, lw=1, ls=":", label="dense")
    shown = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
    ax.set_xticks([-np.log10(1 - s) for s in shown], [f"{s:.0%}" for s in shown])
    ax.set_xlim(-0.05, 2.1)
    ax.set_xlabel("sparsity (scale: log of the density)")
    accuracy_axis(ax, 0.08, dense_accuracy + 0.6 * (1 - dense_accuracy))
    tidy(ax)
    ax.legend(loc="lower left", fontsize=8, frameon=True, framealpha=0.9)


LESSONS = {
    "few labels": (ORANGE, "o", "-"),
    "few labels, teacher": (SKY, "s", "-"),
    "teacher, no labels": (BLUE, "D", "-"),
    "all labels": (GREY, "x", "--"),
    "all labels, teacher": (GREEN, "^", "--"),
}


def width_curves(ax: Axes, records: pd.DataFrame, teacher_accuracy: float) -> None:
    """Accuracy of students against their width, one line a method: mean over the seeds, band from worst to best.

    `records` has the columns method, width, accuracy (a row a seed).
    """
    _check.table("records", records, "method", "width", "accuracy", rows=1)
    for method, rows in records.groupby("method", sort=False):
        by = rows.groupby("width")["accuracy"]
        look = LESSONS.get(str(method), (PURPLE, "d", "-"))
        seed_band(ax, by.mean().index.to_numpy(), by, look, str(method), alpha=0.2)
    ax.axhline(float(logit(teacher_accuracy)), color=BLACK, lw=1, ls=":", label="teacher")
    widths = sorted(records["width"].unique())
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(widths))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:.0f}"))
    ax.set_xlabel("hidden units of the student (log scale)")
    accuracy_axis(ax, 0.98 * records["accuracy"].min(), teacher_accuracy + 0.5 * (1 - teacher_accuracy))
    tidy(ax)
    ax.legend(loc="upper left", fontsize=8, ncol=2, frameon=True, framealpha=0.9)


def place_sparsity(sparsity: float) -> float:
    """Where a sparsity lies on the axis of `sparsity_curves`."""
    return float(-np.log10(1 - min(sparsity, 0.992)))


def scheme_curves(ax: Axes, records: pd.DataFrame, dense_bytes: int, dense_accuracy: float) -> None:
    """Accuracy against file size, one line a scheme, each point labelled with its bits.

    `records` has the columns symmetric, granularity, bits, accuracy, size_bytes and may be empty.
    """
    _check.table("records", records, "symmetric", "granularity", "bits", "accuracy", "size_bytes")
    looks = {("symmetric", "tensor"): (BLUE, "o"), ("symmetric", "channel"): (GREEN, "s"),
             ("affine", "tensor"): (ORANGE, "^"), ("affine", "channel"): (PURPLE, "D")}  # fmt: skip
    for (symmetric, granularity), rows in records.groupby(["symmetric", "granularity"], sort=False):
        scheme = "symmetric" if symmetric else "affine"
        colour, marker = looks[scheme, str(granularity)]
        label = f"{scheme}, per {granularity}"
        ax.plot(
            rows["size_bytes"],
            logit(rows["accuracy"].to_numpy()),
            marker=marker,
            ms=5,
            color=colour,
            label=label,
            lw=1.2,
        )
        few = rows[rows["bits"] <= 4]
        for bits, *place in zip(few["bits"], few["size_bytes"], logit(few["accuracy"].to_numpy()), strict=True):
            ax.annotate(str(bits), (place[0], place[1]), (4, -10), textcoords="offset points", fontsize=8, color=colour)
    size_axis(ax, min([dense_bytes / 40, *records["size_bytes"]]) * 0.7, dense_bytes * 1.5, most=7)
    ax.plot([dense_bytes], [float(logit(dense_accuracy))], "D", ms=8, color=RED, label="dense fp32")
    accuracy_axis(ax, 0.07, dense_accuracy + 0.6 * (1 - dense_accuracy))
    tidy(ax)
    ax.legend(loc="lower right", fontsize=8, frameon=True, framealpha=0.9)


UNIT_METHODS = {
    "one-shot": (RED, "o", "-"),
    "one-shot, random": (GREY, "x", ":"),
    "fine-tuned": (BLUE, "s", "-"),
    "fine-tuned, random": (GREY, "x", "-"),
    "from scratch, 1 epoch": (GREEN, "^", ":"),
    "from scratch, 13 epochs": (GREEN, "^", "-"),
}


def macs_curves(ax: Axes, records: pd.DataFrame, dense_macs: int, dense_accuracy: float, criterion: str = "l1") -> None:
    """Accuracy against multiply-adds: one criterion one-shot and fine-tuned, beside random and networks from scratch.

    A line is the mean over the seeds, its band reaches from the worst to the best. `records` has the columns method
    ("l1"; "l1, fine-tuned"; …), sparsity, accuracy, macs (a row a seed) and may be empty.
    """
    _check.table("records", records, "method", "sparsity", "accuracy", "macs", rows=None)
    names = {"random": "one-shot, random", "random, fine-tuned": "fine-tuned, random"}
    names = {criterion: "one-shot", f"{criterion}, fine-tuned": "fine-tuned"} | names
    for method, rows in records.groupby("method", sort=False) if len(records) else ():
        name = names.get(str(method), str(method))
        if name not in UNIT_METHODS:  # another criterion
            continue
        by = rows.groupby("sparsity")
        seed_band(ax, by["macs"].mean().to_numpy(), by["accuracy"], UNIT_METHODS[name], name, alpha=0.15)
    ax.plot([dense_macs], logit(np.array([dense_accuracy])), "D", ms=8, color=RED, label="dense", zorder=4)
    smallest = min([dense_macs / 20, *(records["macs"] if len(records) else [])]) * 0.8
    size_axis(ax, smallest, dense_macs * 3, most=7)  # wide enough for the legend
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, position: count(value)))
    ax.set_xlabel("multiply-adds for one image (log scale)")
    accuracy_axis(ax, 0.08, dense_accuracy + 0.6 * (1 - dense_accuracy))
    tidy(ax)
    ax.legend(loc="lower right", fontsize=8, frameon=True, framealpha=0.9)


def importance_curves(ax: Axes, curves: Mapping[str, np.ndarray]) -> tuple[Line2D, Line2D]:
    """The units of every layer from the least to the most important; returns the two lines of a cut, yet to be placed.

    `curves` maps a label to importances divided by their mean.
    """
    colours = [BLUE, ORANGE, GREEN, PURPLE, SKY]
    for i, (label, values) in enumerate(curves.items()):
        share = (np.arange(len(values)) + 0.5) / len(values)
        few = len(curves) <= len(colours)
        ax.plot(share, np.sort(values), "-", color=colours[i] if few else GREY, lw=1.8 if few else 1, label=label)
    highest = max(float(values.max()) for values in curves.values())
    ax.set_xlim(0, 1)
    ax.set_ylim(0, min(highest, 4) * 1.05)
    ax.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    ax.set_xlabel("units, least important first")
    tidy(ax)
    if len(curves) <= len(colours):
        ax.legend(loc="upper left", fontsize=8, framealpha=0.9)
    return ax.axvline(0, color=RED, lw=1.6, ls="--"), ax.axhline(0, color=RED, lw=1.6, ls="--")


FEW_BITS = {
    "grid": (RED, "o", "-"),
    "codebook": (ORANGE, "^", "-"),
    "fine-tuned, then codebook": (GREY, "x", "--"),
    "codebook, then fine-tuned": (BLUE, "s", "-"),
}


def sharing_curves(ax: Axes, records: pd.DataFrame, dense_bytes: int, dense_accuracy: float) -> None:
    """Accuracy against file size, one line a method: mean over the seeds, each point labelled with its bits.

    `records` has the columns method, bits, accuracy, size_bytes (a row a seed) and may be empty.
    """
    _check.table("records", records, "method", "bits", "accuracy", "size_bytes")
    for method, rows in records.groupby("method", sort=False):
        colour, marker, line = FEW_BITS[str(method)]
        mean = rows.groupby("bits")[["size_bytes", "accuracy"]].mean()
        x, y = mean["size_bytes"].to_numpy(), logit(mean["accuracy"].to_numpy())
        ax.plot(x, y, line, marker=marker, ms=5, color=colour, label=method, lw=1.4)
        for bits, *place in zip(mean.index, x, y, strict=True):
            ax.annotate(str(bits), (place[0], place[1]), (4, -10), textcoords="offset points", fontsize=8, color=colour)
    size_axis(ax, min([dense_bytes / 40, *records["size_bytes"]]) * 0.7, dense_bytes * 1.5, most=7)
    ax.plot([dense_bytes], [float(logit(dense_accuracy))], "D", ms=8, color=RED, label="dense fp32")
    accuracy_axis(ax, 0.3, dense_accuracy + 0.6 * (1 - dense_accuracy))
    tidy(ax)
    ax.legend(loc="lower right", fontsize=8, frameon=True, framealpha=0.9)


def learning_curves(ax: Axes, ghosts: int, teacher_accuracy: float) -> tuple[Line2D, Line2D, list[Line2D]]:
    """Empty curves of a student alone, of one that is taught, and of `ghosts` earlier ones, over the training done."""
    faint = [ax.plot([], [], "-", lw=1, alpha=0.35)[0] for _ in range(ghosts)]
    (alone,) = ax.plot([], [], "-o", ms=5, lw=1.8, color=ORANGE, label="student alone")
    (taught,) = ax.plot([], [], "-s", ms=5, lw=1.8, color=BLUE, label="student taught")
    ax.axhline(float(logit(teacher_accuracy)), color=BLACK, lw=1, ls=":", label="teacher")
    ax.set_xlim(0, 102)
    ax.set_xlabel("training done, per cent")
    accuracy_axis(ax, 0.65, teacher_accuracy + 0.5 * (1 - teacher_accuracy))
    ax.set_title("students (faint: earlier ones)", fontsize=11, loc="left")
    tidy(ax)
    ax.legend(loc="lower right", fontsize=8, frameon=True, framealpha=0.9)
    return alone, taught, faint
