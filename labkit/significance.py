"""How sure is a result? Intervals and an exact test for counts of correct images, and their cells in a table."""

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import pandas as pd
import torch

from labkit import _check


def wilson(correct: int, images: int, confidence: float = 0.95) -> tuple[float, float]:
    """(low, high): Wilson's score interval for a fraction of `correct` among `images` (Wilson 1927).

    (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n), with z the normal quantile of `confidence`. Unlike p ± z·σ it
    stays within [0, 1] and keeps a positive width when nothing, or everything, is correct.
    """
    _check.whole("images", images, 1, 2**62)
    _check.whole("correct", correct, 0, images)
    _check.number("confidence", confidence, 0, 1, open_low=True, open_high=True)
    z, p = NormalDist().inv_cdf((1 + confidence) / 2), correct / images
    centre, spread = p + z * z / (2 * images), z * math.sqrt(p * (1 - p) / images + (z / (2 * images)) ** 2)
    low, high = ((centre + sign * spread) / (1 + z * z / images) for sign in (-1, 1))
    return max(0.0, min(low, p)), min(1.0, max(high, p))  # rounding must not push an end past 0, 1 or p


def mcnemar(lost: int, won: int) -> float:
    """Exact p-value that two models are equally good, from the images on which they differ (McNemar 1947).

    Only the first is right on `lost` images, only the second on `won`: 2 · P(Binomial(lost + won, ½) ≤ min(lost, won)).
    """
    _check.whole("lost", lost, 0, 2**31)
    _check.whole("won", won, 0, 2**31)
    n = torch.tensor(lost + won, dtype=torch.float64)
    k = torch.arange(min(lost, won) + 1, dtype=torch.float64)
    log_choose = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    return min(1.0, 2 * float(torch.exp(log_choose - n * math.log(2)).sum()))


def difference(lost: int, won: int, images: int, confidence: float = 0.95) -> tuple[float, float, float]:
    """(d, low, high): how much accuracy the second of two models loses on the same images, with its interval.

    d = (lost - won) / n. The interval is Wald's for a difference of paired fractions, with half an image added to each
    of the four counts, since otherwise its width is 0 if none is lost and none won (Agresti & Min 2005): with
    m = n + 2 and δ = (lost - won) / m it is δ ± z √(lost + won + 1 - m δ²) / m. Positive: the second is worse.
    """
    _check.whole("images", images, 1, 2**62)
    _check.whole("lost", lost, 0, images)
    _check.whole("won", won, 0, images - lost)
    _check.number("confidence", confidence, 0, 1, open_low=True, open_high=True)
    z, m = NormalDist().inv_cdf((1 + confidence) / 2), images + 2
    centre = (lost - won) / m
    spread = z * math.sqrt(lost + won + 1 - m * centre * centre) / m
    return (lost - won) / images, max(-1.0, centre - spread), min(1.0, centre + spread)


def with_difference(pair: Mapping[str, float], images: int) -> dict[str, Any]:
    """The lost, won and p of `compare` as cells of a table, with `difference` in points: "+0.27 (+0.06 to +0.48)"."""
    _check.kind(Mapping | pd.Series, pair=pair)
    _check.numbers(**{f"pair[{key!r}]": pair.get(key) for key in ("lost", "won", "p")})
    points, low, high = (100 * share for share in difference(int(pair["lost"]), int(pair["won"]), images))
    p = "< 0.001" if pair["p"] < 0.001 else f"{pair['p']:.3f}"
    return dict(lost=pair["lost"], won=pair["won"], points_lost=f"{points:+z.2f} ({low:+z.2f} to {high:+z.2f})", p=p)


def with_range(row: Mapping[str, float]) -> str:
    """Results of several seeds in a table cell, "97.6 (97.4–97.8)": the mean, and the range from min to max."""
    _check.kind(Mapping | pd.Series, row=row)
    _check.numbers(**{f"row[{key!r}]": row.get(key) for key in ("mean", "min", "max")})
    mean, low, high = (round(row[key], 9) for key in ("mean", "min", "max"))  # the mean of equal numbers is that number
    return f"{mean:.1f} ({low:.1f}–{high:.1f})"
