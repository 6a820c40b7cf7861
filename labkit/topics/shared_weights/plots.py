"""The pictures of notebook 02b: accuracy against file size, one line per method; clusters of a layer's weights."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch
from torch import Tensor

from labkit.drawing._base import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, tidy
from labkit.drawing.planes import bits_curves

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY)  # of the clusters, repeated

FEW_BITS = {
    "grid": (RED, "o", "-"),
    "codebook": (ORANGE, "^", "-"),
    "fine-tuned, then codebook": (GREY, "x", "--"),
    "codebook, then fine-tuned": (BLUE, "s", "-"),
}


def sharing_curves(ax: Axes, records: pd.DataFrame, dense_bytes: int, dense_accuracy: float) -> None:
    """`bits_curves` of grids and codebooks; `records` as there."""
    bits_curves(ax, records, FEW_BITS, dense_bytes, dense_accuracy, lowest=0.2, widest=1.5, lw=1.4)


def cluster_axes(ax: Axes, edges: np.ndarray, top: float, name: str) -> tuple[list[StepPatch], Line2D, Line2D]:
    """The axes of a layer's clusters: empty bins of each colour, empty lines for centroids and the levels of a grid.

    `top` is the height of the highest bin, the square root of its count; the strokes of the levels are below 0.
    """
    bins = [ax.stairs(np.zeros(len(edges) - 1), edges, color=colour, fill=True, lw=0) for colour in COLOURS]
    (centroids,) = ax.plot([], [], "-", color=BLACK, label="centroid")
    (levels,) = ax.plot([], [], "-", color=RED, label="grid level")
    ax.set_xlim(float(edges[0]), float(edges[-1]))
    ax.set_ylim(-0.16 * top, 1.15 * top)
    ax.set_yticks([])
    ax.set_xlabel("weight before (colour: cluster)")
    ax.set_title(f"{name} (√ count)", fontsize=11, loc="left")
    tidy(ax)
    ax.spines["left"].set_visible(False)
    ax.legend(loc="upper center", ncol=2, fontsize=10, frameon=False, handlelength=1.2, borderpad=0)
    return bins, centroids, levels


def strokes(places: Tensor, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertical strokes, as one line."""
    x = np.repeat(places.double().numpy(), 3)
    return x, np.tile([low, high, np.nan], len(places))
