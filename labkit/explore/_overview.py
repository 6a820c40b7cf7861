"""Panel of notebook 00: sparsity and bits move a trained network over the accuracy-against-size plane."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import nn

from labkit import plots, store
from labkit.compress._weights import weights
from labkit.data import Data
from labkit.explore import _controls, _words
from labkit.explore._figure import LiveFigure
from labkit.explore._panel import Panel, Words
from labkit.explore._score import Score, Scoring, scores, workers
from labkit.explore._start import Dense, Key, shipped, start
from labkit.sweep import compress

FLIPS = 6
Place = tuple[float, float, float, float]  # left, bottom, width, height of axes, in shares of the figure
COMPONENTS = ("values", "mask or indices", "scales", "biases", "BatchNorm", "header")


@dataclass(frozen=True)
class Point:
    """One setting, measured: the file is real, the score is on validation images."""

    dense: Dense
    sparsity: float
    bits: int
    file: pd.DataFrame  # the ledger
    left: tuple[int, int]  # weights that are not zero, and all
    score: Score
    read_back: bool  # the file was decoded and every tensor compared

    @property
    def size_bytes(self) -> int:
        """The length of the file."""
        return int(self.file["bytes"].sum())


def points(dense: Dense, sparsity: float, bits: int) -> Iterator[Point]:
    """Prune and round `dense`, and measure that."""
    small = workers().submit(compress, dense.model, sparsity, bits).result()
    yield from measured(dense, small, sparsity, bits, store.QUICK)


def measured(
    dense: Dense, small: nn.Module, sparsity: float, bits: int, coders: Collection[str], scored: Scoring = scores
) -> Iterator[Point]:
    """Write the file of `small`, score it: a preview first where all of validation would be late.

    Every point is measured on what is at hand: nothing is looked up. The last one has also read the file back.
    """
    found = scored(small, dense.data.validation)  # copies the network before the coder, all Python, has the interpreter
    file = workers().submit(store.encode_with_ledger, small, coders)
    left = workers().submit(lambda: _words.weights_left(weights(small)))
    for score in found:
        raw, table = file.result()
        yield Point(dense, sparsity, bits, table, left.result(), score, read_back=False)
    store.check_equal(small, store.decode(raw, into=dense.model))
    yield Point(dense, sparsity, bits, table, left.result(), score, read_back=True)


class PlaneView:
    """What two views share: a plane on which the point moves, and the ledger of its file."""

    def __init__(self, own: Dense | None, height: float, plane: Place, ledger: Place) -> None:
        self.live, self._own = LiveFigure(10.4, height), own
        self._shown: Dense | None = None
        self.plane = self.live.figure.add_axes(plane)
        rows = self.live.figure.add_axes(ledger)
        rows.set_title("where the bytes of the file are", fontsize=11, loc="left")
        self.bars, self.sizes = plots.waterfall(rows, COMPONENTS)
        self.live.move([*self.bars, *self.sizes])

    def still(self, dense: Dense) -> None:
        """Draw on the plane what does not move."""
        raise NotImplementedError

    def draw(self, point: Point) -> None:
        """Move the point and the bars."""
        if point.dense is not self._shown:
            self._draw_plane(point.dense)
        if plots.make_room(self.plane, point.size_bytes, point.score.accuracy):
            self.live.refresh()
        low, high = plots.logit(np.array(point.score.interval))
        self.interval.set_data([point.size_bytes] * 2, [low, high])
        self.star.set_data([point.size_bytes], [plots.logit(point.score.accuracy)])
        self.star.set_alpha(1 if point.score.settled else 0.5)
        sizes = {str(k): int(v) for k, v in point.file.groupby("component")["bytes"].sum().items()}
        plots.fill_waterfall(self.bars, self.sizes, sizes, COMPONENTS)

    def _draw_plane(self, dense: Dense) -> None:
        self.live.moving = [a for a in self.live.moving if a.axes is not self.plane]
        self.plane.clear()
        self.still(dense)
        (self.interval,) = self.plane.plot([], [], "-", color=plots.RED, lw=3, solid_capstyle="butt", zorder=5)
        (self.star,) = self.plane.plot([], [], "*", ms=21, color=plots.ORANGE, mec="black", mew=1.2, zorder=6)
        self.live.move([self.interval, self.star])
        self.live.refresh()
        self._shown = dense


class Overview(PlaneView):
    """The view: plane, ledger and flipped images."""

    def __init__(self, own: Dense | None = None) -> None:
        super().__init__(own, 4.7, (0.075, 0.125, 0.49, 0.845), (0.715, 0.5, 0.275, 0.43))
        figure = self.live.figure
        strip = figure.add_axes((0.605, 0.2, 0.385, 0.1325))  # the shape of the strip
        strip.set_axis_off()
        self.strip = strip.imshow(np.ones((28, FLIPS * 30, 3)), interpolation="nearest", vmin=0, vmax=1, aspect="auto")
        self.caption = figure.text(0.605, 0.385, "", fontsize=10)
        places = [0.605 + 0.385 * (i + 0.47) / FLIPS for i in range(FLIPS)]
        self.names = [figure.text(x, 0.18, "", fontsize=8.5, ha="center", va="top") for x in places]
        self.live.move([self.strip, *self.names])

    def results(self, sparsity: float, bits: int, checkpoint: Key | None = None) -> Iterator[Point]:
        """Measure one setting of the controls."""
        return points(shipped(checkpoint) if checkpoint else self._own, sparsity, bits)  # type: ignore[arg-type]

    def draw(self, point: Point) -> None:
        """Move the point, the bars and the images."""
        super().draw(point)
        self._draw_flips(point)

    def still(self, dense: Dense) -> None:
        """The sweep of settings and their frontier."""
        plots.plane(self.plane, dense.sweep("frontier"), dense.size_bytes, dense.score.accuracy)
        grey = _words.grey_of(dense.data)
        about = f" ({grey})" if grey else ": what it is → what it is taken for"
        self.caption.set_text(f"right before, wrong now{about}")
        self.strip.set_visible(_words.has_pictures(dense.data))

    def _draw_flips(self, point: Point) -> None:
        data = point.dense.data
        lost, _ = _words.flips_of(point.dense.score, point.score, data.validation.y)
        self.strip.set_data(plots.filmstrip(_words.pictures(data, lost[:FLIPS]), FLIPS))
        for place, text in enumerate(self.names):
            text.set_text(flip_name(point, lost[place]) if place < len(lost) else "")

    def tell(self, point: Point) -> Words:
        """The point in words."""
        truth = point.dense.data.validation.y
        cards = [
            _words.accuracy_card(point.score, point.dense.score),
            _words.file_card(point.size_bytes, point.dense.size_bytes),
            _words.count_card(*point.left),
            _words.flips_card(point.dense.score, point.score, truth),
        ]
        rounding = "weights not rounded" if point.bits == 32 else f"weights rounded to {point.bits} bits"
        alt = _words.sentence(f"{point.dense.name}, {point.sparsity:.0%} of the weights pruned, {rounding}", cards)
        alt += f"; pictures in {grey}" if (grey := _words.grey_of(point.dense.data)) else ""
        file = "file written, read back and equal, tensor by tensor" if point.read_back else "reading the file back …"
        return Words(cards, alt, _words.status(point.score, f"; {file}"))


def flip_name(point: Point, index: int) -> str:
    """True class, then what the small network takes the image for; of text, the last characters above both."""
    data = point.dense.data
    if data.of_text:
        known = data.validation.x[index, -8:], data.validation.y[index], point.score.predicted[index]
        before, behind, taken = (_words.letters(data, numbers) for numbers in known)
        return f"{before}\n{behind} → {taken}"
    classes, truth = data.classes, int(data.validation.y[index])
    said = classes[int(point.score.predicted[index])]
    between = " → " if len(classes[truth] + said) < 6 else "\n→ "  # a line of text costs half a millisecond a frame
    return classes[truth] + between + said


def overview(model: nn.Module | None = None, data: Data | None = None) -> Panel:
    """The live panel of notebook 00: the shipped checkpoints, or your own trained `model` with its `data`."""
    own, controls = start(model, data)
    controls |= {"sparsity": _controls.share("sparsity", 0.8), "bits": _controls.bits(value=5)}
    return Panel("overview", Overview(own), controls)
