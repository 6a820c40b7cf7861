"""Panel of notebook 02b: one layer's weights, the centroids that replace them, and training of the centroids."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.artist import Artist
from torch import Tensor, nn

from labkit import drawing
from labkit.compress import codebook
from labkit.compress._weights import owner_of, relative_error, weights
from labkit.compress.grid import Grid, choose_grid, fake_quantize, to_floats
from labkit.compress.magnitude import prune
from labkit.data import Data
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.compression import Compressed, relative_errors
from labkit.live.controls import bits, choice, layer_menu, share
from labkit.live.network import open_panel
from labkit.live.panel import Panel
from labkit.live.plane import ERRORS_AND_SIZES, LayersView
from labkit.live.view import Card
from labkit.topics.shared_weights import plots

BINS = 91


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


class Sharing(LayersView):
    """The view: clusters and centroids over the histogram, error by layer, accuracy against size."""

    name, settings_type, largest = "sharing", Settings, 1.5  # training increases the error
    boxes = ((0.015, 0.135, 0.31, 0.79), *ERRORS_AND_SIZES)
    epochs = 2
    button = "train the centroids"
    scenes = {
        "8 values": dict(bits=3, init="linear", sparsity=0.0),
        "2 values": dict(bits=1, init="linear", sparsity=0.0),
        "pruned first": dict(bits=3, init="linear", sparsity=0.8),
    }

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
            error=relative_errors(before, after),
            values=weight[weight != 0],
            start=means(weight, shared.original),
            codebook=shared[0].codebook.detach().clone(),
            grid=grid,
            grid_error=relative_error(fake_quantize(weight, grid), weight),
        )

    def draw_curves(self, dense: Baseline) -> None:
        """The measured sweep."""
        records = dense.sweep("sharing")
        plots.sharing_curves(self.curves, records, dense.size_bytes, dense.score.accuracy)
        measured = "measured, with bits; " if len(records) else ""
        self.curves.set_title(f"{measured}★ now, ✚ trained", fontsize=11, loc="left")
        self.offer(
            self.curves,
            records.groupby(["method", "bits"])[["size_bytes", "accuracy"]].mean().reset_index(),
            lambda row: words.measured(
                f"{row['method']}, {row['bits']} bits", row, "mean of 3 seeds, measured beforehand"
            ),
            lambda row: dict(bits=row["bits"], init="linear", sparsity=0.0) if row["method"] == "codebook" else {},
        )

    def draw_weights(self, point: Compressed) -> list[Artist]:
        """The axes of the histogram; its clusters, centroids and levels of the grid move."""
        weight = weights(point.dense.model)[point.settings.layer]  # unpruned, so that the axes do not change
        reach = float(weight.abs().max()) * 1.05 or 1.0
        self.edges = torch.linspace(-reach, reach, BINS + 1)
        self.top = float(torch.histc(weight, BINS, -reach, reach).sqrt().max())
        name = drawing.short_names([point.settings.layer])[0]
        self.bins, self.lines, self.levels = plots.cluster_axes(self.left[0], self.edges.numpy(), self.top, name)
        return [*self.bins, self.lines, self.levels]

    def update(self, point: Compressed) -> None:
        """Colour the clusters, move the centroids, the bars and the point."""
        super().update(point)
        facts: Facts = point.facts
        heights = torch.histc(facts.values, BINS, float(self.edges[0]), float(self.edges[-1])).sqrt()
        centres = (self.edges[1:] + self.edges[:-1]) / 2
        cluster = torch.bucketize(centres, (facts.start[1:] + facts.start[:-1]) / 2)
        for i, bins in enumerate(self.bins):  # one outline per colour
            members = (cluster % len(plots.COLOURS) == i) & (heights > 0)
            bins.set_data(heights.where(members, torch.nan).numpy())
        few, top = point.settings.bits < 5, self.top
        self.lines.set_data(*plots.strokes(facts.codebook, -0.07 * top, top if few else 0))
        self.levels.set_data(*plots.strokes(levels(facts.grid), -0.15 * top, -0.08 * top))
        for line in (self.lines, self.levels):
            line.set_linewidth(1.6 if few else 0.6)

    def cards(self, point: Compressed) -> list[Card]:
        """Accuracy, file, error next to that of a grid, images lost and won."""
        facts, layer = point.facts, point.settings.layer
        shown = drawing.short_names([layer])[0]
        note = f"rms / std · {2**point.settings.bits}-level grid: {facts.grid_error:.1%}"
        return [
            *super().cards(point),
            (f"error of {shown}", f"{facts.error[layer]:.1%}", note),
            words.flips_card(point.dense.score, point.score, point.dense.data.validation.y),
        ]

    def made(self, settings: Mapping[str, Any]) -> list[str]:
        """Prune, share."""
        first = f"lk.prune(model, {settings['sparsity']})" if settings["sparsity"] else "model"
        return [f'small = lk.share_weights({first}, {settings["bits"]}, init="{settings["init"]}")']


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


def sharing(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 02b: the shipped checkpoints, or your own trained `model` with its `data`."""
    return open_panel(Sharing, model, data, preset)
