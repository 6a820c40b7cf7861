"""The article's network on real digits, fault by fault, and what pruning it costs: the tables of notebook 09."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from labkit.article import (
    ARTICLE,
    NO_DERIVATIVE,
    SOFTMAX,
    SUM,
    WEIGHTS,
    Array,
    Net,
    Variant,
    arrays,
    new_net,
    predict,
    prune,
    targets,
    to_torch,
    trained,
)
from labkit.data import load_data, take
from labkit.measure import size_bytes
from labkit.sweep import run_and_ship

IMAGES = 10_000  # of the training set: the article's 1,000 updates of 10 rows are one epoch of them
CODES = {  # the article's, with A1 kept; then with more and more faults mended
    "article": Variant(ARTICLE, init="positive"),
    "article + tanh′": Variant(SUM, init="positive"),
    "article + small weights": Variant(ARTICLE),
    "small weights, tanh′": Variant(SUM),
    "small weights, mean": Variant(NO_DERIVATIVE),
    "mended": Variant(),
    "softmax": Variant(SOFTMAX),
}
FAULTS_GRID = {
    "code": tuple(CODES),
    "lr": (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
}
SEEDS = (0, 1, 2, 3, 4)


def faults_sweep() -> pd.DataFrame:
    """Every code at every learning rate with the article's budget: 10 hidden units, 1,000 updates of 10 images."""
    data = load_data("mnist")
    x, labels = arrays(take(data.train, IMAGES))
    y, held = targets(labels, 10), arrays(data.validation)

    def run(code: str, lr: float, seed: int) -> dict[str, Any]:
        net = new_net(x.shape[1], 10, 10, init=CODES[code].init, seed=seed)
        net, losses = trained(net, x, y, lr=lr, epochs=1, seed=seed, variant=CODES[code])
        return dict(accuracy=accuracy(net, held), loss=float(np.mean(losses[-100:])))

    return run_and_ship(run, FAULTS_GRID, SEEDS, "faults", "article-mlp", "mnist")


def accuracy(net: Net, held: tuple[Array, np.ndarray]) -> float:
    """Share of the held-out (inputs, labels) that is classified correctly."""
    return float((predict(net, held[0]) == held[1]).mean())


CLIPPING_GRID = {
    "method": ("one-shot", "retrained", "random, retrained"),
    "threshold": (0.0, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3),
}
RECIPE: dict[str, Any] = dict(lr=0.03, variant=Variant(SOFTMAX))
HIDDEN, EPOCHS, RETRAIN = 32, 3, 1


def clipping_sweep() -> pd.DataFrame:
    """The mended network with softmax, pruned by θ; retrained for an epoch or not; also as many weights at random."""
    data = load_data("mnist")
    x, labels = arrays(take(data.train, IMAGES))
    y, held = targets(labels, 10), arrays(data.validation)

    @functools.cache
    def dense(seed: int) -> Net:
        net = new_net(x.shape[1], HIDDEN, 10, seed=seed)
        return trained(net, x, y, epochs=EPOCHS, seed=seed, **RECIPE)[0]

    def run(method: str, threshold: float, seed: int) -> dict[str, Any]:
        net, masks = prune(dense(seed), threshold)
        if method.startswith("random"):
            net, masks = shuffled(dense(seed), masks, seed)
        if method.endswith("retrained"):
            net, _ = trained(net, x, y, epochs=RETRAIN, seed=100 + seed, masks=masks, **RECIPE)
        zeros = sum(int((~m).sum()) for m in masks.values()) / sum(m.size for m in masks.values())
        return dict(accuracy=accuracy(net, held), sparsity=zeros, size_bytes=size_bytes(to_torch(net)))

    return run_and_ship(run, CLIPPING_GRID, SEEDS, "clipping", "article-mlp", "mnist")


def shuffled(net: Net, masks: Mapping[str, np.ndarray], seed: int) -> tuple[Net, dict[str, np.ndarray]]:
    """As many weights of each matrix, chosen at random: the baseline for pruning by magnitude."""
    rng = np.random.default_rng(seed)
    masks = {name: rng.permuted(masks[name].ravel()).reshape(masks[name].shape) for name in WEIGHTS}
    return net | {name: np.where(mask, net[name], 0) for name, mask in masks.items()}, masks


def make() -> None:
    """The sweeps that ship."""
    faults_sweep()
    clipping_sweep()
