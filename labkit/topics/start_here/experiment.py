"""One-shot pruning and quantization over a grid: the measured points of the overview panel."""

from typing import Any

import pandas as pd

from labkit.compress.compose import one_shot
from labkit.data import load_data
from labkit.measure import accuracy, size_bytes
from labkit.sweep import run_and_ship
from labkit.zoo import RECIPES, load_model

FRONTIER_GRID = {
    "sparsity": (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98),
    "bits": (1, 2, 3, 4, 5, 6, 8, 32),  # 32: not quantized
}


def frontier_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """One-shot pruning and rounding of a checkpoint at every grid point, scored on validation; no training."""
    model, split = load_model(model_name, data_name), load_data(data_name).validation

    def run(sparsity: float, bits: int) -> dict[str, Any]:
        small = one_shot(model, sparsity, bits)
        return accuracy(small, split) | dict(size_bytes=size_bytes(small))

    return run_and_ship(run, FRONTIER_GRID, None, "frontier", model_name, data_name)


def make() -> None:
    """The shipped sweeps, one per checkpoint."""
    for key in RECIPES:
        frontier_sweep(*key)
