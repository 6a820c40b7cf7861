"""Panel of notebook 02b: one layer's weights, the centroids that stand for them, and what training those does."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.collections import LineCollection, PolyCollection
from torch import Tensor, nn

from labkit import plots, store
from labkit.compress._weights import weights
from labkit.compress.codebook import share, to_indices
from labkit.compress.magnitude import prune
from labkit.compress.quantize import Grid, choose_grid, fake_quantize, to_floats
from labkit.data import Data
from labkit.explore import _controls, _words
from labkit.explore._figure import LiveFigure
from labkit.explore._panel import Panel, Words
from labkit.explore._quantization import relative_error
from labkit.explore._score import Score, Scoring, sampled, scores, whole, workers
from labkit.explore._start import Dense, Key, follow, shipped, start
from labkit.explore._training import batch_size, paced
from labkit.train import fit

EPOCHS = 2  # of the training behind the button
BINS = 141
COLOURS = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.PURPLE, plots.SKY)  # of the clusters, in turns


@dataclass(frozen=True)
class Shared:
    """A network of shared weights, measured; `training` is the share of a training run that is done, None before."""

    dense: Dense
    model: nn.Module
    layer: str
    bits: int
    init: str
    values: Tensor  # of the shown layer, before sharing, without its zeros
    start: Tensor  # its centroids as k-means found them
    codebook: Tensor  # as they are now
    grid: Grid  # of as many levels
    error: dict[str, float]  # root mean square error over the weights' standard deviation, by layer
    left: tuple[int, int]
    size_bytes: int
    score: Score
    training: float | None = None


def shared_points(dense: Dense, layer: str, bits: int, init: str, sparsity: float) -> Iterator[Shared]:
    """Prune, cluster, write the file, score it; a preview first where all of validation would be late."""
    pruned, small = workers().submit(_share, dense.model, bits, init, sparsity).result()
    before, centroids = weights(pruned), codebook_of(small, layer)
    common: dict[str, Any] = dict(
        dense=dense, layer=layer, bits=bits, init=init, values=before[layer][before[layer] != 0], start=centroids,
        grid=choose_grid(before[layer], bits),
    )  # fmt: skip
    yield from describe(small, before, **common)


def _share(model: nn.Module, bits: int, init: str, sparsity: float) -> tuple[nn.Module, nn.Module]:
    pruned = prune(model, sparsity) if sparsity else model
    return pruned, share(pruned, bits, init=init)


def describe(small: nn.Module, before: dict[str, Tensor], scored: Scoring = scores, **common: Any) -> Iterator[Shared]:
    """Measure a network of shared weights beside the weights `before` sharing."""
    file, after = workers().submit(store.encode, small), weights(small)
    facts: dict[str, Any] = common | dict(
        model=small,
        codebook=codebook_of(small, common["layer"]),
        error={name: relative_error(after[name], w) for name, w in before.items()},
        left=_words.weights_left(after),
    )
    for score in scored(small, common["dense"].data.validation):
        yield Shared(**facts, size_bytes=len(file.result()), score=score)


def codebook_of(model: nn.Module, layer: str) -> Tensor:
    """The centroids of a weight of `model`, a copy of them as they are now."""
    owner, _, attribute = layer.rpartition(".")
    return model.get_submodule(owner).parametrizations[attribute][0].codebook.detach().clone()  # type: ignore


class Sharing:
    """The view: clusters and centroids over the histogram, error by layer, accuracy against size."""

    def __init__(self, own: Dense | None = None) -> None:
        self.live, self._own = LiveFigure(10.4, 4.5), own
        self._shown: tuple[Dense | None, str | None, int] = (None, None, 0)
        figure = self.live.figure
        self.histogram = figure.add_axes((0.02, 0.13, 0.36, 0.79))
        self.layers = figure.add_axes((0.455, 0.13, 0.11, 0.79))
        self.curves = figure.add_axes((0.655, 0.13, 0.335, 0.79))

    def results(self, layer: str, checkpoint: Key | None = None, **settings: Any) -> Iterator[Shared]:
        """Measure one setting of the controls, untrained."""
        dense: Dense = shipped(checkpoint) if checkpoint else self._own  # type: ignore[assignment]
        yield from shared_points(dense, layer if layer in dense.layers else dense.layers[0], **settings)

    def draw(self, point: Shared) -> None:
        """Colour the clusters, move the centroids, the bars and the point."""
        if (point.dense, point.layer, len(point.values)) != self._shown:
            self._draw_still(point)
        self.bins.set_facecolor(
            [COLOURS[(i - 1) % len(COLOURS)] for i in to_indices(self.centres, point.start).tolist()]
        )
        self.lines.set_segments([[(c, 0), (c, self.top)] for c in point.codebook.tolist()])
        self.lines.set_linewidth(1.6 if point.bits < 5 else 0.7)
        self.levels.set_segments([[(v, -0.07 * self.top), (v, 0)] for v in levels(point.grid)])
        for bar, value in zip(self.bars, point.error.values(), strict=True):
            bar.set_width(min(value, 1))
        if plots.make_room(self.curves, point.size_bytes, point.score.accuracy):
            self.live.refresh()
        place = [point.size_bytes], [float(plots.logit(point.score.accuracy))]
        self.interval.set_data([point.size_bytes] * 2, plots.logit(np.array(point.score.interval)))
        if point.training is None:
            self.star.set_data(*place)
        self.trained.set_data(*(place if point.training is not None else ([], [])))

    def _draw_still(self, point: Shared) -> None:
        for ax in (self.histogram, self.layers, self.curves):
            ax.clear()
        self.live.moving.clear()
        self._draw_histogram(point)
        names = list(point.error)
        self.bars = plots.layer_bars(self.layers, len(names), "rms error / std")
        self.layers.set_yticks(
            range(len(names)), [n.removesuffix(".weight") for n in names], fontsize=10 if len(names) < 9 else 7
        )
        self.layers.set_title("error by layer", fontsize=11, loc="left")
        dense = point.dense
        plots.sharing_curves(self.curves, dense.sweep("sharing"), dense.size_bytes, dense.score.accuracy)
        self.curves.set_title("lines: measured, unpruned; ★ now, ✚ trained", fontsize=11, loc="left")
        (self.interval,) = self.curves.plot([], [], "-", color=plots.BLACK, lw=2, zorder=5)
        (self.star,) = self.curves.plot([], [], "*", ms=19, color=plots.YELLOW, mec="black", mew=1.2, zorder=6)
        (self.trained,) = self.curves.plot([], [], "P", ms=13, color=plots.SKY, mec="black", mew=1.2, zorder=6)
        self.live.move([self.bins, self.lines, self.levels, *self.bars, self.interval, self.star, self.trained])
        self.live.refresh()
        self._shown = (dense, point.layer, len(point.values))

    def _draw_histogram(self, point: Shared) -> None:
        reach = float(point.values.abs().max()) * 1.05 if len(point.values) else 1.0
        edges = torch.linspace(-reach, reach, BINS + 1)
        self.centres = (edges[1:] + edges[:-1]) / 2
        self.centres[self.centres == 0] = 1e-9 * reach  # index 0 is for pruned zeros only
        heights = torch.histc(point.values, BINS, -reach, reach).sqrt()
        self.top = float(heights.max()) * 1.06 or 1.0
        ax = self.histogram
        boxes = [
            [(a, 0), (a, h), (b, h), (b, 0)]
            for a, b, h in zip(edges[:-1].tolist(), edges[1:].tolist(), heights.tolist(), strict=True)
        ]
        self.bins = PolyCollection(boxes, lw=0)
        self.lines = LineCollection([], colors=plots.BLACK, label="centroid")
        self.levels = LineCollection([], colors=plots.RED, lw=1.6, label="a grid's level")
        for collection in (self.bins, self.lines, self.levels):
            ax.add_collection(collection, autolim=False)
        ax.set_xlim(-reach, reach)
        ax.set_ylim(-0.07 * self.top, self.top)
        ax.set_yticks([])
        ax.set_xlabel("weight before; its colour is its cluster")
        ax.set_title(f"weights of {point.layer.removesuffix('.weight')} (√ count)", fontsize=11, loc="left")
        plots.tidy(ax)
        ax.spines["left"].set_visible(False)
        ax.legend(loc="upper right", fontsize=8, framealpha=0.9)

    def tell(self, point: Shared) -> Words:
        """The point in words."""
        layer = point.layer.removesuffix(".weight")
        by_grid = relative_error(fake_quantize(point.values, point.grid), point.values)
        cards = [
            _words.accuracy_card(point.score, point.dense.score),
            _words.file_card(point.size_bytes, point.dense.size_bytes),
            (
                f"error of {layer}",
                f"{point.error[point.layer]:.1%}",
                f"rms / std · a grid of {2**point.bits}: {by_grid:.1%}",
            ),
            _words.flips_card(point.dense.score, point.score, point.dense.data.validation.y),
        ]
        alt = _words.sentence(
            f"{point.dense.name}, {point.bits} bits of shared values, {point.init} start, "
            f"sparsity {1 - point.left[0] / point.left[1]:.0%}",
            cards,
        )
        if point.training is None:
            return Words(cards, alt, _words.status(point.score))
        return Words(
            cards, alt, f"centroids: {point.training:.0%} of {EPOCHS} epochs trained; {_words.status(point.score)}"
        )

    def train(self, settings: dict[str, Any], show: Callable[[Shared], None], overtaken: Callable[[], bool]) -> None:
        """Train the centroids (and biases) for EPOCHS epochs; show where they stand."""
        point = next(self.results(**settings))
        dense = point.dense
        pruned = prune(dense.model, settings["sparsity"]) if settings["sparsity"] else dense.model
        kept = ("dense", "layer", "bits", "init", "values", "start", "grid")
        common = {name: getattr(point, name) for name in kept}

        def picture(model: nn.Module, progress: float) -> None:
            show(next(describe(model, weights(pruned), sampled, training=progress, **common)))

        model, _ = fit(
            point.model, dense.data.train, epochs=EPOCHS, lr=1e-3, after_step=paced(picture, 0.3), progress=False,
            cancel=overtaken, batch_size=batch_size(dense.data.train),
        )  # fmt: skip
        for result in describe(model, weights(pruned), whole, training=1.0, **common):
            show(result)


def levels(grid: Grid) -> list[float]:
    """The values of a grid, ascending."""
    q = torch.arange(grid.quant_min, grid.quant_max + 1)
    return to_floats(q[q != 0] if grid.symmetric and grid.bits == 1 else q, grid).tolist()


def sharing(model: nn.Module | None = None, data: Data | None = None) -> Panel:
    """The live panel of notebook 02b: the shipped checkpoints, or your own trained `model` with its `data`."""
    own, controls = start(model, data)
    layers = own.layers if own else shipped(controls["checkpoint"].value).layers
    menu = _controls.layers(layers, everything=False)
    controls |= {
        "bits": _controls.bits(value=3, floating=False),
        "init": _controls.choice(
            "start k-means", [("linear", "linear"), ("density", "density"), ("random", "random")], "linear"
        ),
        "sparsity": _controls.share("prune first", 0.0),
        "layer": menu,
    }
    view = Sharing(own)
    panel = Panel("sharing", view, controls, job=(f"train the centroids, {EPOCHS} epochs", view.train))
    follow(controls, menu, everything=False)
    return panel
