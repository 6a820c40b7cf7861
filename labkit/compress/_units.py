"""Numbered units: where they live in a network, which of them are one, and which are held."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FIXED = 0  # the unit that is never pruned: pixels, logits, and whatever is held


@dataclass(frozen=True)
class Use:
    """Where units live in one layer: units[i] is entry i along dimension `axis` of its weight.

    `side` is "out" for the layer that makes the units, "in" for one that reads them, "norm" for one that keeps an entry
    (a BatchNorm) or a filter (a depthwise convolution) for each, "parameter" for a tensor that is used by itself;
    `layer` is then its own name.
    """

    layer: str
    side: str
    units: Tensor
    axis: int = 0


class Held(Exception):  # noqa: N818 - it says what becomes of the units
    """Why the units that reach an operation cannot leave."""


class Numbers:
    """Numbers for units, in a union-find; a unit that meets a held one is held too."""

    def __init__(self) -> None:
        self.parent, self.why = [FIXED], dict[int, str]()
        self.used: dict[tuple[str, str, int], Tensor] = {}

    def new(self, n: int) -> Tensor:
        first = len(self.parent)
        self.parent += range(first, first + n)
        return torch.arange(first, first + n)

    def find(self, unit: int) -> int:
        while self.parent[unit] != unit:
            unit = self.parent[unit]
        return unit

    def unite(self, a: Tensor, b: Tensor, cause: str) -> None:
        """Make a[i] and b[i] one unit; one that meets FIXED is held because of `cause`."""
        if a is b:
            return
        for pair in set(zip(a.tolist(), b.tolist(), strict=True)):
            low, high = sorted(map(self.find, pair))
            if low == FIXED != high:
                self.why.setdefault(high, cause)
            elif low != high:
                self.parent[high] = low
                if high in self.why:
                    self.why.setdefault(low, self.why.pop(high))

    def unite_rows(self, rows: Tensor) -> None:
        """Make every column one unit, so that all rows lose the same."""
        for row in rows[1:]:
            self.unite(rows[0], row, "")

    def hold(self, units: Tensor, cause: str) -> None:
        self.unite(torch.zeros_like(units), units, cause)

    def resolve(self, units: Tensor) -> Tensor:
        """The number that each unit goes by; FIXED for those that are held."""
        each, places = units.unique(return_inverse=True)
        roots = map(self.find, each.tolist())
        return torch.tensor([FIXED if root in self.why else root for root in roots], dtype=torch.long)[places]

    def use(self, layer: str, side: str, units: Tensor, axis: int = 0) -> Tensor:
        """Note where units live; a layer that is called twice has the same units both times."""
        known = self.used.setdefault((layer, side, axis), units)
        if known.shape != units.shape:
            raise Held(f"which is used for {len(known)} and for {len(units)} of them")
        self.unite(known, units, f"{layer} also works on values of fixed width")
        return known


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested lists, tuples, dicts and plain objects."""
    if isinstance(value, Tensor):
        yield value
    else:
        value = vars(value) if hasattr(value, "__dataclass_fields__") else value
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
            yield from tensors(item)
