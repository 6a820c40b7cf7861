"""Panel of notebook 10: sparsity, bits and coder make a real file; papers' files stand on the same axes."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from labkit import plots, store
from labkit.compress.deep_compression import deep_compress
from labkit.compress.qat import finish_qat
from labkit.compress.quantize import quantize
from labkit.data import Data
from labkit.explore import _controls, _words
from labkit.explore._figure import LiveFigure
from labkit.explore._overview import Point, measured
from labkit.explore._panel import Panel, Words
from labkit.explore._score import workers
from labkit.explore._start import Dense, Key, shipped, start
from labkit.frontier import published
from labkit.sweep import compress

CODERS = {"fixed width": (), "Huffman": ("huffman",), "range coder": ("range",), "context (seconds)": store.CODERS}
COMPONENTS = ("values", "mask or indices", "scales", "biases", "BatchNorm", "header")
EPOCHS = (2, 1)  # of the button: pruning, then rounding


class DeepCompression:
    """The view: plane with papers, ledger of the file."""

    def __init__(self, own: Dense | None = None) -> None:
        self.live, self._own = LiveFigure(10.4, 4.5), own
        self._shown: Dense | None = None
        self.plane = self.live.figure.add_axes((0.075, 0.125, 0.5, 0.855))
        ledger = self.live.figure.add_axes((0.715, 0.125, 0.275, 0.79))
        ledger.set_title("where the bytes of the file are", fontsize=11, loc="left")
        self.bars, self.sizes = plots.waterfall(ledger, COMPONENTS)
        self.live.move([*self.bars, *self.sizes])

    def results(self, sparsity: float, bits: int, coder: str, checkpoint: Key | None = None) -> Iterator[Point]:
        """Measure one setting, one-shot; the context coder follows when the score is settled."""
        dense: Dense = shipped(checkpoint) if checkpoint else self._own  # type: ignore[assignment]
        small = workers().submit(compress, dense.model, sparsity, bits).result()
        yield from self.written(dense, small, sparsity, bits, coder)

    def written(self, dense: Dense, small: nn.Module, sparsity: float, bits: int, coder: str) -> Iterator[Point]:
        """Measure `small` and its file under a coder."""
        coders = CODERS[coder]
        for point in measured(dense, small, sparsity, bits, store.QUICK if "context" in coders else coders):
            yield replace(point, read_back=point.read_back and "context" not in coders)
        if "context" in coders:
            raw, table = store.encode_with_ledger(small, coders)
            store.check_equal(small, store.decode(raw, into=dense.model))
            yield replace(point, file=table, read_back=True)

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
        rows = published(*dense.key) if dense.key else published("", "")
        plots.published_plane(self.plane, rows, dense.size_bytes, dense.score.accuracy)
        (self.interval,) = self.plane.plot([], [], "-", color=plots.RED, lw=3, solid_capstyle="butt", zorder=5)
        (self.star,) = self.plane.plot([], [], "*", ms=21, color=plots.ORANGE, mec="black", mew=1.2, zorder=6)
        self.live.move([self.interval, self.star])
        self.live.refresh()
        self._shown = dense

    def tell(self, point: Point) -> Words:
        """The point in words."""
        kept = point.left[0]
        cards = [
            _words.accuracy_card(point.score, point.dense.score),
            _words.file_card(point.size_bytes, point.dense.size_bytes),
            _words.count_card(*point.left),
            (
                "bits a kept weight",
                f"{8 * point.size_bytes / max(1, kept):.1f}",
                f"of the file; its value has {point.bits}",
            ),
        ]
        alt = _words.sentence(f"{point.dense.name}, {point.sparsity:.1%} pruned, {point.bits} bits", cards)
        file = "file written, read back and equal" if point.read_back else "writing the file and reading it back …"
        return Words(cards, alt, _words.status(point.score, f"; {file}"))

    def train(self, settings: dict, show: Callable[[Point], None], overtaken: Callable[[], bool]) -> None:
        """Prune and round again, training all the while; show where it stands."""
        dense = next(self.results(**settings)).dense
        how = {name: settings[name] for name in ("sparsity", "bits", "coder")}
        due = time.perf_counter()

        def after_step(model: nn.Module, progress: float) -> None:
            nonlocal due
            if time.perf_counter() > due and progress < 1:
                rounding = progress > EPOCHS[0] / sum(EPOCHS)
                small = finish_qat(model) if rounding else quantize(model, how["bits"])
                show(next(self.written(dense, small, **how)))
                due = time.perf_counter() + 0.4

        given: dict[str, Any] = dict(progress=False, cancel=overtaken, after_step=after_step)
        small, _ = deep_compress(
            dense.model, dense.data.train, sparsity=how["sparsity"], bits=how["bits"], epochs=EPOCHS, lr=1e-3, **given
        )
        for point in self.written(dense, small, **how):
            show(point)


def deep_compression(model: nn.Module | None = None, data: Data | None = None) -> Panel:
    """The live panel of notebook 10: the shipped checkpoints, or your own trained `model` with its `data`."""
    own, controls = start(model, data)
    controls |= {
        "sparsity": _controls.share("sparsity", 0.92, high=0.995, step=0.005),
        "bits": _controls.bits(value=4, floating=False),
        "coder": _controls.choice("coder", list(CODERS), "range coder"),
    }
    view = DeepCompression(own)
    return Panel("deep compression", view, controls, ("retrain: 2 epochs pruning, 1 rounding", view.train))
