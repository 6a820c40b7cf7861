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
    import highspy  # loaded when it is needed

    if price.min(1).sum() > budget:
        return None
    solver = highspy.Highs()
    solver.silent()
    x = np.array(solver.addBinaries(*price.shape)).reshape(price.shape)
    solver.addConstrs(solver.qsum(row) == 1 for row in x)
    solver.addConstr(solver.qsum((price * x).ravel()) <= budget)
    solver.minimize(solver.qsum((damage * x).ravel()))
    return tuple(int(s) for s in solver.vals(x).argmax(1))


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
