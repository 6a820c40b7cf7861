"""The .lk file: a model's state, losslessly, in as few bytes as simple coders manage. Loading never executes anything.

    b"LABK" | version | length of the header, a varint | header, deflated | body | CRC-32 of all before

The header lists every tensor: name, kind, type, shape, layout, coders, lengths. The body is the tensors' streams, end
to end. A file holds no architecture: `load` is given a model of the same one.
"""

import functools
import math
import reprlib
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labkit import _check
from labkit._files import read, replace
from labkit._module import unwrapped
from labkit.compress.parts import Part, Quantized, Shared, assemble, input_quantizers, parts, rounding_parts, shape_of
from labkit.compress.quantize import Grid, QuantizeInput, check_grid, grid_shapes
from labkit.store import layout
from labkit.store._wire import Bytes, Reader, text, varint
from labkit.store.coding import CODERS, QUICK

MAGIC, VERSION = b"LABK", 1
KINDS = ("tensor", "quantized", "codebook")
FLOATS = ("float32", "float64", "float16", "bfloat16")
DTYPES = (*FLOATS, "int8", "int16", "int32", "int64", "uint8", "bool")
_FLOATS = tuple(getattr(torch, name) for name in FLOATS)
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
MAX_CENTROIDS = 1 << 8


@dataclass(frozen=True)
class Entry:
    """A run of bytes of the file and what it holds: part "weight", "scale", "zero_point", "codebook" or "header"."""

    name: str
    part: str
    component: str
    coder: str
    raw: Bytes


def save(model: nn.Module, path: str | Path, coders: Collection[str] = QUICK) -> Path:
    """Write `model` to `path`, all of it or nothing: a crash leaves the file that was there. Returns the path.

    `coders` may compete for each tensor (see `encode`). ValueError where `path` is a folder, a device or a pipe.
    """
    _check.kind(str | Path, path=path)
    replace(path, [entry.raw for entry in entries(model, coders)])
    return Path(path)


def load(path: str | Path, into: nn.Module) -> nn.Module:
    """A new model: the architecture of `into`, the contents of the file. ValueError says what is wrong with it."""
    _check.kind(str | Path, path=path)
    _check.kind(nn.Module, into=into)
    try:
        return decode(read(path, longest=_longest_file(into)), into)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _longest_file(into: nn.Module) -> int:
    """More bytes than any file of this architecture: float64 for each value, its grid or codebook, its header."""
    return sum(20 * math.prod(shape_of(part)) + 10_000 for part in parts(unwrapped(into)).values()) + 10_000


def encode(model: nn.Module, coders: Collection[str] = QUICK) -> bytes:
    """The file of `model`. ValueError names a tensor whose type a file cannot hold.

    Of `coders`, among "raw", "huffman", "range" and "context", each tensor gets the one that makes it shortest; "raw"
    is always there. "context" is not among them by default: it takes seconds instead of milliseconds.
    """
    return b"".join(entry.raw for entry in entries(model, coders))


def check_equal(model: nn.Module, again: nn.Module) -> None:
    """ValueError, naming the tensor, unless two models hold the same state, bit for bit."""
    _check.kind(nn.Module, model=model, again=again)
    ours, theirs = parts(model), parts(again)
    if ours.keys() != theirs.keys():
        raise ValueError(f"the models differ in {', '.join(sorted(ours.keys() ^ theirs.keys()))}")
    for name, part in ours.items():
        if _facts(part) != _facts(theirs[name]):
            raise ValueError(f"{name} is not the same in the two models")


def _facts(part: Part) -> tuple[Any, ...]:
    if isinstance(part, Quantized):
        grid = part.grid
        return (*_facts(part.q), *_facts(grid.scale), *_facts(grid.zero_point), grid.bits, grid.symmetric, grid.dtype)
    if isinstance(part, Shared):
        return (*_facts(part.indices), *_facts(part.codebook))
    return part.dtype, part.shape, _to_numpy(part).tobytes()


# --- writing ---------------------------------------------------------------------------------------------------------


def entries(model: nn.Module, coders: Collection[str] = QUICK) -> list[Entry]:
    """The file of `model` as the runs of bytes it consists of, in order, each with what it holds.

    Floats without zeros are views of the model's own memory: use them before the model changes.
    """
    _check.known("coders", coders, CODERS)
    _check.kind(nn.Module, model=model)
    stored, head = parts(model), bytearray()
    _check_grids(unwrapped(model), stored)
    body: list[Entry] = []
    head += varint(len(stored))
    for name, part in stored.items():
        body += _put_part(head, name, part, coders)
    deflated = _deflate(bytes(head))
    start = MAGIC + bytes([VERSION]) + varint(len(deflated)) + deflated
    written = [Entry("", "header", "header", "deflate", start), *body]
    checksum = functools.reduce(lambda crc, entry: zlib.crc32(entry.raw, crc), written, 0).to_bytes(4, "little")
    return [*written, Entry("", "header", "header", "checksum", checksum)]


def _check_grids(model: nn.Module, stored: Mapping[str, Part]) -> None:
    """Refuse to write a grid that `decode` would refuse to read."""
    rounding = [(name, model.get_submodule(name)) for name in input_quantizers(model)]
    for name, part in [*stored.items(), *rounding]:
        try:
            if isinstance(part, QuantizeInput):
                check_grid(part.grid, ())
            elif isinstance(part, Quantized):
                check_grid(part.grid, tuple(part.q.shape))
                layout.must_fit(part.q.numpy(force=True), part.grid.quant_min, part.grid.quant_max)
        except ValueError as error:
            raise ValueError(f"{name} cannot be saved: {error}") from error


def _deflate(raw: bytes) -> bytes:
    coder = zlib.compressobj(9, wbits=-15)  # negative: without zlib's own 6 bytes of header and checksum
    return coder.compress(raw) + coder.flush()


def _put_part(head: bytearray, name: str, part: Part, coders: Collection[str]) -> Iterator[Entry]:
    """Describe a part in the header, its name and kind first; its streams are returned."""
    kind = {Quantized: "quantized", Shared: "codebook"}.get(type(part), "tensor")
    head += text(name) + varint(KINDS.index(kind))
    if isinstance(part, Quantized):
        return _put_quantized(head, name, part, coders)
    return (
        _put_shared(head, name, part, coders) if isinstance(part, Shared) else _put(head, name, "weight", part, coders)
    )


def _put(head: bytearray, name: str, part: str, tensor: Tensor, coders: Collection[str] = QUICK) -> Iterator[Entry]:
    """Describe a tensor in the header; its streams are returned."""
    _put_shape(head, name, tensor)
    values = _to_numpy(tensor)
    packed = layout.pack_words(values, coders) if tensor.is_floating_point() else layout.pack_integers(values, coders)
    yield from _put_packed(head, name, part, packed)


def _put_quantized(head: bytearray, name: str, part: Quantized, coders: Collection[str]) -> Iterator[Entry]:
    q, grid = part.q, part.grid
    _put_shape(head, name, q)
    # the type of the floats, where it is not that of the scale, in the bits above the one for symmetric
    other = 0 if grid.dtype == grid.scale.dtype else 1 + FLOATS.index(_name(grid.dtype))
    head += varint(grid.bits) + varint(grid.symmetric + 2 * other)
    yield from _put(head, name, "scale", grid.scale, coders)
    yield from _put(head, name, "zero_point", grid.zero_point, coders)
    packed = layout.pack_quantized(q.cpu().numpy(), grid.zero_point.cpu().numpy(), coders)
    yield from _put_packed(head, name, "weight", packed)


def _put_shared(head: bytearray, name: str, part: Shared, coders: Collection[str]) -> Iterator[Entry]:
    _put_shape(head, name, part.indices)
    yield from _put(head, name, "codebook", part.codebook, coders)
    indices = part.indices.cpu().numpy()
    yield from _put_packed(head, name, "weight", layout.pack_quantized(indices, np.zeros((), np.int32), coders))


def _put_shape(head: bytearray, name: str, tensor: Tensor) -> None:
    dtype = _name(tensor.dtype if tensor.layout == torch.strided else tensor.layout)  # "sparse_coo" is not among them
    if dtype not in DTYPES:
        raise ValueError(f"{name} is of type {dtype}; allowed in a .lk file: {', '.join(DTYPES)}")
    head += varint(DTYPES.index(dtype)) + b"".join(map(varint, [tensor.ndim, *tensor.shape]))


def _name(dtype: torch.dtype | torch.layout) -> str:
    return str(dtype).removeprefix("torch.")


def _put_packed(head: bytearray, name: str, part: str, packed: layout.Packed) -> Iterator[Entry]:
    head += packed.head
    return (Entry(name, part, p.component, f"{packed.layout}, {p.coder}", p.raw) for p in packed.pieces if p.raw)


def _to_numpy(tensor: Tensor) -> np.ndarray:
    """The values in a row: floats as unsigned whole numbers of the same bits, booleans as 0 and 1."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if flat.dtype.is_floating_point:
        return flat.view(_INTEGERS[flat.itemsize]).numpy().view(f"u{flat.itemsize}")
    return (flat.view(torch.uint8) if flat.dtype == torch.bool else flat).numpy()


# --- reading ---------------------------------------------------------------------------------------------------------


def decode(raw: bytes, into: nn.Module) -> nn.Module:
    """A new model: the architecture of `into`, the contents of the file `raw`, bit for bit what was saved.

    ValueError says what is wrong with the file. Nothing is unpacked before its name and its shape were found in `into`,
    so that a hostile file cannot claim more memory than that model.
    """
    _check.kind(nn.Module, into=into)
    _check.kind(bytes | bytearray | memoryview, raw=raw)
    into = unwrapped(into)
    ours, stored = input_quantizers(into), dict[str, Part]()
    expected = {name: part for name, part in parts(into).items() if name.rpartition(".")[0] not in ours}
    shapes: dict[str, tuple[int, ...]] = {name: () for names in rounding_parts(into).values() for name in names}
    shapes |= {name: tuple(shape_of(part)) for name, part in expected.items()}
    buffers = {name for name, _ in into.named_buffers()}
    head, body = _open(raw, _longest_header(shapes))
    for _ in range(head.varint()):
        name = head.text()
        if name not in shapes:
            kind = type(into).__name__
            raise ValueError(f"the file holds {_short(name)}, which {kind} has not; give the model it was saved from")
        try:
            if name in stored:
                raise ValueError("it is listed twice")
            stored[name] = _TAKE[head.choice("kind", KINDS)](head, body, {shapes[name]})
            _check_type(name, stored[name], expected.get(name), name in buffers)
        except ValueError as error:
            raise ValueError(f"{name} in the file: {error}") from error
    head.end()
    body.end()
    _check_mixture(stored, expected)
    return assemble(into, stored, copies=False)


def _longest_header(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """More bytes than the inflated header of any model with these parts: 50 numbers for each, 3 more for an axis."""
    return 10 + sum(len(text(name)) + 10 * (50 + 3 * len(shape)) for name, shape in shapes.items())


def _short(value: object) -> str:
    """Text or numbers of a file for a message: escaped and cut, for they can be anything."""
    return reprlib.repr(value)


def _open(raw: bytes, longest: int) -> tuple[Reader, Reader]:
    """Readers of the header, of at most so many bytes, and of the body of an undamaged file."""
    if not raw.startswith(MAGIC):
        raise ValueError("this is not a .lk file: it does not begin with LABK")
    whole = memoryview(raw)[:-4]
    file = Reader(whole, "file")
    file.take(len(MAGIC))
    version = file.take(1)[0]
    if version != VERSION:
        raise ValueError(f"the file is of version {version}; this labkit reads version {VERSION}")
    if zlib.crc32(whole) != int.from_bytes(raw[-4:], "little"):
        raise ValueError("the file is damaged or cut short: its checksum does not match")
    header = _inflate(file.take(file.varint()), longest)
    return Reader(header, "header"), Reader(whole[file.position :], "body")


def _inflate(raw: Bytes, longest: int) -> bytes:
    """The header; one of 16 kB could claim 16 MB if none were too long."""
    coder = zlib.decompressobj(wbits=-15)
    try:
        inflated = coder.decompress(raw, longest)
    except zlib.error as error:
        raise ValueError("the header cannot be inflated") from error
    if not coder.eof or coder.unused_data:
        raise ValueError(f"the header is cut short, goes on after its end or has more than {longest} bytes")
    return inflated


Shapes = Collection[tuple[int, ...]]  # those that a tensor of the file may have, as `into` knows


def _take(head: Reader, body: Reader, allowed: Shapes) -> Tensor:
    dtype, shape = _take_shape(head, allowed)
    unpack = layout.unpack_words if dtype in FLOATS else layout.unpack_integers
    return _to_tensor(unpack(head, body, math.prod(shape), _numpy_type(dtype)), dtype, shape)


def _take_quantized(head: Reader, body: Reader, allowed: Shapes) -> Quantized:
    dtype, shape = _take_shape(head, allowed)
    bits, how = head.varint(), head.varint()
    symmetric, other = bool(how & 1), how >> 1
    if not 1 <= bits <= 8 or dtype != ("int8" if symmetric else "uint8"):
        raise ValueError(f"{bits} bits in {dtype} are not a quantized weight (1 to 8 in int8 symmetric, uint8 affine)")
    if other > len(FLOATS):
        raise ValueError(f"unknown type {other} of floats; this version of labkit knows {', '.join(FLOATS)}")
    scale = _take(head, body, grid_shapes(shape))
    zero_point = _take(head, body, {tuple(scale.shape)})
    grid = Grid(scale, zero_point, bits, symmetric, getattr(torch, FLOATS[other - 1]) if other else scale.dtype)
    check_grid(grid, shape)
    levels = (grid.quant_min, grid.quant_max)
    q = layout.unpack_quantized(head, body, zero_point.numpy(), shape, _numpy_type(dtype), levels)
    return Quantized(_to_tensor(q, dtype, shape), grid)


def _take_shared(head: Reader, body: Reader, allowed: Shapes) -> Shared:
    dtype, shape = _take_shape(head, allowed)
    codebook = _take(head, body, [(n,) for n in range(MAX_CENTROIDS + 1)])
    if dtype != "int16" or not codebook.is_floating_point():
        raise ValueError(f"indices are {dtype} and the codebook {codebook.dtype}; allowed: int16 and a float")
    numbers = (0, len(codebook))
    indices = layout.unpack_quantized(head, body, np.zeros((), np.int32), shape, _numpy_type(dtype), numbers)
    return Shared(_to_tensor(indices, dtype, shape), codebook)


_TAKE: dict[str, Callable[[Reader, Reader, Shapes], Part]] = {
    "tensor": _take,
    "quantized": _take_quantized,
    "codebook": _take_shared,
}


def _take_shape(head: Reader, allowed: Shapes) -> tuple[str, tuple[int, ...]]:
    dtype, n_axes = head.choice("type", DTYPES), head.varint()
    shape = tuple(head.varint() for _ in range(min(n_axes, 64)))
    if n_axes > 64 or shape not in allowed:
        raise ValueError(f"it has shape {_short(shape)}, which does not fit `into`; give the model it was saved from")
    return dtype, shape


def _numpy_type(dtype: str) -> np.dtype:
    """The type that `_to_numpy` makes of a torch type."""
    kind = "u" if dtype in (*FLOATS, "bool", "uint8") else "i"
    return np.dtype(f"{kind}{getattr(torch, dtype).itemsize}")


def _to_tensor(values: np.ndarray, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """The inverse of `_to_numpy`."""
    if dtype == "bool" and values.max(initial=0) > 1:
        raise ValueError("its booleans are something other than 0 and 1")
    signed_view = values.view(f"i{values.itemsize}")  # numpy's uint16, uint32, uint64 mean little to torch
    return torch.from_numpy(signed_view).view(getattr(torch, dtype)).reshape(shape)


def _check_type(name: str, part: Part, expected: Part | None, is_buffer: bool) -> None:
    """Refuse what `assemble` could not put where `name` is."""
    if expected is None:
        _check_rounding(name.rpartition(".")[2], part)
    elif isinstance(part, Quantized | Shared):
        if is_buffer:
            kind = "quantized" if isinstance(part, Quantized) else "a codebook's"
            raise ValueError(f"it is {kind}, but a buffer of `into` cannot be")
    elif isinstance(expected, Quantized | Shared) or expected.is_floating_point():
        if not part.is_floating_point():
            raise ValueError(f"it is of type {part.dtype}; allowed here: floats")
    elif part.dtype != expected.dtype:
        raise ValueError(f"it is of type {part.dtype}; allowed here: {expected.dtype}")


def _check_rounding(attribute: str, part: Part) -> None:
    allowed = {"scale": _FLOATS, "zero_point": (torch.int32,), "bits": (torch.uint8,)}[attribute]
    if isinstance(part, Quantized | Shared) or part.dtype not in allowed:
        raise ValueError("it is no part of an input quantizer: scale a float, zero_point int32, bits uint8")


def _check_mixture(stored: Mapping[str, Part], expected: Mapping[str, Part]) -> None:
    """Refuse floats of several types, with which no layer computes, unless they are those of `into`."""
    types = {name: _float_type(part) for name, part in stored.items() if name in expected}
    types = {name: dtype for name, dtype in types.items() if dtype.is_floating_point}
    if len(set(types.values())) > 1:
        for name, dtype in types.items():
            if dtype != (wanted := _float_type(expected[name])):
                raise ValueError(f"{name} in the file: it is {dtype}, others are not; allowed: one type or {wanted}")


def _float_type(part: Part) -> torch.dtype:
    """The type of the values that the network computes with."""
    if isinstance(part, Quantized):
        return part.grid.dtype
    return part.codebook.dtype if isinstance(part, Shared) else part.dtype
