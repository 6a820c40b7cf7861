"""Pruning and rounding without training, over grids of settings: the backdrops of the overview and of notebook 02."""

from typing import Any

import pandas as pd
import torch

from labkit import _check
from labkit.compress.magnitude import prune
from labkit.compress.quantize import quantize
from labkit.data import load_data
from labkit.measure import accuracy, size_bytes
from labkit.sweep._run import kept
from labkit.zoo import load_model

FRONTIER_GRID = {
    "sparsity": (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98),
    "bits": (1, 2, 3, 4, 5, 6, 8, 32),  # 32: not quantized
}


def frontier_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """One-shot pruning and rounding of a checkpoint at every grid point, scored on validation: no training."""
    model, split = load_model(model_name, data_name), load_data(data_name).validation

    def run(sparsity: float, bits: int) -> dict[str, Any]:
        small = compress(model, sparsity, bits)
        return accuracy(small, split) | dict(size_bytes=size_bytes(small))

    return kept(run, FRONTIER_GRID, "frontier", model_name, data_name)


def compress(model: torch.nn.Module, sparsity: float, bits: int) -> torch.nn.Module:
    """Prune globally, then round the weights to `bits` bits per layer; 32 bits leaves them as they are."""
    _check.whole("bits", bits, 1, 32)
    pruned = prune(model, sparsity)
    return pruned if bits == 32 else quantize(pruned, bits)


QUANTIZATION_GRID = {
    "symmetric": (True, False),
    "granularity": ("tensor", "channel"),
    "bits": (1, 2, 3, 4, 5, 6, 7, 8),
}


def quantization_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Rounding of a checkpoint's weights under four schemes at every width, scored on validation: no training."""
    model, split = load_model(model_name, data_name), load_data(data_name).validation

    def run(symmetric: bool, granularity: str, bits: int) -> dict[str, Any]:
        small = quantize(model, bits, symmetric=symmetric, granularity=granularity)
        return accuracy(small, split) | dict(size_bytes=size_bytes(small))

    return kept(run, QUANTIZATION_GRID, "quantization", model_name, data_name)
