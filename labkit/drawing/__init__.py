"""Axes, colours, bars and planes that several topics use. A function takes data and draws on the given Axes.

The colours are Okabe and Ito's, which colour-blind readers can tell apart; every series also has its own marker.
"""

from labkit.drawing._base import (
    BITS_COLOURS,
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    YELLOW,
    accuracy_axis,
    count,
    filmstrip,
    kilobytes,
    make_room,
    moved,
    new_figure,
    size_axis,
    tidy,
)
from labkit.drawing.axes import effects, lr_axis, lr_text
from labkit.drawing.bars import bin_heights, layer_bars, short_names, two_histograms
from labkit.drawing.planes import bits_curves, fill_waterfall, plane, waterfall
from labkit.drawing.training import key_rows, legend_above, log_counts, loss_axis, run_accuracy_axis, set_points, within

__all__ = [
    "BITS_COLOURS",
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "PURPLE",
    "RED",
    "SKY",
    "YELLOW",
    "accuracy_axis",
    "bin_heights",
    "bits_curves",
    "count",
    "effects",
    "fill_waterfall",
    "filmstrip",
    "key_rows",
    "kilobytes",
    "layer_bars",
    "legend_above",
    "log_counts",
    "loss_axis",
    "lr_axis",
    "lr_text",
    "make_room",
    "moved",
    "new_figure",
    "plane",
    "run_accuracy_axis",
    "set_points",
    "short_names",
    "size_axis",
    "tidy",
    "two_histograms",
    "waterfall",
    "within",
]
