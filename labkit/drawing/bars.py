"""Bars, one per layer, and histograms of weights."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle, StepPatch
from torch import Tensor

from labkit.drawing._base import BLUE, tidy


def layer_bars(ax: Axes, names: Sequence[str], label: str, title: str = "", most: float = 1) -> list[Rectangle]:
    """Empty horizontal bars, one per layer, for values in [0, most], in per cent."""
    bars = ax.barh(range(len(names)), [0] * len(names), color=BLUE, height=0.7)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_yticks(range(len(names)), short_names(names), fontsize=layer_font(len(names)))
    ax.set_xlim(0, most)
    wide = ax.bbox.width / ax.figure.dpi > 0.95  # inches
    ax.set_xticks([0, 0.5, 1], ["0", "50 %" if wide else "", "100 %"])
    ax.set_xlabel(label)
    ax.set_title(title, fontsize=11, loc="left")
    tidy(ax)
    return cast(list[Rectangle], list(bars))


def short_names(names: Sequence[str]) -> list[str]:
    """Layers by their numbers and last word, "0.proj" of "blocks.0.attention.proj.weight", if that tells them apart."""
    full = [name.removesuffix(".weight") for name in names]
    words = [name.split(".") for name in full]
    short = [".".join([*filter(str.isdigit, parts[:-1]), parts[-1]]) for parts in words]
    return short if len(set(short)) == len(names) else full


def layer_font(layers: int) -> float:
    """The font size for the names of so many layers, one below the other."""
    return 10 if layers < 15 else 9.3 if layers < 29 else 6.5


def bin_heights(values: Tensor, reach: float, bins: int) -> np.ndarray:
    """How many values are in each bin of [-reach, reach], plus 0.5: an axis of logarithms has no 0."""
    return torch.histc(values, bins, -reach, reach).numpy() + 0.5


def two_histograms(
    ax: Axes, values: Tensor, reach: float, bins: int, labels: tuple[str, str], **look: Any
) -> StepPatch:  # fmt: skip
    """A histogram in grey and one in front of it, which is returned: its heights are to be set by `bin_heights`."""
    heights, edges = bin_heights(values, reach, bins), np.linspace(-reach, reach, bins + 1)
    ax.set_yscale("log")
    ax.set_xlim(-reach, reach)
    ax.stairs(heights, edges, fill=True, baseline=0.5, color="#d0d0d0", label=labels[0])
    return ax.stairs(heights, edges, fill=True, baseline=0.5, label=labels[1], **look)
