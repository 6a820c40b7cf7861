"""Integer-only inference: uint8 activations, int8 weights, int32 sums, no float between (Jacob et al. 2018).

    a = Σ_j (x_j - Z_x) w_j + b           int32, with b = round(bias / (S_x S_w))
    y = clamp(Z_y + round(a · M))         uint8, with M = S_x S_w / S_y = m · 2^-shift, m a whole number of 31 bits

The float network computes S_x S_w a and rounds it to the next layer's grid; M does both in one multiplication and a
shift to the right. A ReLU costs nothing: what lies below zero is clamped at Z_y.
"""

import copy
from typing import cast

import torch
from torch import Tensor, fx, nn

from labkit import _check
from labkit.compress import _weights
from labkit.compress.quantize import Dequantize, Grid, QuantizeInput, to_integers

MULTIPLIER_BITS = 31
MAX_INPUTS = 65_000  # 65,000 · 255 · 128 < 2^31: as many products an int32 holds for certain


class IntegerLinear(nn.Module):
    """y = x Wᵀ + b in integers; with `next_grid` requantized to uint8 for the layer behind it, else the int32 sums."""

    weight: Tensor
    bias: Tensor
    step: Tensor
    multiplier: Tensor
    shift: Tensor

    def __init__(self, layer: nn.Linear, next_grid: Grid | None, relu: bool) -> None:
        super().__init__()
        stored, entering = _stored(layer), cast(QuantizeInput, layer.input_quantizer)
        self.register_buffer("weight", cast(Tensor, stored.original).detach())
        step = (entering.scale.double() * cast(Dequantize, stored[0]).scale.double().flatten()).expand(len(self.weight))
        bias = torch.zeros(len(self.weight)) if layer.bias is None else layer.bias.detach()
        self.register_buffer("bias", (bias.double() / step).round().to(torch.int32))
        self.register_buffer("step", step)
        self.zero_in, self.next_grid = int(entering.zero_point), next_grid
        if next_grid is not None:
            multiplier, shift = fixed_point(step / next_grid.scale.double())
            self.register_buffer("multiplier", multiplier)
            self.register_buffer("shift", shift)
            self.zero_out = int(next_grid.zero_point)
            self.low, self.high = self.zero_out if relu else 0, next_grid.quant_max

    def sums(self, x: Tensor) -> Tensor:
        """uint8 (n, inputs) to int32 (n, outputs)."""
        return (x.to(torch.int32) - self.zero_in) @ self.weight.to(torch.int32).T + self.bias

    def forward(self, x: Tensor) -> Tensor:
        """uint8 (n, inputs) to uint8 (n, outputs), or to int32 from the last layer."""
        sums = self.sums(x)
        if self.next_grid is None:
            return sums
        y = self.zero_out + times(sums, self.multiplier, self.shift)
        return y.clamp(self.low, self.high).to(torch.uint8)


class IntegerNetwork(nn.Module):
    """Layers in integers between two floats: images are rounded on entry, and the last sums scaled to logits."""

    def __init__(self, grid: Grid, layers: list[IntegerLinear]) -> None:
        super().__init__()
        self.grid, self.layers = grid, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, c, h, w) to logits (n, classes), float32."""
        x = to_integers(x.flatten(1), self.grid)
        for layer in self.layers:
            x = layer(x)
        return (x * cast(IntegerLinear, self.layers[-1]).step).float()


def integer_only(model: nn.Module) -> nn.Module:
    """The network of integers that does what the quantized `model` imitates in floats.

    `model` is a chain of linear layers and ReLUs, such as LeNet-300-100, made by `quantize` with symmetric weights and
    with activation_bits. The result has no float weights and cannot be trained or saved. ValueError names the operation
    or the layer that does not fit.
    """
    _check.module("model", model)
    chain = _chain(model)
    layers = {name: cast(nn.Linear, model.get_submodule(name)) for name in chain}
    for name, layer in layers.items():
        _check_layer(name, layer)
    grids = [_entering(layer) for layer in layers.values()]
    behind = zip(layers.values(), [*grids[1:], None], chain.values(), strict=True)
    return IntegerNetwork(grids[0], [IntegerLinear(*one) for one in behind]).eval()


def fixed_point(real: Tensor) -> tuple[Tensor, Tensor]:
    """(m, shift), int64, with m · 2^-shift = real > 0 to 31 bits: m is a whole number from 2^30 to 2^31."""
    mantissa, exponent = torch.frexp(real.double())  # real = mantissa · 2^exponent, mantissa in [½, 1)
    return (mantissa * 2.0**MULTIPLIER_BITS).round().long(), MULTIPLIER_BITS - exponent.long()


def times(a: Tensor, multiplier: Tensor, shift: Tensor) -> Tensor:
    """round(a · m · 2^-shift) in integers, halves upwards: a product of 64 bits, half a unit, a shift to the right."""
    return (a.long() * multiplier + (1 << (shift - 1))) >> shift


def _stored(layer: nn.Linear) -> nn.utils.parametrize.ParametrizationList:
    return _weights.parametrizations(layer)["weight"]


def _entering(layer: nn.Linear) -> Grid:
    rounding = cast(QuantizeInput, layer.input_quantizer)
    return Grid(rounding.scale, rounding.zero_point, int(rounding.bits), symmetric=False)


def _check_layer(name: str, layer: nn.Linear) -> None:
    stored = _weights.parametrizations(layer).get("weight")
    if stored is None or not isinstance(stored[0], Dequantize) or not hasattr(layer, "input_quantizer"):
        raise ValueError(f"{name} is not quantized with its activations; give what quantize(activation_bits=…) made")
    if not stored[0].symmetric:
        raise ValueError(f"{name} has affine weights; allowed: symmetric ones, whose zero_point is 0")
    if layer.in_features > MAX_INPUTS:
        raise ValueError(
            f"{name} has {layer.in_features:,} inputs; allowed: {MAX_INPUTS:,}, so that int32 holds the sum"
        )


def _chain(model: nn.Module) -> dict[str, bool]:
    """The linear layers in order, each with whether a ReLU follows; ValueError names any other operation."""
    try:
        nodes = list(fx.symbolic_trace(copy.deepcopy(model).eval()).graph.nodes)
    except Exception as error:  # whatever the model's own code raises on a proxy
        raise ValueError(f"model {type(model).__name__} cannot be traced by torch.fx: {error}") from error
    chain: dict[str, bool] = {}
    for before, node in zip(nodes, nodes[1:], strict=False):
        kind = _kind(model, node)
        if kind is None or node.all_input_nodes != [before] or node.target in chain:
            raise ValueError(f"{node} does not fit; allowed: one chain of flatten, linear layers and ReLU")
        if kind == "linear":
            chain[cast(str, node.target)] = False
        elif kind == "relu" and chain:
            chain[next(reversed(chain))] = True
        elif kind == "relu":
            raise ValueError(f"{node} does not fit: a linear layer has to come before it")
    return chain


def _kind(model: nn.Module, node: fx.Node) -> str | None:
    """What a node does: "linear", "relu", "same" for what leaves (n, features) as they are; None for anything else."""
    if node.op == "output":
        return "same"
    if node.op == "call_module":
        module = model.get_submodule(cast(str, node.target))
        kinds = ((nn.Linear, "linear"), (nn.ReLU, "relu"), (nn.Flatten | nn.Identity | nn.Dropout, "same"))
        return next((kind for classes, kind in kinds if isinstance(module, classes)), None)
    name = getattr(node.target, "__name__", node.target)
    if name == "flatten" and (*node.args[1:], *node.kwargs.values()) == (1,):
        return "same"
    return "relu" if name == "relu" else None
