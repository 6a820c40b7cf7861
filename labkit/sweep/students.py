"""How much a hint should weigh, and what a lesson is worth: for notebook 03."""

from typing import Any

import pandas as pd
import torch

from labkit import _check
from labkit.compress.distill import Hint, answers, distill
from labkit.data import load_data, take
from labkit.measure import accuracy
from labkit.models import mlp
from labkit.sweep._run import kept
from labkit.sweep.distillation import FEW, STUDENT
from labkit.sweep.order import over_seeds
from labkit.zoo import load_model

HINT_WEIGHT_GRID = {
    "seed": (10, 11, 12),  # none of those that the lessons of the notebook use
    "labels": ("few",),
    "method": ("hint", "hint, soft"),
    "weight": (0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1),  # 0: no hint
}
EPOCHS = 55  # over few labels


def hint_weight_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Students 784-32-10 whose hidden layer is drawn to fc1 of a checkpoint, at several weights; 3 seeds, validation.

    The hint stands beside few labels ("hint"), or beside these and the soft answers ("hint, soft").
    """
    data, teacher = load_data(data_name), load_model(model_name, data_name)
    few = take(data.train, FEW)
    said, wanted = answers(teacher, few.x), answers(teacher, few.x, layer="fc1")

    def run(labels: str, method: str, seed: int, weight: float) -> dict[str, Any]:
        torch.manual_seed(seed)
        fresh, alpha = mlp(784, 32, 10), 0.9 if method == "hint, soft" else 0.0
        how = STUDENT | dict(temperature=2, alpha=alpha, epochs=EPOCHS, seed=seed)
        student, _ = distill(said, fresh, few, hint=Hint(wanted, "1", weight), **how)
        return accuracy(student, data.validation)

    return kept(run, HINT_WEIGHT_GRID, "hint-weight", model_name, data_name)


def gains(table: pd.DataFrame, group: str, method: str, base: str) -> pd.DataFrame:
    """Points of accuracy gained on the method `base` of the same group and seed: mean, and 95 % by Student's t.

    `group` and `method` name columns of `table`, beside seed and accuracy; a row for each (group, method) but `base`.
    """
    _check.table("table", table, "seed", "accuracy")
    _check.one_of("group", group, list(table))
    _check.one_of("method", method, list(table))
    _check.table("table", table, group, method, "seed", "accuracy", rows=1)
    _check.one_of("base", base, table[method].unique().tolist())
    points = 100 * table.pivot(index=[group, method], columns="seed", values="accuracy")
    others = points.drop(base, level=method)
    return over_seeds(others - points.xs(base, level=method).loc[others.index.get_level_values(group)].to_numpy())
