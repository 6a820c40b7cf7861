"""What each operation of torch does to the units of its inputs: the tracer, and a rule for each kind of operation.

Every tensor that depends on the input carries its `Units`: for each dimension that may shrink, the unit of every entry
along it. An operation that moves entries is run a second time, on the unit numbers. An elementwise operation merges the
units that it combines. An operation that `_table.py` does not list holds the units that reach it: they are not pruned.
"""

from collections.abc import Callable, Iterable
from math import gcd
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from labkit.compress._table import CONTRACTED, DECIDE, LAYERS, MIXED, MOVES, PIECES, POINTWISE, SIZES, Call
from labkit.compress._units import FIXED, Held, Numbers, tensors

Units = dict[int, Tensor]  # dimension: the unit of every entry along it; the other dimensions keep their size


class Follow(Numbers, TorchFunctionMode):
    """While it is active, every torch function passes the units of its arguments on to its results."""

    def __init__(self, model: nn.Module, layers: set[str]) -> None:
        TorchFunctionMode.__init__(self)
        Numbers.__init__(self)
        self.model, self.layers = model, layers
        self.names: dict[int, list[str]] = {}
        for layer, module in model.named_modules():
            for name, value in [*module._parameters.items(), *module._buffers.items()]:
                self.names.setdefault(id(value), []).append(f"{layer}.{name}".lstrip("."))
        self.unmade: dict[str, str] = {}  # layers that make no units, and why
        self.path: list[str] = []  # the names of the modules that are running

    def of(self, value: Any) -> Units:
        """The units of a value. A parameter used outside a layer shrinks with the values it is combined with."""
        if hasattr(value, "_units"):
            return value._units
        names = self.names.get(id(value), [])
        if len(names) != 1:
            return {}
        for axis, size in enumerate(value.shape):
            if size > 1 and (names[0], "parameter", axis) not in self.used:
                self.used[names[0], "parameter", axis] = self.new(size)
        return {axis: self.used[names[0], "parameter", axis] for axis, size in enumerate(value.shape) if size > 1}

    def drop(self, units: Units, dims: Iterable[int], call: Call, cause: str) -> Units:
        """Hold the units along the dimensions `dims`; return the others."""
        for dim in set(dims) & set(units):
            self.hold(units[dim], f"they reach {self.where(call.name)}, {cause}")
        return {dim: found for dim, found in units.items() if dim not in set(dims)}

    def where(self, name: str) -> str:
        name = name.strip("_")
        return f"{name} in {self.path[-1]}" if self.path and self.path[-1] else name

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        value, name = func(*args, **kwargs), getattr(func, "__name__", str(func))
        name = func.__self__.__name__ if name == "__get__" else name
        given, results = list(tensors((args, kwargs))), list(tensors(value))
        if name in DECIDE and any(hasattr(t, "_units") for t in given):
            layer = f"{self.path[-1] or 'model'} ({type(self.model.get_submodule(self.path[-1])).__name__})"
            raise ValueError(f"{layer} reads a value that depends on the input ({name}); allowed: a forward that takes "
                             "the same path for every input")  # fmt: skip
        known = [t for t in given if hasattr(t, "_units") or id(t) in self.names]
        if not known or not results or name in SIZES:
            return value
        try:
            bare = name.strip("_")  # mul_, __rsub__
            rule = TABLE[bare if bare in POINTWISE else name]
            found = rule(self, Call(name, func, args, kwargs, results))
        except Exception as error:  # it has no rule, or is called in a form that its rule does not know
            cause = f"they reach {self.where(name)}, {error if isinstance(error, Held) else 'which is not followed'}"
            found = [{} for _ in results]
            for t in known:
                for part in self.of(t).values():
                    self.hold(part, cause)
                for owner in self.names.get(id(t), []):
                    self.unmade.setdefault(owner.rpartition(".")[0], cause)
        for result, units in zip(results, found, strict=True):
            result._units = units  # type: ignore[attr-defined]
        return value

    # the rules: one for each kind of operation

    def layer(self, call: Call) -> list[Units]:
        """A linear layer, a convolution or an embedding: reads units and creates its own."""
        name, weight = self.weighted(call, call.arg(1, "weight"))
        (value,), spatial, groups = call.results, weight.ndim - 2, 1
        dim, ins, outs = value.ndim - 1 - spatial, 1, 0
        units: Units = {}
        if call.name.startswith("embedding"):
            outs, ins = 1, -1
        else:
            bias, groups = call.arg(2, "bias"), call.arg(6, "groups", default=1) if spatial else 1
            ins, outs = (0, 1) if "transpose" in call.name else (1, 0)
            units = self.of(call.arg(0, "input"))
            if spatial and weight[0, 0].numel() > 1:
                units = self.drop(units, range(dim + 1, value.ndim), call, "which slides over them")
            if bias is not None and self.names.get(id(bias)) != [f"{name}.bias".lstrip(".")]:
                raise Held("whose bias is not its own")
            reads = units.get(dim, _fixed(call.arg(0, "input").shape[dim]))
        if groups > 1 and weight.shape[1] == 1 and (ins == 1 or groups == len(weight)):  # depthwise
            return [units | {dim: self.use(name, "norm", reads.repeat_interleave(value.shape[dim] // groups))}]
        if groups > 1 and ins == 0:
            raise Held("a transposed convolution in groups, which is not followed")
        if ins >= 0:
            self.use(name, "in", reads[: weight.shape[ins]], ins)
        made = self.new(value.shape[dim]) if name in self.layers else _fixed(value.shape[dim])
        made = self.use(name, "out", made, outs)
        if groups > 1:  # every group loses equally many
            self.unite_rows(reads.view(groups, -1))
            self.unite_rows(made.view(groups, -1))
        return [units | {dim: made}]

    def weighted(self, call: Call, weight: Tensor) -> tuple[str, Tensor]:
        """The layer that a weight belongs to."""
        names = self.names.get(id(weight), [])
        if len(names) > 1:
            raise Held(f"where {names[0]} and {names[1]} are one tensor")
        layer, _, attribute = names[0].rpartition(".") if names else ("", "", "")
        if attribute != "weight":
            raise Held("whose weight is not a parameter of that name")
        return layer, weight

    def norm(self, call: Call) -> list[Units]:
        """One factor and one offset per channel, always along dimension 1."""
        units = self.of(call.arg(0, "input"))
        channels = units.get(1)
        alone = call.name == "batch_norm" and not call.arg(5, "training", default=False)
        if not alone and call.name != "prelu":
            units = self.drop(units, {*units} - {1}, call, "which takes a mean over them")
        if channels is None or (call.name == "prelu" and call.arg(1, "weight").numel() == 1):
            return [units]
        if call.name == "group_norm":  # exact only if whole groups are removed: each group has its own mean
            self.unite_rows(channels.view(call.arg(1, "num_groups"), -1).T)
        owned = (name for t in tensors((call.args, call.kwargs)) for name in self.names.get(id(t), []))
        owners = {name.rpartition(".")[0] for name in owned}
        running = self.path[-1] if self.path else ""
        if isinstance(self.model.get_submodule(running), nn.modules.batchnorm._NormBase):
            owners.add(running)
        for owner in owners:
            self.use(owner, "norm", channels)
        return [units]

    def pointwise(self, call: Call) -> list[Units]:
        """Elementwise operations such as a + b, with one or more operands."""
        given = [(self.of(t), t.shape) for t in tensors((call.args, call.kwargs))]
        return [self.join(given, result.shape, call) for result in call.results]

    def join(self, given: list[tuple[Units, torch.Size]], shape: torch.Size, call: Call) -> Units:
        """Merge the units that are combined; a dimension of size 1 is broadcast and combines with none."""
        found: Units = {}
        for dim, size in enumerate(shape):
            places = [(units, dim - len(shape) + len(own), own) for units, own in given]
            meet = [units.get(d) for units, d, own in places if d >= 0 and own[d] == size and (size > 1 or d in units)]
            if any(units is not None for units in meet):
                every = [_fixed(size) if units is None else units for units in meet]
                for other in every[1:]:
                    self.unite(every[0], other, f"{self.where(call.name)} joins them with values of fixed width")
                found[dim] = every[0]
        return found

    def along(self, call: Call) -> list[Units]:
        """A mean, a softmax, a pooling: entries along some dimensions are mixed; the others are untouched."""
        value = call.arg(0, "input")
        if isinstance(call.arg(1), Tensor) and call.name in ("max", "min"):
            return self.pointwise(call)
        units, ndim = self.of(value), value.ndim
        for other in [t for t in tensors((call.args[1:], call.kwargs)) if t is not value and getattr(t, "_units", {})]:
            if other.shape != value.shape:
                raise Held("which uses them as indices")
            units = self.join([(units, value.shape), (self.of(other), other.shape)], value.shape, call)
        mixed = {dim % ndim for dim in MIXED[call.name](call, ndim)}
        units = self.drop(units, mixed, call, "which mixes them with one another")
        left = [dim for dim in range(ndim) if dim not in mixed]
        fewer = {left.index(dim): found for dim, found in units.items()}
        return [units if result.ndim == ndim else fewer for result in call.results]

    def move(self, call: Call) -> list[Units]:
        """A permutation or a reshape: finds where each entry goes."""
        value, found = call.arg(0, "input"), [dict[int, Tensor]() for _ in call.results]
        for dim, units in self.of(value).items():
            if call.name == "channel_shuffle":
                self.unite_rows(units.view(call.arg(1, "groups"), -1))
            for units_of, moved in zip(found, call.on(_spread(units, dim, value.shape)), strict=True):
                units_of.update(self.read(moved.long(), dim, call))
        return found

    def read(self, numbers: Tensor, dim: int, call: Call) -> Units:
        """The dimension along which `numbers` vary, with its units; if there are several, only one may shrink."""
        vary = [d for d in range(numbers.ndim) if (numbers != numbers.narrow(d, 0, 1)).any()]
        for d in reversed(range(numbers.ndim)):
            if d not in vary:
                numbers = numbers.select(d, 0)
        if not vary and not numbers:  # FIXED
            return {}
        if not vary:
            raise Held("which takes a single one")
        shrinks = call.open if call.open in vary else dim if call.name == "pixel_shuffle" else vary[-1]
        columns = numbers.movedim(vary.index(shrinks), 0).flatten(1) if len(vary) > 1 else numbers.unsqueeze(1)
        self.unite_rows(columns.T)
        return {shrinks: columns[:, 0]}

    def pieces(self, call: Call) -> list[Units]:
        """Slices: pieces of equal size lose the same units, so that they stay equal."""
        value = call.arg(0, "input")
        for dim, units in self.of(value).items():
            size = step = len(units)
            for places in call.on(_spread(torch.arange(size), dim, value.shape)):
                taken = places.long().unique()
                first, end = int(taken[0]), int(taken[-1]) + 1
                if end - first != len(taken):
                    raise Held("which takes some that are not neighbours")
                step = gcd(step, first, end)
            if step < size:
                if step == 1:
                    raise Held("which takes single ones, or pieces of no common size")
                self.unite_rows(units.view(-1, step))
        return self.move(call)

    def glu(self, call: Call) -> list[Units]:
        """The first half times the sigmoid of the second."""
        value, dim = call.arg(0, "input"), call.arg(1, "dim", default=-1)
        units = dict(self.of(value))
        if (dim := dim % value.ndim) in units:
            self.unite_rows(units[dim].view(2, -1))
            units[dim] = units[dim][: len(units[dim]) // 2]
        return [units]

    def cat(self, call: Call) -> list[Units]:
        """Along the channels, units are concatenated; along another dimension, units at the same place are merged."""
        parts, (value,) = list(call.arg(0, "tensors")), call.results
        along = call.arg(1, "dim", "axis", default=0) % value.ndim
        if call.name == "stack":  # every part has size 1 along the new dimension, which has no units
            given = [({d + (d >= along): u for d, u in self.of(t).items()}, t.unsqueeze(along).shape) for t in parts]
            return [self.join(given, value.shape, call)]
        across = [({d: u for d, u in self.of(t).items() if d != along}, t.narrow(along, 0, 1).shape) for t in parts]
        found = self.join(across, value.narrow(along, 0, 1).shape, call)
        if any(along in self.of(t) for t in parts):
            found[along] = torch.cat([self.of(t).get(along, _fixed(t.shape[along])) for t in parts])
        return [found]

    def pad(self, call: Call) -> list[Units]:
        """Zeros added along the channels are new units, which may be merged with others; other padding adds none."""
        value, sizes = call.arg(0, "input"), call.arg(1, "pad")
        units, plain = dict(self.of(value)), call.arg(2, "mode", default="constant") == "constant"
        for dim in [d for d in units if 2 * (value.ndim - 1 - d) < len(sizes)]:
            before, after = sizes[2 * (value.ndim - 1 - dim) :][:2]
            if (before or after) and not (plain and not call.arg(3, "value") and min(before, after) >= 0):
                raise Held("which puts more than zeros beside them")
            units[dim] = torch.cat([self.new(before), units[dim], self.new(after)])
        return [units]

    def contract(self, call: Call) -> list[Units]:
        """A matrix product: units along the summed dimension are held, the others are joined."""
        given = []
        for place, summed in enumerate(CONTRACTED[call.name]):
            value = call.arg(place, *("query", "key", "value", "attn_mask")[place : place + 1])
            if value is not None:
                gone = {dim % value.ndim for dim in summed}
                shape = torch.Size(1 if d in gone else size for d, size in enumerate(value.shape))
                given.append((self.drop(self.of(value), gone, call, "which sums over them"), shape))
        if any(len(shape) < 2 for _, shape in given):
            raise Held("a product with a vector, which is not followed")
        return [self.join(given, call.results[0].shape, call)]


def _fixed(n: int) -> Tensor:
    return torch.full((n,), FIXED)


def _spread(units: Tensor, dim: int, shape: torch.Size) -> Tensor:
    """The unit number at every entry of a value; in float64, which is exact and which every operation accepts."""
    places = [1] * len(shape)
    places[dim] = -1
    return units.double().view(places).expand(shape).contiguous()


TABLE: dict[str, Callable[[Follow, Call], list[Units]]] = {
    **dict.fromkeys(LAYERS, Follow.layer),
    **dict.fromkeys(["batch_norm", "instance_norm", "group_norm", "prelu"], Follow.norm),
    **dict.fromkeys(POINTWISE, Follow.pointwise),
    **dict.fromkeys(MIXED, Follow.along),
    **dict.fromkeys(MOVES, Follow.move),
    **dict.fromkeys(PIECES, Follow.pieces),
    **dict.fromkeys(["cat", "concat", "concatenate", "stack"], Follow.cat),
    **dict.fromkeys(CONTRACTED, Follow.contract),
    "glu": Follow.glu,
    "pad": Follow.pad,
}
