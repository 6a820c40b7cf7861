"""What a budget chooses from: for each part of a network a few settings, each measured alone.

A setting is a row such as {"sparsity": 0.9, "bits": 4}. A part is a weight (bytes) or a family of units that are
removed together (MACs and latency). An allocation gives the number of a setting for each part.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from labkit.compress import _weights
from labkit.compress._channels import channels, families, remove
from labkit.compress.fold import folded
from labkit.compress.magnitude import prune
from labkit.compress.parts import Part, assemble, parts
from labkit.compress.qat import prepare_qat
from labkit.compress.quantize import quantize
from labkit.compress.structured import unit_importance
from labkit.store.coding import QUICK
from labkit.store.file import describe

Allocation = tuple[int, ...]  # the number of a setting for each part, in the order of the parts
Cost = Callable[[nn.Module], float]  # of a network, in what the budget counts
# a percentile clips the grid of a weight: a wide grid rounds more weights to 0, which costs fewer bytes
FINE: dict[str, Sequence[Any]] = dict(
    sparsity=(0.0, 0.3, 0.5, 0.7, 0.8, 0.87, 0.92, 0.95, 0.97, 0.99), bits=(8, 6, 4, 3, 2), percentile=(100.0, 98.0)
)
# for a network of many weights: 60 settings each, and their combinations lie close together all the same
ROUGH: dict[str, Sequence[Any]] = dict(
    sparsity=(0.0, 0.5, 0.7, 0.8, 0.9), bits=(6, 4, 3, 2), percentile=(100.0, 98.0, 90.0)
)
MANY = 12  # weights
FRACTIONS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)  # of the units of a family that are removed


@dataclass(frozen=True)
class Choices:
    """The parts of a network and their settings; `build` makes the network of an allocation."""

    parts: list[str]
    settings: list[dict[str, Any]]  # the same for every part, the first changes least
    build: Callable[[Allocation], nn.Module]
    alone: Callable[[int, int], nn.Module]  # the network with part p in setting s, the others unchanged
    price: Callable[[int, int], float]  # of part p in setting s, alone: what the budget counts
    prepare: Callable[[Allocation], nn.Module]  # the network of an allocation, ready to train; zeros and grids stay
    sizes: list[int]  # weights or units of each part
    model: nn.Module  # what they are about


def weight_choices(
    model: nn.Module, settings: Mapping[str, Sequence[Any]] | None = None, granularity: str = "tensor"
) -> Choices:
    """Each weight is pruned by magnitude, then rounded; the price is the bytes of its part of the file.

    `settings` holds the values of sparsity, bits and percentile, of which every combination is a setting; by default
    FINE, for MANY weights ROUGH. BatchNorm is folded into the scales of the network that is built, where it can be.
    """
    model = _weights.opened(model)
    dense, names = parts(model), list(_weights.weights(model))
    values = settings or (ROUGH if len(names) >= MANY else FINE)
    every = [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]
    made: dict[tuple[int, int], Part] = {}

    def part(p: int, s: int) -> Part:
        if (p, s) not in made:
            made[p, s] = changed(*_weights.owner_of(model, names[p]), **every[s], granularity=granularity)
        return made[p, s]

    def build(allocation: Allocation) -> nn.Module:
        return folded(assemble(model, dense | {names[p]: part(p, s) for p, s in enumerate(allocation)}))

    def alone(p: int, s: int) -> nn.Module:
        return assemble(model, dense | {names[p]: part(p, s)})

    def price(p: int, s: int) -> int:
        head, entries = describe(names[p], part(p, s), QUICK)
        return len(head) + sum(len(entry.raw) for entry in entries)

    def prepare(allocation: Allocation) -> nn.Module:
        rows = {name: every[s] for name, s in zip(names, allocation, strict=True)}
        small = prune(model, {name: row["sparsity"] for name, row in rows.items()})
        for name, row in rows.items():
            how = dict(percentile=row["percentile"], granularity=granularity)
            small = prepare_qat(small, row["bits"], layers=[name], **how)
        return small

    return Choices(names, every, build, alone, price, prepare, [dense[name].shape.numel() for name in names], model)


def changed(layer: nn.Module, weight: str, sparsity: float, granularity: str, **how: Any) -> Part:
    """One weight of a layer, pruned, then rounded."""
    small = quantize(prune(layer, {weight: sparsity}), layers=[weight], granularity=granularity, **how)
    return parts(small)[weight]


def unit_choices(model: nn.Module, x: Tensor, cost: Cost) -> Choices:
    """Each family of units loses those with the smallest weights; the price is the change of `cost`.

    `x` is a batch of inputs, by which the units are found (see `prune_channels`).
    """
    uses = channels(model, x[:2])
    importance, every = unit_importance(model, uses, "l2"), families(uses)
    ranked = [units[importance[units].argsort()] for units in every]  # the least important first
    makers = [[use.layer for use in uses if use.side == "out" and bool(torch.isin(use.units, f).any())] for f in every]

    def build(allocation: Allocation) -> nn.Module:
        gone = [units[: int(FRACTIONS[s] * len(units))] for units, s in zip(ranked, allocation, strict=True)]
        return remove(model, uses, torch.cat(gone))

    def alone(p: int, s: int) -> nn.Module:
        return build(tuple(s if other == p else 0 for other in range(len(every))))

    names, settings = [" + ".join(layers) for layers in makers], [dict(removed=share) for share in FRACTIONS]
    whole = cost(model)

    def price(p: int, s: int) -> float:
        return cost(alone(p, s)) - whole

    return Choices(names, settings, build, alone, price, build, [len(units) for units in every], model)


@dataclass(frozen=True)
class Table:
    """Every part in every setting, alone: `price` and `damage`, the rise of the loss, both (parts, settings)."""

    choices: Choices
    price: np.ndarray
    damage: np.ndarray

    def predicted(self, allocation: Allocation) -> float:
        """Σ D_p(s_p): the rise of the loss, if damages added up."""
        return float(self.damage[np.arange(len(allocation)), allocation].sum())

    def rows(self, allocation: Allocation) -> pd.DataFrame:
        """The parts and their settings in an allocation, each with its price and its damage alone."""
        about, at = self.choices, (np.arange(len(allocation)), list(allocation))
        table = pd.DataFrame([about.settings[s] for s in allocation])
        table.insert(0, "part", about.parts)
        table.insert(1, "size", about.sizes)
        if "removed" in table:  # units instead of a fraction: what is really removed
            table["removed"] = (table["removed"] * table["size"]).astype(int)
        return table.assign(price=self.price[at], damage=self.damage[at])

    def paid(self, allocation: Allocation) -> float:
        """Σ B_p(s_p)."""
        return float(self.price[np.arange(len(allocation)), allocation].sum())
