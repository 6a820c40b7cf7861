"""Pictures: data in, artists on the given Axes out. The only place that draws axes; nothing here knows of widgets.

Colours are Okabe and Ito's, which colour-blind readers can tell apart, and every series has a marker of its own too.
"""

import io
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from labkit.frontier import frontier

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
SHARES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)


def kilobytes(size: float) -> str:
    """A size for a tick or a label: 812 B, 23.4 KB, 1.07 MB (1 KB is 1,000 bytes)."""
    if size < 999.5:
        return f"{size:.0f} B"
    power, unit = next((p, unit) for p, unit in ((3, "KB"), (6, "MB"), (9, "GB")) if size < 999.5 * 10**p or p == 9)
    return f"{size / 10**power:.3g} {unit}"


def logit(accuracy: np.ndarray | float) -> np.ndarray:
    """log(p / (1 - p)): spreads the interesting end, so that 98 and 99 % are as far apart as 90 and 95 %.

    Below 2 and above 99.95 % it stays where it is, for 0 and 1 have no place on this scale.
    """
    p = np.clip(accuracy, 0.02, 0.9995)
    return np.log(p / (1 - p))


def tidy(ax: Axes) -> None:
    """House style: no box, a light grid behind the data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, color="#e6e6e6", linewidth=0.8)
    ax.set_axisbelow(True)


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


def accuracy_axis(ax: Axes, lowest: float, highest: float) -> None:
    """An axis of accuracies, spread by the logit; plot `logit(accuracy)` against it."""
    bottom, top = logit(np.array([lowest, highest]))
    ax.set_ylim(bottom, top + 0.1)  # so that a point at the top is not on the edge
    ax.yaxis.set_major_locator(FixedLocator([float(logit(p)) for p in SHARES]))
    labels = {round(float(logit(p)), 6): f"{100 * p:g} %" for p in SHARES}
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, position: labels.get(round(value, 6), "")))
    ax.set_ylabel("validation accuracy")


def make_room(ax: Axes, size: float, accuracy: float) -> bool:
    """Widen a `size_axis` and an `accuracy_axis`, if they need it, until the point lies inside; True if they did."""
    (left, right), (bottom, top), y = ax.get_xlim(), ax.get_ylim(), float(logit(accuracy))
    if left < size < right and bottom < y < top:
        return False
    if not left < size < right:
        ax.set_xlim(min(left, 0.7 * size), max(right, 1.5 * size))
    ax.set_ylim(min(bottom, y - 0.3), max(top, y + 0.1))
    return True


def plane(ax: Axes, records: pd.DataFrame, dense_bytes: int, dense_accuracy: float) -> None:
    """The accuracy-against-size plane: every measured setting, by bits; the frontier; the dense network.

    `records` has the columns size_bytes, accuracy and bits (one row a setting) and may be empty.
    """
    for bits, rows in records.groupby("bits"):
        name = "float" if bits == 32 else f"{bits} bit"
        colour = BITS_COLOURS.get(cast(int, bits), GREY)
        ax.plot(
            rows["size_bytes"],
            logit(rows["accuracy"].to_numpy()),
            "o",
            ms=5,
            color=colour,
            label=name,
            mec="white",
            mew=0.4,
        )
    if len(records):
        best = frontier(records)
        ax.plot(
            best["size_bytes"], logit(best["accuracy"].to_numpy()), "-", color=BLACK, lw=1.6, label="frontier", zorder=3
        )
    ax.plot([dense_bytes], logit(np.array([dense_accuracy])), "D", ms=8, color=RED, label="dense fp32", zorder=4)
    smallest = min([dense_bytes / 60, *records["size_bytes"]]) * 0.6
    size_axis(ax, smallest, dense_bytes * 1.7)
    accuracy_axis(ax, max(0.05, min([0.1, *records["accuracy"]]) * 0.9), dense_accuracy + 0.6 * (1 - dense_accuracy))
    tidy(ax)
    ax.legend(
        loc="lower right", fontsize=8, ncol=2, frameon=True, framealpha=0.9, title="one-shot sweep", title_fontsize=8
    )


def published_plane(ax: Axes, published: pd.DataFrame, dense_bytes: int, dense_accuracy: float) -> None:
    """The plane from a kilobyte up, with the figures of papers, numbered by their rows, and the dense network.

    `published` has the columns method, year, size_bytes and error_pct (on test); rows of method "labkit…" are our own.
    """
    ax.plot([dense_bytes], logit(np.array([dense_accuracy])), "D", ms=8, color=RED, label="dense fp32", zorder=4)
    ours = published["method"].str.startswith("labkit")
    papers, labkit = published[~ours], published[ours]
    for rows, style, label in ((papers, "s", "papers"), (labkit, "P", "files of this lab")):
        colour, heights = (BLUE if style == "s" else GREEN), logit(1 - rows["error_pct"].to_numpy() / 100)
        ax.plot(rows["size_bytes"], heights, style, ms=8, color=colour, label=f"{label} (test error)", zorder=4)
    for row in papers.itertuples():
        place = (cast(float, row.size_bytes), float(logit(1 - cast(float, row.error_pct) / 100)))
        ax.annotate(str(row.Index), place, (5, 4), textcoords="offset points", fontsize=9)
    names = [f"{row.Index}  {str(row.method).split(' (')[0]}, {row.year}" for row in papers.itertuples()]
    ax.text(0.985, 0.985, "\n".join(names), transform=ax.transAxes, fontsize=8, va="top", ha="right")
    size_axis(ax, 800, dense_bytes * 1.7, most=8)
    accuracy_axis(ax, 0.85, 0.9945)
    tidy(ax)
    ax.legend(loc="lower right", fontsize=8, framealpha=0.9)


def waterfall(ax: Axes, components: Sequence[str]) -> tuple[list[Rectangle], list[Text]]:
    """Empty rows for a ledger, one a component and one for the whole file; returns the bars and their texts."""
    rows = [*components, "file"]
    colours = [BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW, GREY]
    bars = ax.barh(range(len(rows)), [0] * len(rows), color=[*colours[: len(components)], BLACK], height=0.66)
    texts = [ax.text(0, i, "", va="center", fontsize=9) for i in range(len(rows))]
    ax.set_yticks(range(len(rows)), rows, fontsize=9)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, 1.45)
    ax.set_xticks([])
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    return cast(list[Rectangle], list(bars)), texts


def fill_waterfall(
    bars: list[Rectangle], texts: list[Text], sizes: Mapping[str, int], components: Sequence[str]
) -> None:
    """Set the rows of `waterfall` to `sizes`, bytes by component, each bar starting where the one above it ends."""
    total, start = max(1, sum(sizes.values())), 0
    for bar, text, name in zip(bars, texts, [*components, "file"], strict=True):
        size = total if name == "file" else sizes.get(name, 0)
        begin = 0 if name == "file" else start
        bar.set_x(begin / total)
        bar.set_width(size / total)
        text.set_x((begin + size) / total + 0.02)
        text.set_text(f"{size:,} B")
        text.set_visible(size > 0)
        start = begin + size


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
    for method, rows in records.groupby("method", sort=False):
        colour, marker, line = METHODS.get(str(method), (PURPLE, "d", "-"))
        by = rows.groupby("sparsity")["accuracy"]
        x = -np.log10(1 - by.mean().index.to_numpy())
        ax.plot(x, logit(by.mean().to_numpy()), line, marker=marker, ms=5, color=colour, label=method, lw=1.5)
        ax.fill_between(x, logit(by.min().to_numpy()), logit(by.max().to_numpy()), color=colour, alpha=0.2, lw=0)
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
    for method, rows in records.groupby("method", sort=False):
        colour, marker, line = LESSONS.get(str(method), (PURPLE, "d", "-"))
        by = rows.groupby("width")["accuracy"]
        x = by.mean().index.to_numpy()
        ax.plot(x, logit(by.mean().to_numpy()), line, marker=marker, ms=5, color=colour, label=method, lw=1.5)
        ax.fill_between(x, logit(by.min().to_numpy()), logit(by.max().to_numpy()), color=colour, alpha=0.2, lw=0)
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
    names = {"random": "one-shot, random", "random, fine-tuned": "fine-tuned, random"}
    names = {criterion: "one-shot", f"{criterion}, fine-tuned": "fine-tuned"} | names
    for method, rows in records.groupby("method", sort=False):
        name = names.get(str(method), str(method))
        if name not in UNIT_METHODS:  # another criterion
            continue
        colour, marker, line = UNIT_METHODS[name]
        x, by = rows.groupby("sparsity")["macs"].mean().to_numpy(), rows.groupby("sparsity")["accuracy"]
        ax.plot(x, logit(by.mean().to_numpy()), line, marker=marker, ms=5, color=colour, label=name, lw=1.5)
        ax.fill_between(x, logit(by.min().to_numpy()), logit(by.max().to_numpy()), color=colour, alpha=0.15, lw=0)
    ax.plot([dense_macs], logit(np.array([dense_accuracy])), "D", ms=8, color=RED, label="dense", zorder=4)
    smallest = min([dense_macs / 20, *(records["macs"] if len(records) else [])]) * 0.8
    size_axis(ax, smallest, dense_macs * 3, most=7)  # wide enough for the legend
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, position: count(value)))
    ax.set_xlabel("multiply-adds for one image (log scale)")
    accuracy_axis(ax, 0.08, dense_accuracy + 0.6 * (1 - dense_accuracy))
    tidy(ax)
    ax.legend(loc="lower right", fontsize=8, frameon=True, framealpha=0.9)


def count(number: float) -> str:
    """A number for a tick or a label: 812, 23.4 k, 1.07 M."""
    if number < 999.5:
        return f"{number:.0f}"
    power, unit = (3, "k") if number < 999_500 else (6, "M")
    return f"{number / 10**power:.3g} {unit}"


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


def filmstrip(images: np.ndarray, places: int) -> np.ndarray:
    """Up to `places` pictures (n, h, w, 3) in [0, 1] side by side on white, a gap of 2 pixels between them."""
    height, width = images.shape[1:3]
    strip = np.ones((height, places * (width + 2), 3), np.float32)
    for i, image in enumerate(images[:places]):
        strip[:, i * (width + 2) : i * (width + 2) + width] = image
    return strip


class Picture(Figure):
    """A figure outside pyplot that shows itself at the end of a cell, with `alt` for those who do not see it."""

    alt = "figure"

    def _repr_mimebundle_(self, **kwargs: object) -> tuple[dict, dict]:
        buffer = io.BytesIO()
        FigureCanvasAgg(self).print_png(buffer)
        return {"image/png": buffer.getvalue(), "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def new_figure(alt: str, width: float = 8, height: float = 4) -> tuple[Picture, Axes]:
    """A picture with one tidy Axes, and what it shows in words, for a notebook cell that ends with it."""
    figure = Picture(figsize=(width, height), layout="constrained", dpi=100)
    figure.alt = alt
    ax = figure.add_subplot()
    tidy(ax)
    return figure, ax
