"""Views of the plane of accuracy against size: a star moves on it, and beside it is where the bytes of the file are."""

from typing import ClassVar

from labkit import drawing
from labkit.live.baseline import Baseline
from labkit.live.compression import Compressed, CompressionView
from labkit.live.network import Star

Place = tuple[float, float, float, float]  # left, bottom, width, height of axes, in shares of the figure
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
        sizes = {str(k): int(v) for k, v in point.ledger.groupby("component")["bytes"].sum().items()}
        drawing.fill_waterfall(self.bars, self.sizes, sizes, self.parts)
