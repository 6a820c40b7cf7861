"""Under a budget: sparsity and bits of every layer, chosen so that the written file, the MACs or the latency fits.

    1  a table: every part of the network in every setting, alone      D_p(s), its damage; B_p(s), its price
    2  min Σ_p D_p(s_p)  subject to  Σ_p B_p(s_p) ≤ budget             a linear program (`allocate`)
    3  swaps that lower the loss of the joint network                  measured, since damages do not add (`swaps`)
    4  a short training on the grids, with the zeros held              quantization-aware training (`training`)

The budget is that of the whole network as it is: the bytes that `save` writes, counted MACs, measured milliseconds.
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from labkit import _check
from labkit._module import evaluating, fastest_layout, running
from labkit.budget.allocate import greedy, linear_program, uniform
from labkit.budget.choices import Allocation, Choices, Cost, Table, unit_choices, weight_choices
from labkit.budget.swaps import swaps
from labkit.budget.training import trained
from labkit.compress import _weights
from labkit.data import Data, Split
from labkit.losses import Loss, cross_entropy
from labkit.measure import latency_ms, macs, size_bytes

BY = ("bytes", "macs", "latency")
METHODS = {"uniform": uniform, "greedy": greedy, "linear program": linear_program}
Whole = Callable[[Allocation], float]  # of the network of an allocation


def fit_budget(
    model: nn.Module,
    data: Data,
    budget: float,
    by: str = "bytes",
    *,
    table: Table | None = None,
    images: int | None = None,
    tries: int = 300,
    loss: Loss = cross_entropy,
    epochs: int = 0,
    lr: float = 1e-3,
    seed: int = 0,
    progress: bool = True,
    cancel: Callable[[], bool] = lambda: False,
    **settings: Any,
) -> tuple[nn.Module, pd.DataFrame]:
    """A new model that fits the budget, with sparsity and bits of each layer chosen by measurement; and how.

    min Σ_p D_p(s_p) subject to Σ_p B_p(s_p) ≤ budget (the multiple-choice knapsack; Sinha & Zoltners 1979), over parts
    measured alone, then swaps that are measured in the joint network. Four allocations (uniform, greedy, of the linear
    program, after the swaps) are scored on validation; that with the lowest loss is returned. Test is not read.

    Args:
        model: the trained network.
        data: train gives the calibration images, validation chooses.
        budget: bytes of the written file, MACs for one image, or milliseconds for one image on this machine.
        by: "bytes" chooses sparsity and bits of each weight; "macs" and "latency" how many units each layer loses.
        table: of `measure_parts` for this model, if it is already measured.
        images: of train, drawn with `seed`, on which damage is measured; by default 1,000, or all if there are fewer.
        tries: how many joint networks the swaps may measure; 0 makes none.
        loss: loss(model, x, y), as in `fit`.
        epochs: of training afterwards, for the grids and with the zeros held; what the file grows by is pruned again
            after every epoch.
        lr: the peak learning rate of that training.
        seed: draws the images and the order of the training.
        progress: show bars.
        cancel: if true, the search or the training ends with what it has.
        **settings: of `fit`, for the training.

    Returns:
        The new model, and a table of its parts: part, size (weights or units), its settings (of units: how many are
        removed; a quantized weight becomes floats then), price and damage. Under a
        budget of bytes BatchNorm is folded, where it can be: load its file into `fold_batchnorm(model)`. The attrs hold
        budget, by, cost (of the whole, as it is), predicted and measured (the rise of the calibration loss: the sum of
        the damages, and that of the joint network), chosen, and candidates, a record for each.

    Raises:
        ValueError: no allocation is so cheap; it names the cheapest. Or a setting is out of range.

    Example:
        >>> data = lk.load_data("digits")
        >>> model, _ = lk.fit(lk.models.mlp(64, 32, 10), data.train, epochs=5, lr=0.01, progress=False)
        >>> small, parts = lk.fit_budget(model, data, 900, progress=False)
        >>> len(lk.encode(small)) <= 900, parts["part"].tolist()
        (True, ['1.weight', '3.weight'])
    """
    _check.kind(nn.Module, model=model)
    _check.kind(Data, data=data)
    _check.kind(Callable, loss=loss, cancel=cancel)
    _check.flags(progress=progress)
    _check.number("lr", lr, 0, float("inf"), open_high=True)
    _check.kind(Table | None, table=table)
    _check.one_of("by", by, BY)
    budget = _check.number("budget", budget, 0, float("inf"), open_low=True, open_high=True)
    tries, epochs = _check.whole("tries", tries, 0, 1_000_000), _check.whole("epochs", epochs, 0, 10_000)
    calibration = sample(data.train, min(1_000, len(data.train)) if images is None else images, seed)
    if table is None:
        table = measure_parts(model, calibration, by, loss=loss, progress=progress)
    _check_table(table, model, by)
    cost, choices = cost_of(by, calibration), table.choices
    joint, dense = partial(loss_of, split=calibration, loss=loss), loss_of(model, calibration, loss)
    whole = cost_of_whole(table, cost)
    found = allocations(table, whole, budget)
    losses = {name: joint(choices.build(allocation)) for name, allocation in found.items()}
    start = min(found, key=losses.__getitem__)
    found["swaps"], losses["swaps"] = found[start], losses[start]
    search = itertools.islice(improve(table, found[start], whole, budget, joint), tries)
    for found["swaps"], losses["swaps"] in tqdm(search, desc="swaps", total=tries, disable=not progress):
        if cancel():
            break
    candidates = {}
    for name, allocation in found.items():
        small = choices.build(allocation)
        rise = dict(predicted=table.predicted(allocation), measured=losses[name] - dense)
        candidates[name] = dict(cost=whole(allocation), validation_loss=loss_of(small, data.validation, loss)) | rise
    chosen = min(reversed(found), key=lambda name: candidates[name]["validation_loss"])
    small = choices.build(found[chosen])
    if epochs:
        how: dict[str, Any] = dict(epochs=epochs, lr=lr, loss=loss, seed=seed, progress=progress, cancel=cancel)
        small = trained(choices.prepare(found[chosen]), data.train, cost, budget, **how | settings)
    parts = table.rows(found[chosen])
    parts.attrs = candidates[chosen] | dict(budget=budget, by=by, cost=cost(small), chosen=chosen)
    parts.attrs["candidates"] = candidates
    return small, parts


def measure_parts(
    model: nn.Module,
    calibration: Split,
    by: str = "bytes",
    *,
    choices: Choices | None = None,
    loss: Loss = cross_entropy,
    progress: bool = True,
) -> Table:
    """Every part of the network in every setting, alone: its price and the rise of the loss on `calibration`."""
    _check.one_of("by", by, BY)
    _check.kind(nn.Module, model=model)
    _check.kind(Split, calibration=calibration)
    _check.flags(progress=progress)
    choices = choices or choices_for(model, calibration, by)
    whole = (0,) * len(choices.parts)
    dense, each = loss_of(model, calibration, loss), range(len(choices.settings))
    price, damage = np.zeros((2, len(whole), len(each)))
    places = [(p, s) for p in range(len(whole)) for s in each]
    for p, s in tqdm(places, desc="parts alone", disable=not progress):
        price[p, s] = choices.price(p, s)
        damage[p, s] = loss_of(choices.alone(p, s), calibration, loss) - dense
    return Table(choices, price, damage)


def _check_table(table: Table, model: nn.Module, by: str) -> None:
    """Refuse a table of another network, or one of weights where units are counted."""
    of_units = "removed" in table.choices.settings[0]
    if of_units == (by == "bytes"):
        kind = "units, for MACs or latency" if of_units else "weights, for bytes"
        raise ValueError(f"table has the settings of {kind}; allowed for by={by!r}: what measure_parts gives for it")
    ours, theirs = (
        {**dict(m.named_parameters()), **dict(m.named_buffers())}
        for m in map(_weights.opened, (model, table.choices.model))
    )
    if ours.keys() != theirs.keys() or not all(torch.equal(ours[name], theirs[name]) for name in ours):
        raise ValueError("table is of a network with other weights; allowed: what measure_parts gives for this model")


def choices_for(model: nn.Module, calibration: Split, by: str) -> Choices:
    """The parts and settings among which a budget of this kind chooses."""
    if by == "bytes":
        return weight_choices(model)
    return unit_choices(model, calibration.x, lambda small: macs(small, calibration.x[0]))


def cost_of(by: str, calibration: Split) -> Cost:
    """What the budget counts: bytes of the file, MACs for one image, or milliseconds for one image."""
    if by == "bytes":
        return size_bytes
    return partial(macs, image=calibration.x[0]) if by == "macs" else partial(latency_ms, images=calibration.x[:1])


def sample(split: Split, images: int, seed: int) -> Split:
    """`images` of a split, drawn at random with `seed`."""
    _check.kind(Split, split=split)
    images = _check.whole("images", images, 1, len(split))
    drawn = torch.randperm(len(split), generator=torch.Generator().manual_seed(_check.seed(seed)))[:images]
    return Split(split.x[drawn], split.y[drawn])


@torch.no_grad()
def loss_of(model: nn.Module, split: Split, loss: Loss = cross_entropy) -> float:
    """The mean loss on a split, in evaluation mode. ValueError if it is NaN."""
    _check.kind(nn.Module, model=model)
    _check.kind(Split, split=split)
    _check.kind(Callable, loss=loss)
    layout = fastest_layout(model, split.x)
    with evaluating(model):
        batches = zip(split.x.split(500), split.y.split(500), strict=True)
        total = 0.0
        for x, y in batches:
            with running(model, "split.x", x):
                total += len(y) * float(loss(model, x.clone(memory_format=layout), y))
    if math.isnan(total):
        raise ValueError(f"the loss of model {type(model).__name__} is NaN; allowed: a number")
    return total / len(split)


def cost_of_whole(table: Table, cost: Cost) -> Whole:
    """What the whole network of an allocation costs; each is built once."""
    return cache(lambda allocation: cost(table.choices.build(allocation)))


def allocations(table: Table, whole: Whole, budget: float) -> dict[str, Allocation]:
    """What each of METHODS chooses, by name, without those that find nothing so cheap; ValueError if none does."""
    found = {}
    for name, method in METHODS.items():
        with contextlib.suppress(ValueError):
            found[name] = spend(method, table, whole, budget)
    return found or {"linear program": spend(linear_program, table, whole, budget)}  # which says what it takes


def spend(
    method: Callable[..., Allocation | None], table: Table, whole: Whole, budget: float, exact: float = 0.005
) -> Allocation:
    """The allocation of a method that spends most of the budget, by the cost of the whole network as it is.

    A method sees the sum of the prices alone. Where prices add up, what it may spend is known at once; elsewhere it is
    found by bisection, until the cost is at most `exact` below the budget. ValueError if even the cheapest network
    costs more.
    """
    price, damage, high = table.price, table.damage, table.price.max(1).sum()
    best = method(price, damage, price.min(1).sum()) or method(price, damage, price.sum(0).min())  # or one for all
    at_least = whole(best) if best else float("inf")
    if best is None or at_least > budget:
        raise ValueError(f"budget is {budget:,g}; allowed: {at_least:,g} or more, what the cheapest setting costs")
    low, other = table.paid(best), at_least - table.paid(best)  # other: what the parts do not pay
    allowed = min(high, budget - other)
    for _ in range(12):
        found = method(price, damage, allowed)
        spent = whole(found) if found else float("inf")
        if found and spent <= budget:
            best, low = found, allowed
            left = min(budget - spent, table.paid(found) + other - spent)
            if left <= exact * budget or allowed == high:
                break
            allowed = (low + high) / 2
        else:
            high, nearer = allowed, allowed - (spent - budget)
            allowed = nearer if low < nearer else (low + high) / 2
    return best


def improve(
    table: Table, start: Allocation, whole: Whole, budget: float, joint: Callable[[nn.Module], float]
) -> Iterator[tuple[Allocation, float]]:
    """`swaps` of the network under the budget: the best allocation so far and its loss, after each measurement."""
    build, left = table.choices.build, budget - whole(start)

    def fits(allocation: Allocation) -> bool:  # the sum of prices sorts out most, the network as it is decides
        return table.paid(allocation) - table.paid(start) <= left and whole(allocation) <= budget

    return swaps(table, start, fits, lambda allocation: joint(build(allocation)))
