"""Four ways to reach a sparsity, at equal budget: the curves of notebook 01."""

from typing import Any

import pandas as pd
import torch

from labkit.compress.magnitude import GradualPruning, KeepZeros, prune, random_importance
from labkit.data import load_data
from labkit.measure import accuracy
from labkit.sweep import run_and_ship
from labkit.train import fit
from labkit.zoo import FINE_TUNE, load_model

PRUNING_GRID = {
    "method": ("one-shot", "fine-tuned", "gradual", "random, fine-tuned"),
    "sparsity": (0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99),
}
SEEDS = (0, 1, 2)


def pruning_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Four ways to reach a sparsity, each training for 6 epochs or not at all; 3 seeds, scored on validation."""
    model, data = load_model(model_name, data_name), load_data(data_name)

    def run(method: str, sparsity: float, seed: int) -> dict[str, Any]:
        if method == "gradual":
            pruned, _ = fit(model, data.train, after_step=GradualPruning(sparsity), seed=seed, **FINE_TUNE)
        else:
            importance = random_importance(seed) if method.startswith("random") else torch.abs
            pruned = prune(model, sparsity, importance=importance)
        if method.endswith("fine-tuned"):
            pruned, _ = fit(pruned, data.train, after_step=KeepZeros(pruned), seed=seed, **FINE_TUNE)
        return accuracy(pruned, data.validation)

    return run_and_ship(run, PRUNING_GRID, SEEDS, "pruning", model_name, data_name)


def make() -> None:
    """The shipped sweeps."""
    for data_name in ("mnist", "fashion-mnist"):
        pruning_sweep("lenet-300-100", data_name)
