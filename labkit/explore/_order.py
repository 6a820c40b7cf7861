"""Panel of notebook 10b: three steps in any order, in one go at once, and trained at one budget behind it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from matplotlib.artist import Artist
from torch import nn

from labkit import plots, store
from labkit.compress._weights import weights
from labkit.compress.compose import STEPS, as_stored, compose
from labkit.data import Data
from labkit.explore import _controls, _words
from labkit.explore._figure import LiveFigure
from labkit.explore._panel import Card, Panel, Words
from labkit.explore._score import Score, scores, workers
from labkit.explore._start import Dense, Key, shipped, start
from labkit.explore._training import GHOST_COLOURS, GHOSTS, batch_size, paced, training_set
from labkit.sweep.order import EPOCHS, IMAGES

NETWORKS = (("lenet-300-100", "mnist"), ("lenet-300-100", "fashion-mnist"), ("lenet-5", "mnist"))
FRAME = 0.3  # seconds between two pictures of a training
Place = tuple[float, float]  # bytes, accuracy


@dataclass(frozen=True)
class Swap:
    """The same in one go with "prune" and "quantize" in each other's place."""

    accuracy: float
    differ: int  # weights that have another value


@dataclass(frozen=True)
class Composed:
    """A composition, measured: in one go, or (`training` is the share that is done) on its way."""

    dense: Dense
    steps: tuple[str, ...]
    sparsity: float
    bits: int
    model: nn.Module
    zeros: dict[str, float]  # share of zeros, by layer
    left: tuple[int, int]
    size_bytes: int
    score: Score
    one_shot: Place | None = None  # None: this is it
    swap: Swap | None = None
    training: float | None = None
    path: tuple[Place, ...] = ()  # of this training
    ghosts: tuple["Composed", ...] = ()

    @property
    def place(self) -> Place:
        """Where it lies on the plane."""
        return self.size_bytes, self.score.accuracy

    @property
    def name(self) -> str:
        """The steps in a line, as sweeps name them."""
        return ", ".join(self.steps) or "fine-tune"

    @property
    def key(self) -> tuple[Any, ...]:
        """What a later training with the same settings takes the place of."""
        return self.dense.name, self.steps, self.sparsity, self.bits


def in_one_go(dense: Dense, steps: tuple[str, ...], sparsity: float, bits: int) -> nn.Module:
    """The techniques one after the other, nothing trained."""
    return workers().submit(_untrained, dense, steps, sparsity, bits).result()


def _untrained(dense: Dense, steps: tuple[str, ...], sparsity: float, bits: int) -> nn.Module:
    return compose(dense.model, dense.data.train, steps, sparsity=sparsity, bits=bits, epochs=0)[0]


def described(base: Composed, small: nn.Module) -> Iterator[Composed]:
    """`base` with another network, measured: a preview first where all of validation would be late."""
    file, after = workers().submit(store.encode, small), weights(small)
    base = replace(
        base,
        model=small,
        zeros={name: float((w == 0).float().mean()) for name, w in after.items()},
        left=_words.weights_left(after),
    )
    for score in scores(small, base.dense.data.validation):
        yield replace(base, size_bytes=len(file.result()), score=score)


def swapped(point: Composed) -> Swap | None:
    """The composition with the two exchanged; None where there are not both."""
    if not {"prune", "quantize"} <= set(point.steps):
        return None
    other = {"prune": "quantize", "quantize": "prune"}
    steps = tuple(other.get(step, step) for step in point.steps)
    small = in_one_go(point.dense, steps, point.sparsity, point.bits)
    *_, score = scores(small, point.dense.data.validation)
    pairs = zip(weights(small).values(), weights(point.model).values(), strict=True)
    return Swap(score.accuracy, sum(int(torch.count_nonzero(a != b)) for a, b in pairs))


class Order:
    """The view: the plane, zeros by layer, and the compositions that were trained."""

    def __init__(self, own: Dense | None = None) -> None:
        self.live, self._own = LiveFigure(10.4, 4.7), own
        self._shown: Dense | None = None
        self._ended: list[Composed] = []
        add = self.live.figure.add_axes
        self.plane = add((0.085, 0.125, 0.485, 0.8))
        self.layers = add((0.66, 0.635, 0.305, 0.29))
        self.key = add((0.6, 0.04, 0.395, 0.37))

    def results(
        self, first: str, second: str, third: str, sparsity: float, bits: int, checkpoint: Key | None = None
    ) -> Iterator[Composed]:
        """Measure the composition in one go, then the one with pruning and quantization exchanged."""
        dense: Dense = shipped(checkpoint) if checkpoint else self._own  # type: ignore[assignment]
        steps = tuple(step for step in (first, second, third) if step)
        base = Composed(dense, steps, sparsity, bits, dense.model, {}, (0, 0), 0, dense.score)
        ghosts = [ghost for ghost in self._ended if ghost.dense is dense and ghost.key != base.key]
        for point in described(replace(base, ghosts=tuple(ghosts[-GHOSTS:])), in_one_go(dense, steps, sparsity, bits)):
            yield point
        yield replace(point, swap=swapped(point))

    def train(self, settings: dict[str, Any], show: Callable[[Composed], None], overtaken: Callable[[], bool]) -> None:
        """Train the composition; show where a file of it would lie on its way."""
        *_, point = self.results(**settings)
        point = replace(point, one_shot=point.place, training=0.0)

        def picture(model: nn.Module, progress: float) -> None:
            nonlocal point
            for result in described(replace(point, training=progress), as_stored(model)):
                if overtaken():  # what is still to be measured, the newer setting would wait for
                    return
                later = replace(result, path=(*point.path, result.place))
            show(point := later)

        train = training_set(point.dense.data, IMAGES)
        small, _ = compose(
            point.dense.model, train, point.steps, sparsity=point.sparsity, bits=point.bits, epochs=EPOCHS,
            batch_size=batch_size(train), after_step=paced(picture, FRAME), progress=False, cancel=overtaken,
        )  # fmt: skip
        if overtaken():
            return
        *_, result = described(replace(point, training=1.0), small)
        show(replace(result, path=(*point.path, result.place)))
        self._ended = [ghost for ghost in self._ended if ghost.key != result.key] + [result]

    def draw(self, point: Composed) -> None:
        """Move the star, the way of the training, the earlier ones, and the bars."""
        if point.dense is not self._shown:
            self._draw_still(point.dense)
        star = point.one_shot or point.place
        places = [star, point.place, *(ghost.place for ghost in point.ghosts)]
        if any([plots.make_room(self.plane, *place) for place in places]):
            self.live.refresh()
        put(self.star, [star])
        put(self.measured, self._measured.get(point.name, []))
        put(self.way, point.path)
        put(self.now, [point.place] if point.training is not None else [])
        for bar, share in zip(self.bars, point.zeros.values(), strict=True):
            bar.set_width(share)
        shown = point.ghosts[::-1]
        for i, marker in enumerate(self.ghosts):
            put(marker, [shown[i].place] if i < len(shown) else [])
        lines = [caption(point) if point.training is not None else "the training starts when the controls rest"]
        lines += [caption(ghost) for ghost in shown] + [""] * (GHOSTS - len(shown))
        for dash, text, line in zip(self.dashes, self.rows, lines, strict=True):
            dash.set_visible(bool(line))
            text.set_text(line)

    def _draw_still(self, dense: Dense) -> None:
        for ax in (self.plane, self.layers, self.key):
            ax.clear()
        self.live.moving.clear()
        sweep = dense.sweep("order")
        self.measured = plots.order_plane(self.plane, sweep, dense.size_bytes, dense.score.accuracy)
        means = plots.composed_means(sweep).groupby("steps")[["size_bytes", "accuracy"]]
        self._measured = {str(steps): [*rows.itertuples(index=False, name=None)] for steps, rows in means}
        self.plane.set_title("★ in one go, now; ✚ trained, now", fontsize=11, loc="left")
        names = [name.removesuffix(".weight") for name in dense.layers]
        self.bars = plots.layer_bars(self.layers, len(names), "zeros in the layer")
        self.layers.set_yticks(range(len(names)), names, fontsize=9)
        self.layers.set_title("zeros, now", fontsize=11, loc="left")
        plot = self.plane.plot
        self.ghosts = [plot([], [], "P", ms=9, color=c, mec="black", mew=0.6, zorder=5)[0] for c in GHOST_COLOURS]
        (self.way,) = plot([], [], "-", color=plots.BLACK, lw=1.2, zorder=4)
        (self.star,) = plot([], [], "*", ms=19, color=plots.YELLOW, mec="black", mew=1.2, zorder=6)
        (self.now,) = plot([], [], "P", ms=13, color=plots.RED, mec="black", mew=1.2, zorder=7)
        self.dashes, self.rows = plots.key_rows(self.key, [plots.RED, *GHOST_COLOURS])
        self.key.set_title("trained: now, and earlier", fontsize=11, loc="left")
        lines = [self.measured, *self.ghosts, self.way, self.star, self.now]
        self.live.move([*self.bars, *lines, *self.dashes, *self.rows])
        self.live.refresh()
        self._shown = dense

    def tell(self, point: Composed) -> Words:
        """The composition in words."""
        cards = [
            _words.accuracy_card(point.score, point.dense.score),
            _words.file_card(point.size_bytes, point.dense.size_bytes),
            _words.count_card(*point.left),
            swap_card(point),
        ]
        far = f"sparsity {point.sparsity:.0%}, {point.bits} bits"
        alt = _words.sentence(f"{point.dense.name}, {' then '.join(point.steps) or 'fine-tune'}, {far}", cards)
        scored = _words.status(point.score)
        if point.training is None:
            return Words(cards, alt, f"in one go, nothing trained; {scored}")
        if point.training < 1:
            return Words(cards, alt, f"training: {point.training:.0%} done, now {stage(point)}; {scored}")
        images = len(training_set(point.dense.data, IMAGES))
        return Words(
            cards, alt, f"trained: {EPOCHS} epochs of {images:,} {point.score.what}, shared by the steps; {scored}"
        )


def stage(point: Composed) -> str:
    """The step that is at work; at the border of two, the one that ends."""
    steps = point.steps or ("fine-tune",)
    return steps[max(0, math.ceil(round((point.training or 0) * len(steps), 6)) - 1)]


def swap_card(point: Composed) -> Card:
    """What the other order gives in one go."""
    label = "in one go, swapped"
    if point.swap is None:
        both = {"prune", "quantize"} <= set(point.steps)
        return label, "–", "measured when the controls rest" if both else "needs a prune and a quantize"
    if not point.swap.differ:
        return label, f"{point.swap.accuracy:.2%}", "the same, weight for weight"
    this = (point.one_shot or point.place)[1]
    return label, f"{point.swap.accuracy:.2%}", f"this: {this:.2%} · {point.swap.differ:,} differ"


def caption(point: Composed) -> str:
    """A row of the key."""
    return plots.composed_caption(point.name, point.sparsity, point.bits, *point.place[::-1])


def put(line: Artist, places: tuple[Place, ...] | list[Place]) -> None:
    """Move a line or marker to places on the plane."""
    sizes, accuracies = np.array(places, float).reshape(-1, 2).T
    line.set_data(sizes, plots.logit(accuracies))  # type: ignore[attr-defined]


def order(model: nn.Module | None = None, data: Data | None = None) -> Panel:
    """The live panel of notebook 10b: the shipped checkpoints, or your own trained `model` with its `data`."""
    own, controls = start(model, data, NETWORKS)
    options = [(step, step) for step in STEPS] + [("nothing", "")]
    chosen = {"first": "quantize", "second": "prune", "third": ""}
    controls |= {name: _controls.choice(f"step {i}", options, step) for i, (name, step) in enumerate(chosen.items(), 1)}
    controls |= {"sparsity": _controls.share("sparsity", 0.95), "bits": _controls.bits(value=3, floating=False)}
    view = Order(own)
    return Panel("order", view, controls, run=view.train)
