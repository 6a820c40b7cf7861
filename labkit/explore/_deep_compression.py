"""Panel of notebook 10: sparsity, bits and coder make a real file; papers' files stand on the same axes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from torch import nn

from labkit import plots, store
from labkit.compress.deep_compression import deep_compress
from labkit.compress.qat import finish_qat
from labkit.compress.quantize import quantize
from labkit.data import Data
from labkit.explore import _controls, _words
from labkit.explore._overview import PlaneView, Point, measured
from labkit.explore._panel import Panel, Words
from labkit.explore._score import Scoring, sampled, scores, whole, workers
from labkit.explore._start import Dense, Key, shipped, start
from labkit.explore._training import batch_size, paced
from labkit.frontier import published
from labkit.sweep import compress

CODERS = {"fixed width": (), "Huffman": ("huffman",), "range coder": ("range",), "context (seconds)": store.CODERS}
EPOCHS = (2, 1)  # of the button: pruning, then rounding


class DeepCompression(PlaneView):
    """The view: plane with papers, ledger of the file."""

    def __init__(self, own: Dense | None = None) -> None:
        super().__init__(own, 4.5, (0.075, 0.125, 0.5, 0.855), (0.715, 0.125, 0.275, 0.79))

    def results(self, sparsity: float, bits: int, coder: str, checkpoint: Key | None = None) -> Iterator[Point]:
        """Measure one setting, one-shot; the context coder follows when the score is settled."""
        dense: Dense = shipped(checkpoint) if checkpoint else self._own  # type: ignore[assignment]
        small = workers().submit(compress, dense.model, sparsity, bits).result()
        yield from self.written(dense, small, sparsity, bits, coder)

    def written(
        self, dense: Dense, small: nn.Module, sparsity: float, bits: int, coder: str, scored: Scoring = scores
    ) -> Iterator[Point]:
        """Measure `small` and its file under a coder."""
        coders = CODERS[coder]
        slow = "context" in coders
        for point in measured(dense, small, sparsity, bits, store.QUICK if slow else coders, scored):
            yield point
            if slow and point.score.settled:  # another file follows: this one need not be read back
                break
        if slow:
            raw, table = store.encode_with_ledger(small, coders)
            store.check_equal(small, store.decode(raw, into=dense.model))
            yield replace(point, file=table, read_back=True)

    def still(self, dense: Dense) -> None:
        """Papers' files and ours."""
        rows = published(*dense.key) if dense.key else published("", "")
        plots.published_plane(self.plane, rows, dense.size_bytes, dense.score.accuracy)

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

    def train(self, settings: dict[str, Any], show: Callable[[Point], None], overtaken: Callable[[], bool]) -> None:
        """Prune and round again, training all the while; show where it stands."""
        dense = next(self.results(**settings)).dense
        how = {name: settings[name] for name in ("sparsity", "bits", "coder")}

        def picture(model: nn.Module, progress: float) -> None:
            rounding = progress > EPOCHS[0] / sum(EPOCHS)
            small = finish_qat(model) if rounding else quantize(model, how["bits"])
            show(next(self.written(dense, small, **how, scored=sampled)))

        given: dict[str, Any] = dict(progress=False, cancel=overtaken, after_step=paced(picture, 0.4))
        given["batch_size"] = batch_size(dense.data.train)
        small, _ = deep_compress(
            dense.model, dense.data.train, sparsity=how["sparsity"], bits=how["bits"], epochs=EPOCHS, lr=1e-3, **given
        )
        for point in self.written(dense, small, **how, scored=whole):
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
