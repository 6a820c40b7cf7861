"""Panel of notebook 02: the rounding function on real weights, the error of each layer, accuracy and bytes by bits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.artist import Artist
from torch import Tensor, nn

from labkit import drawing
from labkit.compress._weights import weights
from labkit.compress.grid import choose_grid, fake_quantize
from labkit.compress.quantize import quantize
from labkit.data import Data
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.compression import Compressed, relative_errors
from labkit.live.controls import bits, choice, layer_menu, steps
from labkit.live.network import open_panel
from labkit.live.panel import Panel
from labkit.live.plane import ERRORS_AND_SIZES, LayersView
from labkit.live.training import training_set
from labkit.live.view import Card
from labkit.topics.quantization import plots

CALIBRATION = 256  # training images that set the range of the activations
BINS = 121


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


class Quantization(LayersView):
    """The view: staircase over the histogram, error by layer, accuracy against size."""

    name, settings_type, largest = "quantization", Settings, 1.1
    boxes = ((0.085, 0.135, 0.235, 0.79), (0.085, 0.135, 0.235, 0.79), *ERRORS_AND_SIZES)
    plain = dict(symmetric=True, granularity="tensor", percentile=100.0, activation_bits=32)
    scenes = {
        "4 bits": plain | dict(bits=4),
        "2 bits": plain | dict(bits=2),
        "2 bits, the range clipped": plain | dict(bits=2, percentile=99.0),
        "weights and activations of 4 bits": plain | dict(bits=4, activation_bits=4),
    }

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
        return Facts(
            relative_errors(before, after), after[layer], staircase(before[layer], settings.bits, **settings.grid)
        )

    def draw_curves(self, dense: Baseline) -> None:
        """The measured sweep."""
        records = plots.with_schemes(dense.sweep("quantization"))
        plots.scheme_curves(self.curves, records, dense.size_bytes, dense.score.accuracy)
        self.curves.set_title("measured, with bits; ★ now" if len(records) else "★ now", fontsize=11, loc="left")
        self.offer(
            self.curves,
            records,
            lambda row: words.measured(f"{row['method']}, {row['bits']} bits", row),
            lambda row: self.plain | {name: row[name] for name in ("bits", "symmetric", "granularity")},
        )

    def draw_weights(self, point: Compressed) -> list[Artist]:
        """The histogram before rounding and the axes of the staircase; staircase and histogram after it move."""
        (self.counts, self.stairs), layer = self.left, point.settings.layer
        weight = weights(point.dense.model)[layer]
        self.reach = float(weight.abs().max()) * 1.05 or 1.0
        name = drawing.short_names([layer])[0]
        self.after, self.line = plots.staircase_axes(self.counts, self.stairs, weight, self.reach, BINS, name)
        return [self.after, self.line]

    def update(self, point: Compressed) -> None:
        """Move histogram, staircase, bars and point."""
        super().update(point)
        facts: Facts = point.facts
        self.after.set_data(drawing.bin_heights(facts.values, self.reach, BINS))
        self.line.set_data(*(x.numpy() for x in facts.staircase))  # matplotlib reads a tensor element by element
        reach = 1.05 * float(facts.staircase[1].abs().max())
        if reach > self.stairs.get_ylim()[1]:  # affine, 1 bit: the levels are 0 and the whole range of the weights
            self.stairs.set_ylim(-reach, reach)
            self.live.refresh()

    def cards(self, point: Compressed) -> list[Card]:
        """Accuracy, file, worst layer, images lost and won."""
        worst, error = max(point.facts.error.items(), key=lambda item: item[1])
        return [
            *super().cards(point),
            ("worst layer", f"{error:.1%}", f"rms error over std, {worst.removesuffix('.weight')}"),
            words.flips_card(point.dense.score, point.score, point.dense.data.validation.y),
        ]

    def made(self, settings: Mapping[str, Any]) -> list[str]:
        """Round."""
        how = f'symmetric={settings["symmetric"]}, granularity="{settings["granularity"]}"'
        how += f", percentile={settings['percentile']}" if settings["percentile"] < 100 else ""
        if settings["activation_bits"] < 32:
            images = f"lk.data.take(data.train, {CALIBRATION})"
            how += f", activation_bits={settings['activation_bits']}, calibration={images}"
        return [f"small = lk.quantize(model, {settings['bits']}, {how})"]


def staircase(weight: Tensor, bits: int, *, granularity: str, **how: Any) -> tuple[Tensor, Tensor]:
    """The rounding function over the range of a weight; with one grid per channel, that of the first channel."""
    part = weight[:1] if granularity == "channel" else weight
    grid = choose_grid(part, bits, granularity="tensor", **how)
    reach = float(weight.abs().max()) * 1.05
    x = torch.linspace(-reach, reach, 400)  # one or two per pixel
    return x, fake_quantize(x, grid)


def quantization(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 02: the shipped checkpoints, or your own trained `model` with its `data`."""
    return open_panel(Quantization, model, data, preset)
