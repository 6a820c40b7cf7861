"""One tensor in a file: type, shape and layout in the header, values in the body."""

import math
import reprlib
from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from labkit.store import layout
from labkit.store._wire import Reader, varint
from labkit.store.packed import Piece

FLOATS = ("float32", "float64", "float16", "bfloat16")
DTYPES = (*FLOATS, "int8", "int16", "int32", "int64", "uint8", "bool")  # stored by index
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

Shapes = Collection[tuple[int, ...]]  # those that a tensor of the file may have, taken from `into`


def write_tensor(head: bytearray, tensor: Tensor, coders: Collection[str]) -> list[Piece]:
    """Describe a tensor in the header; return its pieces of the body."""
    write_shape(head, tensor)
    values = to_numpy(tensor)
    pack = layout.pack_words if tensor.is_floating_point() else layout.pack_integers
    return pack(values, coders).write(head)


def read_tensor(head: Reader, body: Reader, allowed: Shapes) -> Tensor:
    """The tensor that `write_tensor` wrote; nothing is unpacked before its shape is found in `allowed`."""
    dtype, shape = read_shape(head, allowed)
    unpack = layout.unpack_words if dtype in FLOATS else layout.unpack_integers
    return to_tensor(unpack(head, body, math.prod(shape), numpy_type(dtype)), dtype, shape)


def write_shape(head: bytearray, tensor: Tensor) -> None:
    """Type and shape. ValueError for a type that a file cannot hold."""
    dtype = type_name(tensor.dtype if tensor.layout == torch.strided else tensor.layout)  # "sparse_coo" is refused
    if dtype not in DTYPES:
        raise ValueError(f"it is of type {dtype}; allowed in a .lk file: {', '.join(DTYPES)}")
    head += varint(DTYPES.index(dtype)) + b"".join(map(varint, [tensor.ndim, *tensor.shape]))


def read_shape(head: Reader, allowed: Shapes) -> tuple[str, tuple[int, ...]]:
    """The type, one of DTYPES, and the shape, one of `allowed`."""
    dtype, n_axes = head.choice("type", DTYPES), head.varint()
    shape = tuple(head.varint() for _ in range(min(n_axes, 64)))
    if n_axes > 64 or shape not in allowed:
        raise ValueError(f"it has shape {short(shape)}, which does not fit `into`; give the model it was saved from")
    return dtype, shape


def type_name(dtype: torch.dtype | torch.layout) -> str:
    """Its name without "torch."."""
    return str(dtype).removeprefix("torch.")


def short(value: object) -> str:
    """Text or numbers of a file for a message: escaped and cut, because they can be anything."""
    return reprlib.repr(value)


def to_numpy(tensor: Tensor) -> np.ndarray:
    """The values, flattened: floats as unsigned whole numbers of the same bits, booleans as 0 and 1."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if flat.dtype.is_floating_point:
        return flat.view(_INTEGERS[flat.itemsize]).numpy().view(f"u{flat.itemsize}")
    return (flat.view(torch.uint8) if flat.dtype == torch.bool else flat).numpy()


def numpy_type(dtype: str) -> np.dtype:
    """The NumPy type that `to_numpy` gives for a torch type."""
    kind = "u" if dtype in (*FLOATS, "bool", "uint8") else "i"
    return np.dtype(f"{kind}{getattr(torch, dtype).itemsize}")


def to_tensor(values: np.ndarray, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """The inverse of `to_numpy`."""
    if dtype == "bool" and values.max(initial=0) > 1:
        raise ValueError("its booleans are something other than 0 and 1")
    signed_view = values.view(f"i{values.itemsize}")  # torch supports little of uint16, uint32, uint64
    return torch.from_numpy(signed_view).view(getattr(torch, dtype)).reshape(shape)
