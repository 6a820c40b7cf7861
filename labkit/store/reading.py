"""From the bytes of a .lk file to a model; any other bytes raise one clear ValueError."""

from collections.abc import Mapping

import torch
from torch import nn

from labkit import _check
from labkit._module import unwrapped
from labkit.compress.parts import Part, assemble, input_quantizers, parts, rounding_parts
from labkit.store import container, kinds
from labkit.store._wire import text
from labkit.store.tensors import FLOATS, short

_FLOATS = tuple(getattr(torch, name) for name in FLOATS)
_ROUNDING = {"scale": _FLOATS, "zero_point": (torch.int32,), "bits": (torch.uint8,)}  # types in an input quantizer


def decode(raw: bytes, into: nn.Module) -> nn.Module:
    """A new model: the architecture of `into`, the contents of the file `raw`, bit for bit what was saved.

    Nothing is unpacked before its name and its shape are found in `into`, so that a malicious file cannot take more
    memory than that model.

    Args:
        raw: the bytes that `encode` made.
        into: a model of the same architecture; it is not changed.

    Returns:
        A new model.

    Raises:
        ValueError: says what is wrong with the file.

    Example:
        >>> model = lk.share_weights(lk.models.mlp(64, 32, 10), bits=2)
        >>> again = lk.decode(lk.encode(model), into=lk.models.mlp(64, 32, 10))
        >>> again[1].weight.equal(model[1].weight), lk.encode(again) == lk.encode(model)
        (True, True)
    """
    _check.kind(nn.Module, into=into)
    _check.kind(bytes | bytearray | memoryview, raw=raw)
    into = unwrapped(into)
    ours, stored = input_quantizers(into), dict[str, Part]()
    expected = {name: part for name, part in parts(into).items() if name.rpartition(".")[0] not in ours}
    shapes: dict[str, tuple[int, ...]] = {name: () for names in rounding_parts(into).values() for name in names}
    shapes |= {name: tuple(part.shape) for name, part in expected.items()}
    buffers = {name for name, _ in into.named_buffers()}
    head, body = container.opened(raw, _longest_header(shapes))
    for _ in range(head.varint()):
        name = head.text()
        if name not in shapes:
            kind = type(into).__name__
            raise ValueError(f"the file holds {short(name)}, which {kind} lacks; give the model it was saved from")
        try:
            if name in stored:
                raise ValueError("it is listed twice")
            stored[name] = kinds.read_part(head, body, {shapes[name]})
            _check_type(name, stored[name], expected.get(name), name in buffers)
        except ValueError as error:
            raise ValueError(f"{name} in the file: {error}") from error
    head.end()
    body.end()
    _check_mixture(stored, expected)
    return assemble(into, stored, copies=False)


def _longest_header(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """An upper bound of the bytes of the inflated header: 50 numbers for each part, 3 more for each axis."""
    return 10 + sum(len(text(name)) + 10 * (50 + 3 * len(shape)) for name, shape in shapes.items())


def _check_type(name: str, part: Part, expected: Part | None, is_buffer: bool) -> None:
    """Refuse what `assemble` could not put in place of `name`: `expected`, or None for a part of an input quantizer."""
    plain = part.kind == "tensor"
    if expected is None:
        if not plain or part.dtype not in _ROUNDING[name.rpartition(".")[2]]:
            raise ValueError("it is no part of an input quantizer: scale a float, zero_point int32, bits uint8")
    elif is_buffer and not plain:
        raise ValueError(f"it is of kind {part.kind}; allowed for a buffer of `into`: tensor")
    elif expected.dtype.is_floating_point:
        if not part.dtype.is_floating_point:
            raise ValueError(f"it is of type {part.dtype}; allowed here: floats")
    elif part.dtype != expected.dtype:
        raise ValueError(f"it is of type {part.dtype}; allowed here: {expected.dtype}")


def _check_mixture(stored: Mapping[str, Part], expected: Mapping[str, Part]) -> None:
    """Refuse floats of several types, which no layer can combine, unless `into` has the same types."""
    types = {name: part.dtype for name, part in stored.items() if name in expected and part.dtype.is_floating_point}
    if len(set(types.values())) > 1:
        for name, dtype in types.items():
            if dtype != (wanted := expected[name].dtype):
                raise ValueError(f"{name} in the file: it is {dtype}, others are not; allowed: one type or {wanted}")
