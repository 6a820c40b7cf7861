"""The .lk file: a model's state, stored losslessly in few bytes. Loading a file never executes code.

The header lists every tensor: name, kind, type, shape, layout, coders, lengths. The body is the concatenated
streams of the tensors. A file holds no architecture: `load` needs a model of the same architecture.

    container    header and body, with a checksum            packed    one array: its part of the header, its pieces
    kinds        how each kind of part is written and read   layout    how its values are laid out
    tensors      one tensor: type, shape, values             index     which of its values are stored
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from torch import Tensor, nn

from labkit import _check
from labkit._files import read, replace
from labkit._module import unwrapped
from labkit.compress.grid import check_grid
from labkit.compress.parts import Part, input_quantizers, parts
from labkit.compress.quantize import QuantizeInput
from labkit.store import container, kinds
from labkit.store._wire import Bytes, text, varint
from labkit.store.coding import CODERS, QUICK
from labkit.store.reading import decode
from labkit.store.tensors import to_numpy


@dataclass(frozen=True)
class Entry:
    """A run of bytes of the file and what it holds: a component of the tensor `name`, written by `coder`."""

    name: str
    component: str
    coder: str
    raw: Bytes


def save(model: nn.Module, path: str | Path, coders: Collection[str] = QUICK) -> Path:
    """Write `model` to `path` atomically: after a crash the previous file is intact.

    Args:
        model: a float, pruned, quantized or shared network.
        path: where to write.
        coders: the coders that may be used (see `encode`).

    Returns:
        The path.

    Raises:
        ValueError: `path` is a folder, a device or a pipe, or a file cannot hold a tensor.

    Example:
        >>> model = lk.quantize(lk.models.mlp(64, 32, 10), bits=4)
        >>> path = lk.save(model, "net.lk")
        >>> path.stat().st_size == len(lk.encode(model))  # the file's length is the size we quote
        True
    """
    _check.kind(str | Path, path=path)
    replace(path, [entry.raw for entry in entries(model, coders)])
    return Path(path)


def load(path: str | Path, into: nn.Module) -> nn.Module:
    """A new model: the architecture of `into`, the contents of the file. Loading never executes code.

    Args:
        path: a file that `save` wrote.
        into: a model of the same architecture; it is not changed.

    Returns:
        A new model, equal to the saved one, tensor by tensor.

    Raises:
        ValueError: says what is wrong with the file.

    Example:
        >>> model = lk.quantize(lk.models.mlp(64, 32, 10), bits=4)
        >>> again = lk.load(lk.save(model, "net.lk"), into=lk.models.mlp(64, 32, 10))
        >>> again[1].weight.equal(model[1].weight), again[1].parametrizations.weight.original.dtype
        (True, torch.int8)
    """
    _check.kind(str | Path, path=path)
    _check.kind(nn.Module, into=into)
    try:
        return decode(read(path, longest=_longest_file(into)), into)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _longest_file(into: nn.Module) -> int:
    """An upper bound of the bytes of a file: float64 for each value, its grid or codebook, its header."""
    return sum(20 * math.prod(part.shape) + 10_000 for part in parts(unwrapped(into)).values()) + 10_000


def encode(model: nn.Module, coders: Collection[str] = QUICK) -> bytes:
    """The file of `model`, in memory: its state, stored losslessly.

    Args:
        model: a float, pruned, quantized or shared network.
        coders: each tensor gets the one that makes it shortest. Allowed are "raw", "huffman", "range" and "context",
            and "raw" is always included. "context" is not used by default: it takes seconds instead of milliseconds.

    Returns:
        The bytes that `save` writes; they do not hold the architecture.

    Raises:
        ValueError: names a tensor whose type a file cannot hold, or an unknown coder.

    Example:
        >>> model = lk.models.mlp(64, 32, 10)  # 2,410 parameters of 4 bytes
        >>> len(lk.encode(model)) < 2_410 * 4 + 200, len(lk.encode(lk.prune(model, sparsity=0.9))) < 2_410
        (True, True)
    """
    return b"".join(entry.raw for entry in entries(model, coders))


def entries(model: nn.Module, coders: Collection[str] = QUICK) -> list[Entry]:
    """The file of `model` as a list of byte runs, in order, each with what it holds.

    Floats without zeros are views of the model's own memory: use them before the model changes.
    """
    _check.known("coders", coders, CODERS)
    _check.kind(nn.Module, model=model)
    stored = parts(model)
    _check_input_quantizers(unwrapped(model))
    head, body = varint(len(stored)), list[Entry]()
    for name, part in stored.items():
        described, written = describe(name, part, coders)
        head += described
        body += written
    start, end = container.closed(head, [entry.raw for entry in body])
    return [Entry("", "header", "deflate", start), *body, Entry("", "header", "checksum", end)]


def describe(name: str, part: Part, coders: Collection[str]) -> tuple[bytes, list[Entry]]:
    """The header bytes of a part, and its entries in the body."""
    head = bytearray(text(name))
    try:
        pieces = kinds.write_part(head, part, coders)
    except ValueError as error:
        raise ValueError(f"{name} cannot be saved: {error}") from error
    return bytes(head), [Entry(name, piece.component, piece.coder, piece.raw) for piece in pieces]


def _check_input_quantizers(model: nn.Module) -> None:
    """Refuse to write an input quantizer that `decode` would refuse to read."""
    for name in input_quantizers(model):
        try:
            check_grid(cast(QuantizeInput, model.get_submodule(name)).grid, ())
        except ValueError as error:
            raise ValueError(f"{name} cannot be saved: {error}") from error


def check_equal(model: nn.Module, again: nn.Module) -> None:
    """ValueError, naming the tensor, unless two models hold the same state, bit for bit."""
    _check.kind(nn.Module, model=model, again=again)
    ours, theirs = parts(model), parts(again)
    if ours.keys() != theirs.keys():
        raise ValueError(f"the models differ in {', '.join(sorted(ours.keys() ^ theirs.keys()))}")
    for name, part in ours.items():
        if not _same(part, theirs[name]):
            raise ValueError(f"{name} is not the same in the two models")


def _same(ours: Part, theirs: Part) -> bool:
    if (ours.kind, ours.settings) != (theirs.kind, theirs.settings):
        return False
    return all(map(_same_bits, ours.tensors().values(), theirs.tensors().values()))


def _same_bits(ours: Tensor, theirs: Tensor) -> bool:
    if (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
        return False
    return np.array_equal(to_numpy(ours), to_numpy(theirs))
