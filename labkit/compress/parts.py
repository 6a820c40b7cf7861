"""A model as a flat dictionary of what a file must store, and back: the only link between files and techniques."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from labkit.compress import _weights, codebook, quantize
from labkit.compress.codebook import Lookup
from labkit.compress.grid import Grid, check_grid, in_groups, spread, to_floats
from labkit.compress.qat import FakeQuantize
from labkit.compress.quantize import (
    Dequantize,
    can_round_input,
    has_input_quantizer,
    install_input_quantizer,
    remove_input_quantizers,
)

Settings = tuple[int, bool, torch.dtype] | tuple[()]


@dataclass(frozen=True)
class Plain:
    """A tensor as it is: floats, whole numbers or booleans."""

    values: Tensor
    kind: ClassVar[str] = "tensor"
    settings: ClassVar[Settings] = ()

    @property
    def shape(self) -> torch.Size:
        """The shape of the values."""
        return self.values.shape

    @property
    def dtype(self) -> torch.dtype:
        """The type that the network computes with."""
        return self.values.dtype

    def tensors(self) -> dict[str, Tensor]:
        """Everything it consists of."""
        return {"values": self.values}

    def floats(self) -> Tensor:
        """The values that the network computes with."""
        return self.values

    def padded(self, shape: torch.Size) -> "Plain":
        """The same values in the first rows and columns of a larger tensor, zeros elsewhere."""
        return Plain(_put_into(torch.zeros(shape, dtype=self.dtype), self.values))

    def install(self, model: nn.Module, name: str) -> None:
        """Make it the parameter or buffer `name` of `model`, in place."""
        owner, attribute = _weights.owner_of(model, name)
        values = _laid_out(self.values, getattr(owner, attribute))
        if attribute in owner._parameters:
            getattr(owner, attribute).data = values
        else:
            owner._buffers[attribute] = values


@dataclass(frozen=True)
class Quantized:
    """A quantized weight: integers `q` (int8 symmetric, uint8 affine) and the `grid` they are on."""

    q: Tensor
    grid: Grid
    kind: ClassVar[str] = "quantized"

    @property
    def settings(self) -> Settings:
        """What it consists of besides tensors."""
        return self.grid.bits, self.grid.symmetric, self.grid.dtype

    @property
    def shape(self) -> torch.Size:
        """The shape of the integers."""
        return self.q.shape

    @property
    def dtype(self) -> torch.dtype:
        """The type that the network computes with."""
        return self.grid.dtype

    def tensors(self) -> dict[str, Tensor]:
        """Everything it consists of."""
        return {"q": self.q, "scale": self.grid.scale, "zero_point": self.grid.zero_point}

    def floats(self) -> Tensor:
        """The values that the network computes with."""
        return to_floats(self.q, self.grid)

    def padded(self, shape: torch.Size) -> "Quantized":
        """The same integers in the first rows and columns of a larger tensor, zero points elsewhere."""
        if in_groups(self.grid, self.shape) and shape != self.shape:
            raise ValueError(
                f"a weight of {tuple(self.shape)} with one scale per group cannot become {tuple(shape)}; "
                "allowed: the same shape, or one scale"
            )
        zero_point = spread(self.grid, self.shape)[1]
        if any(size not in (1, larger) for size, larger in zip(zero_point.shape, shape, strict=False)):
            raise ValueError(
                f"a weight with one scale per channel of {tuple(zero_point.shape)} cannot become {tuple(shape)}; "
                "allowed: as many channels, or one scale"
            )
        return Quantized(_put_into(zero_point.expand(shape).to(self.q.dtype, copy=True), self.q), self.grid)

    def install(self, model: nn.Module, name: str) -> None:
        """Make it the weight `name` of `model`, in place."""
        quantize.install(model, name, _laid_out(self.q, _there(model, name)), self.grid)


@dataclass(frozen=True)
class Shared:
    """A weight of shared values: int16 `indices`, 0 for a zero and i for `codebook[i - 1]`, and the codebook (k,)."""

    indices: Tensor
    codebook: Tensor
    kind: ClassVar[str] = "codebook"
    settings: ClassVar[Settings] = ()

    @property
    def shape(self) -> torch.Size:
        """The shape of the indices."""
        return self.indices.shape

    @property
    def dtype(self) -> torch.dtype:
        """The type that the network computes with."""
        return self.codebook.dtype

    def tensors(self) -> dict[str, Tensor]:
        """Everything it consists of."""
        return {"indices": self.indices, "codebook": self.codebook}

    def floats(self) -> Tensor:
        """The values that the network computes with."""
        return codebook.to_floats(self.indices, self.codebook)

    def padded(self, shape: torch.Size) -> "Shared":
        """The same indices in the first rows and columns of a larger tensor, zeros elsewhere."""
        return Shared(_put_into(torch.zeros(shape, dtype=self.indices.dtype), self.indices), self.codebook)

    def install(self, model: nn.Module, name: str) -> None:
        """Make it the weight `name` of `model`, in place."""
        codebook.install(model, name, _laid_out(self.indices, _there(model, name)), self.codebook)


Part = Plain | Quantized | Shared
ROUNDING = ("scale", "zero_point", "bits")  # the parts of an input quantizer


def parts(model: nn.Module) -> dict[str, Part]:
    """Everything a file must hold to rebuild `model`: its state by name, an integer weight as one part.

    That is every parameter and buffer; non-persistent ones too, since outputs depend on them. A tensor that two layers
    share is listed once, under its first name. What another library's rule computes has the values of evaluation mode.
    ValueError names a module that keeps anything else.
    """
    found: dict[str, Part] = {}
    seen: set[int] = set()
    for prefix, owner in _weights.opened(model).named_modules():
        if isinstance(owner, parametrize.ParametrizationList | Dequantize | Lookup | FakeQuantize):
            continue
        _check_state(prefix, owner)
        for name, value in _own(owner).items():
            if id(value) not in seen:
                seen.add(id(value))
                path = f"{prefix}.{name}".lstrip(".")
                found[path] = _part(path, value)
    return found


def _own(owner: nn.Module) -> dict[str, object]:
    """The parameters, parametrizations and buffers that belong to this module itself."""
    own = owner._parameters | _weights.parametrizations(owner) | owner._buffers
    return {k: v for k, v in own.items() if v is not None}


def _check_state(path: str, owner: nn.Module) -> None:
    """Refuse a module with state that is no parameter or buffer: get_extra_state, or the packed weights of torch.ao."""
    state: dict[str, object] = {}
    owner._save_to_state_dict(state, "", keep_vars=True)
    if other := state.keys() - _own(owner).keys():
        raise ValueError(
            f"{path or 'the model'}, a {type(owner).__name__}, keeps {', '.join(sorted(other))}; allowed in a file: "
            "parameters and buffers"
        )


def input_quantizers(model: nn.Module) -> set[str]:
    """The names of labkit's modules that round the input of a layer."""
    return {f"{name}.input_quantizer".lstrip(".") for name, m in model.named_modules() if has_input_quantizer(m)}


def rounding_parts(model: nn.Module) -> dict[str, list[str]]:
    """{layer: the three part names of its input quantizer} for each layer that can have one."""
    layers = [name for name, layer in model.named_modules() if can_round_input(layer)]
    return {name: [f"{name}.input_quantizer.{part}".lstrip(".") for part in ROUNDING] for name in layers}


def _part(path: str, value: object) -> Part:
    if isinstance(value, parametrize.ParametrizationList):
        rule, original = value[0], value.original.detach()
        if isinstance(rule, Dequantize):
            return Quantized(original, rule.grid)
        if isinstance(rule, Lookup):
            return Shared(original, rule.codebook.detach())
        if isinstance(rule, FakeQuantize):
            raise ValueError(f"{path} trains for a grid; a file holds what finish_qat makes of it")
    return Plain(cast(Tensor, value).detach())


def assemble(into: nn.Module, stored: Mapping[str, Part], *, copies: bool = True) -> nn.Module:
    """A new model: the architecture of `into`, the contents of `stored` (as `parts` gave them).

    Without `copies` the tensors of `stored` themselves become the model's. ValueError names a part that `into` lacks,
    one that is missing, or one whose shape differs.
    """
    model = _weights.plain(into, hollow=True)
    remove_input_quantizers(model)
    expected = parts(model)
    rounding = {layer: names for layer, names in rounding_parts(model).items() if stored.keys() & names}
    kept = {f"{path}.{name}".lstrip(".") for path, m in model.named_modules() for name in m._non_persistent_buffers_set}
    for name, value in expected.items():
        if name in kept and name not in stored:
            continue  # files of earlier versions do not hold these buffers: those of `into` stay
        if name not in stored:
            raise ValueError(
                f"the file has no {name}, which {type(into).__name__} needs; give the model it was saved from"
            )
        if (shape := stored[name].shape) != value.shape:
            raise ValueError(f"{name} has shape {tuple(shape)} in the file and {tuple(value.shape)} in `into`")
    known = {*expected, *(name for names in rounding.values() for name in names)}
    unknown = [k for k in stored if k not in known]
    if unknown:
        raise ValueError(
            f"the file holds {unknown[0]}, which {type(into).__name__} lacks; give the model it was saved from"
        )
    for name in [name for name in expected if name in stored]:
        (copy.deepcopy(stored[name]) if copies else stored[name]).install(model, name)
    for layer, names in rounding.items():
        _put_input_quantizer(model.get_submodule(layer), names, stored)
    return model


def _there(model: nn.Module, name: str) -> Tensor:
    owner, attribute = _weights.owner_of(model, name)
    return cast(Tensor, getattr(owner, attribute))


def _laid_out(values: Tensor, there: Tensor) -> Tensor:
    """The values with the memory layout of `there`: in another, such as channels-last, sums have another order."""
    if values.stride() == there.stride():
        return values
    return torch.empty_like(there, dtype=values.dtype, requires_grad=False).copy_(values)


def _put_into(larger: Tensor, values: Tensor) -> Tensor:
    """`larger`, with the values in its first rows and columns."""
    larger[tuple(slice(size) for size in values.shape)] = values
    return larger


def _put_input_quantizer(layer: nn.Module, names: list[str], stored: Mapping[str, Part]) -> None:
    if missing := [name for name in names if name not in stored]:
        raise ValueError(f"the file has no {missing[0]}; allowed: all of {', '.join(names)}, or none")
    scale, zero_point, bits = (cast(Plain, stored[name]).values for name in names)
    grid = Grid(scale, zero_point, int(bits), symmetric=False, dtype=scale.dtype)
    try:
        check_grid(grid, ())
    except ValueError as error:
        raise ValueError(f"{names[0].rpartition('.')[0]} in the file: {error}") from error
    install_input_quantizer(layer, grid)
