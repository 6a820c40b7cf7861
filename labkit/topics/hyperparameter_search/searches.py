"""The searches of notebook 05's panel: their trials, which trial to choose, and what the button runs."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import pandas as pd

from labkit import search
from labkit.live.baseline import Baseline
from labkit.live.controls import choice, steps
from labkit.sweep import shipped_sweep
from labkit.topics.hyperparameter_search import experiment as experiments
from labkit.topics.hyperparameter_search import plots

MAX_TRIALS = 60  # of a search
LOWEST = {"training": 0.6, "recipe": 0.5}  # accuracy on the axes; lower ones are marked at the edge
NEAR = {"training": (0.02, 0.10), "recipe": (0.01, 0.10)}  # below the best, or the dense network: good, fair
ORDER = ("density", "granularity", "bits", "percentile", "epochs", "lr")  # of a recipe's axes: no two names touch
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
TASKS = [("training settings", "training"), ("a compression recipe", "recipe")]
MENUS = {"training": ("grid", "random", "tpe", "tpe, hyperband"), "recipe": ("grid", "random", "tpe", "nsga2")}
FIRST = {"training": "tpe", "recipe": "nsga2"}  # the sampler that is selected first
Key = tuple[str, str]  # task, sampler
Rows = tuple[dict[str, Any], ...]


def menu(what: str) -> list[tuple[str, str]]:
    """(label, sampler) for each sampler of a task."""
    return [(plots.SAMPLERS[name][3], name) for name in MENUS[what]]


@dataclass(frozen=True)
class Settings:
    """The values of the controls; `trials` is also the number that the button runs."""

    what: str = choice("search for", TASKS, "training", note="training of a small network, or compression of LeNet")
    sampler: str = choice("sampler", menu("training"), "tpe", note="how the next settings to try are chosen")
    images: int = steps(
        "judged by, images", [(f"{n:,}", n) for n in (20, 50, 100, 200, 500, 1_000)], 200,
        note="validation images that the settings are chosen by",
    )  # fmt: skip
    trials: int = steps(
        "trials", [(str(n), n) for n in range(1, MAX_TRIALS + 1)], 30,
        note="shows the choice after this many trials; search runs this many",
    )  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A search so far, shown after its first `settings.trials` trials, and the searches of other samplers.

    In complete trials `accuracy` is on the first `images` of validation, `fresh` on its last four fifths.
    """

    settings: Settings
    seed: int
    images: int
    rows: Rows
    others: Mapping[str, Rows]  # by sampler
    fresh_images: int
    dense: Baseline  # the network that recipes compress
    doing: str = ""
    progress: float | None = None

    @property
    def key(self) -> Key:
        """The task and the sampler."""
        return self.settings.what, self.settings.sampler

    @property
    def seen(self) -> Rows:
        """The trials that are shown."""
        return self.rows[: self.settings.trials]

    @property
    def floor(self) -> float:
        """The accuracy that a recipe has to keep: one point below the dense network."""
        return self.dense.score.accuracy - 0.01

    @property
    def chosen(self) -> dict[str, Any] | None:
        """The trial to choose: the most accurate, or the smallest file that reaches the floor; None if none does."""
        complete = [row for row in self.seen if row["state"] == "complete"]
        if self.key[0] == "training":
            return max(complete, key=lambda row: row["accuracy"], default=None)
        good = [row for row in complete if row["accuracy"] >= self.floor]
        return min(good, key=lambda row: row["size_bytes"], default=None)

    @property
    def axes(self) -> search.Space:
        """The vertical axes on which a trial is a line: its settings, then its results."""
        what, size = self.key[0], self.dense.size_bytes
        if what == "training":
            return {**experiments.TRAINING, "accuracy": (LOWEST[what], 0.9)}
        file = (size // 250, size // 5, "log")
        return {name: experiments.RECIPE[name] for name in ORDER} | {
            "size_bytes": file,
            "accuracy": (LOWEST[what], 1.0),
        }

    @property
    def grades(self) -> list[int]:
        """How close each shown trial is to the best, or a recipe to the dense network: 0 far, 1 fair, 2 good."""
        accuracies = [row["accuracy"] for row in self.seen]
        best = max(accuracies, default=0) if self.key[0] == "training" else self.dense.score.accuracy
        return [sum(best - accuracy <= near + 1e-9 for near in NEAR[self.key[0]]) for accuracy in accuracies]


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


def best_curve(rows: Rows, column: str = "accuracy") -> pd.Series:
    """`column` of the best so far, by the epochs trained."""
    return search.best_so_far(pd.DataFrame(rows, columns=["state", "trained", "accuracy", "fresh"]), column)


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
