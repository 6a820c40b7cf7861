"""Panel of notebook 02: the staircase on real weights, the error of each layer, bits against accuracy and bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labkit import plots, store
from labkit.compress._weights import weights
from labkit.compress.quantize import choose_grid, fake_quantize, quantize
from labkit.data import Data
from labkit.explore import _controls, _words
from labkit.explore._figure import LiveFigure
from labkit.explore._panel import Panel, Words
from labkit.explore._score import Score, scores, workers
from labkit.explore._start import Dense, Key, follow, shipped, start

CALIBRATION = 256  # training images that set the range of the activations
BINS = 121


@dataclass(frozen=True)
class Rounded:
    """A quantized network, measured."""

    dense: Dense
    layer: str
    bits: int
    scheme: str
    error: dict[str, float]  # root mean square error over the weights' standard deviation, by layer
    staircase: tuple[Tensor, Tensor]  # x, and the grid value that each x is rounded to
    values: Tensor  # of the shown layer, after rounding
    left: tuple[int, int]
    size_bytes: int
    score: Score


def rounded_points(dense: Dense, layer: str, **settings: Any) -> Iterator[Rounded]:
    """Quantize `dense` by the settings of `_rounded`, write the file, score it; a preview first where that is late."""
    small, facts = workers().submit(_rounded, dense, layer, **settings).result()
    found = scores(small, dense.data.validation)
    file = workers().submit(store.encode, small)
    for score in found:
        yield Rounded(**facts, size_bytes=len(file.result()), score=score)


def _rounded(
    dense: Dense, layer: str, bits: int, symmetric: bool, granularity: str, percentile: float, activation_bits: int
) -> tuple[nn.Module, dict[str, Any]]:
    """The quantized network and what its weights show; `activation_bits` 32 leaves the activations in float."""
    how: dict[str, Any] = dict(symmetric=symmetric, granularity=granularity, percentile=percentile)
    inputs: dict[str, Any] = {}
    if activation_bits < 32:
        inputs = dict(activation_bits=activation_bits, calibration=dense.data.train.x[:CALIBRATION])
    small = quantize(dense.model, bits, **how, **inputs)
    before, after = weights(dense.model), weights(small)
    return small, dict(
        dense=dense,
        layer=layer,
        bits=bits,
        scheme=f"{'symmetric' if symmetric else 'affine'}, per {granularity}",
        error={name: relative_error(after[name], w) for name, w in before.items()},
        staircase=staircase(before[layer], bits, **how),
        values=after[layer],
        left=_words.weights_left(after),
    )


def relative_error(after: Tensor, before: Tensor) -> float:
    """Root mean square error over the standard deviation; 0 for a layer whose weights are all alike and unchanged."""
    return float((after - before).square().mean().sqrt() / before.std(correction=0).clamp(min=1e-12))


def staircase(weight: Tensor, bits: int, *, granularity: str, **how: Any) -> tuple[Tensor, Tensor]:
    """The rounding function over the range of a weight; of its first channel's grid where each has its own."""
    part = weight[:1] if granularity == "channel" else weight
    grid = choose_grid(part, bits, granularity="tensor", **how)
    reach = float(weight.abs().max()) * 1.05
    x = torch.linspace(-reach, reach, 1_500)
    return x, fake_quantize(x, grid)


class Quantization:
    """The view: staircase over the histogram, error by layer, accuracy against size."""

    def __init__(self, own: Dense | None = None) -> None:
        self.live, self._own = LiveFigure(10.4, 4.5), own
        self._shown: tuple[Dense | None, str | None] = (None, None)
        figure = self.live.figure
        self.stairs = figure.add_axes((0.065, 0.13, 0.28, 0.79))
        self.behind = self.stairs.twinx()
        self.layers = figure.add_axes((0.44, 0.13, 0.12, 0.79))
        self.curves = figure.add_axes((0.655, 0.13, 0.335, 0.79))

    def results(self, layer: str, checkpoint: Key | None = None, **settings: Any) -> Iterator[Rounded]:
        """Measure one setting of the controls."""
        dense: Dense = shipped(checkpoint) if checkpoint else self._own  # type: ignore[assignment]
        layer = layer if layer in dense.layers else dense.layers[0]
        yield from rounded_points(dense, layer, **settings)

    def draw(self, point: Rounded) -> None:
        """Move staircase, bars and point."""
        if (point.dense, point.layer) != self._shown:
            self._draw_still(point)
        self.line.set_data(*(x.numpy() for x in point.staircase))  # matplotlib looks at each element of a tensor
        reach = 1.05 * float(point.staircase[1].abs().max())
        if reach > self.stairs.get_ylim()[1]:  # one affine bit: its levels are 0 and the whole width of the weights
            self.stairs.set_ylim(-reach, reach)
            self.live.refresh()
        counts = torch.histc(point.values, BINS, -self.reach, self.reach).numpy()
        self.after.set_data(np.sqrt(counts))
        for bar, value in zip(self.bars, point.error.values(), strict=True):
            bar.set_width(min(value, 1))
        if plots.make_room(self.curves, point.size_bytes, point.score.accuracy):
            self.live.refresh()
        self.interval.set_data([point.size_bytes] * 2, plots.logit(np.array(point.score.interval)))
        self.star.set_data([point.size_bytes], [float(plots.logit(point.score.accuracy))])

    def _draw_still(self, point: Rounded) -> None:
        for ax in (self.stairs, self.behind, self.layers, self.curves):
            ax.clear()
        self.live.moving.clear()
        self._draw_stairs(point)
        names = list(point.error)
        self.bars = plots.layer_bars(self.layers, len(names), "rms error / std")
        self.layers.set_yticks(
            range(len(names)), [n.removesuffix(".weight") for n in names], fontsize=10 if len(names) < 9 else 7
        )
        self.layers.set_title("error by layer", fontsize=11, loc="left")
        plots.scheme_curves(
            self.curves, point.dense.sweep("quantization"), point.dense.size_bytes, point.dense.score.accuracy
        )
        self.curves.set_title("lines: measured, bits beside them; ★ now", fontsize=11, loc="left")
        (self.interval,) = self.curves.plot([], [], "-", color=plots.BLACK, lw=2, zorder=5)
        (self.star,) = self.curves.plot([], [], "*", ms=19, color=plots.YELLOW, mec="black", mew=1.2, zorder=6)
        self.live.move([self.after, self.line, *self.bars, self.interval, self.star])
        self.live.refresh()
        self._shown = (point.dense, point.layer)

    def _draw_stairs(self, point: Rounded) -> None:
        weight = weights(point.dense.model)[point.layer]
        self.reach = float(weight.abs().max()) * 1.05 or 1.0
        edges = np.linspace(-self.reach, self.reach, BINS + 1)
        before = np.sqrt(torch.histc(weight, BINS, -self.reach, self.reach).numpy())
        self.behind.stairs(before, edges, fill=True, color="#d0d0d0")
        self.after = self.behind.stairs(before, edges, fill=True, color=plots.SKY, alpha=0.75)
        self.behind.set_ylim(0, before.max() * 2.2)
        self.behind.set_axis_off()
        ax = self.stairs
        ax.set_zorder(self.behind.get_zorder() + 1)
        ax.patch.set_visible(False)
        ax.plot([-self.reach, self.reach], [-self.reach, self.reach], ":", color=plots.BLACK, lw=1, label="unrounded")
        (self.line,) = ax.plot([], [], "-", color=plots.RED, lw=2, label="rounded")
        ax.set_xlim(-self.reach, self.reach)
        ax.set_ylim(-1.3 * self.reach, 1.3 * self.reach)  # the lowest of 2 symmetric bits lies 4/3 of the way down
        ax.set_xlabel("weight before")
        ax.set_ylabel("weight after", labelpad=-2)
        ax.set_title(
            f"{point.layer.removesuffix('.weight')}: grey before, blue after (√ count)", fontsize=10.5, loc="left"
        )
        ax.legend(loc="upper left", fontsize=8)
        plots.tidy(ax)

    def tell(self, point: Rounded) -> Words:
        """The point in words."""
        worst = max(point.error, key=lambda name: point.error[name])
        cards = [
            _words.accuracy_card(point.score, point.dense.score),
            _words.file_card(point.size_bytes, point.dense.size_bytes),
            ("worst layer", f"{point.error[worst]:.1%}", f"rms error over std, {worst.removesuffix('.weight')}"),
            _words.flips_card(point.dense.score, point.score, point.dense.data.validation.y),
        ]
        alt = _words.sentence(f"{point.dense.name}, weights rounded to {point.bits} bits, {point.scheme}", cards)
        return Words(cards, alt, _words.status(point.score))


def quantization(model: nn.Module | None = None, data: Data | None = None) -> Panel:
    """The live panel of notebook 02: the shipped checkpoints, or your own trained `model` with its `data`."""
    own, controls = start(model, data)
    layers = own.layers if own else shipped(controls["checkpoint"].value).layers
    menu = _controls.layers(layers, everything=False)
    controls |= {
        "bits": _controls.bits(value=4, floating=False),
        "symmetric": _controls.choice("grid", [("symmetric", True), ("affine (zero-point)", False)], True),
        "granularity": _controls.choice(
            "one scale per", [("layer (tensor)", "tensor"), ("output channel", "channel")], "tensor"
        ),
        "percentile": _controls.steps(
            "clip range at", [(f"{p:g} %", p) for p in (90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 100.0)], 100.0
        ),
        "activation_bits": _controls.steps(
            "activation bits", [(str(b), b) for b in range(2, 9)] + [("32 (float)", 32)], 32
        ),
        "layer": menu,
    }
    panel = Panel("quantization", Quantization(own), controls)
    follow(controls, menu, everything=False)
    return panel
