"""Views of one-shot compression: a network goes in, a smaller one comes out, its file is written and it is scored."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from torch import Tensor, nn

from labkit import store
from labkit.compress._weights import relative_error, weights
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.network import NetworkView
from labkit.live.score import Score, Scoring, sampled, scores, whole, workers
from labkit.live.training import batch_size, paced
from labkit.live.view import Card, Summary
from labkit.optim import Hook
from labkit.train import fit

LOOK = 0.3  # seconds between two pictures of a training
Row = Mapping[Any, Any]  # of a measured sweep


@dataclass(frozen=True)
class Compressed:
    """A compressed network, measured; `facts` is what its picture needs; `training` the share of a run that is done."""

    dense: Baseline
    settings: Any
    model: nn.Module
    facts: Any
    left: tuple[int, int]  # weights that are not zero, and all
    size_bytes: int
    score: Score
    training: float | None = None
    ledger: Any = None  # of the file, a table, where the view shows it
    read_back: bool = False  # the file was decoded and every tensor compared

    @property
    def sparsity(self) -> float:
        """The share of zeros among all weights."""
        return 1 - self.left[0] / self.left[1]


class CompressionView(NetworkView):
    """A view of one compression; a subclass says how (`compress`) and what the picture needs of it (`look`)."""

    pure = True
    scored = 'lk.accuracy(small, data.validation)["accuracy"], len(lk.encode(small))'  # the last line of the code
    ledger = False  # whether the file is looked into and, when the figures are settled, read back
    epochs = 0  # of the training that the button starts
    file_note = "the compressed network, as a .lk file"
    still_by = "layer"  # the setting that changes the still part

    def compress(self, dense: Baseline, settings: Any) -> nn.Module:
        """A smaller network, the one in use unchanged."""
        raise NotImplementedError

    def look(self, dense: Baseline, small: nn.Module, settings: Any) -> Any:
        """What the picture needs besides the score."""
        return None

    def cards(self, point: Compressed) -> list[Card]:
        """The figures: accuracy and file; a subclass adds its own."""
        accuracy = words.accuracy_card(point.score, point.dense.score)
        return [accuracy, words.file_card(point.size_bytes, point.dense.size_bytes)]

    def measure(self, dense: Baseline, settings: Any) -> Iterator[Compressed]:
        """Compress, write the file, score it: a preview first where all of validation would be late."""
        small = workers().submit(self.compress, dense, settings).result()
        yield from self.measured(dense, settings, small)

    def coders(self, settings: Any) -> Collection[str]:
        """What the file is coded with."""
        return store.QUICK

    def measured(
        self, dense: Baseline, settings: Any, small: nn.Module, scored: Scoring = scores, training: float | None = None
    ) -> Iterator[Compressed]:
        """Write the file of `small` and score it."""
        found = scored(small, dense.data.validation)  # copies the network before the coder has the interpreter
        file = workers().submit(self._written, small, settings)
        facts = workers().submit(self.look, dense, small, settings)
        left = workers().submit(lambda: words.weights_left(weights(small)))
        for score in found:
            raw, table = file.result()
            point = Compressed(
                dense, settings, small, facts.result(), left.result(), len(raw), score, training, table
            )  # fmt: skip
            yield point
        if self.ledger:
            store.check_equal(small, store.decode(raw, into=dense.model))
            yield replace(point, read_back=True)
        yield from self.further(point)

    def further(self, point: Compressed) -> Iterator[Compressed]:
        """Results that follow the settled figures."""
        yield from ()

    def file(self, point: Compressed) -> tuple[str, bytes]:
        """The file of the network, as it was measured."""
        return f"{point.dense.name.replace(' ', '-')}.lk", store.encode(point.model, self.coders(point.settings))

    def still_for(self, point: Compressed) -> Any:
        """What the still part depends on."""
        return point.dense, getattr(point.settings, self.still_by, "")

    def _written(self, small: nn.Module, settings: Any) -> tuple[bytes, pd.DataFrame | None]:
        if self.ledger:
            return store.encode_with_ledger(small, self.coders(settings))
        return store.encode(small), None

    def offer(
        self, ax: Axes, records: pd.DataFrame, said: Callable[[Row], str], settings: Callable[[Row], dict[str, Any]],
        x: str = "size_bytes",
    ) -> None:  # fmt: skip
        """Let each row of a sweep say `said(row)` where its point is, and lead to `settings(row)` when clicked."""
        rows = records.to_dict("records")
        self.live.offer(ax, [(row[x], row["accuracy"]) for row in rows], map(said, rows), map(settings, rows))

    def made(self, settings: Mapping[str, Any]) -> list[str]:
        """The lines of code that make `small` of `model`."""
        raise NotImplementedError

    def code(self, settings: Mapping[str, Any]) -> str:
        """Load, compress, score, write."""
        return "\n".join([*self.loaded(settings), *self.made(settings), self.scored])

    def summarize(self, point: Compressed) -> Summary:
        """The point in words."""
        cards = self.cards(point)
        file = (
            "; file written, read back and equal, tensor by tensor" if point.read_back else "; reading the file back …"
        )
        status = words.status(point.score, file if self.ledger else "")
        if point.training is not None:
            status = f"{point.training:.0%} of {words.count(self.epochs, 'epoch')} trained; {status}"
        title = words.finding(point.dense.score, point.score, point.dense.size_bytes / point.size_bytes)
        trained = "" if point.training is None else ", trained again"
        alt = words.sentence(words.setting(point.dense, point.settings, self) + trained, cards)
        return Summary(cards, alt, status, title, point.training)

    def train(
        self, settings: dict[str, Any], show: Callable[[Compressed], None], overtaken: Callable[[], bool]
    ) -> None:  # fmt: skip
        """Train the compressed network for some epochs; show where it stands."""
        point: Compressed = next(self.results(**settings))
        dense = point.dense

        def picture(model: nn.Module, progress: float) -> None:
            show(next(self.measured(dense, point.settings, model, sampled, progress)))

        model = self.retrain(point, paced(picture, LOOK), overtaken)
        for result in self.measured(dense, point.settings, model, whole, 1.0):
            show(result)

    def trained(self, point: Compressed) -> tuple[nn.Module, list[Hook]]:
        """The network that the button trains, and what is called after each of its steps."""
        return point.model, []

    def retrain(self, point: Compressed, after_step: Hook, cancel: Callable[[], bool]) -> nn.Module:
        """The network after `epochs` of training."""
        train, (model, hooks) = point.dense.data.train, self.trained(point)
        model, _ = fit(
            model, train, epochs=self.epochs, lr=1e-3, batch_size=batch_size(train), after_step=[*hooks, after_step],
            progress=False, cancel=cancel,
        )  # fmt: skip
        return model


def zeros_by_layer(small: nn.Module) -> dict[str, float]:
    """The share of zeros in each layer."""
    return {name: float((weight == 0).float().mean()) for name, weight in weights(small).items()}


def relative_errors(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, float]:
    """The root mean square error of each weight, over its standard deviation."""
    return {name: relative_error(after[name], weight) for name, weight in before.items()}
