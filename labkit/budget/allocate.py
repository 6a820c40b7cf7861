"""One setting for each part, from a table of parts measured alone: three ways to spend a budget.

    min Σ_p D_p(s_p)    subject to    Σ_p B_p(s_p) ≤ budget        damage D and price B of part p in setting s_p

This is the multiple-choice knapsack problem (Sinha & Zoltners 1979). Both sums are over parts measured alone: whether
damages add up is for the joint network to say.
"""

import numpy as np

from labkit.budget.choices import Allocation


def linear_program(price: np.ndarray, damage: np.ndarray, budget: float) -> Allocation | None:
    """The allocation with the least Σ D at Σ B ≤ budget, by integer linear programming; None if nothing is so cheap.

    x_ps is 1 where part p takes setting s, so that Σ_s x_ps = 1 for each p. HiGHS solves it (Huangfu & Hall 2018).
    """
    from scipy.optimize import Bounds, LinearConstraint, milp  # takes a fifth of a second

    parts, settings = price.shape
    one_each = LinearConstraint(np.kron(np.eye(parts), np.ones(settings)), 1, 1)
    affordable = LinearConstraint(price.reshape(1, -1), -np.inf, budget)
    found = milp(  # with presolve, HiGHS prints lines of its own to stdout
        damage.ravel(), integrality=1, bounds=Bounds(0, 1), constraints=[one_each, affordable],
        options={"presolve": False},
    )  # fmt: skip
    return None if found.x is None else tuple(int(s) for s in found.x.reshape(price.shape).argmax(1))


def greedy(price: np.ndarray, damage: np.ndarray, budget: float) -> Allocation | None:
    """From the least damage of each part, step by step where a byte saved costs least, until the sum fits."""
    parts = np.arange(len(price))
    allocation = damage.argmin(1)
    while price[parts, allocation].sum() > budget:
        saved = price[parts, allocation][:, None] - price
        dearer = damage - damage[parts, allocation][:, None]
        rate = np.where(saved > 0, dearer / np.where(saved > 0, saved, 1), np.inf)
        part, setting = np.unravel_index(rate.argmin(), rate.shape)
        if rate[part, setting] == np.inf:
            return None
        allocation[part] = setting
    return tuple(int(s) for s in allocation)


def uniform(price: np.ndarray, damage: np.ndarray, budget: float) -> Allocation | None:
    """The same setting for every part: of those that fit, the one with the least Σ D."""
    fits = np.flatnonzero(price.sum(0) <= budget)
    return (int(fits[damage.sum(0)[fits].argmin()]),) * len(price) if len(fits) else None
