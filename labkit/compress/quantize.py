"""Quantization: weights and activations on a grid of 2^bits levels (Jacob et al. 2018; Krishnamoorthi 2018).

    q     = clamp(round(x / scale) + zero_point, quant_min, quant_max)
    x_hat = (q - zero_point) * scale

Symmetric: zero_point is 0 and the grid is signed. Affine: the grid spans [min, max], stretched to hold 0. Either way
0 is on the grid, so that a pruned weight stays exactly 0. One symmetric bit is special: the sign of the weight times
the mean magnitude of the layer (Rastegari et al. 2016), and a zero keeps the sign 0.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from labkit import _check
from labkit._module import evaluating
from labkit.compress import _weights

GRANULARITIES = ("tensor", "channel")


@dataclass(frozen=True)
class Grid:
    """The values a quantized tensor can take; `scale` (float32) and `zero_point` (int32) broadcast against it."""

    scale: Tensor
    zero_point: Tensor
    bits: int
    symmetric: bool

    @property
    def quant_min(self) -> int:
        """The smallest integer: -2^(bits - 1) symmetric, 0 affine, -1 for the sign of one symmetric bit."""
        return -(2 ** (self.bits - 1)) if self.symmetric else 0

    @property
    def quant_max(self) -> int:
        """The largest integer: 2^(bits - 1) - 1 symmetric, 2^bits - 1 affine, 1 for the sign of one symmetric bit."""
        if self.symmetric:
            return max(1, 2 ** (self.bits - 1) - 1)
        return 2**self.bits - 1


def choose_grid(
    x: Tensor, bits: int, *, symmetric: bool = True, granularity: str = "tensor", percentile: float = 100.0
) -> Grid:
    """The grid for `x`: one for all of it, or (granularity "channel") one for each index of its first axis.

    Symmetric: scale = absmax / ((quant_max - quant_min) / 2). Affine: scale = (max - min) / (quant_max - quant_min).
    `percentile` in (50, 100] clips: below 100, min and max become percentiles of the non-zero values, so that a pruned
    tensor is not judged by its zeros. An all-zero channel gets scale 1. ValueError for settings out of range or NaN.
    """
    _check_settings(bits, granularity, percentile)
    _check.finite("x", x)
    rows = x.reshape(len(x), -1) if granularity == "channel" else x.reshape(1, -1)
    low, high = _value_range(rows, percentile)
    if symmetric and bits == 1:
        scale = rows.abs().sum(1) / (rows != 0).sum(1).clamp(min=1)
    elif symmetric:
        scale = torch.maximum(-low, high) / ((2**bits - 1) / 2)
    else:
        scale = (high - low) / (2**bits - 1)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    zero_point = torch.zeros_like(scale) if symmetric else (-low / scale).round().clamp(0, 2**bits - 1)
    shape = (-1,) + (1,) * (x.ndim - 1) if granularity == "channel" else ()
    return Grid(scale.reshape(shape), zero_point.int().reshape(shape), bits, symmetric)


def _value_range(rows: Tensor, percentile: float) -> tuple[Tensor, Tensor]:
    """(low, high) of each row, stretched to hold 0."""
    if percentile == 100:
        low, high = rows.aminmax(dim=1) if len(rows) > 1 else (v[None] for v in rows.aminmax())  # 20 times faster
        return low.clamp(max=0), high.clamp(min=0)
    bounds = []
    for row in rows.detach().cpu().numpy():
        values = row[row != 0] if row.any() else row[:1]
        last = len(values) - 1
        ends = [round(last * (1 - percentile / 100)), round(last * percentile / 100)]
        bounds.append(np.partition(values, ends)[ends])
    low, high = torch.from_numpy(np.stack(bounds)).to(rows).unbind(1)
    return low.clamp(max=0), high.clamp(min=0)


def to_integers(x: Tensor, grid: Grid) -> Tensor:
    """q = clamp(round(x / scale) + zero_point, quant_min, quant_max), int8 symmetric and uint8 affine."""
    if grid.symmetric and grid.bits == 1:
        return x.sign().to(torch.int8)
    q = (x * (1 / grid.scale)).round() + grid.zero_point  # times the reciprocal, as torch's own kernels do
    return q.clamp(grid.quant_min, grid.quant_max).to(torch.int8 if grid.symmetric else torch.uint8)


def to_floats(q: Tensor, grid: Grid) -> Tensor:
    """x_hat = (q - zero_point) * scale."""
    return (q.int() - grid.zero_point).to(grid.scale.dtype) * grid.scale


def fake_quantize(x: Tensor, grid: Grid) -> Tensor:
    """There and back: the value of the grid that is nearest to each x, as a float."""
    return to_floats(to_integers(x, grid), grid)


class Dequantize(nn.Module):
    """The parametrization of a quantized weight: the module keeps integers, and its forward sees floats."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.register_buffer("scale", grid.scale)
        self.register_buffer("zero_point", grid.zero_point)
        self.bits, self.symmetric = grid.bits, grid.symmetric

    @property
    def grid(self) -> Grid:
        """The grid that the integers are on."""
        return Grid(self.scale, self.zero_point, self.bits, self.symmetric)

    def forward(self, q: Tensor) -> Tensor:
        """Integers to floats."""
        return to_floats(q, self.grid)

    # not torch's `right_inverse`: registration would call it on the integers and round them a second time
    def encode(self, x: Tensor) -> Tensor:
        """Floats to integers."""
        return to_integers(x, self.grid)


class QuantizeInput(nn.Module):
    """Rounds what enters a layer to an affine grid that calibration chose; installed as `layer.input_quantizer`."""

    scale: Tensor
    zero_point: Tensor
    bits: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.register_buffer("scale", grid.scale)
        self.register_buffer("zero_point", grid.zero_point)
        self.register_buffer("bits", torch.tensor(grid.bits, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        """Fake-quantize the activations x, any shape; torch's fused kernel does in one pass what the formula does."""
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, 0, 2 ** int(self.bits) - 1)


def quantize(
    model: nn.Module,
    bits: int = 8,
    *,
    symmetric: bool = True,
    granularity: str = "tensor",
    percentile: float = 100.0,
    activation_bits: int | None = None,
    calibration: Tensor | None = None,
    layers: list[str] | None = None,
) -> nn.Module:
    """A new model whose weights are integers of `bits` bits, 1 to 8; biases and BatchNorm stay float.

    `granularity` "tensor" or "channel"; `percentile` clips the range (see `choose_grid`). With `activation_bits` the
    input of each quantized layer is rounded too, on the range it takes while `calibration` images pass through.
    `layers` names the layers to quantize, all without it. ValueError names the argument that is out of range, a layer
    that does not exist or a weight that holds NaN.
    """
    _check_settings(bits, granularity, percentile)
    if (activation_bits is None) != (calibration is None):
        raise ValueError("activation_bits and calibration belong together: give both or neither")
    values = _weights.chosen(model, layers)
    _weights.checked(values)
    model = _weights.clone(model)
    if activation_bits is not None and calibration is not None:
        _quantize_inputs(model, list(values), calibration, activation_bits, percentile)
    for name, value in values.items():
        grid = choose_grid(value, bits, symmetric=symmetric, granularity=granularity, percentile=percentile)
        install(model, name, to_integers(value, grid), grid)
    return model


def quantize_inputs(
    model: nn.Module,
    bits: int,
    calibration: Tensor,
    *,
    percentile: float = 100.0,
    layers: list[str] | None = None,
) -> nn.Module:
    """A new model that rounds what enters its layers, and leaves their weights as they are.

    One affine grid of `bits` bits, 1 to 8, for each layer, over the range that its input takes while the images
    `calibration` pass through; `percentile` clips that range (see `choose_grid`). `layers` names the layers, all
    without it. ValueError as in `quantize`.
    """
    _check_settings(bits, "tensor", percentile)
    names = list(_weights.chosen(model, layers))
    model = _weights.clone(model)
    _quantize_inputs(model, names, calibration, bits, percentile)
    return model


def install(model: nn.Module, name: str, q: Tensor, grid: Grid) -> None:
    """Replace a weight of `model`, in place, by integers on a grid; layers that share it go on sharing it."""
    _weights.install(model, name, nn.Parameter(q, requires_grad=False), Dequantize(grid))


def install_input_quantizer(layer: nn.Module, grid: Grid) -> None:
    """Make `layer`, in place, round what enters it."""
    known = hasattr(layer, "input_quantizer")
    layer.input_quantizer = QuantizeInput(grid)
    if not known:
        layer.register_forward_pre_hook(_round_input)


def remove_input_quantizers(model: nn.Module) -> None:
    """Let every layer of `model`, in place, see its activations unrounded again."""
    for layer in [m for m in model.modules() if hasattr(m, "input_quantizer")]:
        del layer.input_quantizer
        for key in [k for k, hook in layer._forward_pre_hooks.items() if hook is _round_input]:
            del layer._forward_pre_hooks[key]


def _round_input(layer: nn.Module, inputs: tuple) -> tuple:
    return (cast(QuantizeInput, layer.input_quantizer)(inputs[0]), *inputs[1:])


@torch.inference_mode()
def _quantize_inputs(model: nn.Module, names: list[str], images: Tensor, bits: int, percentile: float) -> None:
    """Pass `images` through the model, note what enters each layer, and give each a rounding of its own."""
    _check.whole("activation_bits", bits, 1, 8)
    layers = {id(owner): owner for name in names for owner, _ in _weights.sharers(model, name)}
    seen: dict[int, list[Tensor]] = {}

    def note(layer: nn.Module, inputs: tuple) -> None:
        if inputs[0].is_floating_point():  # the tokens that enter an embedding are not rounded
            seen.setdefault(id(layer), []).append(inputs[0].flatten())

    hooks = [layer.register_forward_pre_hook(note) for layer in layers.values()]
    with evaluating(model):
        model(images)
    for hook in hooks:
        hook.remove()
    for key, entered in seen.items():
        grid = choose_grid(torch.cat(entered), bits, symmetric=False, percentile=percentile)
        install_input_quantizer(layers[key], grid)


def _check_settings(bits: int, granularity: str, percentile: float) -> None:
    _check.whole("bits", bits, 1, 8)
    _check.one_of("granularity", granularity, GRANULARITIES)
    _check.number("percentile", percentile, 50, 100, open_low=True)
