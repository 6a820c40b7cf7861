"""The pictures of notebook 02: accuracy against file size, one line per scheme; the rounding of a layer's weights."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch
from torch import Tensor

from labkit import _check
from labkit.drawing._base import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, SKY, tidy
from labkit.drawing.bars import two_histograms
from labkit.drawing.planes import bits_curves

SCHEMES = {
    "symmetric, per tensor": (BLUE, "o", "-"),
    "symmetric, per channel": (GREEN, "s", "-"),
    "affine, per tensor": (ORANGE, "^", "-"),
    "affine, per channel": (PURPLE, "D", "-"),
}


def with_schemes(records: pd.DataFrame) -> pd.DataFrame:
    """A sweep with the names of its schemes as the column method."""
    return records.assign(
        method=np.where(records["symmetric"], "symmetric", "affine") + ", per " + records["granularity"]
    )


def scheme_curves(ax: Axes, records: pd.DataFrame, dense_bytes: int, dense_accuracy: float) -> None:
    """Accuracy against file size, one line per scheme, points labelled with their bits where there is room.

    `records` has the columns symmetric, granularity, bits, accuracy, size_bytes and may be empty.
    """
    _check.table("records", records, "symmetric", "granularity", "bits", "accuracy", "size_bytes")
    lowest = min([0.07, *(0.8 * records["accuracy"])])
    bits_curves(ax, with_schemes(records), SCHEMES, dense_bytes, dense_accuracy, lowest, widest=4, lw=1.2)


def staircase_axes(
    counts: Axes, stairs: Axes, weight: Tensor, reach: float, bins: int, name: str
) -> tuple[StepPatch, Line2D]:  # fmt: skip
    """A weight's histogram and, in front of it, the axes of a rounding function; returns what moves.

    These are the histogram after rounding and the function, an empty line. Both axes reach from -reach to reach.
    """
    look: dict[str, Any] = dict(color=SKY, alpha=0.75)
    after = two_histograms(counts, weight, reach, bins, ("before", "after"), **look)
    counts.set_ylim(0.5, 0.5 * (2.0 * weight.numel()) ** 2)  # all weights in one bin reach half way up
    counts.set_axis_off()
    stairs.patch.set_visible(False)
    stairs.plot([-reach, reach], [-reach, reach], ":", color=BLACK, lw=1.2, label="unrounded")
    (rounded,) = stairs.plot([], [], "-", color=RED, lw=2, label="rounded")
    stairs.set_xlim(-reach, reach)
    stairs.set_ylim(-1.35 * reach, 1.35 * reach)  # a symmetric grid of 2 bits goes down to -4/3 of the range
    stairs.set_xlabel("weight before")
    stairs.set_ylabel("weight after", labelpad=0)
    stairs.set_title(f"{name} (log count)", fontsize=11, loc="left")
    tidy(stairs)
    handles = [*stairs.get_legend_handles_labels()[0], *counts.get_legend_handles_labels()[0]]
    stairs.legend(handles=handles, loc="upper left", fontsize=10, frameon=False, handlelength=1.2, borderpad=0)
    return after, rounded
