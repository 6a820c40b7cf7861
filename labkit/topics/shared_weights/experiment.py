"""Codebooks of every size, fine-tuned or not: the curves of notebook 02b."""

import functools
from typing import Any

import pandas as pd

from labkit.compress.codebook import share_weights
from labkit.compress.quantize import quantize
from labkit.data import load_data
from labkit.measure import accuracy, size_bytes
from labkit.sweep import run_and_ship
from labkit.train import fit
from labkit.zoo import FINE_TUNE, load_model

SHARING_GRID = {
    "method": ("grid", "codebook", "fine-tuned, then codebook", "codebook, then fine-tuned"),
    "bits": (1, 2, 3, 4),
}
SEEDS = (0, 1, 2)


def sharing_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """K-means codebooks (linear start) and a symmetric grid; fine-tuning is 6 epochs; 3 seeds, validation."""
    model, data = load_model(model_name, data_name), load_data(data_name)
    fine_tuned = functools.cache(lambda seed: fit(model, data.train, seed=seed, **FINE_TUNE)[0])

    def run(method: str, bits: int, seed: int) -> dict[str, Any]:
        if method == "codebook, then fine-tuned":
            small, _ = fit(share_weights(model, bits), data.train, seed=seed, **FINE_TUNE)
        elif method == "fine-tuned, then codebook":
            small = share_weights(fine_tuned(seed), bits)
        else:
            small = quantize(model, bits) if method == "grid" else share_weights(model, bits)
        return accuracy(small, data.validation) | dict(size_bytes=size_bytes(small))

    return run_and_ship(run, SHARING_GRID, SEEDS, "sharing", model_name, data_name)


def make() -> None:
    """The shipped sweep."""
    sharing_sweep("lenet-300-100", "mnist")
