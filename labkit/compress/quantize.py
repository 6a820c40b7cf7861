"""Quantization: weights and activations on a grid of 2^bits levels (Jacob et al. 2018; Krishnamoorthi 2018).

    q     = clamp(round(x / scale) + zero_point, quant_min, quant_max)
    x_hat = (q - zero_point) * scale

Symmetric: zero_point is 0 and the grid is signed. Affine: the grid spans [min, max], extended to include 0. In both,
0 is on the grid, so that a pruned weight stays exactly 0. One symmetric bit is special: the sign of the weight times
the mean magnitude of the layer (Rastegari et al. 2016), and a zero keeps the sign 0.

One scale serves a whole tensor, an output channel, or a group: `group_size` consecutive entries of one row of the
tensor, flattened after its first axis (Frantar et al. 2022).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from labkit import _check
from labkit._module import clone, evaluating, running
from labkit.compress import _weights
from labkit.data import Split

GRANULARITIES = ("tensor", "channel", "group")


@dataclass(frozen=True)
class Grid:
    """The values a quantized tensor can take, as floats of type `dtype`.

    `scale` (float32, or float64) and `zero_point` (int32) broadcast against the tensor; those of groups have the shape
    (rows, groups).
    """

    scale: Tensor
    zero_point: Tensor
    bits: int
    symmetric: bool
    dtype: torch.dtype = torch.float32

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


def grid_shapes(shape: tuple[int, ...]) -> set[tuple[int, ...]]:
    """The shapes that scale and zero point may have: one number, one for each index of an axis, or (rows, groups)."""
    groups = {(shape[0], n) for n in _divisors(math.prod(shape[1:]))} if shape and all(shape) else set()
    return {(), *(tuple(n if i == axis else 1 for i in range(len(shape))) for axis, n in enumerate(shape)), *groups}


def _divisors(n: int) -> set[int]:
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    return {*small, *(n // d for d in small)}


def in_groups(grid: Grid, shape: tuple[int, ...]) -> bool:
    """Does the grid have (rows, groups) scales, which do not broadcast against a tensor of this `shape`?"""
    scales = grid.scale.shape
    return len(scales) == 2 and (len(shape) != 2 or scales[1] not in (1, shape[1]))


def spread(grid: Grid, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Scale and zero point as they broadcast against a tensor of this `shape`; those of groups are repeated."""
    if not in_groups(grid, shape):
        return grid.scale, grid.zero_point
    size = math.prod(shape[1:]) // grid.scale.shape[1]
    scale, zero_point = (v.repeat_interleave(size, 1).reshape(shape) for v in (grid.scale, grid.zero_point))
    return scale, zero_point


def check_grid(grid: Grid, shape: tuple[int, ...]) -> None:
    """Refuse a grid that `choose_grid` cannot make for a tensor of this `shape`, by a ValueError."""
    scale, zero_point = grid.scale, grid.zero_point
    _check.whole("bits", grid.bits, 1, 8)
    if not scale.is_floating_point() or zero_point.dtype != torch.int32:
        raise ValueError(f"scale is {scale.dtype} and zero_point {zero_point.dtype}; allowed: a float and torch.int32")
    if grid.dtype != scale.dtype and not (scale.dtype == torch.float32 and grid.dtype.itemsize == 2):
        raise ValueError(f"scale is {scale.dtype}; allowed for floats of {grid.dtype}: the same, float32 for 16 bits")
    if tuple(scale.shape) not in grid_shapes(shape) or zero_point.shape != scale.shape:
        both = f"scale has the shape {tuple(scale.shape)} and zero_point {tuple(zero_point.shape)}"
        allowed = f"one number, one for each index of one axis of {shape}, or one per group"
        raise ValueError(f"{both}; allowed: {allowed}")
    if (bad := scale[~((scale > 0) & scale.isfinite())]).numel():
        raise ValueError(f"scale is {float(bad[0])}; allowed: finite numbers above 0")
    highest = 0 if grid.symmetric else grid.quant_max
    if (bad := zero_point[(zero_point < 0) | (zero_point > highest)]).numel():
        allowed = "0, the grid is symmetric" if grid.symmetric else f"0 to {highest}"
        raise ValueError(f"zero_point is {int(bad[0])}; allowed: {allowed}")


def choose_grid(
    x: Tensor,
    bits: int,
    *,
    symmetric: bool = True,
    granularity: str = "tensor",
    group_size: int | None = None,
    percentile: float = 100.0,
    axis: int = 0,
) -> Grid:
    """The grid for `x`: one for all of it; granularity "channel": one for each index of its `axis`; "group": per group.

    Groups are `group_size` consecutive entries of a row x[i], flattened, whose number of entries it must divide.
    Symmetric: scale = absmax / ((quant_max - quant_min) / 2). Affine: scale = (max - min) / (quant_max - quant_min).
    `percentile` in (50, 100] clips: below 100, min and max become percentiles of the non-zero values, so that the
    zeros of a pruned tensor do not count. An all-zero channel or group gets scale 1. Scales are float32, or float64 for
    float64, and no level is infinite in the type of `x`. ValueError for settings out of range or NaN.
    """
    _check_settings(bits, granularity, percentile)
    _check.flags(symmetric=symmetric)
    _check.filled(x=x)
    axis = _check.whole("axis", axis, 0, x.ndim - 1)
    _check.finite("x", x)
    rows, shape = _sharing(_weights.widened(x), granularity, axis, check_groups(granularity, group_size, {"x": x}))
    low, high = _value_range(rows, percentile)
    if symmetric and bits == 1:
        scale = rows.abs().sum(1) / (rows != 0).sum(1).clamp(min=1)
    elif symmetric:
        scale = torch.maximum(-low, high) / ((2**bits - 1) / 2)
    else:
        span = high - low
        scale = torch.where(span.isfinite(), span / (2**bits - 1), high / (2**bits - 1) - low / (2**bits - 1))
    # 1 / scale must be finite, too, and so must the outermost level: 0.999 leaves room for rounding
    scale = torch.where(scale > 0, scale.clamp(min=torch.finfo(scale.dtype).tiny), torch.ones_like(scale))
    zero_point = torch.zeros_like(scale) if symmetric else (-low / scale).round().clamp(0, 2**bits - 1)
    farthest = 2 ** (bits - 1) if symmetric else torch.maximum(zero_point, 2**bits - 1 - zero_point)
    scale = scale.clamp(max=0.999 * torch.finfo(x.dtype).max / farthest)
    return Grid(scale.reshape(shape), zero_point.int().reshape(shape), bits, symmetric, x.dtype)


def _sharing(x: Tensor, granularity: str, axis: int, group_size: int | None) -> tuple[Tensor, list[int]]:
    """The entries of `x` that share a scale, one row for each scale, and the shape of the scales."""
    if group_size is not None:
        return x.reshape(-1, group_size), [len(x), -1]
    if granularity == "channel":
        return x.movedim(axis, 0).reshape(x.shape[axis], -1), [-1 if i == axis else 1 for i in range(x.ndim)]
    return x.reshape(1, -1), []


def _value_range(rows: Tensor, percentile: float) -> tuple[Tensor, Tensor]:
    """(low, high) of each row, extended to include 0."""
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
    _check_given(grid, x=x)
    if grid.symmetric and grid.bits == 1:
        return x.sign().to(torch.int8)
    q = levels(x, grid).clamp(grid.quant_min, grid.quant_max)
    return q.to(torch.int8 if grid.symmetric else torch.uint8)


def levels(x: Tensor, grid: Grid) -> Tensor:
    """round(x / scale) + zero_point, unclamped; it multiplies by the reciprocal, as torch's kernels do."""
    _check_given(grid, x=x)
    scale, zero_point = spread(grid, x.shape)
    return (x.to(scale.dtype) * (1 / scale)).round() + zero_point


def to_floats(q: Tensor, grid: Grid) -> Tensor:
    """x_hat = (q - zero_point) * scale."""
    _check_given(grid, q=q)
    scale, zero_point = spread(grid, q.shape)
    return ((q.int() - zero_point).to(scale.dtype) * scale).to(grid.dtype)


def fake_quantize(x: Tensor, grid: Grid) -> Tensor:
    """Quantize and dequantize: the grid value nearest to each x, as a float."""
    _check_given(grid, x=x)
    return to_floats(to_integers(x, grid), grid)


class Dequantize(_weights.Rule):
    """The parametrization of a quantized weight: the module keeps integers, and its forward gives floats."""

    scale: Tensor
    zero_point: Tensor
    example: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.register_buffer("scale", grid.scale)
        self.register_buffer("zero_point", grid.zero_point)
        self.bits, self.symmetric = grid.bits, grid.symmetric
        # holds the type of the floats: model.half() changes it as it changes the other weights
        self.register_buffer("example", torch.empty(0, dtype=grid.dtype), persistent=False)

    @property
    def grid(self) -> Grid:
        """The grid that the integers are on."""
        return Grid(self.scale, self.zero_point, self.bits, self.symmetric, self.example.dtype)

    def forward(self, q: Tensor) -> Tensor:
        """Integers to floats."""
        return to_floats(q, self.grid)

    # not torch's `right_inverse`: registration would call it on the integers and round them a second time
    def encode(self, x: Tensor) -> Tensor:
        """Floats to integers."""
        return to_integers(x, self.grid)


class QuantizeInput(nn.Module):
    """Rounds the input of a layer to an affine grid chosen by calibration; installed as `layer.input_quantizer`."""

    scale: Tensor
    zero_point: Tensor
    bits: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.register_buffer("scale", grid.scale)
        self.register_buffer("zero_point", grid.zero_point)
        self.register_buffer("bits", torch.tensor(grid.bits, dtype=torch.uint8))

    @property
    def grid(self) -> Grid:
        """The grid that activations are rounded to."""
        return Grid(self.scale, self.zero_point, int(self.bits), False, self.scale.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Fake-quantize the activations x, any shape; torch's fused kernel computes the formula in one pass."""
        scale = self.scale.float()  # the kernel takes float32 only, also after model.half()
        return torch.fake_quantize_per_tensor_affine(x, scale, self.zero_point, 0, 2 ** int(self.bits) - 1)


def quantize(
    model: nn.Module,
    bits: int = 8,
    *,
    symmetric: bool = True,
    granularity: str = "tensor",
    group_size: int | None = None,
    percentile: float = 100.0,
    activation_bits: int | None = None,
    calibration: Split | None = None,
    layers: list[str] | None = None,
    exclude: list[str] | None = None,
) -> nn.Module:
    """A new model whose weights are integers of `bits` bits; biases and BatchNorm stay float.

    q = clamp(round(x / scale) + zero_point, quant_min, quant_max) (Jacob et al. 2018; Krishnamoorthi 2018); 0 stays 0.

    Args:
        model: a weight that weight_norm or similar computes becomes an ordinary parameter first.
        bits: bits per weight, 1 to 8.
        symmetric: zero_point is 0 and the grid is signed; otherwise (affine) the grid spans [min, max] and includes 0.
        granularity: what has a scale of its own: "tensor", "channel" or "group".
        group_size: entries per group; it divides the entries per row of each weight.
        percentile: clips the range, in (50, 100] (see `choose_grid`).
        activation_bits: 1 to 8; the input of each quantized layer is rounded, too.
        calibration: the images that give the range of that input. Give both or neither.
        layers: names of the layers to quantize, by default all.
        exclude: names of the layers to leave as they are.

    Returns:
        A new model of the same class. It keeps integers, and each forward pass turns them into floats.

    Raises:
        ValueError: names the argument out of range, a layer that does not exist or that calibration never calls, or a
            weight that holds NaN or does not divide into groups.

    Example:
        >>> model = lk.models.mlp(64, 32, 10)
        >>> small = lk.quantize(model, bits=4)
        >>> len(model[1].weight.unique()) > 2**4, len(small[1].weight.unique()) <= 2**4
        (True, True)
        >>> small[1].parametrizations.weight.original.dtype
        torch.int8
    """
    _check_settings(bits, granularity, percentile)
    _check.flags(symmetric=symmetric)
    if (activation_bits is None) != (calibration is None):
        raise ValueError("activation_bits and calibration belong together: give both or neither")
    model = clone(_weights.opened(model))
    values = _weights.chosen(model, layers, exclude)
    _weights.checked(values)
    group_size = check_groups(granularity, group_size, values)
    if activation_bits is not None and calibration is not None:
        _quantize_inputs(model, list(values), calibration, activation_bits, percentile)
    for name, value in values.items():
        grid = choose_grid(
            value, bits, symmetric=symmetric, granularity=granularity, group_size=group_size, percentile=percentile,
            axis=_weights.output_axis(model, name),
        )  # fmt: skip
        install(model, name, to_integers(value, grid), grid)
    return model


def quantize_inputs(
    model: nn.Module,
    bits: int,
    *,
    calibration: Split,
    percentile: float = 100.0,
    layers: list[str] | None = None,
    exclude: list[str] | None = None,
) -> nn.Module:
    """A new model that rounds the inputs of its layers; the weights do not change.

    One affine grid of `bits` bits, 1 to 8, for each layer, over the range that its input has for the images
    of `calibration`; `percentile` clips that range (see `choose_grid`). Attention's query, key and value and the two
    inputs of a bilinear layer share a grid; the hidden state of a recurrent layer is not rounded. `layers` names the
    layers, by default all. ValueError as in `quantize`.
    """
    _check_settings(bits, "tensor", percentile)
    model = clone(_weights.opened(model))
    _quantize_inputs(model, list(_weights.chosen(model, layers, exclude)), calibration, bits, percentile)
    return model


def install(model: nn.Module, name: str, q: Tensor, grid: Grid) -> None:
    """Replace a weight of `model`, in place, by integers on a grid; layers that share it still do."""
    _weights.install(model, name, nn.Parameter(q, requires_grad=False), Dequantize(grid))


def has_input_quantizer(layer: nn.Module) -> bool:
    """Does `layer` round its input? A submodule of the user may have the same name."""
    return isinstance(layer._modules.get("input_quantizer"), QuantizeInput)


def can_round_input(layer: nn.Module) -> bool:
    """Does `layer` have a weight of its own, and no submodule of the user called input_quantizer?"""
    if isinstance(layer, parametrize.ParametrizationList):
        return False
    has_weight = any(p is not None and p.ndim > 1 for p in layer._parameters.values())
    free = has_input_quantizer(layer) or "input_quantizer" not in layer._modules
    return free and (has_weight or bool(_weights.parametrizations(layer)))


def install_input_quantizer(layer: nn.Module, grid: Grid) -> None:
    """Make `layer` round its input, in place."""
    known = has_input_quantizer(layer)
    if not known and "input_quantizer" in layer._modules:
        raise ValueError(f"{type(layer).__name__} has an input_quantizer of its own; allowed: layers without one")
    layer.input_quantizer = QuantizeInput(grid)
    if not known:
        layer.register_forward_pre_hook(_round_input, with_kwargs=True)


def remove_input_quantizers(model: nn.Module) -> None:
    """Remove the rounding of inputs from every layer of `model`, in place."""
    for layer in [m for m in model.modules() if has_input_quantizer(m)]:
        del layer.input_quantizer
        for key in [k for k, hook in layer._forward_pre_hooks.items() if hook is _round_input]:
            del layer._forward_pre_hooks[key], layer._forward_pre_hooks_with_kwargs[key]


def _entering(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[int | str, Tensor]:
    """The float inputs that the weights of `layer` are multiplied by, by position or name in the call."""
    several = 3 if isinstance(layer, nn.MultiheadAttention) else 2 if isinstance(layer, nn.Bilinear) else 1
    given: list[tuple[Any, object]] = [*enumerate(args), *kwargs.items()][:several]
    return {key: x for key, x in given if isinstance(x, Tensor) and x.is_floating_point()}


def _round_input(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    rounding = cast(QuantizeInput, layer.input_quantizer)
    rounded: dict[Any, Tensor] = {key: rounding(x) for key, x in _entering(layer, args, kwargs).items()}
    return tuple(rounded.get(i, x) for i, x in enumerate(args)), {k: rounded.get(k, x) for k, x in kwargs.items()}


@torch.no_grad()  # not inference_mode: training could not use the grids it makes
def _quantize_inputs(model: nn.Module, names: list[str], calibration: Split, bits: int, percentile: float) -> None:
    """Pass the calibration images through the model, record the input of each layer, and give each its own rounding."""
    _check.whole("activation_bits", bits, 1, 8)
    _check.kind(Split, calibration=calibration)
    layers = {owner: name for name in names for owner, _ in _weights.sharers(model, name)}
    seen: dict[nn.Module, list[Tensor]] = {}

    def note(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if any(isinstance(x, Tensor) for x in [*args, *kwargs.values()]) or not isinstance(layer, _weights.LAYERS):
            seen.setdefault(layer, []).extend(x.float().flatten() for x in _entering(layer, args, kwargs).values())

    hooks = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in layers]
    with evaluating(model), running(model, "calibration", calibration.x):
        model(calibration.x)
    for hook in hooks:
        hook.remove()
    if unheard := [name for layer, name in layers.items() if layer not in seen]:
        raise ValueError(
            f"calibration never calls the layer of {', '.join(unheard)} with a tensor; allowed in layers, where "
            f"activations are rounded: {', '.join(name for layer, name in layers.items() if layer in seen)}"
        )
    for layer, entered in seen.items():
        if entered:  # the tokens that enter an embedding are not rounded
            x = torch.cat(entered)
            _check.finite(f"what enters the layer of {layers[layer]}", x)
            install_input_quantizer(layer, choose_grid(x, bits, symmetric=False, percentile=percentile))


def _check_given(grid: Grid, **values: Tensor) -> None:
    _check.kind(Tensor, **values)
    _check.kind(Grid, grid=grid)


def _check_settings(bits: int, granularity: str, percentile: float) -> None:
    _check.whole("bits", bits, 1, 8)
    _check.one_of("granularity", granularity, GRANULARITIES)
    _check.number("percentile", percentile, 50, 100, open_low=True)


def check_groups(granularity: str, group_size: int | None, tensors: Mapping[str, Tensor]) -> int | None:
    """The group size, None without groups; refuse one that is not needed, and one that divides no row of `tensors`."""
    if (granularity == "group") != (group_size is not None):
        given = f"group_size is {_check.shown(group_size)} and granularity {granularity!r}"
        raise ValueError(f"{given}; allowed: 'group' with a group_size, others without")
    if group_size is None:
        return None
    size = _check.whole("group_size", group_size, 1, 1_000_000)
    for name, tensor in tensors.items():
        if (entries := tensor[0].numel()) % size:
            raise ValueError(f"group_size is {size}; allowed for {name}: a divisor of {entries}, its entries per row")
    return size
