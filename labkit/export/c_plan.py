"""What the C code has to know of a network: the shapes of its layers, its compressed weights, its memory."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from labkit._module import running
from labkit.compress.integer import IntegerLayer, IntegerNetwork
from labkit.store import context, layout, packing
from labkit.store._wire import Bytes, Reader
from labkit.store.packed import CODERS, LAYOUTS

MAX_ROWS, MAX_WEIGHTS = (1 << 16) - 1, 1 << 24  # the decoder counts weights of a row or column in 16 bits
SHIFTS = range(1, 63)  # a product of 62 bits and half a unit fit in 64 bits


@dataclass(frozen=True)
class Piece:
    """A stream of the `.lk` file: coder "raw", "huffman" or "range"; `bits` is the width of a raw symbol."""

    raw: Bytes = b""
    coder: str = "raw"
    bits: int = 0

    @property
    def alphabet(self) -> int:
        """The number of symbols in the table at its start; 0 without a table."""
        return 0 if self.coder == "raw" or not self.raw else len(packing.read_table(self.raw)[0])


@dataclass(frozen=True)
class Stored:
    """The weights of a layer as the file stores them; see `labkit.store.layout` for what the fields mean."""

    layout: str
    index: Piece
    values: Piece
    stride: int = 0
    turned: int = 0
    lowest: int = 0
    longest: int = 0


@dataclass(frozen=True)
class Layer:
    """A layer, with the max-pooling after it. Shapes: (channels, height, width); 1 × 1 for a linear layer."""

    name: str
    integers: IntegerLayer
    stored: Stored
    entering: tuple[int, int, int]
    leaving: tuple[int, int, int]
    pool: nn.MaxPool2d | nn.Identity
    pooled: tuple[int, int, int]

    @property
    def rows(self) -> int:
        """Outputs, or channels of the output."""
        return len(self.integers.weight)

    @property
    def columns(self) -> int:
        """Weights of each."""
        return self.integers.weight[0].numel()

    @property
    def map(self) -> int:
        """Sums of each, before pooling."""
        return math.prod(self.leaving[1:])

    @cached_property
    def kept(self) -> int:
        """Number of values in the file."""
        weight = self.integers.weight
        return weight.numel() if self.stored.layout == "dense" else int(weight.count_nonzero())

    @property
    def streamed(self) -> bool:
        """Do the sums of all rows take less memory than the weights and the sums of one row?"""
        return 4 * self.rows * self.map <= self.integers.weight.numel() + 4 * self.map

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns of the matrix in the layout context."""
        return (self.columns, self.rows) if self.stored.turned else (self.rows, self.columns)


def plan(network: IntegerNetwork, example: Tensor, coders: Collection[str]) -> list[Layer]:
    """Every layer of `network` for inputs shaped as `example` (n, …). ValueError names one that C refuses."""
    layers = [cast(IntegerLayer, layer) for layer in network.layers]
    if any(isinstance(move, nn.MaxPool2d) for move in layers[0].before):
        raise ValueError(f"max-pooling comes before {layers[0].name}, the first layer; allowed in C: after a layer")
    afters = [*(list(layer.before) for layer in layers[1:]), []]
    x, planned = torch.empty(2, *example.shape[1:], device="meta"), list[Layer]()  # has a shape and no values
    for layer, after in zip(layers, afters, strict=True):
        name = layer.name
        _check_numbers(name, layer)
        with running(network, "example", example):
            entering = layer.before(x)
            x = sums = _sums(entering, layer)
        if entering.ndim != (wanted := 2 if layer.convolution is None else 4):
            raise ValueError(f"{name} gets inputs of {entering.ndim} dimensions; allowed in C: {wanted}")
        pool = _pool(name, after)
        shapes = [(*t.shape[1:], 1, 1)[:3] for t in (entering, sums, pool(sums))]
        planned.append(Layer(name, layer, _stored(layer.weight, coders), shapes[0], shapes[1], pool, shapes[2]))
    return planned


def _sums(entering: Tensor, layer: IntegerLayer) -> Tensor:
    """A tensor of the shape that the layer's sums have."""
    weight = layer.weight.to("meta", torch.float32)
    how = layer.convolution
    return F.linear(entering, weight) if how is None else F.conv2d(entering, weight, **how)


def _pool(name: str, after: list[nn.Module]) -> nn.MaxPool2d | nn.Identity:
    """The max-pooling among what comes after a layer; nn.Identity if there is none."""
    pools = [move for move in after if isinstance(move, nn.MaxPool2d)]
    if not pools:
        return nn.Identity()
    if len(pools) > 1 or after[0] is not pools[0] or _pair(pools[0].dilation) != (1, 1):
        found = ", ".join(map(str, after))
        raise ValueError(f"{name} is followed by {found}; allowed in C: one MaxPool2d without dilation")
    return pools[0]


def _check_numbers(name: str, layer: IntegerLayer) -> None:
    """Refuse what the integer types of the C code cannot hold, for any input."""
    weight = layer.weight.flatten(1).long()
    if len(weight) > MAX_ROWS or weight.numel() > MAX_WEIGHTS:
        raise ValueError(
            f"{name} has {len(weight):,} outputs and {weight.numel():,} weights; "
            f"allowed in C: {MAX_ROWS:,} and {MAX_WEIGHTS:,}"
        )
    farthest = max(layer.zero_in, 255 - layer.zero_in)
    if (largest := int((weight.abs().sum(1) * farthest + layer.bias.long().abs()).max())) >= 1 << 31:
        raise ValueError(f"{name} can have sums up to {largest:,}; allowed in C: below 2^31, which int32 holds")
    if layer.next_grid is not None and not all(int(shift) in SHIFTS for shift in layer.shift):
        given = f"{int(layer.shift.min())} to {int(layer.shift.max())}"
        raise ValueError(f"{name} has requantization shifts of {given} bits; allowed in C: {SHIFTS[0]} to {SHIFTS[-1]}")


def _stored(weight: Tensor, coders: Collection[str]) -> Stored:
    """The pieces that `lk.save` writes, and what it says of them in the header of its file."""
    packed = layout.pack_quantized(weight.numpy(), np.zeros((), np.int32), coders)
    head = Reader(bytes(packed.head), "header")
    kind = head.choice("layout", LAYOUTS)
    if kind == "context":
        stride, turned = divmod(head.varint(), 2)
        index, values = (Piece(piece.raw) for piece in packed.pieces)
        return Stored(kind, index, values, stride=stride, turned=turned)
    longest = 0
    if kind == "relative":
        longest = (1 << head.varint()) - 1
        head.varint()
    index = Piece() if kind == "dense" else _piece(head, packed.pieces[0].raw)
    lowest = head.signed()
    return Stored(kind, index, _piece(head, packed.pieces[-1].raw), lowest=lowest, longest=longest)


def _piece(head: Reader, raw: Bytes) -> Piece:
    code = head.varint()
    if code >= CODERS.index("raw"):
        return Piece(raw, "raw", code - CODERS.index("raw"))
    head.varint()
    return Piece(raw, CODERS[code])


def memory(layers: list[Layer], unpacked: bool) -> dict[str, int]:
    """The sizes of the arrays in `engine/memory.c`, and RAM, the bytes that they take together.

    `unpacked`: all weights are decoded once and stay in memory.
    """
    streamed = [layer.streamed and not unpacked for layer in layers]
    stored = [layer.integers.weight.numel() for layer, s in zip(layers, streamed, strict=True) if not s]
    outputs = [math.prod(layer.pooled) for layer in layers[:-1]]
    modelled = [layer for layer in layers if layer.stored.layout == "context"]
    sizes = dict(
        SUMS=max(layer.map * (layer.rows if s else 1) for layer, s in zip(layers, streamed, strict=True)),
        EVEN=max(outputs[::2], default=1),
        ODD=max(outputs[1::2], default=1),
        WEIGHTS=(sum if unpacked else max)(stored or [1]),
        ALPHABET=max(piece.alphabet for layer in layers for piece in (layer.stored.index, layer.stored.values)),
        STEPS=0, CONTEXTS=0, ROWS=0, SLOTS=0, RING=0,
    )  # fmt: skip
    if modelled:
        largest = max(int(layer.integers.weight.abs().max()) for layer in modelled)
        rows, slots = ([layer.matrix[0] for layer in modelled], [layer.stored.stride + 2 for layer in modelled])
        sizes["STEPS"] = min(largest, context.TOP - 1)
        sizes["CONTEXTS"] = 584 + 21 * sizes["STEPS"]  # those of `kept` and `positive`, and of each `above`
        sizes |= dict(ROWS=max(rows), SLOTS=max(slots), RING=max(map(math.prod, zip(rows, slots, strict=True))))
    return sizes | dict(RAM=_ram(sizes, layers))


def _ram(sizes: dict[str, int], layers: list[Layer]) -> int:
    """Bytes of the struct in `engine/memory.c`; each member is rounded up to 8, so it is never more."""
    members = [4 * sizes["SUMS"], sizes["EVEN"], sizes["ODD"], sizes["WEIGHTS"], 1]
    if sizes["CONTEXTS"]:
        members += [8 * sizes["CONTEXTS"], 3 * 4 * 56, 2 * sizes["ROWS"], 2 * sizes["SLOTS"], sizes["RING"]]
    if any(layer.stored.layout != "context" for layer in layers):
        members += 2 * [32, 8 + 6 * sizes["ALPHABET"] if sizes["ALPHABET"] else 0, 32 if sizes["ALPHABET"] else 0]
    return sum(-(-n // 8) * 8 for n in members)
