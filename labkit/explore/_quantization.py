"""Panel of notebook 02: the staircase on real weights, the error of each layer, bits against accuracy and bytes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labkit import plots
from labkit.compress._weights import relative_error, weights
from labkit.compress.quantize import choose_grid, fake_quantize, quantize
from labkit.data import Data
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.compression import Compressed, CompressionView
from labkit.live.controls import bits, choice, layer_menu, steps
from labkit.live.network import BESIDE, Star, open_panel
from labkit.live.panel import Panel
from labkit.live.view import Card

CALIBRATION = 256  # training images that set the range of the activations
BINS = 121
LARGEST = 1.1  # error that a bar shows in full


@dataclass(frozen=True)
class Settings:
    """What the controls set; `layer` is the one that is shown."""

    bits: int = bits(value=4, floating=False, note="2 to this power levels for a weight", word="{}-bit weights")
    symmetric: bool = choice(
        "grid", [("symmetric", True), ("affine (zero-point)", False)], True,
        note="symmetric around 0, or affine: from the smallest to the largest weight", word="{} grid",
    )  # fmt: skip
    granularity: str = choice(
        "one scale per", [("layer (tensor)", "tensor"), ("output channel", "channel")], "tensor",
        note="one grid for a whole layer, or one for the weights of each of its outputs",
    )  # fmt: skip
    percentile: float = steps(
        "clip range at", [(f"{p:g} %", p) for p in (90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 100.0)], 100.0,
        note="the grid ends at this percentile; what lies beyond is clipped to its ends",
    )  # fmt: skip
    activation_bits: int = steps(
        "activation bits", [(str(b), b) for b in range(2, 9)] + [("32 (float)", 32)], 32,
        note="what enters a layer is rounded, too; 32 leaves it as it is",
    )  # fmt: skip
    layer: str = layer_menu(everything=False, note="the layer of the left picture", word="shown: {}")

    @property
    def grid(self) -> dict[str, Any]:
        """What `quantize` and `choose_grid` both take."""
        return dict(symmetric=self.symmetric, granularity=self.granularity, percentile=self.percentile)


@dataclass(frozen=True)
class Facts:
    """What rounding did: error of each layer; of the shown one its values, and its rounding of each x."""

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
        self.behind, self.stairs = (add((0.085, 0.135, 0.235, 0.79), label=name) for name in ("behind", "stairs"))
        self.layers, self.curves = add((0.437, 0.135, 0.1, 0.79)), add((0.625, 0.135, 0.365, 0.79))

    def idle(self, settings: Mapping[str, Any]) -> set[str]:
        """The range of a grid whose one step is the mean magnitude."""
        unclipped = settings["symmetric"] and settings["bits"] == 1 and settings["activation_bits"] == 32
        return {"percentile"} if unclipped else set()

    def compress(self, dense: Baseline, settings: Settings) -> nn.Module:
        """Round the weights, and what enters the layers."""
        inputs: dict[str, Any] = {}
        if settings.activation_bits < 32:
            inputs = dict(activation_bits=settings.activation_bits, calibration=dense.data.train.x[:CALIBRATION])
        return quantize(dense.model, settings.bits, **settings.grid, **inputs)

    def look(self, dense: Baseline, small: nn.Module, settings: Settings) -> Facts:
        """Errors, and the shown layer."""
        before, after, layer = weights(dense.model), weights(small), settings.layer
        error = {name: relative_error(after[name], w) for name, w in before.items()}
        return Facts(error, after[layer], staircase(before[layer], settings.bits, **settings.grid))

    def background(self, point: Compressed) -> None:
        """Histogram before rounding and the axes of the staircase, one bar a layer, the measured sweep."""
        self._draw_staircase(point)
        self.bars = plots.layer_bars(self.layers, list(point.facts.error), "rms error / std", "error by layer", LARGEST)
        dense = point.dense
        records = dense.sweep("quantization")
        plots.scheme_curves(self.curves, records, dense.size_bytes, dense.score.accuracy)
        self.curves.set_title("measured, with bits; ★ now" if len(records) else "★ now", fontsize=11, loc="left")
        rows = records.to_dict("records")
        self.live.offer(
            self.curves,
            [(row["size_bytes"], row["accuracy"]) for row in rows],
            [said(row) for row in rows],
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
        self.behind.stairs(counts, edges, color="#d0d0d0", label="before", **look)
        self.after = self.behind.stairs(counts, edges, color=plots.SKY, alpha=0.75, label="after", **look)
        self.behind.set_yscale("log")
        self.behind.set_ylim(0.5, 0.5 * (2.0 * weight.numel()) ** 2)  # all weights in one bin reach half way up
        self.behind.set_xlim(-self.reach, self.reach)
        self.behind.set_axis_off()
        ax = self.stairs
        ax.patch.set_visible(False)
        ax.plot([-self.reach, self.reach], [-self.reach, self.reach], ":", color=plots.BLACK, lw=1.2, label="unrounded")
        (self.line,) = ax.plot([], [], "-", color=plots.RED, lw=2, label="rounded")
        ax.set_xlim(-self.reach, self.reach)
        ax.set_ylim(-1.35 * self.reach, 1.35 * self.reach)  # the lowest of 2 symmetric bits lies 4/3 of the way down
        ax.set_xlabel("weight before")
        ax.set_ylabel("weight after", labelpad=0)
        shown = plots.short_names([point.settings.layer])[0]
        ax.set_title(f"{shown} (log count)", fontsize=11, loc="left")
        plots.tidy(ax)
        handles = [*ax.get_legend_handles_labels()[0], *self.behind.get_legend_handles_labels()[0]]
        ax.legend(handles=handles, loc="upper left", fontsize=10, frameon=False, handlelength=1.2, borderpad=0)

    def update(self, point: Compressed) -> None:
        """Move histogram, staircase, bars and point."""
        facts: Facts = point.facts
        self.after.set_data(torch.histc(facts.values, BINS, -self.reach, self.reach).numpy() + 0.5)
        self.line.set_data(*(x.numpy() for x in facts.staircase))  # matplotlib looks at each element of a tensor
        reach = 1.05 * float(facts.staircase[1].abs().max())
        if reach > self.stairs.get_ylim()[1]:  # one affine bit: its levels are 0 and the whole width of the weights
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
            how += f", activation_bits={settings['activation_bits']}, calibration=data.train.x[:{CALIBRATION}]"
        return "\n".join(
            [*self.loaded(settings), f"small = lk.quantize(model, {settings['bits']}, {how})", self.scored]
        )


def staircase(weight: Tensor, bits: int, *, granularity: str, **how: Any) -> tuple[Tensor, Tensor]:
    """The rounding function over the range of a weight; of its first channel's grid where each has its own."""
    part = weight[:1] if granularity == "channel" else weight
    grid = choose_grid(part, bits, granularity="tensor", **how)
    reach = float(weight.abs().max()) * 1.05
    x = torch.linspace(-reach, reach, 400)  # one or two a pixel
    return x, fake_quantize(x, grid)


def said(row: Mapping[Any, Any]) -> str:
    """A measured setting in words."""
    scheme = f"{'symmetric' if row['symmetric'] else 'affine'}, per {row['granularity']}"
    size = plots.kilobytes(row["size_bytes"])
    return f"{scheme}, {row['bits']} bits: {row['accuracy']:.2%}, {size}\nmeasured beforehand"


def quantization(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 02: the shipped checkpoints, or your own trained `model` with its `data`."""
    return open_panel(Quantization, model, data, preset)
