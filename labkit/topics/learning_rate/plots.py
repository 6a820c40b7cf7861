"""The axes of learning rates: schedules, range tests, and the accuracy at each peak rate."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from labkit import _check
from labkit.drawing import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, accuracy_axis, tidy
from labkit.drawing._base import seed_band, seed_bands
from labkit.drawing.axes import lr_axis, lr_text
from labkit.drawing.training import legend_above, progress_axis, set_points, within

SCHEDULE_LOOKS = {
    "constant": (BLACK, "x", "--"),
    "step": (ORANGE, "s", "-"),
    "exponential": (GREEN, "^", "-"),
    "cosine": (BLUE, "o", "-"),
    "warm-up, cosine": (SKY, "D", "-"),
    "one-cycle": (PURPLE, "v", "-"),
    "plateau": (RED, "P", "-."),
}
SMALLER_LOOKS = {
    "accuracy": ("dense", (BLACK, "o", "-")),
    "accuracy_at_0.8": ("80 % zeros", (SKY, "^", "--")),
    "accuracy_at_0.9": ("90 % zeros", (BLUE, "s", "-")),
    "accuracy_4_bits": ("4 bits", (ORANGE, "v", "--")),
    "accuracy_3_bits": ("3 bits", (RED, "D", "-")),
}
READINGS = {"steepest": ORANGE, "tenth of minimum": GREEN}
HIGHEST = 4.0  # loss on the axes of a range test; higher ones are drawn at the edge


def schedule_axis(ax: Axes) -> None:
    """Multiples of the peak learning rate against the training done, in per cent."""
    progress_axis(ax)
    ax.set_ylim(-0.04, 1.25)
    ax.set_yticks([0, 0.5, 1])
    ax.set_ylabel("lr ÷ peak")
    tidy(ax)


def schedule_marks(ax: Axes) -> tuple[Line2D, Line2D, Text]:
    """An empty schedule on its axis, the point that moves along it, and a text above."""
    (line,) = ax.plot([], [], "-", lw=2, color=BLUE)
    (point,) = ax.plot([], [], "o", ms=11, color=ORANGE, mec="black", clip_on=False)
    return line, point, ax.text(0, 1.4, "", fontsize=11, ha="left", va="center")


def schedule_curves(ax: Axes, schedules: dict[str, Any], points: int = 501) -> None:
    """Schedules, functions of progress, on the same axes; `schedules` maps a name to a function."""
    progress = np.linspace(0, 1, points)
    for name, schedule in schedules.items():
        colour, _, line = SCHEDULE_LOOKS.get(name, (GREY, ".", ":"))
        ax.plot(100 * progress, [schedule(p) for p in progress], line, color=colour, lw=1.8, label=name)
    schedule_axis(ax)
    ax.legend(fontsize=8, loc="upper center", ncol=len(schedules), frameon=False)


def lr_range_axis(ax: Axes, lowest: float = 1e-5, highest: float = 10.0) -> tuple[Line2D, Line2D, list[Line2D]]:
    """The axes of a range test; returns empty lines: the raw losses, the smoothed ones, a marker for each reading."""
    lr_axis(ax, lowest, highest, "learning rate (log scale)")
    ax.set_ylim(0, HIGHEST)
    ax.set_ylabel("batch loss")
    (raw,) = ax.plot([], [], "-", color="#d0d0d0", lw=1)
    (smoothed,) = ax.plot([], [], "-", color=BLACK, lw=1.8, label="range test")
    readings = [
        ax.plot([], [], "o", ms=9, mec="black", color=colour, label=name)[0] for name, colour in READINGS.items()
    ]
    readings[1].set_label("min ÷ 10")
    tidy(ax)
    legend_above(ax)
    return raw, smoothed, readings


def fill_lr_range(
    lines: tuple[Line2D, Line2D, Sequence[Line2D]], test: pd.DataFrame | None, readings: dict[str, float]
) -> None:
    """Set the lines of `lr_range_axis` to a range test and its readings; None empties them."""
    raw, smoothed, dots = lines
    if test is None:
        for line in (raw, smoothed, *dots):
            set_points(line, [])
        return
    _check.table("test", test, "lr", "loss", "smoothed_loss", rows=1)
    lr, losses = test["lr"].to_numpy(), within(smoothed, test["smoothed_loss"])
    raw.set_data(lr, within(raw, test["loss"]))
    smoothed.set_data(lr, losses)
    for dot, name in zip(dots, READINGS, strict=True):
        set_points(dot, [(readings[name], np.interp(readings[name], lr, losses))])


def lr_curves(ax: Axes, records: pd.DataFrame, lowest: float = 0.08) -> None:
    """Accuracy against the peak learning rate, one line per schedule: the mean over the seeds, band from worst to best.

    `records` has the columns schedule, lr, accuracy (one row per seed), or none; accuracies below `lowest` are cut off.
    """
    _check.table("records", records, "schedule", "lr", "accuracy", rows=None)
    seed_bands(ax, records, "schedule", "lr", SCHEDULE_LOOKS, alpha=0.12)
    _rate_axes(ax, records, lowest)
    ax.legend(fontsize=8, loc="upper right", ncol=2, framealpha=0.9)


def lr_background(ax: Axes, records: pd.DataFrame) -> None:
    """The means of `lr_curves` as grey dots, to draw on; `records` may be empty."""
    _check.table("records", records, "schedule", "lr", "accuracy", rows=None)
    if len(records):
        mean = records.groupby(["schedule", "lr"])["accuracy"].mean()
        ax.plot(mean.index.get_level_values("lr"), mean.to_numpy(), "o", ms=4, color=GREY, alpha=0.6, label="measured")
    _rate_axes(ax, records, 0.08)


def rate_marks(ax: Axes, records: pd.DataFrame, lowest: float, highest: float) -> tuple[Line2D, Line2D, Line2D]:
    """A `lr_background` without its label; returns an empty line of a schedule, dots of earlier runs, a star."""
    lr_background(ax, records)
    lr_axis(ax, lowest, highest, "")
    accuracy_axis(ax, 0.08, 0.91, (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98))
    ax.set_ylabel("accuracy")
    ax.tick_params(labelbottom=False)
    (same,) = ax.plot([], [], "-", color=BLACK, lw=1.5, label="this schedule")
    (dots,) = ax.plot([], [], "o", ms=7, color=SKY, mec="black", label="earlier")
    (star,) = ax.plot([], [], "*", ms=18, color=ORANGE, mec="black", clip_on=False)
    legend_above(ax)
    return same, dots, star


def _rate_axes(ax: Axes, records: pd.DataFrame, lowest: float) -> None:
    rates = cast(Sequence[float], records["lr"] if len(records) else [1e-3, 1.0])
    lr_axis(ax, min(rates) / 1.6, max(rates) * 1.6)
    accuracy_axis(ax, lowest, 0.94)
    tidy(ax)


def lr_smaller_curves(ax: Axes, records: pd.DataFrame, lowest: float = 0.08) -> None:
    """Accuracy against the peak learning rate of one schedule, dense and compressed: mean and range over the seeds.

    `records` has the columns lr and those of SMALLER_LOOKS, one row per seed; "accuracy" is that of the dense network.
    Accuracies below `lowest` are cut off.
    """
    _check.table("records", records, "lr", *SMALLER_LOOKS)
    for column, (label, look) in SMALLER_LOOKS.items():
        by = records.groupby("lr")[column]
        seed_band(ax, by.mean().index.to_numpy(), by, look, label, alpha=0.15, lw=1.6)
    _rate_axes(ax, records, lowest)
    ax.legend(fontsize=8, loc="upper right", ncol=2, framealpha=0.9)


def lr_sequences(ax: Axes, sequences: dict[str, Sequence[float]], batches: int) -> None:
    """The learning rate of every batch against the epoch, `batches` per epoch; rates below 1e-7 are drawn there."""
    for (name, rates), (colour, line) in zip(sequences.items(), ((RED, "-"), (BLUE, "--")), strict=False):
        ax.plot(np.arange(len(rates)) / batches, np.maximum(rates, 1e-7), line, color=colour, lw=2, label=name)
    ax.set_yscale("log")
    ax.set_ylim(0.7e-7, 0.3)
    ax.yaxis.set_major_locator(FixedLocator([10.0**-i for i in range(1, 8)]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, position: lr_text(value)))
    ax.set_xlabel("epoch")
    ax.set_ylabel("learning rate (log scale)")
    tidy(ax)
    ax.legend(fontsize=8)
