"""Panel of notebook 02: the rounding function on real weights, the error of each layer, accuracy and bytes by bits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labkit import drawing
from labkit.compress._weights import relative_error, weights
from labkit.compress.quantize import choose_grid, fake_quantize, quantize
from labkit.data import Data
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.compression import Compressed, CompressionView
from labkit.live.controls import bits, choice, layer_menu, steps
from labkit.live.network import BESIDE, Star, open_panel
from labkit.live.panel import Panel
from labkit.live.training import training_set
from labkit.live.view import Card
from labkit.topics.quantization import plots

CALIBRATION = 256  # training images that set the range of the activations
BINS = 121
LARGEST = 1.1  # the largest error that a bar can show


@dataclass(frozen=True)
class Settings:
    """What the controls set; `layer` is the layer shown."""

    bits: int = bits(value=4, floating=False, note="each weight takes one of 2^bits levels", word="{}-bit weights")
    symmetric: bool = choice(
        "grid", [("symmetric", True), ("affine (zero-point)", False)], True,
        note="symmetric around 0, or affine: from the smallest to the largest weight", word="{} grid",
    )  # fmt: skip
    granularity: str = choice(
        "one scale per", [("layer (tensor)", "tensor"), ("output channel", "channel")], "tensor",
        note="one grid for a whole layer, or one for each of its output channels",
    )  # fmt: skip
    percentile: float = steps(
        "clip range at", [(f"{p:g} %", p) for p in (90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 100.0)], 100.0,
        note="the grid ends at this percentile; larger values are clipped to its ends",
    )  # fmt: skip
    activation_bits: int = steps(
        "activation bits", [(str(b), b) for b in range(2, 9)] + [("32 (float)", 32)], 32,
        note="the inputs of each layer are rounded, too; 32 leaves them as they are",
    )  # fmt: skip
    layer: str = layer_menu(everything=False, note="the layer that the left plot shows", word="shown: {}")

    @property
    def grid(self) -> dict[str, Any]:
        """The arguments that `quantize` and `choose_grid` share."""
        return dict(symmetric=self.symmetric, granularity=self.granularity, percentile=self.percentile)


@dataclass(frozen=True)
class Facts:
    """The effect of rounding: the error of each layer; the shown layer's values and rounding function."""

    error: dict[str, float]  # root mean square error over the weights' standard deviation
    values: Tensor
    staircase: tuple[Tensor, Tensor]


class Quantization(CompressionView):
    """The view: staircase over the histogram, error by layer, accuracy against size."""

    name, settings_type, size = "quantization", Settings, BESIDE
    plain = dict(symmetric=True, granularity="tensor", percentile=100.0, activation_bits=32)
    scenes = {
        "4 bits": plain | dict(bits=4),
        "2 bits": plain | dict(bits=2),
        "2 bits, the range clipped": plain | dict(bits=2, percentile=99.0),
        "weights and activations of 4 bits": plain | dict(bits=4, activation_bits=4),
    }

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        add = self.live.figure.add_axes
        self.counts, self.stairs = (add((0.085, 0.135, 0.235, 0.79), label=name) for name in ("counts", "stairs"))
        self.layers, self.curves = add((0.437, 0.135, 0.1, 0.79)), add((0.625, 0.135, 0.365, 0.79))

    def idle(self, settings: Mapping[str, Any]) -> set[str]:
        """The clipping range, where the scale is the mean magnitude: symmetric, 1 bit."""
        unclipped = settings["symmetric"] and settings["bits"] == 1 and settings["activation_bits"] == 32
        return {"percentile"} if unclipped else set()

    def compress(self, dense: Baseline, settings: Settings) -> nn.Module:
        """Round the weights, and the inputs of the layers."""
        inputs: dict[str, Any] = {}
        if settings.activation_bits < 32:
            inputs = dict(activation_bits=settings.activation_bits, calibration=training_set(dense.data, CALIBRATION))
        return quantize(dense.model, settings.bits, **settings.grid, **inputs)

    def look(self, dense: Baseline, small: nn.Module, settings: Settings) -> Facts:
        """Errors, and the shown layer."""
        before, after, layer = weights(dense.model), weights(small), settings.layer
        error = {name: relative_error(after[name], w) for name, w in before.items()}
        return Facts(error, after[layer], staircase(before[layer], settings.bits, **settings.grid))

    def background(self, point: Compressed) -> None:
        """Histogram before rounding and the axes of the staircase, one bar per layer, the measured sweep."""
        self._draw_staircase(point)
        self.bars = drawing.layer_bars(
            self.layers, list(point.facts.error), "rms error / std", "error by layer", LARGEST
        )
        dense = point.dense
        records = dense.sweep("quantization")
        plots.scheme_curves(self.curves, records, dense.size_bytes, dense.score.accuracy)
        self.curves.set_title("measured, with bits; ★ now" if len(records) else "★ now", fontsize=11, loc="left")
        rows = records.to_dict("records")
        self.live.offer(
            self.curves,
            [(row["size_bytes"], row["accuracy"]) for row in rows],
            [caption(row) for row in rows],
            [self.plain | {name: row[name] for name in ("bits", "symmetric", "granularity")} for row in rows],
        )
        self.star = Star(self.live, self.curves)
        self.live.move([self.after, self.line, *self.bars, *self.star.artists])

    def _draw_staircase(self, point: Compressed) -> None:
        weight = weights(point.dense.model)[point.settings.layer]
        self.reach = float(weight.abs().max()) * 1.05 or 1.0
        edges = np.linspace(-self.reach, self.reach, BINS + 1)
        counts = torch.histc(weight, BINS, -self.reach, self.reach).numpy() + 0.5
        look: dict[str, Any] = dict(fill=True, baseline=0.5)
        self.counts.stairs(counts, edges, color="#d0d0d0", label="before", **look)
        self.after = self.counts.stairs(counts, edges, color=drawing.SKY, alpha=0.75, label="after", **look)
        self.counts.set_yscale("log")
        self.counts.set_ylim(0.5, 0.5 * (2.0 * weight.numel()) ** 2)  # all weights in one bin reach half way up
        self.counts.set_xlim(-self.reach, self.reach)
        self.counts.set_axis_off()
        ax = self.stairs
        ax.patch.set_visible(False)
        ax.plot(
            [-self.reach, self.reach], [-self.reach, self.reach], ":", color=drawing.BLACK, lw=1.2, label="unrounded"
        )
        (self.line,) = ax.plot([], [], "-", color=drawing.RED, lw=2, label="rounded")
        ax.set_xlim(-self.reach, self.reach)
        ax.set_ylim(-1.35 * self.reach, 1.35 * self.reach)  # a symmetric grid of 2 bits goes down to -4/3 of the range
        ax.set_xlabel("weight before")
        ax.set_ylabel("weight after", labelpad=0)
        shown = drawing.short_names([point.settings.layer])[0]
        ax.set_title(f"{shown} (log count)", fontsize=11, loc="left")
        drawing.tidy(ax)
        handles = [*ax.get_legend_handles_labels()[0], *self.counts.get_legend_handles_labels()[0]]
        ax.legend(handles=handles, loc="upper left", fontsize=10, frameon=False, handlelength=1.2, borderpad=0)

    def update(self, point: Compressed) -> None:
        """Move histogram, staircase, bars and point."""
        facts: Facts = point.facts
        self.after.set_data(torch.histc(facts.values, BINS, -self.reach, self.reach).numpy() + 0.5)
        self.line.set_data(*(x.numpy() for x in facts.staircase))  # matplotlib reads a tensor element by element
        reach = 1.05 * float(facts.staircase[1].abs().max())
        if reach > self.stairs.get_ylim()[1]:  # affine, 1 bit: the levels are 0 and the whole range of the weights
            self.stairs.set_ylim(-reach, reach)
            self.live.refresh()
        for bar, value in zip(self.bars, facts.error.values(), strict=True):
            bar.set_width(min(value, LARGEST))
        self.star.place(point.size_bytes, point.score)

    def cards(self, point: Compressed) -> list[Card]:
        """Accuracy, file, worst layer, images lost and won."""
        error: dict[str, float] = point.facts.error
        worst = max(error, key=lambda name: error[name])
        return [
            words.accuracy_card(point.score, point.dense.score),
            words.file_card(point.size_bytes, point.dense.size_bytes),
            ("worst layer", f"{error[worst]:.1%}", f"rms error over std, {worst.removesuffix('.weight')}"),
            words.flips_card(point.dense.score, point.score, point.dense.data.validation.y),
        ]

    def code(self, settings: Mapping[str, Any]) -> str:
        """Round, score, write."""
        how = f'symmetric={settings["symmetric"]}, granularity="{settings["granularity"]}"'
        how += f", percentile={settings['percentile']}" if settings["percentile"] < 100 else ""
        if settings["activation_bits"] < 32:
            how += (
                f", activation_bits={settings['activation_bits']}, calibration=lk.data.take(data.train, {CALIBRATION})"
            )
        return "\n".join(
            [*self.loaded(settings), f"small = lk.quantize(model, {settings['bits']}, {how})", self.scored]
        )


def staircase(weight: Tensor, bits: int, *, granularity: str, **how: Any) -> tuple[Tensor, Tensor]:
    """The rounding function over the range of a weight; with one grid per channel, that of the first channel."""
    part = weight[:1] if granularity == "channel" else weight
    grid = choose_grid(part, bits, granularity="tensor", **how)
    reach = float(weight.abs().max()) * 1.05
    x = torch.linspace(-reach, reach, 400)  # one or two per pixel
    return x, fake_quantize(x, grid)


def caption(row: Mapping[Any, Any]) -> str:
    """A measured setting in words."""
    scheme = f"{'symmetric' if row['symmetric'] else 'affine'}, per {row['granularity']}"
    size = drawing.kilobytes(row["size_bytes"])
    return f"{scheme}, {row['bits']} bits: {row['accuracy']:.2%}, {size}\nmeasured beforehand"


def quantization(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 02: the shipped checkpoints, or your own trained `model` with its `data`."""
    return open_panel(Quantization, model, data, preset)
