"""Grids: the 2^bits values that a quantized tensor can take, chosen for a tensor, and the way there and back.

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

import numpy as np
import torch
from torch import Tensor

from labkit import _check
from labkit.compress import _weights

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
    check_settings(bits, granularity, percentile)
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
    ranked = np.sort(rows.detach().cpu().numpy(), axis=1)  # for short rows 30 times as fast as a loop over them
    entries, negative, zeros = ranked.shape[1], (ranked < 0).sum(1), (ranked == 0).sum(1)
    last = np.maximum(entries - zeros - 1, 0)
    bounds = []
    for end in (last * (1 - percentile / 100), last * percentile / 100):
        place = np.rint(end).astype(np.int64)  # among the values that are not zero; the zeros stand in their middle
        place = np.minimum(np.where(place < negative, place, place + zeros), entries - 1)
        bounds.append(np.take_along_axis(ranked, place[:, None], axis=1)[:, 0])
    low, high = (torch.from_numpy(bound).to(rows) for bound in bounds)
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


def check_settings(bits: int, granularity: str, percentile: float) -> None:
    """Refuse settings of `choose_grid` that are out of range."""
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


def _check_given(grid: Grid, **values: Tensor) -> None:
    _check.kind(Tensor, **values)
    _check.kind(Grid, grid=grid)
