"""Quantization by four schemes at every bit width: the tables of notebook 02."""

from typing import Any

import pandas as pd

from labkit.compress.quantize import quantize
from labkit.data import load_data
from labkit.measure import accuracy, size_bytes
from labkit.sweep import run_and_ship
from labkit.zoo import RECIPES, load_model

QUANTIZATION_GRID = {
    "symmetric": (True, False),
    "granularity": ("tensor", "channel"),
    "bits": (1, 2, 3, 4, 5, 6, 7, 8),
}


def quantization_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Rounding of a checkpoint's weights by four schemes, at every bit width, scored on validation; no training."""
    model, split = load_model(model_name, data_name), load_data(data_name).validation

    def run(symmetric: bool, granularity: str, bits: int) -> dict[str, Any]:
        small = quantize(model, bits, symmetric=symmetric, granularity=granularity)
        return accuracy(small, split) | dict(size_bytes=size_bytes(small))

    return run_and_ship(run, QUANTIZATION_GRID, None, "quantization", model_name, data_name)


def make() -> None:
    """The shipped sweeps, one per checkpoint."""
    for key in RECIPES:
        quantization_sweep(*key)
