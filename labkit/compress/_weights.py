"""Which tensors of a module a compression technique works on, found the same way by all of them."""

import copy
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from labkit import _check


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Every weight matrix or filter bank by its parameter name, as `forward` sees it: {"fc1.weight": (300, 784), …}.

    A weight is a floating-point parameter of two or more dimensions, an embedding too; biases and BatchNorm vectors are
    not. A tensor shared by two layers is listed once.
    """
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for prefix, owner in model.named_modules():
        if isinstance(owner, parametrize.ParametrizationList):
            continue
        for attribute in [*owner._parameters, *parametrizations(owner)]:
            value, same = getattr(owner, attribute), id(identity(owner, attribute))
            if value is not None and value.ndim >= 2 and value.is_floating_point() and same not in seen:
                seen.add(same)
                found[f"{prefix}.{attribute}".lstrip(".")] = value.detach()
    return found


def parametrizations(owner: nn.Module) -> dict[str, parametrize.ParametrizationList]:
    """The parametrized attributes that belong to this module itself; none for an ordinary one."""
    return dict(getattr(owner, "parametrizations", {}).items())


def identity(owner: nn.Module, attribute: str) -> object:
    """The object that makes two places the same weight: the parameter, or the parametrization that computes it."""
    return parametrizations(owner).get(attribute) or owner._parameters[attribute]


def sharers(model: nn.Module, name: str) -> list[tuple[nn.Module, str]]:
    """Every (module, attribute) that holds the weight `name`, its own first; more than one if layers share it."""
    same = identity(*owner_of(model, name))
    return [
        (owner, attribute)
        for owner in model.modules()
        for attribute in [*owner._parameters, *parametrizations(owner)]
        if identity(owner, attribute) is same
    ]


def chosen(model: nn.Module, layers: list[str] | None) -> dict[str, Tensor]:
    """The weights named by `layers` (all without it); a layer's name stands for its weights."""
    _check.module("model", model)
    every = weights(model)
    if not every:
        raise ValueError(f"model {type(model).__name__} has no weight of two or more dimensions; nothing to compress")
    if layers is None:
        return every
    named = {layer: [k for k in every if k == layer or k.rpartition(".")[0] == layer] for layer in layers}
    for layer, keys in named.items():
        if not keys:
            raise ValueError(f"layers names {layer!r}; allowed: {', '.join(every)}")
    return {k: every[k] for keys in named.values() for k in keys}


def checked(values: Mapping[str, Tensor]) -> None:
    """Refuse weights that hold NaN or infinity, by name."""
    for name, value in values.items():
        _check.finite(name, value)


def clone(model: nn.Module, hollow: bool = False) -> nn.Module:
    """A deep copy; the routines change it and leave the user's model alone.

    A `hollow` one has parameters of unknown contents, all but the parametrized: memory that nobody wrote to is free.
    """
    named = model.named_parameters() if hollow else ()
    given = [p for name, p in named if ".parametrizations." not in f".{name}" and type(p) is nn.Parameter]
    return copy.deepcopy(model, {id(p): nn.Parameter(torch.empty_like(p), p.requires_grad) for p in given})


def plain(model: nn.Module, hollow: bool = False) -> nn.Module:
    """A deep copy whose parametrized tensors are ordinary float parameters again; `hollow` as in `clone`."""
    model = clone(model, hollow)
    shared: dict[object, nn.Parameter] = {}
    for owner in [m for m in model.modules() if parametrize.is_parametrized(m)]:
        values = {
            attribute: shared.setdefault(stored, nn.Parameter(getattr(owner, attribute).detach()))
            for attribute, stored in parametrizations(owner).items()
        }
        # torch.nn.utils.parametrize.remove_parametrizations would break the copy's siblings: they share its class
        owner.__class__ = type(owner).__bases__[0]
        del owner.parametrizations
        for attribute, value in values.items():
            owner.register_parameter(attribute, value)
    return model


def owner_of(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that owns a parameter, and the parameter's attribute there."""
    path, _, attribute = name.rpartition(".")
    return model.get_submodule(path), attribute


def assign(owner: nn.Module, attribute: str, value: Tensor) -> None:
    """Give a weight new values, in place: a quantized one stores the integers of its own grid that stand for them."""
    stored = parametrizations(owner).get(attribute)
    encode = getattr(stored[0], "encode", None) if stored else None
    if stored is None:
        getattr(owner, attribute).copy_(value)
    elif encode:
        stored.original.copy_(encode(value))
    else:
        setattr(owner, attribute, value)  # another library's parametrization: torch calls its right_inverse


def install(model: nn.Module, name: str, original: nn.Parameter, rule: nn.Module) -> None:
    """Replace a weight, in place, by `original` and the `rule` that computes it; its sharers go on sharing it."""
    owners = sharers(model, name)
    for owner, attribute in owners:
        if attribute not in parametrizations(owner):
            owner.register_parameter(attribute, original)
            # unsafe skips torch's demand that a parametrization keep the dtype: some turn integers into floats
            parametrize.register_parametrization(owner, attribute, rule, unsafe=True)
    first, attribute = owners[0]
    stored = parametrizations(first)[attribute]
    stored[0], stored.original = rule, original
    for owner, attribute in owners[1:]:
        cast(nn.ModuleDict, owner.parametrizations)[attribute] = stored
