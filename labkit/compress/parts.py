"""A model as a flat dictionary of what has to be stored, and back: the one place where files meet the techniques."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from labkit.compress import _weights, codebook, quantize
from labkit.compress.codebook import Lookup
from labkit.compress.qat import FakeQuantize
from labkit.compress.quantize import Dequantize, Grid, install_input_quantizer, remove_input_quantizers


@dataclass(frozen=True)
class Quantized:
    """A quantized weight: integers `q` (int8 symmetric, uint8 affine) and the `grid` they are on."""

    q: Tensor
    grid: Grid


@dataclass(frozen=True)
class Shared:
    """A weight of shared values: int16 `indices`, 0 for a zero and i for `codebook[i - 1]`, and the codebook (k,)."""

    indices: Tensor
    codebook: Tensor


Part = Tensor | Quantized | Shared


def parts(model: nn.Module) -> dict[str, Part]:
    """Everything a file must hold to rebuild `model`: its state by name, a weight of integers as one part.

    A tensor that two layers share is listed once, under its first name.
    """
    found: dict[str, Part] = {}
    seen: set[int] = set()
    for prefix, owner in model.named_modules():
        if isinstance(owner, parametrize.ParametrizationList | Dequantize | Lookup | FakeQuantize):
            continue
        for name, value in _own(owner).items():
            if id(value) not in seen:
                seen.add(id(value))
                path = f"{prefix}.{name}".lstrip(".")
                found[path] = _part(path, value)
    return found


def _own(owner: nn.Module) -> dict[str, object]:
    """The parameters, parametrizations and saved buffers that belong to this module itself."""
    own: dict[str, object] = {k: v for k, v in owner._parameters.items() if v is not None}
    own |= _weights.parametrizations(owner)
    saved = {k: v for k, v in owner._buffers.items() if v is not None and k not in owner._non_persistent_buffers_set}
    return own | saved


def _part(path: str, value: object) -> Part:
    if isinstance(value, parametrize.ParametrizationList):
        rule, original = value[0], value.original.detach()
        if isinstance(rule, Dequantize):
            return Quantized(original, rule.grid)
        if isinstance(rule, Lookup):
            return Shared(original, rule.codebook.detach())
        if isinstance(rule, FakeQuantize):
            raise ValueError(f"{path} trains for a grid; a file holds what finish_qat makes of it")
        raise ValueError(f"parametrization {type(rule).__name__} is not one of labkit's; remove it before saving")
    return value.detach()  # type: ignore[attr-defined]


def assemble(into: nn.Module, stored: Mapping[str, Part], *, copies: bool = True) -> nn.Module:
    """A new model: the architecture of `into`, the contents of `stored` (as `parts` gave them).

    Without `copies` the tensors of `stored` themselves become the model's. ValueError names a part that `into` lacks,
    one that is missing, or one whose shape differs.
    """
    model = _weights.plain(into, hollow=True)
    remove_input_quantizers(model)
    expected = parts(model)
    rounding = {k for k in stored if ".input_quantizer." in f".{k}"}
    for name, value in expected.items():
        if name not in stored:
            raise ValueError(
                f"the file has no {name}, which {type(into).__name__} needs; give the model it was saved from"
            )
        shape = shape_of(stored[name])
        if shape != shape_of(value):
            raise ValueError(f"{name} has shape {tuple(shape)} in the file and {tuple(shape_of(value))} in `into`")
    unknown = [k for k in stored if k not in expected and k not in rounding]
    if unknown:
        raise ValueError(
            f"the file holds {unknown[0]}, which {type(into).__name__} has not; give the model it was saved from"
        )
    for name in expected:
        _put(model, name, copy.deepcopy(stored[name]) if copies else stored[name])
    _put_input_quantizers(model, {k: stored[k] for k in rounding})
    return model


def shape_of(part: Part) -> torch.Size:
    """The shape of a part's tensor."""
    if isinstance(part, Quantized):
        return part.q.shape
    return part.indices.shape if isinstance(part, Shared) else part.shape


def floats_of(part: Part) -> Tensor:
    """The values that the network computes with."""
    if isinstance(part, Quantized):
        return quantize.to_floats(part.q, part.grid)
    return codebook.to_floats(part.indices, part.codebook) if isinstance(part, Shared) else part


def _put(model: nn.Module, name: str, part: Part) -> None:
    owner, attribute = _weights.owner_of(model, name)
    if isinstance(part, Quantized):
        quantize.install(model, name, part.q, part.grid)
    elif isinstance(part, Shared):
        codebook.install(model, name, part.indices, part.codebook)
    elif attribute in owner._parameters:
        owner._parameters[attribute].data = part  # type: ignore[union-attr]
    else:
        owner._buffers[attribute] = part


def _put_input_quantizers(model: nn.Module, stored: Mapping[str, Part]) -> None:
    for path in {k.rpartition("input_quantizer.")[0].rstrip(".") for k in stored}:
        prefix = f"{path}.input_quantizer".lstrip(".")
        try:
            scale, zero_point, bits = (stored[f"{prefix}.{k}"] for k in ("scale", "zero_point", "bits"))
            layer = model.get_submodule(path)
        except (KeyError, AttributeError) as error:
            raise ValueError(f"the file's input quantizer of {path!r} does not fit {type(model).__name__}") from error
        install_input_quantizer(layer, Grid(scale, zero_point, int(bits), symmetric=False))  # type: ignore[arg-type]
