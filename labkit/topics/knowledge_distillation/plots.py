"""The pictures of notebook 03: students and their teacher."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from labkit import _check
from labkit.drawing._base import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    accuracy_axis,
    seed_band,
    seed_bands,
    tidy,
)
from labkit.drawing.axes import listed_axis
from labkit.drawing.bars import layer_font
from labkit.drawing.training import legend_above, progress_axis


def class_bars(ax: Axes, names: Sequence[str]) -> tuple[list[Rectangle], Line2D, list[Text]]:
    """Empty bars, one per class, for a softened distribution; marks for that at T = 1; a text at each row's end."""
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
    return soft.patches, sharp, texts


def signed_bars(ax: Axes, places: int, reach: float) -> list[Rectangle]:
    """Empty horizontal bars around 0, for values in [-reach, reach]."""
    bars = ax.barh(range(places), [0] * places, color=GREEN, height=0.62)
    ax.axvline(0, color=BLACK, lw=0.8)
    _class_rows(ax, [""] * places)
    ax.set_xlim(-reach, reach)
    ax.set_xticks([0], ["0"])
    tidy(ax)
    return bars.patches


def _class_rows(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), names, fontsize=layer_font(len(names)))
    ax.set_ylim(len(names) - 0.4, -0.6)


LESSONS = {
    "few labels": (ORANGE, "o", "-"),
    "few labels, teacher": (SKY, "s", "-"),
    "teacher, no labels": (BLUE, "D", "-"),
    "all labels": (GREY, "x", "--"),
    "all labels, teacher": (GREEN, "^", "--"),
}


def width_curves(ax: Axes, records: pd.DataFrame, teacher_accuracy: float) -> None:
    """Accuracy of students against their width, one line per method: mean over the seeds, band from worst to best.

    `records` has the columns method, width, accuracy (one row per seed).
    """
    _check.table("records", records, "method", "width", "accuracy", rows=1)
    seed_bands(ax, records, "method", "width", LESSONS, alpha=0.2)
    ax.axhline(teacher_accuracy, color=BLACK, lw=1, ls=":", label="teacher")
    listed_axis(ax, records["width"].unique(), "hidden units of the student (log scale)")
    accuracy_axis(ax, 0.98 * records["accuracy"].min(), teacher_accuracy + 0.5 * (1 - teacher_accuracy))
    tidy(ax)
    ax.legend(loc="upper left", fontsize=8, ncol=2, frameon=True, framealpha=0.9)


STUDENTS = {"alone": (ORANGE, "o", "-"), "distilled": (BLUE, "s", "-")}
STUDENT_SHARES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995)


def student_curves(
    ax: Axes, records: pd.DataFrame, methods: Sequence[str], widths: Sequence[int], teacher_accuracy: float
) -> pd.DataFrame:
    """Accuracy of students against their width, by two methods of `records`: alone and distilled; returns the means.

    The axes fit all of `records`, so that other methods can be compared by eye.
    """
    drawn = []
    for method, (label, look) in zip(methods, STUDENTS.items(), strict=True):
        by = records[records["method"] == method].groupby("width")["accuracy"]
        seed_band(ax, by.mean().index.to_numpy(), by, look, label, alpha=0.25, ms=7, lw=2)
        drawn.append(by.agg(["mean", "min", "max"]).assign(method=method))
    listed_axis(ax, widths, "student width: hidden units (log scale)")
    ax.set_xlim(0.8 * min(widths), 1.25 * max(widths))
    _student_axis(ax, 0.98 * records["accuracy"].min(), teacher_accuracy)
    return pd.concat(drawn)


def _student_axis(ax: Axes, lowest: float, teacher_accuracy: float) -> None:
    ax.axhline(teacher_accuracy, color=BLACK, lw=1.2, ls=":", label="teacher")
    accuracy_axis(ax, lowest, teacher_accuracy + 0.1 * (1 - teacher_accuracy), STUDENT_SHARES)
    tidy(ax)
    legend_above(ax)


def learning_curves(ax: Axes, ghosts: int, teacher_accuracy: float) -> tuple[Line2D, Line2D, list[Line2D]]:
    """Empty curves of a student alone, a distilled one and `ghosts` earlier ones, against training progress."""
    faint = [ax.plot([], [], "-", lw=1.2, alpha=0.4)[0] for _ in range(ghosts)]
    alone, distilled = (
        ax.plot([], [], line, marker=marker, ms=5, lw=2, color=colour, label=label)[0]
        for label, (colour, marker, line) in STUDENTS.items()
    )
    progress_axis(ax)
    _student_axis(ax, 0.65, teacher_accuracy)
    return alone, distilled, faint
