"""Searches as the panel of notebook 05 keeps them: what was found, what one would choose, what the button runs."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
import pandas as pd

from labkit import search
from labkit.data import load_data
from labkit.explore._start import Dense
from labkit.sweep import search as experiments
from labkit.sweep import shipped_sweep

MOST = 60  # trials of a search
AXES: dict[str, search.Space] = {
    "training": {**experiments.TRAINING, "accuracy": (0.1, 0.9)},
    "recipe": {**experiments.RECIPE, "size_bytes": (4_000, 300_000, "log"), "accuracy": (0.5, 1.0)},
}
GOALS = {"training": {"accuracy": "maximize"}, "recipe": experiments.RECIPE_GOALS}
SPACES = {
    "training": (experiments.TRAINING, experiments.TRAINING_GRID),
    "recipe": (experiments.RECIPE, experiments.RECIPE_GRID),
}
SHIPPED = {
    "training": ("search", "mlp", "fashion-mnist", experiments.JUDGED),
    "recipe": ("recipes", "lenet-300-100", "mnist", 1_000),
}
Key = tuple[str, str, int]  # what is searched for, sampler, images to choose by
Rows = tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Found:
    """A search as far as it has gone, looked at behind its first `shown` trials; beside it those of other samplers."""

    key: Key
    rows: Rows
    shown: int
    others: Mapping[str, Rows]  # by sampler
    fresh_images: int
    dense: Dense  # what recipes start from
    doing: str = ""

    @property
    def seen(self) -> Rows:
        """The trials that are looked at."""
        return self.rows[: self.shown]

    @property
    def floor(self) -> float:
        """The accuracy that a recipe has to keep: one point below the dense network."""
        return self.dense.score.accuracy - 0.01

    @property
    def chosen(self) -> dict[str, Any] | None:
        """What one would choose: the most accurate, or the smallest file that keeps the floor; None if none does."""
        complete = [row for row in self.seen if row["state"] == "complete"]
        if self.key[0] == "training":
            return max(complete, key=lambda row: row["accuracy"], default=None)
        good = [row for row in complete if row["accuracy"] >= self.floor]
        return min(good, key=lambda row: row["size_bytes"], default=None)


def space_of(what: str, sampler: str) -> search.Space:
    """What a sampler searches: the same ranges for all, but for the grid its points."""
    return SPACES[what][sampler == "grid"]


@functools.cache
def shipped_rows(key: Key) -> Rows:
    """The trials of seed 0 that ship for a key; none if it was not run."""
    what, sampler, images = key
    *names, judged = SHIPPED[what]
    if images != judged:
        return ()
    table = shipped_sweep(*names).query("sampler == @sampler and seed == 0")
    return tuple({str(k): v for k, v in row.items()} for row in table.to_dict("records"))


def best_curve(rows: Rows, column: str = "accuracy") -> pd.Series:
    """`column` of the best so far, by the epochs trained."""
    return search.best_so_far(pd.DataFrame(rows, columns=["state", "trained", "accuracy", "fresh"]), column)


@functools.lru_cache(maxsize=256)
def importances(what: str, sampler: str, rows: tuple[tuple, ...]) -> dict[str, float]:
    """How important each setting was in trials (each a tuple of items); of fewer than 8 nothing can be said."""
    trials = [dict(row) for row in rows]
    if sum(row["state"] == "complete" for row in trials) < 8:
        return {}
    return search.importance(search.restored(trials, space_of(what, sampler), GOALS[what]))


def run(
    key: Key,
    mine: Dense | None,
    dense: Dense,
    after_trial: Callable[[optuna.Study], None],
    cancel: Callable[[], bool],
    **settings: Any,
) -> optuna.Study:
    """`search` under a key: on the user's own network and data, or on those that ship for the task."""
    what, sampler, images = key
    if what == "training":
        data = mine.data if mine else load_data(SHIPPED[what][2])
        objective = experiments.training_objective(data, images, cancel)
    else:
        objective = experiments.recipe_objective(dense.model, dense.data, images, cancel)
    name, pruner = sampler.split(",")[0], experiments.hyperband() if "hyperband" in sampler else None
    settings |= dict(sampler=name, goals=GOALS[what], pruner=pruner, cancel=cancel, after_trial=after_trial)
    return search.search(objective, space_of(what, sampler), **settings)
