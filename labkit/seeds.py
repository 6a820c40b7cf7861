"""Means over seeds with intervals by Student's t."""

import math

import numpy as np
import pandas as pd

from labkit import _check


def _t_quantile(degrees: int) -> float:
    """t with P(|T| < t) = 95 % for Student's T with so many degrees of freedom: 12.706 for 1; near 1.960 for many."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (angle, high) if _within(angle, degrees) < 0.95 else (low, angle)
    return math.sqrt(degrees) * math.tan(low)


def _within(angle: float, degrees: int) -> float:
    """P(|T| < √ν tan θ) with ν degrees of freedom, as a finite sum (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4)."""
    odd, total = degrees % 2, 0.0
    term = math.cos(angle) if odd else 1.0
    for j in range(1, degrees // 2 + 1):
        total += term
        term *= math.cos(angle) ** 2 * (2 * j - 1 + odd) / (2 * j + odd)
    return (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total


def over_seeds(figures: pd.DataFrame) -> pd.DataFrame:
    """The mean of each row over its columns, one per seed, and its 95 % interval by Student's t: mean, low, high.

    ValueError for fewer than two seeds, which give no interval, and for a row with a missing value.
    """
    _check.table("figures", figures)
    seeds = figures.shape[1]
    if seeds < 2:
        raise ValueError(
            f"figures has {seeds} column{'s' * (seeds != 1)}; allowed: a column for each of at least 2 seeds"
        )
    if figures.isna().any(axis=None):
        raise ValueError(
            f"figures has no number in row {figures.index[figures.isna().any(axis=1)][0]!r}; allowed: numbers"
        )
    mean, reach = figures.mean(axis=1), _t_quantile(seeds - 1) * figures.std(axis=1, ddof=1) / np.sqrt(seeds)
    return pd.DataFrame(dict(mean=mean, low=mean - reach, high=mean + reach))
