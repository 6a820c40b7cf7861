"""Which rows and columns of a network's layers belong to one unit, found by following channels through its graph.

A *unit* is a neuron of a linear layer or a channel of a convolution. The graph is run on an example, and numbered units
are passed along beside the values: a layer makes new ones, a flatten repeats each, a concatenation sets them side by
side, an addition makes two into one. What comes out is plain data, a list of `Use`.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, fx, nn

from labkit._module import evaluating
from labkit.compress import _weights

FIXED = 0  # the unit that never leaves: pixels, logits, and what is added to either

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# operations by the name of a function, a method or a module's class
POINTWISE = {
    "relu", "relu_", "relu6", "leaky_relu", "elu", "gelu", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh",
    "softplus", "dropout", "contiguous", "clone", "neg", "abs", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d",
    "ReLU", "ReLU6", "LeakyReLU", "ELU", "GELU", "SiLU", "Hardswish", "Hardsigmoid", "Sigmoid", "Tanh", "Softplus",
    "Dropout", "Dropout2d", "Identity", "MaxPool1d", "MaxPool2d", "AvgPool1d", "AvgPool2d", "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d", "AdaptiveMaxPool2d",
}  # fmt: skip
PAIRS = {"add", "iadd", "add_", "sub", "isub", "mul", "imul", "mul_", "truediv", "maximum", "minimum"}
RESHAPES = {"flatten", "view", "reshape", "Flatten"}
REDUCTIONS = {"mean", "sum", "amax"}


@dataclass(frozen=True)
class Use:
    """Where units live in one layer: unit `units[i]` is row i ("out"), column i ("in") or entry i ("norm") of it.

    A depthwise convolution has one filter a unit, which is "norm" too: it follows the units, and makes none.
    """

    layer: str
    side: str
    units: Tensor


class Channels(NamedTuple):
    """The units along dimension `dim` of a value in the graph."""

    dim: int
    units: Tensor


def channels(model: nn.Module, example: Tensor, layers: list[str] | None = None) -> list[Use]:
    """Every place of every unit, found by passing numbered units through the traced graph; FIXED units never leave."""
    names = {name.rpartition(".")[0] for name in _weights.chosen(model, layers)}
    model = _weights.plain(model)
    follow = _Follow(_traced(model, example), names)
    with evaluating(follow.module), torch.no_grad():
        follow.run(example)
    uses = [Use(layer, side, follow.resolve(units)) for (layer, side), units in follow.uses.items()]
    if not families(uses):
        raise ValueError(f"model {type(model).__name__} has no unit that may leave: all are pixels, logits or fixed")
    return uses


def _traced(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """The model as a graph of operations; refused in a sentence if it has none, or does not take the example."""
    name = type(model).__name__
    try:
        with evaluating(model), torch.no_grad():
            model(example)
    except Exception as error:
        given = tuple(example.shape) if isinstance(example, Tensor) else type(example).__name__
        raise ValueError(f"model {name} does not take the example ({given}): {error}") from error
    try:
        return fx.symbolic_trace(model.eval())
    except Exception as error:  # whatever the user's forward raises under tracing
        raise ValueError(f"model {name} cannot be traced by torch.fx: {error}") from error


def families(uses: list[Use]) -> list[Tensor]:
    """The units that compete with one another: those that come out of the same set of layers."""
    producers: dict[int, tuple[str, ...]] = {}
    for use in uses:
        if use.side == "out":
            for unit in use.units.unique().tolist():
                producers[unit] = (*producers.get(unit, ()), use.layer)
    producers.pop(FIXED, None)
    together = dict.fromkeys(producers.values())
    return [torch.tensor([unit for unit, layers in producers.items() if layers == family]) for family in together]


class _Follow(fx.Interpreter):
    """Runs the graph on an example and notes, beside every value, which unit each of its channels is.

    A value without an entry in `at` holds FIXED units only.
    """

    def __init__(self, graph: fx.GraphModule, layers: set[str]) -> None:
        super().__init__(graph)
        self.extra_traceback = False  # else it writes into the messages of our errors
        self.layers, self.parent = layers, [FIXED]
        self.at: dict[fx.Node, Channels] = {}
        self.uses: dict[tuple[str, str], Tensor] = {}
        self.owner: dict[int, str] = {}

    # the units themselves: new ones, and a union-find in which FIXED wins

    def new(self, n: int) -> Tensor:
        first = len(self.parent)
        self.parent += range(first, first + n)
        return torch.arange(first, first + n)

    def find(self, unit: int) -> int:
        while self.parent[unit] != unit:
            unit = self.parent[unit]
        return unit

    def unite(self, a: Tensor, b: Tensor) -> None:
        for i, j in zip(a.tolist(), b.tolist(), strict=True):
            low, high = sorted((self.find(i), self.find(j)))
            self.parent[high] = low

    def resolve(self, units: Tensor) -> Tensor:
        return torch.tensor([self.find(unit) for unit in units.tolist()])

    def use(self, layer: str, side: str, units: Tensor) -> Tensor:
        """Note where units live; a layer that is called twice has the same units both times."""
        weight = self.module.get_submodule(layer).weight
        if weight is not None and (first := self.owner.setdefault(id(weight), layer)) != layer:
            raise ValueError(f"{layer} shares its weight with {first}; allowed: layers with weights of their own")
        known = self.uses.setdefault((layer, side), units)
        self.unite(known, units)
        return known

    # the walk

    def run_node(self, node: fx.Node) -> Any:
        value = super().run_node(node)
        inputs = [self.at[n] for n in node.all_input_nodes if n in self.at and self.resolve(self.at[n].units).any()]
        if node.op == "output":
            for channels in inputs:
                self.unite(channels.units, torch.zeros_like(channels.units))
        elif isinstance(value, Tensor):
            layer = self.module.get_submodule(str(node.target)) if node.op == "call_module" else None
            if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                found = self.layer(str(node.target), layer, inputs[0] if inputs else None, value)
            else:
                found = self.operation(node, layer, inputs[0], value) if inputs else None
            if found is not None:
                self.at[node] = found
        return value

    def layer(self, name: str, layer: nn.Module, entering: Channels | None, value: Tensor) -> Channels | None:
        """A linear layer or a convolution: reads units, and makes its own."""
        weight = cast(Tensor, layer.weight)
        dim = value.ndim - 1 if isinstance(layer, nn.Linear) else 1
        groups = getattr(layer, "groups", 1)
        if entering and entering.dim != dim:
            raise ValueError(f"{name} ({type(layer).__name__}) reads along dimension {dim}, channels are along "
                             f"{entering.dim}; channels cannot be followed through it")  # fmt: skip
        if groups > 1:
            if entering is None:
                return None
            if not groups == weight.shape[0] == len(entering.units):
                raise ValueError(f"{name} is a grouped convolution ({groups} groups of {weight.shape[1]} channels); "
                                 "allowed: one group, or one channel a group")  # fmt: skip
            return Channels(1, self.use(name, "norm", entering.units))
        reads = entering.units if entering else torch.zeros(weight.shape[1], dtype=torch.long)
        self.use(name, "in", reads)
        made = self.new(len(weight)) if name in self.layers else torch.zeros(len(weight), dtype=torch.long)
        return Channels(dim, self.use(name, "out", made))

    def operation(self, node: fx.Node, layer: nn.Module | None, entering: Channels, value: Tensor) -> Channels | None:
        """Everything else: where do the channels that enter it come out?"""
        name = _name(node, layer)
        if layer is not None and isinstance(layer, NORMS):
            return Channels(entering.dim, self.use(str(node.target), "norm", entering.units))
        shape = _shape(self.env[node.all_input_nodes[0]])
        found = None
        if name in POINTWISE and value.shape[entering.dim] == len(entering.units):
            found = entering
        elif name in PAIRS:
            found = self.pair(node, value)
        elif name == "cat":
            found = self.cat(node, value)
        elif name == "pad":
            found = self.pad(node, entering, value)
        elif name in RESHAPES:
            found = _reshaped(node, entering, shape, value.shape)
        elif name in REDUCTIONS:
            found = _reduced(node, entering, len(shape), value)
        elif name == "getitem":
            found = _sliced(node, entering, value)
        if found is None:
            raise ValueError(f"channels cannot be followed through {name} ({node.format_node()}); name the layers "
                             "whose units may leave in layers, so that none reaches it")  # fmt: skip
        return found

    def pair(self, node: fx.Node, value: Tensor) -> Channels | None:
        """a + b and its like: channels that meet are one unit; what has only one channel meets none."""
        (first, *rest) = [self.at[n] for n in node.all_input_nodes if n in self.at]
        for n in node.all_input_nodes:
            size = _size(self.env[n], first.dim, value.ndim)
            other = self.at.get(n, Channels(first.dim, torch.zeros(size, dtype=torch.long)))
            if size != 1 and (other.dim != first.dim or size != len(first.units)):
                return None
            if size != 1:
                self.unite(first.units, other.units)
        return first

    def cat(self, node: fx.Node, value: Tensor) -> Channels | None:
        """Along the channels: one behind the other. Along another dimension: channels that meet are one unit."""
        parts = cast(list[fx.Node], node.args[0])
        along = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        along, dim = cast(int, along) % value.ndim, next(self.at[n].dim for n in parts if n in self.at)
        zeros = {n: Channels(dim, torch.zeros(self.env[n].shape[dim], dtype=torch.long)) for n in parts}
        found = [self.at.get(n, zeros[n]) for n in parts]
        if any(part.dim != dim for part in found):
            return None
        if along == dim:
            return Channels(dim, torch.cat([part.units for part in found]))
        for part in found[1:]:
            self.unite(found[0].units, part.units)
        return found[0]

    def pad(self, node: fx.Node, entering: Channels, value: Tensor) -> Channels:
        """Zeros beside the picture change nothing. Channels of zeros are units of their own, fixed if their number is.

        (A number that is computed from shapes follows the pruning; a constant would pad as much as before.)
        """
        sizes = cast(list, node.args[1])
        place = 2 * (value.ndim - 1 - entering.dim)
        if place >= len(sizes):
            return entering
        numbers = cast(list, self.map_nodes_to_values(sizes, node))
        before, after = (
            self.new(n) if isinstance(size, fx.Node) else torch.zeros(n, dtype=torch.long)
            for size, n in zip(sizes[place : place + 2], numbers[place : place + 2], strict=True)
        )
        return Channels(entering.dim, torch.cat([before, entering.units, after]))


def _name(node: fx.Node, layer: nn.Module | None) -> str:
    if layer is not None:
        return type(layer).__name__
    return str(getattr(node.target, "__name__", node.target))


def _shape(value: Any) -> torch.Size:
    return value.shape if isinstance(value, Tensor) else torch.Size()


def _size(value: Any, dim: int, ndim: int) -> int:
    """How many entries a value of `ndim` dimensions gets from `value` along `dim`, before it is broadcast."""
    shape = _shape(value)
    place = dim - (ndim - len(shape))
    return shape[place] if place >= 0 and shape else 1


def _reshaped(node: fx.Node, entering: Channels, before: torch.Size, after: torch.Size) -> Channels | None:
    """A unit of h × w pixels becomes as many columns in a row; a size written as a number would not fit later."""
    outer, n = math.prod(before[: entering.dim]), len(entering.units)
    for dim, size in enumerate(after):
        if math.prod(after[:dim]) == outer and size % n == 0 and size >= n:
            given = [a for a in node.args[1:] for a in (a if isinstance(a, tuple | list) else (a,))]
            written = _name(node, None) in ("view", "reshape") and given[dim] != -1 and isinstance(given[dim], int)
            return None if written else Channels(dim, entering.units.repeat_interleave(size // n))
    return None


def _reduced(node: fx.Node, entering: Channels, ndim: int, value: Tensor) -> Channels | None:
    """A mean over other dimensions than the channels'."""
    dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else tuple(range(ndim)))
    gone = sorted(d % ndim for d in (dims if isinstance(dims, tuple | list) else (dims,)))
    if entering.dim in gone:
        return None
    before = 0 if value.ndim == ndim else sum(d < entering.dim for d in gone)
    return Channels(entering.dim - before, entering.units)


def _sliced(node: fx.Node, entering: Channels, value: Tensor) -> Channels | None:
    """x[:, :, ::2, ::2] and its like: every dimension sliced, that of the channels whole."""
    index = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    whole = all(isinstance(i, slice) for i in index) and value.shape[entering.dim] == len(entering.units)
    return entering if whole else None
