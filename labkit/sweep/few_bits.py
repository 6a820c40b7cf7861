"""Few bits, by codebook, by grid and in the gradients: the curves and tables of notebooks 02b and 02c."""

import functools
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch

from labkit.compress.codebook import share
from labkit.compress.gradients import integer_gradients
from labkit.compress.qat import finish_qat, prepare_qat
from labkit.compress.quantize import quantize
from labkit.data import Split, load_data
from labkit.measure import accuracy, size_bytes
from labkit.models import build
from labkit.sweep._run import kept
from labkit.sweep.pruning import FINE_TUNE
from labkit.train import fit
from labkit.zoo import load_model

SHARING_GRID = {
    "method": ("grid", "codebook", "fine-tuned, then codebook", "codebook, then fine-tuned"),
    "bits": (1, 2, 3, 4),
    "seed": (0, 1, 2),
}


def sharing_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """K-means codebooks (linear start) beside a symmetric grid; the trained ones at 6 epochs, 3 seeds, validation."""
    model, data = load_model(model_name, data_name), load_data(data_name)
    fine_tuned = _fine_tuned(model, data.train)

    def run(method: str, bits: int, seed: int) -> dict[str, Any]:
        if method == "codebook, then fine-tuned":
            small, _ = fit(share(model, bits), data.train, seed=seed, **FINE_TUNE)
        elif method == "fine-tuned, then codebook":
            small = share(fine_tuned(seed), bits)
        else:
            small = quantize(model, bits) if method == "grid" else share(model, bits)
        return accuracy(small, data.validation) | dict(size_bytes=size_bytes(small))

    return kept(run, SHARING_GRID, "sharing", model_name, data_name)


def _fine_tuned(model: torch.nn.Module, train: Split) -> Callable[[int], torch.nn.Module]:
    """The network fine-tuned in float, by seed; each is trained once."""
    return functools.cache(lambda seed: fit(model, train, seed=seed, **FINE_TUNE)[0])


QAT_GRID = {
    "method": ("fine-tuned, then rounded", "fine-tuned, then clipped and rounded", "QAT"),
    "bits": (1, 2, 3, 4),
    "seed": (0, 1, 2),
}


def qat_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Rounding after training, clipped at 99 % too, and training for the grid; 6 epochs each, 3 seeds, validation."""
    model, data = load_model(model_name, data_name), load_data(data_name)
    fine_tuned = _fine_tuned(model, data.train)

    def run(method: str, bits: int, seed: int) -> dict[str, Any]:
        if method == "QAT":
            small = finish_qat(fit(prepare_qat(model, bits), data.train, seed=seed, **FINE_TUNE)[0])
        else:
            small = quantize(fine_tuned(seed), bits, percentile=99 if "clipped" in method else 100)
        return accuracy(small, data.validation) | dict(size_bytes=size_bytes(small))

    return kept(run, QAT_GRID, "qat", model_name, data_name)


GRADIENTS_GRID = {"rounding": ("stochastic", "nearest"), "bits": (2, 3, 4, 6, 8, 32), "seed": (0, 1, 2)}


def gradients_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """A network trained from scratch by AdamW for 2 epochs on integer gradients (32: floats), 3 seeds, validation."""
    data = load_data(data_name)

    def run(rounding: str, bits: int, seed: int) -> dict[str, Any]:
        torch.manual_seed(seed)
        rounded = integer_gradients(min(bits, 16), stochastic=rounding == "stochastic", seed=seed)
        settings: dict[str, Any] = {} if bits == 32 else dict(optimizer=rounded)
        net, _ = fit(build(model_name), data.train, epochs=2, lr=2e-3, seed=seed, progress=False, **settings)
        return accuracy(net, data.validation, diverged=True)

    return kept(run, GRADIENTS_GRID, "gradients", model_name, data_name)
