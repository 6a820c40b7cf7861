"""Views of one-shot compression: a network goes in, a smaller one comes out, its file is written and it is scored."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from torch import nn

from labkit import store
from labkit.compress._weights import weights
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.network import NetworkView
from labkit.live.score import Score, Scoring, sampled, scores, whole, workers
from labkit.live.training import batch_size, paced
from labkit.live.view import Card, Summary
from labkit.optim import Hook
from labkit.train import fit

LOOK = 0.3  # seconds between two pictures of a training


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


class CompressionView(NetworkView):
    """A view of one compression; a subclass says how (`compress`) and what the picture needs of it (`look`)."""

    pure = True
    scored = 'lk.accuracy(small, data.validation)["accuracy"], len(lk.encode(small))'  # the last line of the code
    ledger = False  # whether the file is looked into and, when the figures are settled, read back
    epochs = 0  # of the training that the button starts

    def compress(self, dense: Baseline, settings: Any) -> nn.Module:
        """A smaller network, the one in use unchanged."""
        raise NotImplementedError

    def look(self, dense: Baseline, small: nn.Module, settings: Any) -> Any:
        """What the picture needs besides the score."""
        return None

    def cards(self, point: Compressed) -> list[Card]:
        """The figures."""
        raise NotImplementedError

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

    def _written(self, small: nn.Module, settings: Any) -> tuple[bytes, pd.DataFrame | None]:
        if self.ledger:
            return store.encode_with_ledger(small, self.coders(settings))
        return store.encode(small), None

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

    def retrain(self, point: Compressed, after_step: Hook, cancel: Callable[[], bool]) -> nn.Module:
        """The network after `epochs` of training."""
        train = point.dense.data.train
        model, _ = fit(
            point.model, train, epochs=self.epochs, lr=1e-3, batch_size=batch_size(train), after_step=after_step,
            progress=False, cancel=cancel,
        )  # fmt: skip
        return model
