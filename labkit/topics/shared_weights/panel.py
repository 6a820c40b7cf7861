"""Panel of notebook 02b: one layer's weights, the centroids that replace them, and training of the centroids."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labkit import drawing
from labkit.compress import codebook
from labkit.compress._weights import owner_of, relative_error, weights
from labkit.compress.magnitude import prune
from labkit.compress.quantize import Grid, choose_grid, fake_quantize, to_floats
from labkit.data import Data
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.compression import Compressed, CompressionView
from labkit.live.controls import bits, choice, layer_menu, share
from labkit.live.network import BESIDE, Star, open_panel
from labkit.live.panel import Panel
from labkit.live.view import Card
from labkit.topics.shared_weights import plots

BINS = 91
LARGEST = 1.5  # the largest error that a bar can show; training increases it
COLOURS = (drawing.BLUE, drawing.ORANGE, drawing.GREEN, drawing.PURPLE, drawing.SKY)  # of the clusters, repeated


@dataclass(frozen=True)
class Settings:
    """What the controls set; `layer` is the layer shown."""

    bits: int = bits(
        value=3, floating=False, note="the weights of a layer share 2^bits values", word="{}-bit codebooks"
    )  # fmt: skip
    init: str = choice(
        "start k-means", [("linear", "linear"), ("density", "density"), ("random", "random")], "linear",
        note="first centroids: evenly spaced, at quantiles of the weights, or weights drawn at random",
        word="{} start",
    )  # fmt: skip
    sparsity: float = share(
        "prune first", 0.0, note="fraction of the weights set to 0 first; they stay 0", word="sparsity {}"
    )  # fmt: skip
    layer: str = layer_menu(everything=False, note="the layer that the left plot shows", word="shown: {}")


@dataclass(frozen=True)
class Facts:
    """The effect of sharing: the error of each layer; the shown layer's values, centroids, and a grid of that size."""

    error: dict[str, float]  # root mean square error over the weights' standard deviation
    values: Tensor  # before sharing, without the zeros
    start: Tensor  # centroids before training
    codebook: Tensor  # centroids now
    grid: Grid
    grid_error: float


class Sharing(CompressionView):
    """The view: clusters and centroids over the histogram, error by layer, accuracy against size."""

    name, settings_type, size = "sharing", Settings, BESIDE
    epochs = 2
    button = "train the centroids"
    scenes = {
        "8 values": dict(bits=3, init="linear", sparsity=0.0),
        "2 values": dict(bits=1, init="linear", sparsity=0.0),
        "pruned first": dict(bits=3, init="linear", sparsity=0.8),
    }

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        add = self.live.figure.add_axes
        self.histogram, self.layers = add((0.015, 0.135, 0.31, 0.79)), add((0.437, 0.135, 0.1, 0.79))
        self.curves = add((0.625, 0.135, 0.365, 0.79))

    def compress(self, dense: Baseline, settings: Settings) -> nn.Module:
        """Prune, then let the remaining weights share values."""
        return codebook.share_weights(pruned(dense, settings), settings.bits, init=settings.init)

    def look(self, dense: Baseline, small: nn.Module, settings: Settings) -> Facts:
        """Errors, and the shown layer: its centroids now and before they were trained."""
        before, after = weights(pruned(dense, settings)), weights(small)
        weight = before[settings.layer]
        owner, attribute = owner_of(small, settings.layer)
        shared: Any = owner.parametrizations[attribute]  # type: ignore[index]
        grid = choose_grid(weight, settings.bits)
        return Facts(
            error={name: relative_error(after[name], w) for name, w in before.items()},
            values=weight[weight != 0],
            start=means(weight, shared.original),
            codebook=shared[0].codebook.detach().clone(),
            grid=grid,
            grid_error=relative_error(fake_quantize(weight, grid), weight),
        )

    def background(self, point: Compressed) -> None:
        """Axes of the histogram, one bar per layer, the measured sweep."""
        self._draw_histogram(point)
        self.bars = drawing.layer_bars(
            self.layers, list(point.facts.error), "rms error / std", "error by layer", LARGEST
        )
        dense = point.dense
        records = dense.sweep("sharing")
        plots.sharing_curves(self.curves, records, dense.size_bytes, dense.score.accuracy)
        measured = "measured, with bits; " if len(records) else ""
        self.curves.set_title(f"{measured}★ now, ✚ trained", fontsize=11, loc="left")
        means = records.groupby(["method", "bits"])[["size_bytes", "accuracy"]].mean().reset_index().to_dict("records")
        self.live.offer(
            self.curves,
            [(row["size_bytes"], row["accuracy"]) for row in means],
            [caption(row) for row in means],
            [
                dict(bits=row["bits"], init="linear", sparsity=0.0) if row["method"] == "codebook" else {}
                for row in means
            ],
        )
        self.star = Star(self.live, self.curves)
        self.live.move([*self.bins, self.lines, self.levels, *self.bars, *self.star.artists])

    def _draw_histogram(self, point: Compressed) -> None:
        weight = weights(point.dense.model)[point.settings.layer]  # unpruned, so that the axes do not change
        reach = float(weight.abs().max()) * 1.05 or 1.0
        self.edges = torch.linspace(-reach, reach, BINS + 1)
        top = float(torch.histc(weight, BINS, -reach, reach).sqrt().max())
        ax = self.histogram
        look: dict[str, Any] = dict(fill=True, lw=0)
        self.bins = [ax.stairs(np.zeros(BINS), self.edges.numpy(), color=colour, **look) for colour in COLOURS]
        (self.lines,) = ax.plot([], [], "-", color=drawing.BLACK, label="centroid")
        (self.levels,) = ax.plot([], [], "-", color=drawing.RED, label="grid level")
        ax.set_xlim(-reach, reach)
        ax.set_ylim(-0.16 * top, 1.15 * top)
        ax.set_yticks([])
        ax.set_xlabel("weight before (colour: cluster)")
        shown = drawing.short_names([point.settings.layer])[0]
        ax.set_title(f"{shown} (√ count)", fontsize=11, loc="left")
        drawing.tidy(ax)
        ax.spines["left"].set_visible(False)
        ax.legend(loc="upper center", ncol=2, fontsize=10, frameon=False, handlelength=1.2, borderpad=0)
        self.top = top

    def update(self, point: Compressed) -> None:
        """Colour the clusters, move the centroids, the bars and the point."""
        facts: Facts = point.facts
        heights = torch.histc(facts.values, BINS, float(self.edges[0]), float(self.edges[-1])).sqrt()
        centres = (self.edges[1:] + self.edges[:-1]) / 2
        cluster = torch.bucketize(centres, (facts.start[1:] + facts.start[:-1]) / 2)
        for i, bins in enumerate(self.bins):  # one outline per colour
            members = (cluster % len(COLOURS) == i) & (heights > 0)
            bins.set_data(heights.where(members, torch.nan).numpy())
        few, top = point.settings.bits < 5, self.top
        self.lines.set_data(*strokes(facts.codebook, -0.07 * top, top if few else 0))
        self.lines.set_linewidth(1.6 if few else 0.6)
        self.levels.set_linewidth(1.6 if few else 0.6)
        self.levels.set_data(*strokes(levels(facts.grid), -0.15 * top, -0.08 * top))
        for bar, value in zip(self.bars, facts.error.values(), strict=True):
            bar.set_width(min(value, LARGEST))
        self.star.place(point.size_bytes, point.score, point.training is not None)

    def cards(self, point: Compressed) -> list[Card]:
        """Accuracy, file, error next to that of a grid, images lost and won."""
        facts, layer = point.facts, point.settings.layer
        shown = drawing.short_names([layer])[0]
        note = f"rms / std · {2**point.settings.bits}-level grid: {facts.grid_error:.1%}"
        return [
            words.accuracy_card(point.score, point.dense.score),
            words.file_card(point.size_bytes, point.dense.size_bytes),
            (f"error of {shown}", f"{facts.error[layer]:.1%}", note),
            words.flips_card(point.dense.score, point.score, point.dense.data.validation.y),
        ]

    def code(self, settings: Mapping[str, Any]) -> str:
        """Prune, share, score, write."""
        first = ["model"] if not settings["sparsity"] else [f"lk.prune(model, {settings['sparsity']})"]
        line = f'small = lk.share_weights({first[0]}, {settings["bits"]}, init="{settings["init"]}")'
        return "\n".join([*self.loaded(settings), line, self.scored])


def pruned(dense: Baseline, settings: Settings) -> nn.Module:
    """The network whose weights are shared."""
    return prune(dense.model, settings.sparsity) if settings.sparsity else dense.model


def means(weight: Tensor, indices: Tensor) -> Tensor:
    """The mean of each cluster, which is where k-means leaves a centroid; ascending."""
    members = torch.bincount(indices.flatten())[1:]
    sums = torch.bincount(indices.flatten(), weight.flatten().double())[1:]
    return (sums / members)[members > 0].to(weight)


def levels(grid: Grid) -> Tensor:
    """The values of a grid, ascending."""
    q = torch.arange(grid.quant_min, grid.quant_max + 1)
    return to_floats(q[q != 0] if grid.symmetric and grid.bits == 1 else q, grid)


def strokes(places: Tensor, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertical strokes, as one line."""
    x = np.repeat(places.double().numpy(), 3)
    return x, np.tile([low, high, np.nan], len(places))


def caption(row: Mapping[Any, Any]) -> str:
    """A measured setting in words."""
    size = drawing.kilobytes(row["size_bytes"])
    return f"{row['method']}, {row['bits']} bits: {row['accuracy']:.2%}, {size}\nmean of 3 seeds, measured beforehand"


def sharing(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 02b: the shipped checkpoints, or your own trained `model` with its `data`."""
    return open_panel(Sharing, model, data, preset)
