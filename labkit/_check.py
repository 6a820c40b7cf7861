"""Guards on arguments: one sentence that names the argument, the value that was given, and what is allowed."""

import contextlib
import math
from collections.abc import Callable, Collection, Hashable, Mapping
from numbers import Integral, Number, Real
from types import UnionType
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

_IN_WORDS: dict[object, str] = {
    nn.Module: "a torch.nn.Module",
    Callable: "a function",
    Mapping: "a mapping, such as a dict",
    type(None): "None",
    str: "a text",
}


def shown(value: object) -> str:
    """A value for a sentence: itself if it is a number, a text or None, else its type."""
    value = plain(value)
    if isinstance(value, int) and value.bit_length() > 200:  # Python does not print the longest
        return f"a whole number of {value.bit_length()} bits"
    text = repr(value) if value is None or isinstance(value, Number | str) else f"a {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}…"


def plain(value: object) -> object:
    """NumPy numbers, and arrays and tensors without dimensions, as Python numbers; any other value unchanged."""
    single = isinstance(value, np.generic) or (isinstance(value, np.ndarray | Tensor) and value.ndim == 0)
    return cast(Any, value).item() if single else value


def kind(wanted: Any, /, **values: object) -> None:
    """Refuse each of the named values that is not of the type `wanted`, or of one in a union."""
    for name, value in values.items():
        if not isinstance(value, wanted):
            types = wanted.__args__ if isinstance(wanted, UnionType) else [wanted]
            words = [_IN_WORDS.get(t, f"a {t.__module__.partition('.')[0]}.{t.__name__}") for t in types]
            raise TypeError(f"{name} is a {type(value).__name__}; allowed: {' or '.join(words)}")


def flags(**values: object) -> None:
    """Refuse each of the named values that is neither True nor False: any text would count as true."""
    for name, value in values.items():
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{name} is {shown(value)}; allowed: True or False")


def one_of(name: str, value: object, allowed: Collection[object]) -> None:
    """Refuse a `value` that is not among `allowed`."""
    if not isinstance(value, Hashable) or value not in allowed:
        said = repr(value) if isinstance(value, list | tuple) else shown(value)
        raise ValueError(f"{name} is {said}; allowed: {', '.join(map(repr, allowed))}")


def whole(name: str, value: object, low: int, high: int) -> int:
    """The value as an int; refuse anything but a whole number in [low, high]."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} is {shown(value)}; allowed: a whole number from {low} to {high}")
    if not low <= cast(int, value) <= high:
        raise ValueError(f"{name} is {shown(value)}; allowed: a whole number from {low} to {high}")
    return cast(int, value)


def seed(value: object) -> int:
    """The value of an argument `seed` as an int; refuse values that torch and NumPy do not both accept."""
    return whole("seed", value, 0, 2**63 - 1)


def number(
    name: str, value: object, low: float, high: float, *, open_high: bool = False, open_low: bool = False
) -> float:
    """The value as Python's number; refuse anything but a real number in [low, high] (an open end is excluded)."""
    allowed = f"a number in {'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {shown(value)}; allowed: {allowed}")
    real = cast(float, value)
    above = real > low if open_low else real >= low
    below = real < high if open_high else real <= high
    # a whole number may be too large for a float; NaN is refused, too, since both comparisons are false
    if not (above and below) or (isinstance(real, int) and abs(real) > 2**1000):
        raise ValueError(f"{name} is {shown(value)}; allowed: {allowed}")
    return real


def numbers(**values: object) -> None:
    """Refuse each of the named values that is not a finite number."""
    for name, value in values.items():
        number(name, value, -math.inf, math.inf, open_low=True, open_high=True)


def array(name: str, value: object) -> np.ndarray:
    """The value as an array of floats; refuse anything but a number, or an array or a sequence of numbers."""
    if isinstance(value, np.ndarray | Collection | Real) and not isinstance(value, str | Mapping):
        with contextlib.suppress(ValueError, TypeError):
            return np.asarray(value, float)
    raise TypeError(f"{name} is {shown(value)}; allowed: an array of numbers")


def sizes(**values: object) -> None:
    """Refuse each of the named values that is not a whole number ≥ 1, or is a tensor, which layers do not accept."""
    for name, value in values.items():
        if isinstance(value, Tensor):
            raise TypeError(f"{name} is a Tensor; allowed: a whole number")
        whole(name, value, 1, 1_000_000)


def shaped(wanted: Any, ndim: int, /, **values: Any) -> None:
    """Refuse each of the named values that is not of type `wanted`, is empty, or does not have `ndim` dimensions."""
    kind(wanted, **values)
    for name, value in values.items():
        if value.ndim != ndim or 0 in value.shape:
            raise ValueError(
                f"{name} has the shape {tuple(value.shape)}; allowed: {ndim} dimensions, none of them empty"
            )


def filled(**values: Tensor) -> None:
    """Refuse each of the named values that is not a tensor of at least one dimension and one number."""
    kind(Tensor, **values)
    for name, value in values.items():
        if value.ndim == 0 or not value.numel():
            raise ValueError(
                f"{name} has the shape {tuple(value.shape)}; allowed: 1 dimension or more, none of them empty"
            )


def finite(name: str, tensor: Tensor) -> None:
    """Refuse a tensor that holds NaN or infinity."""
    if torch.isfinite(tensor.sum()):  # one fast pass: a bad value cannot be summed away
        return
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise ValueError(f"{name} holds {bad} NaN or infinite values; allowed: finite numbers")


def examples(x: Tensor, y: Tensor) -> None:
    """Refuse anything but examples `x` (n, …) and a class number ≥ 0 for each: integers `y` (n,)."""
    kind(Tensor, x=x, y=y)
    _classes(y)
    if x.ndim == 0 or len(x) != len(y):
        raise ValueError(f"x has the shape {tuple(x.shape)}; allowed: ({len(y)}, …), one example per label in y")


def _classes(y: Tensor) -> None:
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise TypeError(f"y has the dtype {y.dtype}; allowed: class numbers of an integer dtype")
    if y.ndim != 1 or not len(y):
        raise ValueError(f"y has the shape {tuple(y.shape)}; allowed: (n,), one class number per example, n ≥ 1")
    if (low := int(y.long().min())) < 0:
        raise ValueError(f"y holds the label {low}; allowed: class numbers from 0")


def labels(y: Tensor, logits: Tensor) -> None:
    """Refuse anything but labels (n,) of whole numbers for logits (n, classes)."""
    kind(Tensor, y=y)
    _classes(y)
    if len(y) != len(logits):
        raise ValueError(
            f"y has the shape {tuple(y.shape)}; allowed: ({len(logits)},), one label for each row of logits"
        )
    if (highest := int(y.max())) >= logits.shape[1]:
        raise ValueError(f"y holds the label {highest}; allowed: 0 to {logits.shape[1] - 1}, the classes of the logits")


def table(name: str, value: object, *columns: str, rows: int | None = 0) -> None:
    """Refuse anything but a table, a pandas.DataFrame, with these columns and at least `rows` rows.

    `rows` None: an empty table may lack the columns, too.
    """
    kind(pd.DataFrame, **{name: value})
    found = cast(pd.DataFrame, value)
    if rows is None and not len(found):
        return
    if missing := [column for column in columns if column not in found]:
        raise ValueError(f"{name} lacks the columns {missing}; allowed: a table with {', '.join(columns)}")
    if len(found) < (rows or 0):
        raise ValueError(f"{name} has {len(found)} rows; allowed: {rows} or more")


def known(name: str, values: Collection[str], allowed: Collection[str]) -> None:
    """Refuse anything but a list of names that are all in `allowed`; a text is not a list."""
    if isinstance(values, str) or not isinstance(values, Collection):
        raise TypeError(f"{name} is {shown(values)}; allowed: a list of {', '.join(map(repr, allowed))}")
    for value in values:
        one_of(name, value, allowed)
