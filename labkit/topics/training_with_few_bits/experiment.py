"""Few bits in the weights or the gradients: the curves and tables of notebook 02c."""

import functools
from typing import Any

import pandas as pd
import torch

from labkit.compress.gradients import integer_gradients
from labkit.compress.qat import finish_qat, prepare_qat
from labkit.compress.quantize import quantize
from labkit.data import load_data
from labkit.measure import accuracy, size_bytes
from labkit.models import build
from labkit.sweep import run_and_ship
from labkit.train import fit
from labkit.zoo import FINE_TUNE, load_model

QAT_GRID = {
    "method": ("fine-tuned, then rounded", "fine-tuned, then clipped and rounded", "QAT"),
    "bits": (1, 2, 3, 4),
}
SEEDS = (0, 1, 2)


def qat_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Rounding after training, with and without clipping at 99 %, and QAT; 6 epochs each, 3 seeds, validation."""
    model, data = load_model(model_name, data_name), load_data(data_name)
    fine_tuned = functools.cache(lambda seed: fit(model, data.train, seed=seed, **FINE_TUNE)[0])

    def run(method: str, bits: int, seed: int) -> dict[str, Any]:
        if method == "QAT":
            small = finish_qat(fit(prepare_qat(model, bits), data.train, seed=seed, **FINE_TUNE)[0])
        else:
            small = quantize(fine_tuned(seed), bits, percentile=99 if "clipped" in method else 100)
        return accuracy(small, data.validation) | dict(size_bytes=size_bytes(small))

    return run_and_ship(run, QAT_GRID, SEEDS, "qat", model_name, data_name)


GRADIENTS_GRID = {"rounding": ("stochastic", "nearest"), "bits": (2, 3, 4, 6, 8, 32)}


def gradients_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """A network trained from scratch, AdamW, 2 epochs, with integer gradients (32: floats); 3 seeds, validation."""
    data = load_data(data_name)

    def run(rounding: str, bits: int, seed: int) -> dict[str, Any]:
        torch.manual_seed(seed)
        rounded = integer_gradients(min(bits, 16), stochastic=rounding == "stochastic", seed=seed)
        settings: dict[str, Any] = {} if bits == 32 else dict(optimizer=rounded)
        net, _ = fit(build(model_name), data.train, epochs=2, lr=2e-3, seed=seed, progress=False, **settings)
        return accuracy(net, data.validation, diverged=True)

    return run_and_ship(run, GRADIENTS_GRID, SEEDS, "gradients", model_name, data_name)


def make() -> None:
    """The shipped sweeps."""
    qat_sweep("lenet-300-100", "mnist")
    gradients_sweep("lenet-300-100", "mnist")
