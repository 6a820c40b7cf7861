"""Panel of notebook 01: the threshold on the histogram, the layers that pay for it, and what training heals."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labkit import plots, store
from labkit.compress._weights import weights
from labkit.compress.magnitude import keep_zeros, prune, prune_gradually
from labkit.data import Data
from labkit.explore import _controls, _words
from labkit.explore._figure import LiveFigure
from labkit.explore._panel import Panel, Words
from labkit.explore._score import Score, Scoring, sampled, scores, whole, workers
from labkit.explore._start import Dense, Key, follow, shipped, start
from labkit.explore._training import batch_size, paced
from labkit.train import fit

EPOCHS = 2  # of the training behind the button
BINS = 81


@dataclass(frozen=True)
class Pruned:
    """A pruned network, measured; `training` is the share of a fine-tuning run that is done, None before one."""

    dense: Dense
    model: nn.Module
    layer: str  # "" for all
    sparsity: dict[str, float]  # achieved, by layer
    thresholds: list[float]  # the largest magnitude that went, by pruned layer
    kept: Tensor  # values of the shown weights that stay
    left: tuple[int, int]
    size_bytes: int
    score: Score
    method: str = "one-shot"
    training: float | None = None


def pruned_points(
    dense: Dense, by: str, sparsity: float, threshold: float, scope: str, layer: str = ""
) -> Iterator[Pruned]:
    """Prune one-shot, write the file, score it; a preview first where all of validation would be late."""
    amount = (sparsity, None) if by == "sparsity" else (None, threshold)
    layers = [layer] if layer else None
    small = workers().submit(prune, dense.model, amount[0], threshold=amount[1], scope=scope, layers=layers).result()
    yield from describe(dense, small, layer)


def describe(dense: Dense, small: nn.Module, layer: str, scored: Scoring = scores, **more: Any) -> Iterator[Pruned]:
    """Measure a pruned network beside the dense one it came from."""
    file = workers().submit(store.encode, small)
    before, after = weights(dense.model), weights(small)
    shown = [layer] if layer else list(after)
    kept = torch.cat([after[name][after[name] != 0] for name in shown])
    gone = {name: before[name][(after[name] == 0) & (before[name] != 0)].abs() for name in shown}
    common: dict[str, Any] = dict(
        dense=dense,
        model=small,
        layer=layer,
        sparsity={name: float((w == 0).float().mean()) for name, w in after.items()},
        thresholds=[float(v.max()) for v in gone.values() if v.numel()],
        kept=kept,
        left=_words.weights_left(after),
    )
    for score in scored(small, dense.data.validation):
        yield Pruned(**common, size_bytes=len(file.result()), score=score, **more)


class Pruning:
    """The view: histogram with thresholds, sparsity by layer, accuracy against sparsity."""

    def __init__(self, own: Dense | None = None) -> None:
        self.live, self._own = LiveFigure(10.4, 4.5), own
        self._shown: tuple[Dense | None, str | None] = (None, None)
        figure = self.live.figure
        self.histogram = figure.add_axes((0.06, 0.13, 0.27, 0.79))
        self.layers = figure.add_axes((0.425, 0.13, 0.13, 0.79))
        self.curves = figure.add_axes((0.655, 0.13, 0.335, 0.79))
        self.trained: list[tuple[float, float, str]] = []

    def results(
        self,
        by: str,
        sparsity: float,
        threshold: float,
        scope: str,
        layer: str,
        method: str,
        checkpoint: Key | None = None,
    ) -> Iterator[Pruned]:
        """Measure one setting of the controls, one-shot; `method` is what the button does about it."""
        dense = self.dense(checkpoint)
        yield from pruned_points(dense, by, sparsity, threshold, scope, layer if layer in dense.layers else "")

    def dense(self, checkpoint: Key | None) -> Dense:
        """The network that the controls speak of."""
        return shipped(checkpoint) if checkpoint else self._own  # type: ignore[return-value]

    def draw(self, point: Pruned) -> None:
        """Move histogram, thresholds, bars and point."""
        if (point.dense, point.layer) != self._shown:
            self._draw_still(point)
        counts = torch.histc(point.kept, BINS, -self.reach, self.reach).numpy()
        self.stays.set_data(counts + 0.5)
        low, high = min(point.thresholds, default=0), max(point.thresholds, default=0)
        for line, value in zip(self.lines, (-high, -low, low, high), strict=True):
            line.set_xdata([value, value])
        for bar, value in zip(self.bars, point.sparsity.values(), strict=True):
            bar.set_width(value)
        self._draw_point(point)

    def _draw_point(self, point: Pruned) -> None:
        sparsity = 1 - point.left[0] / point.left[1]
        x, y = plots.place_sparsity(sparsity), float(plots.logit(point.score.accuracy))
        if plots.make_room(self.curves, x, point.score.accuracy):
            self.live.refresh()
        star = self.star if point.training is None else self.healed
        star.set_data([x], [y])
        self.interval.set_data([x, x], plots.logit(np.array(point.score.interval)))
        if point.training is None:
            self.healed.set_data([], [])

    def _draw_still(self, point: Pruned) -> None:
        for ax in (self.histogram, self.layers, self.curves):
            ax.clear()
        self.live.moving.clear()
        self._draw_histogram(point)
        names = list(point.sparsity)
        self.bars = plots.layer_bars(self.layers, len(names), "zeros in the layer")
        self.layers.set_yticks(
            range(len(names)), [n.removesuffix(".weight") for n in names], fontsize=10 if len(names) < 9 else 7
        )
        self.layers.set_title("by layer", fontsize=11, loc="left")
        plots.sparsity_curves(self.curves, point.dense.sweep("pruning"), point.dense.score.accuracy)
        self.curves.set_title("lines: measured sweep; ★ this network, now", fontsize=11, loc="left")
        (self.interval,) = self.curves.plot([], [], "-", color=plots.BLACK, lw=2, zorder=5)
        (self.star,) = self.curves.plot([], [], "*", ms=19, color=plots.ORANGE, mec="black", mew=1.2, zorder=6)
        (self.healed,) = self.curves.plot([], [], "P", ms=13, color=plots.SKY, mec="black", mew=1.2, zorder=6)
        self.live.move([self.stays, *self.lines, *self.bars, self.interval, self.star, self.healed])
        self.live.refresh()
        self._shown = (point.dense, point.layer)

    def _draw_histogram(self, point: Pruned) -> None:
        before = weights(point.dense.model)
        values = torch.cat([w.flatten() for name, w in before.items() if point.layer in ("", name)])
        self.reach = float(values.abs().max()) or 1.0
        edges = np.linspace(-self.reach, self.reach, BINS + 1)
        counts = torch.histc(values, BINS, -self.reach, self.reach).numpy()
        ax = self.histogram
        ax.stairs(counts + 0.5, edges, fill=True, color="#d0d0d0", label="pruned", baseline=0.5)
        self.stays = ax.stairs(counts + 0.5, edges, fill=True, color=plots.BLUE, label="kept", baseline=0.5)
        self.lines = [
            ax.axvline(0, color=plots.RED, lw=1.6, label="threshold ±θ" if i == 3 else None) for i in range(4)
        ]
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(lambda value, position: f"{value:,.0f}")
        ax.set_ylim(0.5, counts.max() * 2.5)
        ax.set_xlim(-self.reach, self.reach)
        ax.set_xlabel("weight")
        ax.set_title(
            f"weights of {point.layer.removesuffix('.weight') or 'all layers'} (log count)", fontsize=11, loc="left"
        )
        plots.tidy(ax)
        ax.legend(loc="upper right", fontsize=8, framealpha=0.9)

    def tell(self, point: Pruned) -> Words:
        """The point in words."""
        low, high = min(point.thresholds, default=0), max(point.thresholds, default=0)
        theta = f"{high:.4f}" if high - low < 1e-3 else f"{low:.3f} … {high:.3f}"
        cards = [
            _words.accuracy_card(point.score, point.dense.score),
            _words.count_card(*point.left),
            ("threshold θ", theta, "the largest magnitude that went"),
            _words.file_card(point.size_bytes, point.dense.size_bytes),
        ]
        alt = _words.sentence(f"{point.dense.name}, pruned {point.method}", cards)
        if point.training is None:
            return Words(cards, alt, _words.status(point.score))
        done = f"{point.method}: {point.training:.0%} of {EPOCHS} epochs trained"
        return Words(cards, alt, f"{done}; {_words.status(point.score)}")

    def train(self, settings: dict[str, Any], show: Callable[[Pruned], None], overtaken: Callable[[], bool]) -> None:
        """Heal the pruned network, or prune the dense one gradually, for EPOCHS epochs; show where it stands."""
        point, method, scope = next(self.results(**settings)), settings["method"], settings["scope"]
        dense, layer, model = point.dense, point.layer, point.model
        hook = keep_zeros(model)
        if method == "gradual":
            layers, steps = [layer] if layer else None, EPOCHS * len(dense.data.train) // batch_size(dense.data.train)
            often = min(50, steps // 20 + 1)  # a small data set has few steps to rise in
            model, hook = dense.model, prune_gradually(target(point), every=often, scope=scope, layers=layers)

        def picture(model: nn.Module, progress: float) -> None:
            show(next(describe(dense, model, layer, sampled, method=method, training=progress)))

        look = paced(picture, 0.3)

        def after_step(model: nn.Module, progress: float) -> None:
            hook(model, progress)
            look(model, progress)

        model, _ = fit(
            model, dense.data.train, epochs=EPOCHS, lr=1e-3, batch_size=batch_size(dense.data.train),
            after_step=after_step, progress=False, cancel=overtaken,
        )  # fmt: skip
        for result in describe(dense, model, layer, whole, method=method, training=1.0):
            show(result)


def target(point: Pruned) -> float:
    """The sparsity that was reached among the weights that compete."""
    if point.layer:
        return point.sparsity[point.layer]
    return 1 - point.left[0] / point.left[1]


def pruning(model: nn.Module | None = None, data: Data | None = None) -> Panel:
    """The live panel of notebook 01: the shipped checkpoints, or your own trained `model` with its `data`."""
    own, controls = start(model, data)
    layers = own.layers if own else shipped(controls["checkpoint"].value).layers
    menu = _controls.layers(layers)
    controls |= {
        "by": _controls.choice("prune by", [("sparsity", "sparsity"), ("threshold θ", "threshold")], "sparsity"),
        "sparsity": _controls.share("sparsity", 0.9),
        "threshold": _controls.real("threshold θ", 0.05, 0.3, 0.002),
        "scope": _controls.choice(
            "scope", [("global: one ranking", "global"), ("layer: each its own", "layer")], "global"
        ),
        "layer": menu,
        "method": _controls.choice(
            "then train", [("fine-tune what is left", "fine-tuned"), ("prune gradually", "gradual")], "fine-tuned"
        ),
    }
    view = Pruning(own)
    panel = Panel("pruning", view, controls, job=(f"train {EPOCHS} epochs", view.train))
    follow(controls, menu)
    return panel
