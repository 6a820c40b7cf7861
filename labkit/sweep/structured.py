"""Networks that lose whole units, beside equally small ones from scratch: the curves of notebook 04."""

import copy
from typing import Any

import pandas as pd
import torch
from torch import nn

from labkit import _check
from labkit.compress.structured import prune_channels
from labkit.data import load_data, take
from labkit.measure import accuracy, counts, macs, size_bytes
from labkit.sweep._run import kept
from labkit.train import fit
from labkit.zoo import RECIPES, load_model

STRUCTURED_GRID = {
    "method": (
        "l1", "l2", "taylor", "activation", "random",
        "l1, fine-tuned", "taylor, fine-tuned", "random, fine-tuned",
        "from scratch, 1 epoch",
    ),
    "sparsity": (0.5, 0.75, 0.9),
    "seed": (0, 1, 2),
}  # fmt: skip
# with the baseline that costs most, for the network that trains in seconds
STRUCTURED_GRIDS = {
    "lenet-300-100": STRUCTURED_GRID | {"method": (*STRUCTURED_GRID["method"], "from scratch, 13 epochs")},
    "lenet-5": STRUCTURED_GRID,
}
CALIBRATION = 500  # training images that "taylor" and "activation" look at


def structured_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Networks with a share of their units gone, scored on validation, 3 seeds.

    One-shot by five criteria; three of them fine-tuned for 1 epoch; and the baseline, a network of the same shape from
    new weights, with the 1 epoch of the fine-tuning, and with the 12 + 1 epochs that the fine-tuned one had in all (of
    LeNet-300-100 only).
    """
    model, data = load_model(model_name, data_name), load_data(data_name)
    few, settings = take(data.train, CALIBRATION), RECIPES[model_name, data_name].settings

    def run(method: str, sparsity: float, seed: int) -> dict[str, Any]:
        criterion, _, then = method.partition(", ")
        scratch = criterion == "from scratch"
        how: dict[str, Any] = dict(criterion="l1" if scratch else criterion, calibration=few, seed=seed)
        small = prune_channels(model, few.x[:2], sparsity, **how)
        if then == "fine-tuned":
            small, _ = fit(small, data.train, epochs=1, lr=1e-3, progress=False, seed=seed)
        if scratch:
            epochs = int(then.split()[0])
            small, _ = fit(fresh(small, seed), data.train, **settings | dict(epochs=epochs, progress=False, seed=seed))
        cost = dict(size_bytes=size_bytes(small), macs=macs(small, few.x[0]), parameters=counts(small)["parameters"])
        return accuracy(small, data.validation) | cost

    return kept(run, STRUCTURED_GRIDS[model_name], "structured", model_name, data_name)


def fresh(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """A new model of the same shapes with new weights, as its layers draw them."""
    _check.kind(nn.Module, model=model)
    seed = _check.seed(seed)
    model = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in model.modules():
            if callable(reset := getattr(layer, "reset_parameters", None)):
                reset()
    return model
