"""A short training under a budget: on the grids, with the zeros held, and what the file grows by pruned again."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from labkit._module import clone
from labkit.budget.choices import Cost
from labkit.compress.compose import as_stored
from labkit.compress.fold import folded
from labkit.compress.qat import floats_of
from labkit.data import Split
from labkit.optim import Hook, Hooks, Step
from labkit.train import fit, hooks_of


def trained(
    model: nn.Module, train: Split, cost: Cost, budget: float, *, after_step: Hooks = (), **settings: Any
) -> nn.Module:  # fmt: skip
    """Train a prepared network under its budget; `settings` are those of `fit`.

    Training spreads the weights over their levels, so that the file grows: see `trimmed`. A network of fewer units
    trains as it is, since a zero takes as many MACs as any weight.
    """
    if not floats_of(model):
        return fit(model, train, after_step=after_step, **settings)[0]
    hooks = [*hooks_of(after_step), trimming(cost, budget)]
    return finished(trimmed(fit(model, train, after_step=hooks, **settings)[0], cost, budget))


def trimmed(model: nn.Module, cost: Cost, budget: float) -> nn.Module:
    """A network that trains for its grids, with as few more weights at zero as make its file fit the budget.

    Those go first that are the fewest steps of their grid away from 0.
    """

    def without(steps: float) -> nn.Module:
        small = clone(model)
        for floats, grid in floats_of(small).values():
            floats[floats.abs() < steps * grid.scale] = 0
        return small

    low, high, best = 0.5, 256.0, None  # steps: what is nearer to 0 than half a step is rounded to 0 anyway
    if cost(finished(model)) <= budget:
        return model
    for _ in range(12):
        steps = math.sqrt(low * high)
        small = without(steps)
        low, high, best = (low, steps, small) if cost(finished(small)) <= budget else (steps, high, best)
    if best is None:
        raise ValueError(f"budget is {budget:,g}; allowed: more, as the trained network needs more without any weight")
    return best


def trimming(cost: Cost, budget: float) -> Hook:
    """A hook for `fit`: `trimmed` after every epoch; what has become zero stays zero."""
    gone: dict[str, Tensor] = {}

    @torch.no_grad()
    def hook(model: nn.Module, step: Step) -> None:
        floats = {name: floats for name, (floats, _) in floats_of(model).items()}
        for name, zeros in gone.items():
            floats[name][zeros] = 0  # the optimizer's momentum has moved it
        if step.ends_epoch:
            fitting = floats_of(trimmed(model, cost, budget))
            for name, (smaller, _) in fitting.items():
                floats[name].copy_(smaller)
                gone[name] = smaller == 0

    return hook


def finished(model: nn.Module) -> nn.Module:
    """What a file holds of a network that trains for its grids: integers, and no BatchNorm where it can be folded."""
    return folded(as_stored(model))
