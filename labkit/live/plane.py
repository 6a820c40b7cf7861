"""Views of accuracy against size, on which a star moves; beside it the bytes of the file, or the layers."""

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from matplotlib.artist import Artist

from labkit import drawing
from labkit.live.baseline import Baseline
from labkit.live.compression import Compressed, CompressionView
from labkit.live.network import BESIDE, Star

Place = tuple[float, float, float, float]  # left, bottom, width, height of axes, in shares of the figure
ERRORS_AND_SIZES = ((0.437, 0.135, 0.1, 0.79), (0.625, 0.135, 0.365, 0.79))  # boxes of LayersView, beside the weights
COMPONENTS = ("values", "mask or indices", "scales", "biases", "BatchNorm", "header")


class PlaneView(CompressionView):
    """A plane on which the point moves, and the ledger of its file; a subclass says what stands on the plane."""

    ledger = True
    plane_box: ClassVar[Place]
    ledger_box: ClassVar[Place]

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        self.plane = self.live.figure.add_axes(self.plane_box)
        self.rows = self.live.figure.add_axes(self.ledger_box)

    def background(self, point: Compressed) -> None:
        """The plane of `still`, the point on it and the bars of the ledger."""
        self.still(point.dense)
        self.rows.set_title("where the bytes of the file are", fontsize=11, loc="left")
        present = set(point.ledger["component"])
        self.parts = [part for part in COMPONENTS if part != "BatchNorm" or part in present]
        self.bars, self.sizes = drawing.waterfall(self.rows, self.parts)
        self.star = Star(self.live, self.plane)
        self.live.move([*self.bars, *self.sizes, *self.star.artists])

    def still(self, dense: Baseline) -> None:
        """What stands on the plane."""
        raise NotImplementedError

    def update(self, point: Compressed) -> None:
        """Move the point and the bars."""
        self.star.place(point.size_bytes, point.score, point.training is not None)
        sizes: Counter[str] = Counter()  # for a dozen rows 9 times as fast as groupby, at every picture
        for component, size in zip(point.ledger["component"], point.ledger["bytes"].tolist(), strict=True):
            sizes[component] += size
        drawing.fill_waterfall(self.bars, self.sizes, sizes, self.parts)


class LayersView(CompressionView):
    """The weights at the left, a bar for each layer, and measured curves on which the point moves.

    A subclass draws the weights and the curves; its facts have a number for each layer.
    """

    size = BESIDE
    boxes: ClassVar[Sequence[Place]]  # of the weights, the bars, the curves
    fact, label, title = "error", "rms error / std", "error by layer"  # which numbers; what their axis and title say
    largest: float = 1  # that a bar can show

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        *self.left, self.layers, self.curves = map(self.live.figure.add_axes, self.boxes)

    def draw_weights(self, point: Compressed) -> list[Artist]:
        """The still part of the weights; returns the artists that move."""
        raise NotImplementedError

    def draw_curves(self, dense: Baseline) -> None:
        """The measured curves."""
        raise NotImplementedError

    def background(self, point: Compressed) -> None:
        """Weights, one bar per layer, measured curves."""
        moving = self.draw_weights(point)
        layers = list(getattr(point.facts, self.fact))
        self.bars = drawing.layer_bars(self.layers, layers, self.label, self.title, self.largest)
        self.draw_curves(point.dense)
        self.star = Star(self.live, self.curves)
        self.live.move([*moving, *self.bars, *self.star.artists])

    def place(self, point: Compressed) -> float:
        """Where the point is on the horizontal axis of the curves."""
        return point.size_bytes

    def update(self, point: Compressed) -> None:
        """Move the bars and the point."""
        for bar, value in zip(self.bars, getattr(point.facts, self.fact).values(), strict=True):
            bar.set_width(min(value, self.largest))
        self.star.place(self.place(point), point.score, point.training is not None)
