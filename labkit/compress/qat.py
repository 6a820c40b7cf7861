"""Quantization-aware training: rounded weights in the forward pass; in the backward pass rounding is the identity.

    forward     x_hat = fake_quantize(x)                 every step, on a grid chosen from the current weights
    backward    ∂L/∂x = ∂L/∂x_hat inside the grid's range and where x ≠ 0, else 0

The straight-through estimator passes the gradient on unchanged (Bengio et al. 2013). Stopping it outside the range is
from Courbariaux, Hubara et al. (2016); stopping it at 0, so that pruned weights stay pruned, is ours. The float weights
accumulate small updates until their sum changes the rounded weight (Jacob et al. 2018).
"""

import functools
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from labkit import _check
from labkit._module import clone
from labkit.compress import _weights, quantize
from labkit.compress.grid import Grid, check_groups, choose_grid, fake_quantize, levels, to_integers


class FakeQuantize(_weights.Rule):
    """The parametrization of a weight that trains for a grid: the module keeps floats, its forward gives levels."""

    def __init__(self, choose: Callable[[Tensor], Grid]) -> None:
        super().__init__()
        self.choose = choose

    def grid(self, x: Tensor) -> Grid:
        """The grid for the current weights."""
        return self.choose(x.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Floats to the values of the grid, with the straight-through gradient; NaN and infinity reach the loss."""
        finite = x.detach().sum().isfinite() or x.detach().isfinite().all()  # the sum may be too large for its type
        return straight_through(x, self.grid(x)) if finite else x

    def encode(self, x: Tensor) -> Tensor:
        """Refuse new values: they would be rounded, and the float weights would be lost."""
        raise ValueError(
            "a weight that trains for a grid cannot be set: prune before prepare_qat; its zeros stay without a hook"
        )


def straight_through(x: Tensor, grid: Grid) -> Tensor:
    """`fake_quantize` whose gradient is 1 where x is in the range of the grid and not zero, else 0.

    A zero gets no gradient, so that a pruned weight stays pruned. One symmetric bit, a sign, has no range.
    """
    passes = x.detach() != 0
    if not (grid.symmetric and grid.bits == 1):
        q = levels(x.detach(), grid)
        passes &= (q >= grid.quant_min) & (q <= grid.quant_max)
    return fake_quantize(x.detach(), grid) + passes * (x - x.detach())  # the last term is 0, and its gradient 1


def prepare_qat(
    model: nn.Module,
    bits: int,
    *,
    symmetric: bool = True,
    granularity: str = "tensor",
    group_size: int | None = None,
    percentile: float = 100.0,
    layers: list[str] | None = None,
    exclude: list[str] | None = None,
) -> nn.Module:
    """A new model whose weights `fit` trains for a grid of `bits` bits; its outputs equal the quantized model's.

    The grid is chosen again from the weights in every forward pass; in the backward pass rounding is the identity
    (Bengio et al. 2013; Jacob et al. 2018). `finish_qat` makes the integers.

    Args:
        model: its pruned weights stay zero, frozen ones frozen.
        bits: bits per weight, 1 to 8.
        symmetric: as in `quantize`, like all settings below.
        granularity: "tensor", "channel" or "group".
        group_size: entries per group; it divides the rows of each weight.
        percentile: clips the range, in (50, 100].
        layers: names of the layers to prepare, by default all.
        exclude: names of the layers to leave.

    Returns:
        A new model of the same class. It keeps the float weights and computes with the rounded ones.

    Raises:
        ValueError: names the argument out of range, a layer that does not exist, a weight that holds NaN or one whose
            rows `group_size` does not divide.

    Example:
        >>> x, model = lk.load_data("digits").test.x, lk.models.mlp(64, 32, 10)
        >>> ready = lk.prepare_qat(model, bits=4)
        >>> ready(x).equal(lk.quantize(model, bits=4)(x)), ready(x).equal(model(x))
        (True, False)
        >>> ready[1].parametrizations.weight.original.equal(model[1].weight)  # no float weight is lost
        True
    """
    _check.flags(symmetric=symmetric)
    model = clone(_weights.opened(model))
    values = _weights.chosen(model, layers, exclude)
    _weights.checked(values)
    how: dict[str, Any] = dict(bits=bits, symmetric=symmetric, granularity=granularity, percentile=percentile)
    how["group_size"] = check_groups(granularity, group_size, values)
    for name, value in values.items():
        rule = FakeQuantize(functools.partial(choose_grid, **how, axis=_weights.output_axis(model, name)))
        rule.grid(value)  # refuses settings out of range
        _weights.install(model, name, nn.Parameter(value.clone()), rule)
    return model


def keep_grids(model: nn.Module) -> nn.Module:
    """A new model whose quantized weights `fit` trains on their present grids; the others train as floats.

    Without it a quantized weight does not train at all; `prepare_qat` would choose a new grid, and round a second time.
    Zeros stay zero, and `finish_qat` makes the integers, if any weight was quantized.
    """
    model = clone(_weights.opened(model))
    for name, value in _weights.weights(model).items():
        owner, attribute = _weights.owner_of(model, name)
        if stored := quantize.integers_of(owner, attribute):
            rule = FakeQuantize(functools.partial(_same, stored[1]))
            _weights.install(model, name, nn.Parameter(value.clone()), rule)
    return model


def _same(grid: Grid, x: Tensor) -> Grid:
    return grid


def on_grids(model: nn.Module) -> list[str]:
    """The names of the weights that train for a grid."""
    model = _weights.opened(model)
    return [name for name in _weights.weights(model) if _prepared(model, name)]


def floats_of(model: nn.Module) -> dict[str, tuple[Tensor, Grid]]:
    """Of every weight that trains for a grid: the floats, not a copy of them, and the present grid."""
    model = _weights.opened(model)
    prepared = {name: stored for name in _weights.weights(model) if (stored := _prepared(model, name))}
    return {name: (original, rule.grid(original)) for name, (rule, original) in prepared.items()}


def finish_qat(model: nn.Module) -> nn.Module:
    """A new model with the integers that `model`, made by `prepare_qat`, computed with: equal outputs, bit for bit.

    Args:
        model: what `prepare_qat` made, before or after training.

    Returns:
        A new, quantized model, as `quantize` makes it; a file can hold it.

    Raises:
        ValueError: no weight of `model` trains for a grid.

    Example:
        >>> data, ready = lk.load_data("digits"), lk.prepare_qat(lk.models.mlp(64, 32, 10), bits=4)
        >>> trained, _ = lk.fit(ready, data.train, epochs=1, lr=0.01, progress=False)
        >>> small = lk.finish_qat(trained)
        >>> small(data.test.x).equal(trained(data.test.x))
        True
        >>> trained[1].parametrizations.weight.original.dtype, small[1].parametrizations.weight.original.dtype
        (torch.float32, torch.int8)
    """
    model = clone(_weights.opened(model))
    trained = floats_of(model)
    if not trained:
        raise ValueError(f"no weight of {type(model).__name__} trains for a grid; give what prepare_qat made")
    for name, (original, grid) in trained.items():
        quantize.install(model, name, to_integers(original, grid), grid)
    return model


def _prepared(model: nn.Module, name: str) -> tuple[FakeQuantize, Tensor] | None:
    """The rule and the floats of a weight that trains for a grid."""
    owner, attribute = _weights.owner_of(model, name)
    stored = _weights.parametrizations(owner).get(attribute)
    if stored is None or not isinstance(stored[0], FakeQuantize):
        return None
    return stored[0], cast(torch.Tensor, stored.original).detach()
