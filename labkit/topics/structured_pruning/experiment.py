"""Networks with units removed, and networks of the same size from scratch: the curves of notebook 04."""

from typing import Any

import pandas as pd

from labkit.compress.structured import FROM_IMAGES, prune_channels
from labkit.data import load_data, take
from labkit.measure import accuracy, counts, macs, size_bytes
from labkit.models import reinitialized
from labkit.sweep import run_and_ship
from labkit.train import fit
from labkit.zoo import RECIPES, load_model

STRUCTURED_GRID = {
    "method": (
        "l1", "l2", "taylor", "activation", "random",
        "l1, fine-tuned", "taylor, fine-tuned", "random, fine-tuned",
        "from scratch, 1 epoch",
    ),
    "sparsity": (0.5, 0.75, 0.9),
}  # fmt: skip
SEEDS = (0, 1, 2)
# the most expensive baseline, only for the network that trains in seconds
STRUCTURED_GRIDS = {
    "lenet-300-100": STRUCTURED_GRID | {"method": (*STRUCTURED_GRID["method"], "from scratch, 13 epochs")},
    "lenet-5": STRUCTURED_GRID,
}
CALIBRATION = 500  # training images for "taylor" and "activation"


def structured_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Networks with a fraction of their units removed, scored on validation, 3 seeds.

    One-shot by five importances; three of them fine-tuned for 1 epoch; as the baseline, a network of the same shape
    trained from new weights: for 1 epoch, like the fine-tuning, and for the 12 + 1 epochs that the fine-tuned network
    had in total (LeNet-300-100 only).
    """
    model, data = load_model(model_name, data_name), load_data(data_name)
    few, settings = take(data.train, CALIBRATION), RECIPES[model_name, data_name].settings

    def run(method: str, sparsity: float, seed: int) -> dict[str, Any]:
        importance, _, then = method.partition(", ")
        scratch = importance == "from scratch"
        importance = "l1" if scratch else importance
        how: dict[str, Any] = dict(importance=importance, seed=seed)
        how |= dict(calibration=few) if importance in FROM_IMAGES else {}
        small = prune_channels(model, sparsity, example=few.x[:2], **how)
        if then == "fine-tuned":
            small, _ = fit(small, data.train, epochs=1, lr=1e-3, progress=False, seed=seed)
        if scratch:
            epochs = int(then.split()[0])
            small, _ = fit(
                reinitialized(small, seed), data.train, **settings | dict(epochs=epochs, progress=False, seed=seed)
            )
        cost = dict(size_bytes=size_bytes(small), macs=macs(small, few.x[0]), parameters=counts(small)["parameters"])
        return accuracy(small, data.validation) | cost

    return run_and_ship(run, STRUCTURED_GRIDS[model_name], SEEDS, "structured", model_name, data_name)


def make() -> None:
    """The shipped sweeps."""
    for model_name in STRUCTURED_GRIDS:
        structured_sweep(model_name, "mnist")
