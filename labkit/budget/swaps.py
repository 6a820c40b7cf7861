"""Swaps: what one part saves, another spends; each swap is measured on the joint network, since damages do not add."""

import itertools
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from labkit.budget.choices import Allocation, Table

WIDTH = 24  # steps each way that a round measures, over all parts
Measured = Callable[[Allocation], float]  # the loss of the joint network


def swaps(
    table: Table, start: Allocation, fits: Callable[[Allocation], bool], loss: Measured
) -> Iterator[tuple[Allocation, float]]:
    """The best allocation so far and its loss, after each measurement of a joint network; the first is of the start.

    A round measures every part a few steps cheaper and more expensive, then tries the pairs of steps that promise most
    and fit the budget, until one of them is better. Without one the search ends.
    """
    here, known = start, {start: loss(start)}
    yield here, known[here]
    while True:
        steps = list(steps_from(table, here))
        for step in steps:
            if (there := moved(here, step)) not in known:
                known[there] = loss(there)
                yield here, known[here]
        rise = {step: known[moved(here, step)] - known[here] for step in steps}
        for there in filter(fits, promising(here, rise)):
            if there not in known:
                known[there] = loss(there)
                yield min((here, there), key=known.__getitem__), min(known[here], known[there])
            if known[there] < known[here]:
                here = there
                break
        else:
            return


def promising(here: Allocation, rise: Mapping[tuple[int, int], float]) -> list[Allocation]:
    """Where one step or two lead that together promise to lower the loss, the most promising first."""
    pairs = [pair for pair in itertools.combinations(rise, 2) if pair[0][0] != pair[1][0]]
    promised = sorted((sum(rise[step] for step in swap), swap) for swap in [*((step,) for step in rise), *pairs])
    return [moved(here, *swap) for promise, swap in promised if promise < 0]


def steps_from(table: Table, here: Allocation) -> Iterator[tuple[int, int]]:
    """(part, setting) of every step that a round measures."""
    reach = max(1, WIDTH // len(here))
    for part, setting in enumerate(here):
        for there in neighbours(table, part, setting, reach):
            yield part, there


def moved(allocation: Allocation, *steps: tuple[int, int]) -> Allocation:
    """The allocation after steps (part, setting)."""
    return tuple(dict(steps).get(p, s) for p, s in enumerate(allocation))


def neighbours(table: Table, part: int, setting: int, reach: int) -> list[int]:
    """The settings near one on the frontier of its part: `reach` cheaper ones and `reach` more expensive ones."""
    price, damage = table.price[part], table.damage[part]
    best = [s for s in range(len(price)) if not dominated(price, damage, s) or s == setting]
    best.sort(key=lambda s: (price[s], -damage[s]))
    at = best.index(setting)
    return best[max(0, at - reach) : at] + best[at + 1 : at + 1 + reach]


def dominated(price: np.ndarray, damage: np.ndarray, setting: int) -> bool:
    """Whether another setting is as cheap and does as little damage, and is better in one of the two."""
    no_worse = (price <= price[setting]) & (damage <= damage[setting])
    better = (price < price[setting]) | (damage < damage[setting])
    return bool((no_worse & better).any())
