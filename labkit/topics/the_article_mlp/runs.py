"""What the panel of notebook 09 shows, step by step: a network checked, trained beside another, pruned, retrained."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from labkit import article
from labkit.article import Array, Masks, Net
from labkit.data import Data, take
from labkit.live.score import SAMPLE, Score
from labkit.live.training import PACE, WATCHED, Moment, Run, Stop
from labkit.measure import size_bytes

IMAGES, EPOCHS, RETRAIN, BATCH = 10_000, 3, 1, 10
CHECKED = 40  # entries of each parameter that are checked, on the first BATCH images at most
# OpenBLAS uses one thread up to so many multiply-adds; with more, each product waits for the browser's core
ONE_THREAD = 2**18
THRESHOLDS = np.linspace(0, 0.5, 26)

Key = tuple[str, float, int]  # code, lr, hidden


class Rows(NamedTuple):
    """A data set in NumPy: rows to train on, their labels, held-out rows and labels, and the number of classes."""

    data: Data
    x: Array
    labels: np.ndarray
    held_x: Array
    held_labels: np.ndarray
    classes: int
    name: str = "the article's network"  # for the alt text

    def targets(self, code: str) -> Array:
        """The targets that the network of this code learns."""
        return article.targets(self.labels, self.classes, article.VARIANTS[code].targets)

    def accuracy(self, net: Net, images: int | None = None) -> float:
        """Share of the held-out rows, or the first `images` of them, that is classified correctly."""
        return self.score(net, images).accuracy

    def score(self, net: Net, images: int | None = None) -> Score:
        """The classes of the held-out rows, or the first `images` of them."""
        predicted = article.predict(net, self.held_x[:images])
        correct = int((predicted == self.held_labels[:images]).sum())
        return Score(torch.from_numpy(predicted), correct, len(predicted), len(self.held_x))


class Pruned(NamedTuple):
    """A pruned network: the masks that hold its zeros, accuracy, weights left of all weights, bytes of its file."""

    net: Net
    masks: Masks
    accuracy: float
    left: int
    weights: int
    size_bytes: int


@dataclass(frozen=True)
class Seen:
    """A network, as far as it is trained and pruned; `slopes` (analytic, numeric) are those of its initial weights."""

    dense: Rows
    key: Key
    net: Net
    run: Run
    settings: Any = None
    ghosts: tuple[Run, ...] = ()
    slopes: Mapping[str, tuple[Array, Array]] | None = None
    error: str = ""  # why the code does not run
    curve: Array | None = None  # accuracy at each of THRESHOLDS, once trained
    dense_bytes: int = 0  # of its file, once trained
    pruned: Pruned | None = None
    retrained: Pruned | None = None
    retraining: float = 0.0  # the share of the retraining that is done

    @property
    def size_bytes(self) -> int:
        """Of the pruned file; 0 before there is one."""
        return self.pruned.size_bytes if self.pruned else 0


def rows(data: Data) -> Rows:
    """The first IMAGES training images, and all of validation."""
    x, labels = article.arrays(take(data.train, min(IMAGES, len(data.train))))
    return Rows(data, x, labels, *article.arrays(data.validation), len(data.classes))


def fresh(rows: Rows, key: Key) -> Seen:
    """A new network and its gradient check."""
    code, lr, hidden = key
    variant = article.VARIANTS[code]
    net = article.new_net(rows.x.shape[1], hidden, rows.classes, init=variant.init)
    seen = Seen(rows, key, net, Run(f"{code}, η {lr:g}, {hidden}"))
    count = min(BATCH, max(1, ONE_THREAD // net["W1"].size))
    try:
        slopes = article.gradient_check(net, rows.x[:count], rows.targets(code)[:count], variant, entries=CHECKED)
    except NameError as error:  # the code as printed
        return replace(seen, error=f"NameError: {error}")
    return replace(seen, slopes=slopes)


def steps(seen: Seen, **settings: Any) -> Iterator[tuple[float, Net]]:
    """The training of this network, update by update."""
    rows, (code, lr, _) = seen.dense, seen.key
    y, variant = rows.targets(code), article.VARIANTS[code]
    return article.train(seen.net, rows.x, y, lr=lr, batch_size=BATCH, variant=variant, **settings)


def race(entrants: Mapping[Key, Seen], overtaken: Stop) -> Iterator[dict[Key, Seen]]:
    """Train networks batch by batch, side by side; yields all of them, every PACE seconds and at the end."""
    losses: dict[Key, list[float]] = {key: [] for key in entrants}
    runs = [steps(seen, epochs=EPOCHS) for seen in entrants.values()]
    images = max((len(seen.dense.x) for seen in entrants.values()), default=0)
    total, due = EPOCHS * -(-images // BATCH), time.perf_counter()
    for step, outcomes in enumerate(zip(*runs, strict=True), 1):
        if overtaken():
            return
        for key, (loss, _) in zip(entrants, outcomes, strict=True):
            losses[key].append(loss)
        if step == total or time.perf_counter() > due:
            nets = {key: net for key, (_, net) in zip(entrants, outcomes, strict=True)}
            entrants = {key: moved(entrants[key], nets[key], losses[key], step, total) for key in nets}
            losses = {key: [] for key in nets}
            yield entrants
            due = time.perf_counter() + PACE


def moved(seen: Seen, net: Net, losses: list[float], step: int, total: int) -> Seen:
    """The network some updates later, scored; on all of validation at the end."""
    rows, ended = seen.dense, step == total
    correct = float((article.predict(net, rows.x[:WATCHED]) == rows.labels[:WATCHED]).mean())
    moment = Moment(step / total, step, float(np.mean(losses)), correct, rows.accuracy(net, SAMPLE))
    score = rows.score(net, None if ended else SAMPLE)
    run = replace(seen.run, moments=(*seen.run.moments, moment), score=score, ended=ended)
    if not ended:
        return replace(seen, net=net, run=run)
    curve = [rows.accuracy(article.prune(net, threshold)[0], SAMPLE) for threshold in THRESHOLDS]
    return replace(seen, net=net, run=run, curve=np.array(curve), dense_bytes=size_bytes(article.to_torch(net)))


def clip(seen: Seen, settings: Any) -> Seen:
    """The trained network, pruned at the threshold; a code that does not run has nothing to prune."""
    pruned = None if seen.error else weighed(seen.dense, *article.prune(seen.net, settings.threshold))
    return replace(seen, settings=settings, pruned=pruned)


def weighed(rows: Rows, net: Net, masks: Masks) -> Pruned:
    """A pruned network, scored on all of validation, with the size of its file."""
    left, weights = sum(int(m.sum()) for m in masks.values()), sum(m.size for m in masks.values())
    return Pruned(net, masks, rows.accuracy(net), left, weights, size_bytes(article.to_torch(net)))


def retrain(seen: Seen, pruned: Pruned, overtaken: Stop) -> Iterator[Seen]:
    """Train the weights that pruning kept; yields the state every PACE seconds and at the end."""
    rows, due = seen.dense, time.perf_counter() + PACE
    total = RETRAIN * -(-len(rows.x) // BATCH)
    run = steps(replace(seen, net=pruned.net), epochs=RETRAIN, seed=1, masks=pruned.masks)
    for step, (_, net) in enumerate(run, 1):
        if overtaken():
            return
        if step == total or time.perf_counter() > due:
            yield replace(seen, retrained=weighed(rows, net, pruned.masks), retraining=step / total)
            due = time.perf_counter() + PACE
