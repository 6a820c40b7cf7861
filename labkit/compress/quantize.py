"""Quantization: weights and activations on a grid of 2^bits levels (Jacob et al. 2018; Krishnamoorthi 2018).

    q     = clamp(round(x / scale) + zero_point, quant_min, quant_max)
    x_hat = (q - zero_point) * scale

The module `grid` chooses scale and zero_point. Here the weights of a model become integers, which each forward pass
turns into floats, and the inputs of its layers are rounded to the grid that fits a few images: the calibration.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from labkit import _check
from labkit._module import clone, evaluating, running
from labkit.compress import _weights
from labkit.compress.grid import Grid, check_groups, check_settings, choose_grid, to_floats, to_integers
from labkit.data import Split


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
    check_settings(bits, granularity, percentile)
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
    check_settings(bits, "tensor", percentile)
    model = clone(_weights.opened(model))
    _quantize_inputs(model, list(_weights.chosen(model, layers, exclude)), calibration, bits, percentile)
    return model


def install(model: nn.Module, name: str, q: Tensor, grid: Grid) -> None:
    """Replace a weight of `model`, in place, by integers on a grid; layers that share it still do."""
    _weights.install(model, name, nn.Parameter(q, requires_grad=False), Dequantize(grid))


def integers_of(owner: nn.Module, attribute: str = "weight") -> tuple[Tensor, Grid] | None:
    """The integers that a module keeps for a quantized tensor, not a copy of them, and their grid; None without any."""
    stored = _weights.parametrizations(owner).get(attribute)
    if stored is None or not isinstance(stored[0], Dequantize):
        return None
    return cast(Tensor, stored.original).detach(), stored[0].grid


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
