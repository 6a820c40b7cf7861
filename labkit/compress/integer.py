"""Integer-only inference: uint8 activations, int8 weights, int32 sums, no floats in between (Jacob et al. 2018).

    a = Σ_j (x_j - Z_x) w_j + b           int32, with b = round(bias / (S_x S_w))
    y = clamp(Z_y + round(a · M))         uint8, with M = S_x S_w / S_y = m · 2^-shift, m an integer of 31 bits

The float network computes S_x S_w a and rounds it to the next layer's grid; M does both in one multiplication and a
shift to the right. A ReLU costs nothing: values below zero are clamped to Z_y. Max-pooling needs no floats either:
the largest value has the largest integer.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from labkit import _check
from labkit._module import clone, unwrapped
from labkit.compress import _weights
from labkit.compress.grid import Grid, to_integers
from labkit.compress.quantize import QuantizeInput, has_input_quantizer, integers_of

ALLOWED = "one chain of linear layers, convolutions, max-pooling, flatten and ReLU"
KINDS = (nn.Linear, nn.Conv2d, nn.MaxPool2d, nn.ReLU, nn.Flatten, nn.Identity)
MULTIPLIER_BITS = 31
MAX_INPUTS = 65_000  # 65,000 · 255 · 128 < 2^31: the sum of so many products always fits in int32


@dataclass
class Stage:
    """A linear layer or a convolution, by name; the pooling and flatten before it; whether a ReLU follows."""

    name: str
    before: list[nn.Module]
    relu: bool = False


class IntegerLayer(nn.Module):
    """W x + b in integers; with `next_grid` requantized to uint8 for the next layer, else the int32 sums.

    `before`, max-pooling and flatten, is applied to the uint8 inputs.
    """

    weight: Tensor
    bias: Tensor
    step: Tensor
    multiplier: Tensor
    shift: Tensor

    def __init__(self, stage: Stage, layer: nn.Linear | nn.Conv2d, next_grid: Grid | None) -> None:
        super().__init__()
        self.name, self.before, self.relu = stage.name, nn.Sequential(*stage.before), stage.relu
        fields = ("stride", "padding", "dilation", "groups")
        self.convolution = {name: getattr(layer, name) for name in fields} if isinstance(layer, nn.Conv2d) else None
        (weight, grid), entering = cast(tuple[Tensor, Grid], integers_of(layer)), _entering(layer)
        self.register_buffer("weight", weight)
        scale, used = grid.scale.double().flatten(), weight.flatten(1).any(1)
        if scale.numel() > 1 and used.any():  # a row of zeros has scale 1, too coarse for its bias; any scale fits it
            scale = torch.where(used, scale, scale[used].min())
        step = (entering.scale.double() * scale).expand(len(weight))
        bias = torch.zeros(len(self.weight)) if layer.bias is None else layer.bias.detach()
        if (rounded := (bias.double() / step).round()).abs().max() >= 2**31:
            raise ValueError(f"the bias of {stage.name} is {rounded.abs().max():.3g} steps S_x S_w; int32 has 2^31")
        self.register_buffer("bias", rounded.to(torch.int32))
        self.register_buffer("step", step)
        self.zero_in, self.next_grid = int(entering.zero_point), next_grid
        if next_grid is not None:
            multiplier, shift = fixed_point(step / next_grid.scale.double())
            self.register_buffer("multiplier", multiplier)
            self.register_buffer("shift", shift)
            self.zero_out = int(next_grid.zero_point)
            self.low, self.high = self.zero_out if self.relu else 0, next_grid.quant_max

    def sums(self, x: Tensor) -> Tensor:
        """uint8 (n, inputs) to int32 (n, outputs); of a convolution, (n, c, h, w) to (n, c, h, w)."""
        # float64 holds every int32 exactly, and its kernels are fast; torch's integer convolutions know no dilation
        x, weight = self.before(x).double() - self.zero_in, self.weight.double()
        products = F.linear(x, weight) if self.convolution is None else F.conv2d(x, weight, **self.convolution)
        return products.to(torch.int32) + self.by_channel(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """uint8 to uint8, or to int32 from the last layer; shapes as those of `sums`."""
        sums = self.sums(x)
        if self.next_grid is None:
            return sums.clamp(min=0) if self.relu else sums
        y = self.zero_out + times(sums, self.by_channel(self.multiplier), self.by_channel(self.shift))
        return y.clamp(self.low, self.high).to(torch.uint8)

    def by_channel(self, values: Tensor) -> Tensor:
        """One value per output, in a shape that broadcasts to the sums."""
        return values if self.convolution is None else values.view(-1, 1, 1)


class IntegerNetwork(nn.Module):
    """Integer layers with float input and output: images are rounded first, and the last sums are scaled to logits."""

    def __init__(self, grid: Grid, layers: list[IntegerLayer]) -> None:
        super().__init__()
        self.grid, self.layers = grid, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, c, h, w) to logits (n, classes), float32."""
        x = to_integers(x, self.grid)
        for layer in self.layers:
            x = layer(x)
        last = cast(IntegerLayer, self.layers[-1])
        return (x * last.by_channel(last.step)).float()


def integer_only(model: nn.Module) -> nn.Module:
    """The integer network that the quantized `model` simulates in floats.

    uint8 activations, int8 weights and int32 sums, without floats in between (Jacob et al. 2018); fold BatchNorm first.

    Args:
        model: a chain of linear layers, convolutions, max-pooling and ReLUs, such as the LeNets, made by `quantize`
            with symmetric weights and with activation_bits.

    Returns:
        A network from images to float logits. It has no float weights and cannot be trained or saved.

    Raises:
        ValueError: names the operation or the layer that does not fit.

    Example:
        >>> data, model = lk.load_data("digits"), lk.models.mlp(64, 32, 10)
        >>> small = lk.quantize(model, bits=8, activation_bits=8, calibration=data.train)
        >>> whole = lk.integer_only(small)
        >>> [layer.weight.dtype for layer in whole.layers], len(list(whole.parameters()))
        ([torch.int8, torch.int8], 0)
        >>> whole(data.test.x).shape == small(data.test.x).shape
        True
    """
    _check.kind(nn.Module, model=model)
    model = unwrapped(model)
    chain = _chain(model)
    layers = [cast(nn.Linear | nn.Conv2d, model.get_submodule(stage.name)) for stage in chain]
    for stage, layer in zip(chain, layers, strict=True):
        _check_layer(stage.name, layer)
    grids = [_entering(layer) for layer in layers]
    following = zip(chain, layers, [*grids[1:], None], strict=True)
    return IntegerNetwork(grids[0], [IntegerLayer(stage, layer, grid) for stage, layer, grid in following]).eval()


def fixed_point(real: Tensor) -> tuple[Tensor, Tensor]:
    """(m, shift), int64, with m · 2^-shift = real > 0 to 31 bits: m is an integer from 2^30 to 2^31."""
    mantissa, exponent = torch.frexp(real.double())  # real = mantissa · 2^exponent, mantissa in [½, 1)
    return (mantissa * 2.0**MULTIPLIER_BITS).round().long(), MULTIPLIER_BITS - exponent.long()


def times(a: Tensor, multiplier: Tensor, shift: Tensor) -> Tensor:
    """round(a · m · 2^-shift) in integers, halves upwards: a product of 64 bits, half a unit, a shift to the right."""
    return (a.long() * multiplier + (1 << (shift - 1))) >> shift


def _entering(layer: nn.Module) -> Grid:
    return cast(QuantizeInput, layer.input_quantizer).grid


def _check_layer(name: str, layer: nn.Linear | nn.Conv2d) -> None:
    stored = integers_of(layer)
    if stored is None or not has_input_quantizer(layer):
        raise ValueError(f"{name} is not quantized with its activations; give what quantize(activation_bits=…) made")
    if not stored[1].symmetric:
        raise ValueError(f"{name} has affine weights; allowed: symmetric ones, whose zero_point is 0")
    if (scale := stored[1].scale).ndim and (scales := scale[0].numel()) > 1:
        raise ValueError(f"{name} has {scales} scales per output; allowed: one (granularity 'tensor' or 'channel')")
    if (inputs := layer.weight[0].numel()) > MAX_INPUTS:
        raise ValueError(f"{name} has {inputs:,} inputs; allowed: {MAX_INPUTS:,}, so that int32 holds the sum")
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        raise ValueError(f"{name} pads by {layer.padding_mode!r}; allowed: 'zeros'")


def _chain(model: nn.Module) -> list[Stage]:
    """The layers in order, each with its pooling, flatten and ReLU; ValueError names any other operation."""
    try:
        nodes = list(fx.Tracer().trace(clone(model).eval()).nodes)
    except Exception as error:  # whatever the model's own code raises on a proxy
        raise ValueError(f"model {type(model).__name__} cannot be traced by torch.fx: {error}") from error
    chain: list[Stage] = []
    waiting: list[nn.Module] = []
    for before, node in zip(nodes, nodes[1:], strict=False):
        doing = _doing(model, node)
        if doing is None or node.all_input_nodes != [before] or node.target in [stage.name for stage in chain]:
            raise ValueError(f"{node} does not fit; allowed: {ALLOWED}")
        if isinstance(doing, nn.Linear | nn.Conv2d):
            chain.append(Stage(cast(str, node.target), waiting))
            waiting = []
        elif isinstance(doing, nn.ReLU) and not chain:
            raise ValueError(f"{node} does not fit: a layer with weights has to come before it")
        elif isinstance(doing, nn.ReLU):
            chain[-1].relu = True  # pooling and flatten may lie between: max and ReLU commute
        elif not isinstance(doing, nn.Identity):
            waiting.append(doing)
    if any(isinstance(move, nn.MaxPool2d) for move in waiting):
        raise ValueError("max-pooling does not fit: a layer with weights has to come after it")
    return chain


def _doing(model: nn.Module, node: fx.Node) -> nn.Module | None:
    """What a node does, as a module; nn.Identity if it changes nothing, None if it has no integer version here."""
    if node.op == "output":
        return nn.Identity()
    if node.op == "call_module":
        module = model.get_submodule(cast(str, node.target))
        kind = type(module).__bases__[0] if _weights.parametrizations(module) else type(module)
        if kind is nn.Dropout:
            return nn.Identity()
        return module if kind in KINDS and "forward" not in vars(module) else None  # a subclass may do something else
    name: Any = getattr(node.target, "__name__", node.target)
    given, named = cast(tuple[Any, ...], node.args[1:]), cast(dict[str, Any], node.kwargs)
    if name == "relu":
        return nn.ReLU()
    if name == "flatten" and (*given, *named.values()) == (1,):
        return nn.Flatten()
    if name == "max_pool2d" and not named.get("return_indices"):
        return nn.MaxPool2d(*given, **named)
    return None
