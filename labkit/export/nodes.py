"""What a compressed layer becomes in an ONNX graph: modules that write ONNX operators while torch's exporter runs.

    weight on a grid     integers → DequantizeLinear(scale, zero_point)            x_hat = (q - zero_point) * scale
    shared weight        indices → Gather(codebook)                                x_hat = codebook[index]
    rounded input        x → QuantizeLinear → DequantizeLinear                     uint8 in between

Integers that fit into 4 bits are stored in 4 bits (`narrow`). The operators are those of opset 21, the first with
4-bit integers and with one scale per group (block quantization).
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from labkit.compress import _weights
from labkit.compress.codebook import Lookup
from labkit.compress.grid import Grid
from labkit.compress.quantize import Dequantize, QuantizeInput, has_input_quantizer, integers_of

OPSET = 21


class DequantizeLinear(nn.Module):
    """x_hat = (q - zero_point) * scale, as one ONNX operator: one scale per tensor, index of an axis, or block."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, grid: Grid, shape: torch.Size) -> None:
        super().__init__()
        self.shape, self.narrow = shape, grid.bits <= 4
        scale, self.place = _placed(grid.scale, shape)
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", grid.zero_point.reshape(scale.shape).to(_integer_type(grid)))

    def stored(self, q: Tensor) -> Tensor:
        """The integers as the file holds them: blocks lie along one axis, so a weight in groups has two axes."""
        return q.flatten(1) if "block_size" in self.place else q

    def forward(self, q: Tensor) -> Tensor:
        """Integers to floats."""
        return _operator("DequantizeLinear", (q, self.scale, self.zero_point), torch.float32, q, self.place).reshape(
            self.shape
        )


class Gather(nn.Module):
    """x_hat = table[index]: the codebook of a shared weight, with a zero before it if the weight has zeros."""

    table: Tensor

    def __init__(self, indices: Tensor, codebook: Tensor) -> None:
        super().__init__()
        self.first = int(indices.min() > 0)
        table = nn.functional.pad(codebook.detach(), (1, 0))[self.first :]
        self.register_buffer("table", table)
        self.narrow = len(table) <= 2**4

    def stored(self, indices: Tensor) -> Tensor:
        """The indices as the file holds them: uint8, or int16 for a table of 257 values."""
        return (indices - self.first).to(torch.uint8 if len(self.table) <= 2**8 else torch.int16)

    def forward(self, indices: Tensor) -> Tensor:
        """Indices to floats; Gather takes int32."""
        return _operator("Gather", (self.table, indices.int()), torch.float32, indices, {"axis": 0})


class RoundedInput(nn.Module):
    """A QuantizeLinear and a DequantizeLinear: activations on the grid of 2^bits levels, stored as uint8.

    With fewer than 8 bits, larger values are first clamped to the highest level; uint8 itself clamps at 0.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.register_buffer("scale", grid.scale.float())
        self.register_buffer("zero_point", grid.zero_point.to(torch.uint8))
        self.highest = None if grid.bits == 8 else float((grid.quant_max - grid.zero_point) * grid.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Floats to the nearest levels, as floats."""
        x = x if self.highest is None else x.clamp(max=self.highest)
        q = _operator("QuantizeLinear", (x, self.scale, self.zero_point), torch.uint8, x, {})
        return _operator("DequantizeLinear", (q, self.scale, self.zero_point), torch.float32, x, {})


def write_operators(model: nn.Module) -> None:
    """Replace, in place, what computes weights from integers and what rounds inputs by modules that write operators."""
    for part in model.modules():
        if isinstance(part, ParametrizationList):
            rule, original = part[0], cast(Tensor, part.original)
            writer = (
                Gather(original, rule.codebook) if isinstance(rule, Lookup)
                else DequantizeLinear(cast(Dequantize, rule).grid, original.shape)
            )  # fmt: skip
            part.original = nn.Parameter(writer.stored(original), requires_grad=False)
            part[0] = writer
        if has_input_quantizer(part):
            part.input_quantizer = RoundedInput(cast(QuantizeInput, part.input_quantizer).grid)


def narrow_tensors(model: nn.Module) -> set[str]:
    """The names of the integer tensors, after `write_operators`, whose values fit into 4 bits."""
    lists = {name: part for name, part in model.named_modules() if isinstance(part, ParametrizationList)}
    narrow = {name: part for name, part in lists.items() if cast(Gather | DequantizeLinear, part[0]).narrow}
    zero_points = {f"{name}.0.zero_point" for name, part in narrow.items() if isinstance(part[0], DequantizeLinear)}
    return {f"{name}.original" for name in narrow} | zero_points


def saturating_layers(model: nn.Module) -> list[str]:
    """The layers in which two products of an activation and a weight can exceed 16 bits; before `write_operators`.

    Affine weights are unsigned, and for these onnxruntime has another kernel, which does not add in 16 bits.
    """
    found = []
    for name, layer in model.named_modules():
        if has_input_quantizer(layer) and isinstance(layer, _weights.LAYERS):
            highest = cast(QuantizeInput, layer.input_quantizer).grid.quant_max
            stored = [integers_of(layer, attribute) for attribute in _weights.parametrizations(layer)]
            signed = [both[0] for both in stored if both and both[1].symmetric]
            if any(2 * highest * int(q.int().abs().max()) >= 2**15 for q in signed):
                found.append(name or type(layer).__name__)
    return found


def _placed(scale: Tensor, shape: torch.Size) -> tuple[Tensor, dict[str, int]]:
    """Scales in the shape that DequantizeLinear requires, and its attributes axis and block_size."""
    if scale.numel() == 1:
        return scale.reshape(()), {}
    if scale.ndim == 2 and len(scale) == shape[0] and scale.shape[1] > 1:  # groups, or blocks of one entry
        return scale, {"axis": 1, "block_size": shape[1:].numel() // scale.shape[1]}
    return scale.flatten(), {"axis": int(torch.tensor(scale.shape).argmax())}


def _integer_type(grid: Grid) -> torch.dtype:
    return torch.int8 if grid.symmetric else torch.uint8


def _operator(
    name: str, inputs: tuple[Tensor, ...], dtype: torch.dtype, like: Tensor, attributes: dict[str, int]
) -> Tensor:
    """One ONNX operator, whose output has the shape of `like`; torch's exporter writes it as it is."""
    from torch.onnx import ops  # not above: it loads the exporter

    return ops.symbolic(name, inputs, dict(attributes), dtype=dtype, shape=like.shape, version=OPSET)
