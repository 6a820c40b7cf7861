"""Guards on what a user passes in: one sentence that names the argument, what came and what is allowed."""

from collections.abc import Collection, Iterable
from numbers import Integral, Real
from typing import cast

import torch
from torch import Tensor, nn


def one_of(name: str, value: object, allowed: Collection[object]) -> None:
    """Refuse a `value` that is not among `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}")


def whole(name: str, value: object, low: int, high: int) -> None:
    """Refuse anything but a whole number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} is {value!r}; allowed: a whole number from {low} to {high}")
    if not low <= cast(int, value) <= high:
        raise ValueError(f"{name} is {value}; allowed: a whole number from {low} to {high}")


def number(
    name: str, value: object, low: float, high: float, *, open_high: bool = False, open_low: bool = False
) -> None:
    """Refuse anything but a real number in [low, high] (an open end is excluded)."""
    allowed = f"a number in {'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}; allowed: {allowed}")
    real = cast(float, value)
    above = real > low if open_low else real >= low
    below = real < high if open_high else real <= high
    if not (above and below):  # also refuses NaN, for which both comparisons are false
        raise ValueError(f"{name} is {value}; allowed: {allowed}")


def finite(name: str, tensor: Tensor) -> None:
    """Refuse a tensor that holds NaN or infinity."""
    if torch.isfinite(tensor.sum()):  # one fast pass: a bad value cannot be summed away
        return
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise ValueError(f"{name} holds {bad} NaN or infinite values; allowed: finite numbers")


def module(name: str, value: object) -> None:
    """Refuse anything but a torch module."""
    if not isinstance(value, nn.Module):
        raise TypeError(f"{name} is a {type(value).__name__}; allowed: a torch.nn.Module")


def examples(x: Tensor, y: Tensor) -> None:
    """Refuse anything but examples `x` (n, …) and a class number, from 0 up, for each: `y` (n,) of integers."""
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} is a {type(value).__name__}; allowed: a torch.Tensor")
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise TypeError(f"y has the dtype {y.dtype}; allowed: class numbers of an integer dtype")
    if y.ndim != 1 or not len(y):
        raise ValueError(f"y has the shape {tuple(y.shape)}; allowed: (n,), one class number per example, n ≥ 1")
    if x.ndim == 0 or len(x) != len(y):
        raise ValueError(f"x has the shape {tuple(x.shape)}; allowed: ({len(y)}, …), one example per label in y")
    if (low := int(y.long().min())) < 0:
        raise ValueError(f"y holds the label {low}; allowed: class numbers from 0")


def known(name: str, values: Iterable[str], allowed: Collection[str]) -> None:
    """Refuse a list of names of which one is not among `allowed`."""
    for value in values:
        one_of(name, value, allowed)
