"""Numbered units: where a network uses them, which of them are merged, and which are held."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FIXED = 0  # the unit that is never pruned: pixels, logits, and all held units


@dataclass(frozen=True)
class Use:
    """Where one layer uses units: units[i] is the unit of entry i along dimension `axis` of its weight.

    `side` is "out" for the layer that makes the units, "in" for one that reads them, "norm" for one that keeps an entry
    (a BatchNorm) or a filter (a depthwise convolution) for each, "parameter" for a parameter used outside a layer;
    `layer` is then its name.
    """

    layer: str
    side: str
    units: Tensor
    axis: int = 0


class Held(Exception):  # noqa: N818 - the name says what happens to the units
    """Why the units that reach an operation cannot be pruned."""


class Numbers:
    """Unit numbers in a union-find structure; a unit that is merged with a held one is held too."""

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
        """Merge the units a[i] and b[i]; a unit merged with FIXED is held, and `cause` is the reason."""
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
        """Merge the units of each column, so that all rows lose the same entries."""
        for row in rows[1:]:
            self.unite(rows[0], row, "")

    def hold(self, units: Tensor, cause: str) -> None:
        self.unite(torch.zeros_like(units), units, cause)

    def resolve(self, units: Tensor) -> Tensor:
        """The representative number of each unit; FIXED for held units."""
        each, places = units.unique(return_inverse=True)
        roots = map(self.find, each.tolist())
        return torch.tensor([FIXED if root in self.why else root for root in roots], dtype=torch.long)[places]

    def use(self, layer: str, side: str, units: Tensor, axis: int = 0) -> Tensor:
        """Record where units are used; a layer that is called twice has the same units both times."""
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
