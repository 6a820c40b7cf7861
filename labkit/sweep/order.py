"""Prune, quantize and distil in every order, at one budget: the planes and tables of notebook 10b."""

import functools
import itertools

import pandas as pd

from labkit.compress.compose import STEPS, compose
from labkit.data import load_data, take
from labkit.measure import accuracy, size_bytes
from labkit.sweep._run import kept
from labkit.zoo import load_model

IMAGES, EPOCHS = 20_000, 6  # the budget of each composition: so few that the panel runs one while somebody waits
POINTS = {4: 0.9, 3: 0.95, 2: 0.98}  # how far to compress: sparsity by bits
ORDERS = {
    ", ".join(steps) or "fine-tune": steps for length in range(4) for steps in itertools.permutations(STEPS, length)
}
ORDER_GRID = {"bits": tuple(POINTS), "steps": tuple(ORDERS), "seed": (0, 1, 2)}


def order_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Each technique alone, every pair and all three in every order, beside fine-tuning only; 3 seeds, validation."""
    model, data = load_model(model_name, data_name), load_data(data_name)
    train = take(data.train, IMAGES)

    @functools.cache  # without "quantize" the bits make no difference, without "prune" the sparsity
    def made(steps: tuple[str, ...], bits: int, sparsity: float, seed: int) -> dict:
        small, _ = compose(model, train, steps, sparsity=sparsity, bits=bits, epochs=EPOCHS, seed=seed, progress=False)
        return accuracy(small, data.validation) | dict(size_bytes=size_bytes(small))

    def run(steps: str, bits: int, seed: int) -> dict:
        order = ORDERS[steps]
        return made(order, bits if "quantize" in order else 1, POINTS[bits] if "prune" in order else 0.0, seed)

    return kept(run, ORDER_GRID, "order", model_name, data_name)
