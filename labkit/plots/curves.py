"""Curves of measured sweeps, one line a method, and the axes on which a panel draws its own."""

from collections.abc import Iterable, Sequence
from typing import Any

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
    seed_band,
    size_axis,
    tidy,
)
from labkit.plots.training import legend_above, progress_axis

# of a legend inside the axes
SNUG: dict[str, Any] = dict(fontsize=10, framealpha=0.9, handlelength=1.4, handletextpad=0.4, borderpad=0.3)

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
    ax.axhline(dense_accuracy, color=BLACK, lw=1, ls=":", label="dense")
    shown = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
    ax.set_xticks([-np.log10(1 - s) for s in shown], [f"{s:.0%}" for s in shown])
    ax.set_xlim(-0.05, 2.1)
    ax.set_xlabel("sparsity (scale: log of the density)")
    accuracy_axis(ax, 0.08, dense_accuracy + 0.6 * (1 - dense_accuracy))
    tidy(ax)
    ax.legend(loc="lower left", **SNUG)


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
    ax.axhline(teacher_accuracy, color=BLACK, lw=1, ls=":", label="teacher")
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


def ticks_in(ax: Axes) -> int:
    """How many sizes can stand below an axis."""
    return int(ax.bbox.width / ax.figure.dpi / 0.65)  # inches


def label_bits(ax: Axes, bits: Iterable[int], x: Iterable[float], y: Iterable[float]) -> None:
    """Write the bits of points beside them, where there is room between all points and the labels there are."""
    inch, inside = 72 / ax.figure.dpi, ax.bbox.padded(-ax.figure.dpi / 12)
    marks = list(zip(bits, x, y, strict=True))
    taken = [ax.transData.transform(mark[1:]) * inch for mark in marks]
    for (number, *place), point in zip(marks, list(taken), strict=True):
        for step in ((9, -9), (-9, 9), (-9, -9), (9, 9)):
            middle = point + step
            if inside.contains(*middle / inch) and all(np.hypot(*(middle - other)) > 12 for other in taken):
                look: dict[str, Any] = dict(textcoords="offset points", fontsize=10, ha="center", va="center")
                ax.annotate(str(number), (place[0], place[1]), step, **look)
                taken.append(middle)
                break


def scheme_curves(ax: Axes, records: pd.DataFrame, dense_bytes: int, dense_accuracy: float) -> None:
    """Accuracy against file size, one line a scheme, points labelled with their bits where there is room.

    `records` has the columns symmetric, granularity, bits, accuracy, size_bytes and may be empty.
    """
    _check.table("records", records, "symmetric", "granularity", "bits", "accuracy", "size_bytes")
    looks = {("symmetric", "tensor"): (BLUE, "o"), ("symmetric", "channel"): (GREEN, "s"),
             ("affine", "tensor"): (ORANGE, "^"), ("affine", "channel"): (PURPLE, "D")}  # fmt: skip
    for (symmetric, granularity), rows in records.groupby(["symmetric", "granularity"], sort=False):
        scheme = "symmetric" if symmetric else "affine"
        colour, marker = looks[scheme, str(granularity)]
        label = f"{scheme}, per {granularity}"
        x, y = rows["size_bytes"].to_numpy(), rows["accuracy"].to_numpy()
        ax.plot(x, y, marker=marker, ms=5, color=colour, label=label, lw=1.2)
    if len(records):
        ax.legend(loc="lower right", **SNUG)
    smallest = records["size_bytes"].min() if len(records) else dense_bytes / 40
    size_axis(ax, smallest * 0.7, dense_bytes * 4, most=ticks_in(ax))  # wide enough for the legend
    ax.plot([dense_bytes], [dense_accuracy], "D", ms=8, color=RED, label="dense fp32")
    ax.annotate("fp32", (dense_bytes, dense_accuracy), (0, -14), textcoords="offset points", ha="center", va="center")
    lowest = min([0.07, *(0.8 * records["accuracy"])])
    accuracy_axis(ax, lowest, dense_accuracy + 0.6 * (1 - dense_accuracy))
    tidy(ax)
    few = records[records["bits"] <= 4]
    label_bits(ax, few["bits"], few["size_bytes"], few["accuracy"])


UNIT_METHODS = {
    "one-shot": (RED, "o", "-"),
    "one-shot, random": (GREY, "x", ":"),
    "fine-tuned": (BLUE, "s", "-"),
    "fine-tuned, random": (GREY, "x", "-"),
    "from scratch, 1 epoch": (GREEN, "^", ":"),
    "from scratch, 13 epochs": (GREEN, "^", "-"),
}


def unit_methods(criterion: str) -> dict[str, str]:
    """Which methods of a sweep `macs_curves` shows for a criterion, and by which of UNIT_METHODS."""
    random = {"random": "one-shot, random", "random, fine-tuned": "fine-tuned, random"}
    scratch = {name: name for name in UNIT_METHODS if name.startswith("from scratch")}
    return {criterion: "one-shot", f"{criterion}, fine-tuned": "fine-tuned"} | random | scratch


def macs_curves(ax: Axes, records: pd.DataFrame, dense_macs: int, dense_accuracy: float, criterion: str = "l1") -> None:
    """Accuracy against multiply-adds: one criterion one-shot and fine-tuned, beside random and networks from scratch.

    A line is the mean over the seeds, its band reaches from the worst to the best. `records` has the columns method
    ("l1"; "l1, fine-tuned"; …), sparsity, accuracy, macs (a row a seed) and may be empty; the legend is on the right.
    """
    _check.table("records", records, "method", "sparsity", "accuracy", "macs", rows=None)
    names = unit_methods(criterion)
    for method, rows in records.groupby("method", sort=False) if len(records) else ():
        if (name := names.get(str(method))) is None:  # another criterion
            continue
        by = rows.groupby("sparsity")
        seed_band(ax, by["macs"].mean().to_numpy(), by["accuracy"], UNIT_METHODS[name], name, alpha=0.15)
    ax.plot([dense_macs], np.array([dense_accuracy]), "D", ms=8, color=RED, label="dense", zorder=4)
    smallest = min([dense_macs / 20, *(records["macs"] if len(records) else [])]) * 0.8
    size_axis(ax, smallest, dense_macs * 1.4, most=5)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, position: count(value)))
    ax.set_xlabel("multiply-adds for one image (log scale)")
    accuracy_axis(ax, 0.08, dense_accuracy + 0.6 * (1 - dense_accuracy))
    tidy(ax)
    if len(records):
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=10, frameon=False, handlelength=1.5)


def family_colours(families: int) -> list[str]:
    """A colour for each layer, or for all layers that share their units; grey where there are too many for that."""
    colours = [BLUE, ORANGE, GREEN, PURPLE, SKY]
    return colours[:families] if families <= len(colours) else [GREY] * families


def importance_curves(
    ax: Axes, curves: Sequence[np.ndarray], colours: Sequence[str]
) -> tuple[Line2D, Line2D]:  # fmt: skip
    """The units of every layer from the least to the most important; returns the two lines of a cut, yet to be placed.

    `curves` are importances divided by their mean, a line each; at 4 times the mean the axis ends.
    """
    for values, colour in zip(curves, colours, strict=True):
        share = (np.arange(len(values)) + 0.5) / len(values)
        ax.plot(share, np.sort(values), "-", color=colour, lw=1.2 if colour == GREY else 2)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, min(max(float(values.max()) for values in curves), 4) * 1.05)
    ax.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    ax.set_xlabel("units, least important first")
    tidy(ax)
    return ax.axvline(0, color=RED, lw=1.8, ls="--"), ax.axhline(0, color=RED, lw=1.8, ls="--")


FEW_BITS = {
    "grid": (RED, "o", "-"),
    "codebook": (ORANGE, "^", "-"),
    "fine-tuned, then codebook": (GREY, "x", "--"),
    "codebook, then fine-tuned": (BLUE, "s", "-"),
}


def sharing_curves(ax: Axes, records: pd.DataFrame, dense_bytes: int, dense_accuracy: float) -> None:
    """Accuracy against file size, one line a method: mean over the seeds, labelled with the bits where there is room.

    `records` has the columns method, bits, accuracy, size_bytes (a row a seed) and may be empty.
    """
    _check.table("records", records, "method", "bits", "accuracy", "size_bytes")
    means = records.groupby(["method", "bits"], sort=False)[["size_bytes", "accuracy"]].mean().reset_index()
    for method, rows in means.groupby("method", sort=False):
        rows = rows.sort_values("bits")
        colour, marker, line = FEW_BITS[str(method)]
        x, y = rows["size_bytes"].to_numpy(), rows["accuracy"].to_numpy()
        ax.plot(x, y, line, marker=marker, ms=5, color=colour, label=method, lw=1.4)
    if len(records):
        ax.legend(loc="lower right", **SNUG)
    smallest = records["size_bytes"].min() if len(records) else dense_bytes / 40
    size_axis(ax, smallest * 0.7, dense_bytes * 1.5, most=ticks_in(ax))
    ax.plot([dense_bytes], [dense_accuracy], "D", ms=8, color=RED, label="dense fp32")
    ax.annotate("fp32", (dense_bytes, dense_accuracy), (0, -14), textcoords="offset points", ha="center", va="center")
    accuracy_axis(ax, 0.2, dense_accuracy + 0.6 * (1 - dense_accuracy))  # room for the legend
    tidy(ax)
    label_bits(ax, means["bits"], means["size_bytes"], means["accuracy"])


STUDENTS = ((ORANGE, "o", "-"), (BLUE, "s", "-"))  # alone, distilled
STUDENT_SHARES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995)


def student_curves(
    ax: Axes, records: pd.DataFrame, methods: Sequence[str], widths: Sequence[int], teacher_accuracy: float
) -> pd.DataFrame:
    """Accuracy of students against their width, by two methods of `records`: alone and distilled; the means, drawn.

    The axes have room for all of `records`, so that other methods are compared by eye.
    """
    drawn = []
    for method, look, label in zip(methods, STUDENTS, ("alone", "distilled"), strict=True):
        by = records[records["method"] == method].groupby("width")["accuracy"]
        seed_band(ax, by.mean().index.to_numpy(), by, look, label, alpha=0.25, ms=7, lw=2)
        drawn.append(by.agg(["mean", "min", "max"]).assign(method=method))
    ax.set_xscale("log")
    ax.set_xlim(0.8 * min(widths), 1.25 * max(widths))
    ax.xaxis.set_major_locator(FixedLocator(widths))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:.0f}"))
    ax.set_xlabel("student width: hidden units (log scale)")
    _student_axis(ax, 0.98 * records["accuracy"].min(), teacher_accuracy)
    return pd.concat(drawn)


def _student_axis(ax: Axes, lowest: float, teacher_accuracy: float) -> None:
    ax.axhline(teacher_accuracy, color=BLACK, lw=1.2, ls=":", label="teacher")
    accuracy_axis(ax, lowest, teacher_accuracy + 0.1 * (1 - teacher_accuracy), STUDENT_SHARES)
    tidy(ax)
    legend_above(ax)


def learning_curves(ax: Axes, ghosts: int, teacher_accuracy: float) -> tuple[Line2D, Line2D, list[Line2D]]:
    """Empty curves of a student alone, of a distilled one, and of `ghosts` earlier ones, over the training done."""
    faint = [ax.plot([], [], "-", lw=1.2, alpha=0.4)[0] for _ in range(ghosts)]
    alone, distilled = (
        ax.plot([], [], line, marker=marker, ms=5, lw=2, color=colour, label=label)[0]
        for (colour, marker, line), label in zip(STUDENTS, ("alone", "distilled"), strict=True)
    )
    progress_axis(ax)
    _student_axis(ax, 0.65, teacher_accuracy)
    return alone, distilled, faint
