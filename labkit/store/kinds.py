"""How each kind of part is written and read, and its size in theory: one small class per kind.

A new kind of part needs a class here, at the end of FORMATS, and one in `labkit.compress.parts`.
"""

from collections.abc import Collection
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from labkit.compress.grid import Grid, check_grid, grid_shapes, spread
from labkit.compress.parts import Part, Plain, Quantized, Shared
from labkit.store import layout
from labkit.store._wire import Reader, varint
from labkit.store.coding import entropy_bits
from labkit.store.packed import Piece, named
from labkit.store.tensors import (
    FLOATS,
    Shapes,
    numpy_type,
    read_shape,
    read_tensor,
    to_tensor,
    type_name,
    write_shape,
    write_tensor,
)  # fmt: skip

MAX_CENTROIDS = 1 << 8
P = TypeVar("P")


class Format(Protocol[P]):
    """One kind of part in a file."""

    def write(self, head: bytearray, part: P, coders: Collection[str]) -> list[Piece]:
        """Describe the part in the header; return its pieces of the body. ValueError for what `read` would refuse."""

    def read(self, head: Reader, body: Reader, allowed: Shapes) -> P:
        """The part that `write` wrote, of one of the shapes in `allowed`; ValueError says what is wrong with it."""

    def theory_bits(self, part: P) -> float:
        """n · H(mask) + kept · H(value): a lower bound for any coder of independent symbols."""


class PlainFormat:
    """The tensor: type, shape, layout, coders."""

    def write(self, head: bytearray, part: Plain, coders: Collection[str]) -> list[Piece]:
        """See Format."""
        return write_tensor(head, part.values, coders)

    def read(self, head: Reader, body: Reader, allowed: Shapes) -> Plain:
        """See Format."""
        return Plain(read_tensor(head, body, allowed))

    def theory_bits(self, part: Plain) -> float:
        """See Format; a float that is not zero counts with all its bits."""
        if not part.dtype.is_floating_point:
            return _entropy(part.values)
        return _entropy(part.values != 0) + int(part.values.count_nonzero()) * 8 * part.dtype.itemsize


class QuantizedFormat:
    """Type and shape of the integers, bits, how, scale (a tensor), zero point (a tensor); layout, coders.

    `how` is 1 if symmetric, plus 2 · (1 + index in FLOATS) of the type of the floats if the scale has another.
    """

    def write(self, head: bytearray, part: Quantized, coders: Collection[str]) -> list[Piece]:
        """See Format."""
        q, grid = part.q.numpy(force=True), part.grid
        check_grid(grid, q.shape)
        layout.must_fit(q, grid.quant_min, grid.quant_max)
        write_shape(head, part.q)
        other = 0 if grid.dtype == grid.scale.dtype else 1 + FLOATS.index(type_name(grid.dtype))
        head += varint(grid.bits) + varint(grid.symmetric + 2 * other)
        scales = write_tensor(head, grid.scale, coders) + write_tensor(head, grid.zero_point, coders)
        packed = layout.pack_quantized(q, spread(grid, q.shape)[1].numpy(force=True), coders)
        return named("scales", scales) + packed.write(head)

    def read(self, head: Reader, body: Reader, allowed: Shapes) -> Quantized:
        """See Format."""
        dtype, shape = read_shape(head, allowed)
        bits, how = head.varint(), head.varint()
        symmetric, other = bool(how & 1), how >> 1
        if not 1 <= bits <= 8 or dtype != ("int8" if symmetric else "uint8"):
            raise ValueError(
                f"{bits} bits in {dtype} are not a quantized weight (1 to 8 in int8 symmetric, uint8 affine)"
            )
        if other > len(FLOATS):
            raise ValueError(f"unknown type {other} of floats; this version of labkit knows {', '.join(FLOATS)}")
        scale = read_tensor(head, body, grid_shapes(shape))
        zero_point = read_tensor(head, body, {tuple(scale.shape)})
        grid = Grid(scale, zero_point, bits, symmetric, getattr(torch, FLOATS[other - 1]) if other else scale.dtype)
        check_grid(grid, shape)
        zeros, levels = spread(grid, shape)[1].numpy(), (grid.quant_min, grid.quant_max)
        q = layout.unpack_quantized(head, body, zeros, shape, numpy_type(dtype), levels)
        return Quantized(to_tensor(q, dtype, shape), grid)

    def theory_bits(self, part: Quantized) -> float:
        """See Format."""
        return _sparse_entropy(part.q.int() - spread(part.grid, part.shape)[1])


class SharedFormat:
    """Type and shape of the indices, codebook (a tensor); layout, coders."""

    def write(self, head: bytearray, part: Shared, coders: Collection[str]) -> list[Piece]:
        """See Format."""
        write_shape(head, part.indices)
        codebook = write_tensor(head, part.codebook, coders)
        packed = layout.pack_quantized(part.indices.numpy(force=True), np.zeros((), np.int32), coders)
        return named("codebook", codebook) + packed.write(head)

    def read(self, head: Reader, body: Reader, allowed: Shapes) -> Shared:
        """See Format."""
        dtype, shape = read_shape(head, allowed)
        codebook = read_tensor(head, body, [(n,) for n in range(MAX_CENTROIDS + 1)])
        if dtype != "int16" or not codebook.is_floating_point():
            raise ValueError(f"indices are {dtype} and the codebook {codebook.dtype}; allowed: int16 and a float")
        zero, numbers = np.zeros((), np.int32), (0, len(codebook))
        indices = layout.unpack_quantized(head, body, zero, shape, numpy_type(dtype), numbers)
        return Shared(to_tensor(indices, dtype, shape), codebook)

    def theory_bits(self, part: Shared) -> float:
        """See Format; the codebook is counted too."""
        return _sparse_entropy(part.indices) + FORMATS["tensor"].theory_bits(Plain(part.codebook))


FORMATS: dict[str, Format[Any]] = {
    "tensor": PlainFormat(), "quantized": QuantizedFormat(), "codebook": SharedFormat()
}  # fmt: skip
KINDS = tuple(FORMATS)  # stored by index


def write_part(head: bytearray, part: Part, coders: Collection[str]) -> list[Piece]:
    """Its kind, then what its format writes."""
    head += varint(KINDS.index(part.kind))
    return FORMATS[part.kind].write(head, part, coders)


def read_part(head: Reader, body: Reader, allowed: Shapes) -> Part:
    """The inverse of `write_part`; ValueError says what is wrong with it."""
    part: Part = FORMATS[head.choice("kind", KINDS)].read(head, body, allowed)
    return part


def _sparse_entropy(levels: Tensor) -> float:
    return _entropy(levels != 0) + _entropy(levels[levels != 0])


def _entropy(values: Tensor) -> float:
    return entropy_bits(values.unique(return_counts=True)[1].numpy())
