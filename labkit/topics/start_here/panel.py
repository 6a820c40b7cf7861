"""Panel of notebook 00: sparsity and bits move a trained network over the accuracy-against-size plane."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from labkit import drawing
from labkit.compress.compose import one_shot
from labkit.data import Data
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.compression import Compressed
from labkit.live.controls import bits, share
from labkit.live.network import open_panel
from labkit.live.panel import Panel
from labkit.live.plane import PlaneView
from labkit.live.view import Card, Summary

FLIPS = 6


@dataclass(frozen=True)
class Settings:
    """What the controls set."""

    sparsity: float = share(
        "sparsity", 0.8, note="fraction of the weights set to 0, smallest first", word="{} of the weights pruned"
    )
    bits: int = bits(value=5, note="bits per weight; 32 leaves weights as they are", word="weights rounded to {} bits")


class Overview(PlaneView):
    """The view: plane, ledger and flipped images."""

    name, settings_type = "overview", Settings
    plane_box, ledger_box = (0.075, 0.14, 0.5, 0.765), (0.72, 0.5, 0.27, 0.42)
    scenes = {
        "as it was trained": dict(sparsity=0.0, bits=32),
        "25 times smaller": dict(sparsity=0.8, bits=5),
        "pruned too far": dict(sparsity=0.97, bits=5),
        "rounded too far": dict(sparsity=0.0, bits=1),
    }

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        self.strip_axes = self.live.figure.add_axes((0.605, 0.16, 0.385, 0.16))

    def compress(self, dense: Baseline, settings: Settings) -> nn.Module:
        """Prune the smallest weights, round the others."""
        return one_shot(dense.model, settings.sparsity, settings.bits)

    def background(self, point: Compressed) -> None:
        """Plane and ledger, and the axes of the flipped images."""
        super().background(point)
        ax, data = self.strip_axes, point.dense.data
        ax.set_axis_off()
        blank = np.ones((28, FLIPS * 30, 3))
        self.strip = ax.imshow(blank, interpolation="nearest", vmin=0, vmax=1, aspect="auto")
        self.strip.set_visible(words.has_pictures(data))
        grey = words.grey_of(data)
        about = f" ({grey})" if grey else ": true class → predicted"
        ax.set_title(f"correct before, wrong now{about}", fontsize=11, loc="left", pad=4)
        places = [(i + 0.47) / FLIPS for i in range(FLIPS)]
        self.names = [ax.text(x, -0.06, "", fontsize=10, ha="center", va="top", transform=ax.transAxes) for x in places]
        self.live.move([self.strip, *self.names])

    def still(self, dense: Baseline) -> None:
        """The measured settings and their frontier."""
        records = dense.sweep("frontier")
        drawing.plane(self.plane, records, dense.size_bytes, dense.score.accuracy)
        self.offer(self.plane, records, caption, lambda row: {"sparsity": row["sparsity"], "bits": row["bits"]})

    def update(self, point: Compressed) -> None:
        """Move the point, the bars and the images."""
        super().update(point)
        data = point.dense.data
        lost, _ = words.flips_of(point.dense.score, point.score, data.validation.y)
        self.strip.set_data(drawing.filmstrip(words.pictures(data, lost[:FLIPS]), FLIPS))
        for place, text in enumerate(self.names):
            text.set_text(flip_name(point, lost[place]) if place < len(lost) else "")

    def cards(self, point: Compressed) -> list[Card]:
        """Accuracy, file, weights left, images lost and won."""
        return [
            *super().cards(point),
            words.count_card(*point.left),
            words.flips_card(point.dense.score, point.score, point.dense.data.validation.y),
        ]

    def summarize(self, point: Compressed) -> Summary:
        """The summary; its alt text also tells how grey pictures were made."""
        summary, grey = super().summarize(point), words.grey_of(point.dense.data)
        return summary._replace(alt=f"{summary.alt}; pictures in {grey}") if grey else summary

    def made(self, settings: Mapping[str, Any]) -> list[str]:
        """Prune, round."""
        rounded = [f"small = lk.quantize(small, {settings['bits']})"] if settings["bits"] < 32 else []
        return [f"small = lk.prune(model, {settings['sparsity']})", *rounded]


def caption(row: Mapping[Any, Any]) -> str:
    """A measured setting in words."""
    bits = "not rounded" if row["bits"] == 32 else f"{row['bits']} bits"
    return words.measured(f"sparsity {row['sparsity']:.0%}, {bits}", row, "measured beforehand, one-shot")


def flip_name(point: Compressed, index: int) -> str:
    """The true class and the predicted one; for text, with the characters before them in the line above."""
    data = point.dense.data
    if data.of_text:
        known = data.validation.x[index, -8:], data.validation.y[index], point.score.predicted[index]
        before, after, predicted = (words.letters(data, numbers) for numbers in known)
        return f"{before}\n{after} → {predicted}"
    classes, truth = data.classes, int(data.validation.y[index])
    predicted = classes[int(point.score.predicted[index])]
    between = " → " if len(classes[truth] + predicted) < 6 else "\n→ "
    return classes[truth] + between + predicted


def overview(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 00: the shipped checkpoints, or your own trained `model` with its `data`."""
    return open_panel(Overview, model, data, preset)
