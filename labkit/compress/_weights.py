"""Which tensors of a module a compression technique works on: one definition for all techniques."""

from collections.abc import Collection, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

from labkit import _check
from labkit._module import clone, evaluating, unwrapped

LAYERS = (
    nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase, _ConvNd,
)  # fmt: skip
NORMS = (nn.LayerNorm, nn.RMSNorm)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# torch's older way to compute a weight, a hook before each pass: how to remove it, and its attribute with the name
HOOKS = {
    WeightNorm: (remove_weight_norm, "name"),
    SpectralNorm: (remove_spectral_norm, "name"),
    prune.BasePruningMethod: (prune.remove, "_tensor_name"),
}


class Rule(nn.Module):
    """A parametrization of labkit: `forward` computes a weight from what the module stores; `encode` is the inverse."""

    trains = True  # would the weight train if it were a float?

    def encode(self, x: Tensor) -> Tensor:
        """What the module must store so that the weight is x."""
        raise NotImplementedError


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Every weight matrix or filter bank by its parameter name, as `forward` sees it: {"fc1.weight": (300, 784), …}.

    What counts: the weights of linear, bilinear, convolutional, recurrent, attention and embedding layers, and any
    other parameter, such as positions, with at least two dimensions larger than 1. What does not: biases, the vectors
    of a normalization, a layer scale (C, 1, 1), a class token (1, 1, C). A tensor shared by two layers is
    listed once; a weight that another library's rule computes (see `opened`) is one tensor.
    """
    return {name: value for name, (value, counts) in _tensors(opened(model)).items() if counts}


def _tensors(model: nn.Module) -> dict[str, tuple[Tensor, bool]]:
    """{name: (value, does it count as a weight?)} for the parameters of two or more dimensions that are not empty."""
    found: dict[str, tuple[Tensor, bool]] = {}
    seen: set[int] = set()
    for prefix, owner in model.named_modules():
        if isinstance(owner, parametrize.ParametrizationList):
            continue
        for attribute in [*owner._parameters, *parametrizations(owner)]:
            value, same = getattr(owner, attribute), id(identity(owner, attribute))
            if value is None or value.ndim < 2 or not value.numel() or same in seen:
                continue
            if value.is_floating_point() or value.is_complex():
                seen.add(same)
                counts = isinstance(owner, LAYERS) and "weight" in attribute
                counts |= not isinstance(owner, NORMS) and sum(size > 1 for size in value.shape) > 1
                found[f"{prefix}.{attribute}".lstrip(".")] = value.detach(), counts
    return found


def opened(model: nn.Module) -> nn.Module:
    """The network to work on, not to be changed: `model`, or the module inside a wrapper such as DataParallel.

    Where another library's rule computes a weight (weight_norm, spectral_norm, orthogonal, torch's own pruning), it is
    a copy in which that weight is an ordinary parameter, with the values of evaluation mode. ValueError for a scripted
    module and for lazy or meta tensors.
    """
    _check.kind(nn.Module, model=model)
    model = unwrapped(model)
    if any(isinstance(part, torch.jit.ScriptModule) for part in model.modules()):
        raise ValueError(f"model {type(model).__name__} is scripted or traced; allowed: the torch module it came from")
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if nn.parameter.is_lazy(tensor) or tensor.is_meta:
            raise ValueError(f"{name} is lazy or on the meta device; allowed: tensors that have their values")
    return plain(model, ours=False) if any(_foreign(part) for part in model.modules()) else model


def parametrizations(owner: nn.Module) -> dict[str, parametrize.ParametrizationList]:
    """The parametrized attributes of this module itself; empty for an ordinary module."""
    own = owner._modules.get("parametrizations")  # not getattr: a wrapper may look it up in the module inside it
    return {k: v for k, v in getattr(own, "_modules", {}).items() if isinstance(v, parametrize.ParametrizationList)}


def _foreign(owner: nn.Module) -> bool:
    """Does a rule of another library compute one of this module's tensors?"""
    return any(isinstance(hook, tuple(HOOKS)) for hook in owner._forward_pre_hooks.values()) or not all(
        map(_is_ours, parametrizations(owner).values())
    )


def _is_ours(stored: parametrize.ParametrizationList) -> bool:
    return len(stored) == 1 and isinstance(stored[0], Rule)


def identity(owner: nn.Module, attribute: str) -> object:
    """What two attributes share if they are the same weight: the parameter, or the parametrization that computes it."""
    return parametrizations(owner).get(attribute) or owner._parameters[attribute]


def sharers(model: nn.Module, name: str) -> list[tuple[nn.Module, str]]:
    """Every (module, attribute) that holds the weight `name`, its owner first; more than one if layers share it."""
    same = identity(*owner_of(model, name))
    return [
        (owner, attribute)
        for owner in model.modules()
        for attribute in [*owner._parameters, *parametrizations(owner)]
        if identity(owner, attribute) is same
    ]


def chosen(
    model: nn.Module, layers: Collection[str] | None, exclude: Collection[str] | None = None
) -> dict[str, Tensor]:
    """The weights named by `layers` (all if it is None) but not by `exclude`; a layer's name stands for its weights.

    Any other parameter of two or more dimensions can be chosen by its own name. Each layer that shares a weight names
    it; the result has its first name.
    """
    model = opened(model)
    every = _tensors(model)
    counted = [name for name, (_, counts) in every.items() if counts]
    if not (counted if layers is None else every):
        raise ValueError(f"model {type(model).__name__} has no weight of two or more dimensions; nothing to compress")
    if isinstance(layers, str) or (layers is not None and not (isinstance(layers, Collection) and layers)):
        raise ValueError(f"layers is {layers!r}; allowed: a list of at least one name, or None for all")
    if isinstance(exclude, str) or not isinstance(exclude, Collection | None):
        raise ValueError(f"exclude is {exclude!r}; allowed: a list of names")
    known = {} if layers is None and not exclude else _first_names(model, every)
    names = counted if layers is None else [k for layer in layers for k in _named("layers", layer, known, counted)]
    left_out = {k for layer in exclude or () for k in _named("exclude", layer, known, counted)}
    names = [name for name in names if name not in left_out]
    if not names:
        raise ValueError(f"exclude is {exclude!r}; allowed: a list that leaves a weight to work on")
    for name in names:
        if (value := every[name][0]).dtype not in DTYPES or value.layout != torch.strided:
            raise ValueError(f"{name} is {value.dtype}, {value.layout}; allowed: dense floats of 16, 32 or 64 bits")
    return {name: every[name][0] for name in names}


def _first_names(model: nn.Module, every: Collection[str]) -> dict[str, str]:
    """{each name of a tensor: its name in `every`}: a tensor has several names if several layers hold it."""
    firsts = {id(identity(*owner_of(model, name))): name for name in every}
    return {
        f"{prefix}.{attribute}".lstrip("."): firsts[same]
        for prefix, owner in model.named_modules(remove_duplicate=False)
        if not isinstance(owner, parametrize.ParametrizationList)
        for attribute in [*owner._parameters, *parametrizations(owner)]
        if (same := id(identity(owner, attribute))) in firsts
    }


def _named(argument: str, layer: str, known: Mapping[str, str], counted: list[str]) -> list[str]:
    names = [first for name, first in known.items() if name.rpartition(".")[0] == layer and first in counted]
    names = [known[layer]] if layer in known else names
    if not names:
        raise ValueError(f"{argument} names {layer!r}; allowed: {', '.join(counted)}")
    return names


def checked(values: Mapping[str, Tensor]) -> None:
    """Refuse weights that hold NaN or infinity, by name."""
    for name, value in values.items():
        _check.finite(name, value)


def plain(model: nn.Module, ours: bool = True, hollow: bool = False) -> nn.Module:
    """A deep copy in which tensors that a rule computes are ordinary parameters, with the values of evaluation mode.

    With ours=False, only those that another library's rule computes. In a `hollow` copy the parameters that are not
    parametrized are uninitialized: memory that is never written to costs nothing.
    """
    model = unwrapped(model)
    named = model.named_parameters() if hollow else ()
    given = [p for name, p in named if ".parametrizations." not in f".{name}" and type(p) is nn.Parameter]
    model = clone(model, {id(p): nn.Parameter(torch.empty_like(p), p.requires_grad) for p in given})
    shared: dict[object, nn.Parameter] = {}
    for owner in list(model.modules()):
        _end_hooks(owner)
        every = parametrizations(owner)
        kept = {} if ours else {attribute: stored for attribute, stored in every.items() if _is_ours(stored)}
        if len(kept) == len(every):
            continue
        with evaluating(owner):  # spectral_norm changes its buffers when it is read in training mode
            values = {
                name: shared.setdefault(stored, nn.Parameter(getattr(owner, name).detach(), trains(owner, name)))
                for name, stored in every.items()
                if name not in kept
            }
        # torch.nn.utils.parametrize.remove_parametrizations would break other copies: they share its class
        owner.__class__ = type(owner).__bases__[0]
        del owner.parametrizations
        for name, value in values.items():
            owner.register_parameter(name, value)
        for name, stored in kept.items():
            _register(owner, name, cast(nn.Parameter, stored.original), stored[0])
            cast(nn.ModuleDict, owner.parametrizations)[name] = stored
    return model


def _end_hooks(owner: nn.Module) -> None:
    """Turn the tensors that one of torch's older hooks computes into ordinary parameters, in place."""
    for hook in list(owner._forward_pre_hooks.values()):
        for remove, key in [how for kind, how in HOOKS.items() if isinstance(hook, kind)]:
            name = getattr(hook, key)
            free = any(p.requires_grad for k, p in owner.named_parameters(recurse=False) if k.startswith(f"{name}_"))
            remove(owner, name)
            owner.get_parameter(name).requires_grad_(free).data.add_(0.0)  # no -0.0, which torch's pruning leaves


def trains(owner: nn.Module, attribute: str) -> bool:
    """Does a weight train? For a weight stored as integers: did it train as a float?"""
    stored = parametrizations(owner).get(attribute)
    if stored is None:
        return cast(nn.Parameter, owner._parameters[attribute]).requires_grad
    floats = [p for p in stored.parameters() if p.is_floating_point()]
    return any(p.requires_grad for p in floats) if floats else cast(Rule, stored[0]).trains


def widened(x: Tensor) -> Tensor:
    """x in float32 if its type is a narrower float: sums in it overflow, and NumPy may not have it."""
    return x.float() if x.is_floating_point() and x.itemsize < 4 else x


def relative_error(after: Tensor, before: Tensor) -> float:
    """Root mean square error divided by the standard deviation; 0 for a constant weight that did not change."""
    return float((after - before).square().mean().sqrt() / before.std(correction=0).clamp(min=1e-12))


def output_axis(model: nn.Module, name: str) -> int:
    """The output axis of a weight: 1 for a transposed convolution, otherwise 0."""
    return int(isinstance(owner_of(model, name)[0], _ConvTransposeNd))


def owner_of(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that owns a parameter, and the parameter's attribute there."""
    path, _, attribute = name.rpartition(".")
    return model.get_submodule(path), attribute


def assign(model: nn.Module, name: str, value: Tensor) -> None:
    """Give a weight new values, in place; a quantized weight stores them as integers on its own grid.

    ValueError where another library's rule computes the weight and does not return what was assigned.
    """
    owner, attribute = owner_of(model, name)
    stored = parametrizations(owner).get(attribute)
    if stored is not None and _is_ours(stored):
        cast(Tensor, stored.original).copy_(cast(Rule, stored[0]).encode(value))
    elif attribute in owner._parameters:
        getattr(owner, attribute).copy_(value)
    else:
        if stored is not None:
            setattr(owner, attribute, value)  # torch calls the rule's right_inverse
        if stored is None or not torch.allclose(getattr(owner, attribute), value):
            raise ValueError(f"{name} is computed by another library's rule; allowed here: weights that keep a value")


def install(model: nn.Module, name: str, original: nn.Parameter, rule: Rule) -> None:
    """Replace a weight, in place, by `original` and the `rule` that computes it; layers that share it still do.

    Whether the weight trains, now or after it becomes a float again, does not change.
    """
    owners = sharers(model, name)
    rule.trains = trains(*owners[0])
    for parameter in [original, *rule.parameters()]:
        parameter.requires_grad_(rule.trains and parameter.is_floating_point())
    for owner, attribute in owners:
        if attribute not in parametrizations(owner):
            _register(owner, attribute, original, rule)
    first, attribute = owners[0]
    stored = parametrizations(first)[attribute]
    stored[0], stored.original = rule, original
    for owner, attribute in owners[1:]:
        cast(nn.ModuleDict, owner.parametrizations)[attribute] = stored


def _register(owner: nn.Module, attribute: str, original: nn.Parameter, rule: nn.Module) -> None:
    owner.register_parameter(attribute, original)
    # unsafe: torch requires that a parametrization keeps the dtype, but some turn integers into floats
    parametrize.register_parametrization(owner, attribute, rule, unsafe=True)
