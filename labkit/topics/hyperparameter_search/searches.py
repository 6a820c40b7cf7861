"""The searches of notebook 05's panel: what the button runs, the trials that ship, and what they tell."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
import pandas as pd

from labkit import search
from labkit.frontier import frontier
from labkit.sweep import shipped_sweep
from labkit.topics.hyperparameter_search import experiment as experiments

GOALS = {"training": {"accuracy": "maximize"}, "recipe": experiments.RECIPE_GOALS}
SPACES = {
    "training": (experiments.TRAINING, experiments.TRAINING_GRID),
    "recipe": (experiments.RECIPE, experiments.RECIPE_GRID),
}
SHIPPED = {
    "training": ("search", "mlp", "fashion-mnist"),
    "recipe": ("recipes", "lenet-300-100", "mnist"),
}
DRAWS = 200  # random choices of judges, for the optimism
Key = tuple[str, str]  # task, sampler
Rows = tuple[dict[str, Any], ...]


@dataclass
class Ran:
    """A search that was run here: its seed, the number of its judges and its trials.

    `right` has for each trial, by number, which validation images its network gets right.
    """

    seed: int
    judges: int
    rows: Rows = ()
    right: dict[int, np.ndarray] = field(default_factory=dict)


def space_of(what: str, sampler: str) -> search.Space:
    """The space that a sampler searches: the points of the grid, or the ranges that all others share."""
    return SPACES[what][sampler == "grid"]


@functools.cache
def shipped_rows(key: Key) -> Rows:
    """The shipped trials of seed 0 for a key; `right` marks the validation images that a network gets right."""
    what, sampler = key
    table = shipped_sweep(*SHIPPED[what]).query("sampler == @sampler and seed == 0")
    correct = experiments.shipped_right(sampler) if what == "training" else {}
    rows = ({str(k): v for k, v in row.items()} for row in table.to_dict("records"))
    return tuple(row | {"right": correct.get(row["number"])} for row in rows)


def judged(rows: Rows, images: int) -> Rows:
    """The rows with `accuracy` on the first `images` of validation; rows without `right` stay as they are."""
    return tuple(
        row if row.get("right") is None else row | {"accuracy": float(row["right"][:images].mean())} for row in rows
    )


def optimism(rows: Rows, images: int) -> np.ndarray:
    """Accuracy of the best trial on the judges, minus that on the other images, for DRAWS random choices of judges."""
    correct = np.stack([row["right"] for row in rows if row.get("right") is not None]).astype(np.float32)
    by_judges = correct @ draws(correct.shape[1], images)
    by_others = correct.sum(1, keepdims=True) - by_judges
    gaps = by_judges / images - by_others / (correct.shape[1] - images)
    return gaps[by_judges.argmax(0), np.arange(DRAWS)]


@functools.lru_cache(maxsize=16)
def draws(n: int, images: int) -> np.ndarray:
    """DRAWS random choices of `images` among n: (n, DRAWS), 1 where chosen."""
    ranks = np.random.default_rng(0).random((DRAWS, n)).argpartition(images - 1, axis=1)[:, :images]
    chosen = np.zeros((n, DRAWS), np.float32)
    np.put_along_axis(chosen, ranks.T, 1, axis=0)
    return chosen


def curve_of(what: str, rows: Rows, column: str = "accuracy") -> tuple[np.ndarray, np.ndarray]:
    """`column` of the best so far, where it changes, by the epochs trained; or the frontier, by bytes."""
    if what == "recipe":
        best = frontier(pd.DataFrame(rows, columns=["size_bytes", "accuracy"]))
        return best["size_bytes"].to_numpy(), best["accuracy"].to_numpy()
    curve = search.best_so_far(pd.DataFrame(rows, columns=["state", "trained", "accuracy", "fresh"]), column)
    y = np.array([0, *curve])
    kept = np.r_[True, np.diff(y) != 0]
    kept[-1] = True
    return np.array([0, *curve.index])[kept], y[kept]


def importances(what: str, sampler: str, rows: Rows) -> dict[str, float]:
    """How important each setting was; empty for fewer than 8 complete trials."""
    names = ["state", *SPACES[what][0], *GOALS[what]]
    return _importances(what, sampler, tuple(tuple((name, row[name]) for name in names) for row in rows))


@functools.lru_cache(maxsize=256)
def _importances(what: str, sampler: str, rows: tuple[tuple[Any, ...], ...]) -> dict[str, float]:
    trials = [dict(row) for row in rows]
    if sum(row["state"] == "complete" for row in trials) < 8:
        return {}
    return search.importance(search.restored(trials, space_of(what, sampler), GOALS[what]))


def trials_of(key: Key, trials: int) -> int:
    """The number of trials to run: a grid has a limited number of points."""
    points = (len(values) for values in space_of(*key).values())
    return min(trials, math.prod(points)) if key[1] == "grid" else trials


def run(
    key: Key,
    objective: search.Objective,
    after_trial: Callable[[optuna.Study], None],
    cancel: Callable[[], bool],
    **settings: Any,
) -> optuna.Study:
    """Run the search of a key: its space, sampler, pruner and goals."""
    what, sampler = key
    name, pruner = sampler.split(",")[0], experiments.hyperband() if "hyperband" in sampler else None
    settings |= dict(sampler=name, goals=GOALS[what], pruner=pruner, cancel=cancel, after_trial=after_trial)
    return search.search(objective, space_of(what, sampler), **settings)
