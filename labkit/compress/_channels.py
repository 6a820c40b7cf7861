"""Which rows and columns of a network's layers belong to one unit, found by following units through one forward pass.

A *unit* is a neuron of a linear layer or a channel of a convolution. The network is run on an example, and numbered
units are passed along with the values: a layer creates new ones, a flatten repeats each, an addition merges two into
one (`_operations.py` has the rules). The result is plain data, a list of `Use`. It is tested: the network without half
of the units must compute the same as the network whose consumers get zeros in their place.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from labkit._module import evaluating
from labkit.compress import _weights
from labkit.compress._operations import Follow
from labkit.compress._units import FIXED, Use, tensors

Example = Tensor | tuple[Tensor, ...]


def channels(
    model: nn.Module, example: Example, layers: list[str] | None = None, exclude: list[str] | None = None
) -> list[Use]:
    """Where each layer uses which units; FIXED units are never pruned. `held` names their layers and the reasons.

    ValueError if no unit, or none in a layer of `layers`, can be pruned; it names each such layer and the reason.
    """
    uses, causes = _followed(model, example, layers, exclude)
    free = {use.layer for use in uses if use.side == "out" and (use.units != FIXED).any()}
    named = (
        [*causes] if layers is None else [name.rpartition(".")[0] for name in _weights.chosen(model, layers, exclude)]
    )
    stuck = [f"{k or 'weight'}: {causes.get(k, 'it has no units of its own')}" for k in named if k not in free]
    if not free or (layers is not None and stuck):
        raise ValueError(f"model {type(model).__name__} has no unit to prune in {'; '.join(stuck)}")
    return uses


def held(model: nn.Module, example: Example, layers: list[str] | None = None) -> dict[str, str]:
    """{layer: reason} for each layer with units that `prune_channels` never prunes."""
    return _followed(model, example, layers)[1]


def _followed(
    model: nn.Module, example: Example, layers: list[str] | None, exclude: list[str] | None = None
) -> tuple[list[Use], dict[str, str]]:
    names = {name.rpartition(".")[0] for name in _weights.chosen(model, layers, exclude)}
    model = _weights.plain(model)
    try:
        follow = _walked(model, example, names)
    except Exception:
        _outputs(model, example)  # raises a clear error if the model does not take the example
        raise
    uses = _uses(follow)
    every = families(uses)
    if every and _trial(model, uses, every, example):
        for family in every:
            if fault := _trial(model, uses, [family], example):
                follow.hold(family, fault)
        uses = _uses(follow)
        if families(uses) and (fault := _trial(model, uses, families(uses), example)):
            raise ValueError(f"units of model {type(model).__name__} cannot be followed: {fault}")
    return uses, _causes(follow, names)


def _walked(model: nn.Module, example: Example, names: set[str]) -> Follow:
    """Run the model on a copy of the example and follow its units."""
    follow, inputs = Follow(model, names), [value.clone() for value in tensors(example)]
    for value in inputs:
        value._units = {}  # type: ignore[attr-defined]
    hooks = []
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda _m, _x, name=name: follow.path.append(name)))
        hooks.append(module.register_forward_hook(lambda _m, _x, _y: follow.path.__delitem__(-1)))
    with evaluating(model), torch.no_grad(), follow:
        out = list(tensors(model(*inputs)))
    for hook in hooks:
        hook.remove()
    if not out:
        raise ValueError(f"model {type(model).__name__} returns no tensor; allowed: tensors, also in a tuple or dict")
    for value in out:
        for units in follow.of(value).values():
            follow.hold(units, "they are outputs of the network, its logits")
    return follow


def _uses(follow: Follow) -> list[Use]:
    for (_, side, _), units in follow.used.items():
        if side == "out" and len(units) > 1 and len(each := follow.resolve(units).unique()) == 1:
            follow.hold(each, "they are all one unit")
    uses = [Use(layer, side, follow.resolve(units), axis) for (layer, side, axis), units in follow.used.items()]
    return [use for use in uses if use.side != "parameter" or (use.units != FIXED).any()]


def _causes(follow: Follow, names: set[str]) -> dict[str, str]:
    """Why units of these layers are FIXED, in the order of the layers."""
    made = {layer: units for (layer, side, _), units in follow.used.items() if side == "out"}
    used, causes = {layer for layer, _, _ in follow.used}, dict[str, str]()
    for layer, module in follow.model.named_modules():
        if layer in names and layer in made:
            roots = [follow.find(unit) for unit in made[layer].tolist()]
            why = dict.fromkeys(follow.why[root] for root in roots if root in follow.why)
            n = sum(root in follow.why for root in roots)
            if n:
                causes[layer] = ("" if n == len(roots) else f"{n} of {len(roots)} units: ") + "; ".join(why)
        elif layer in names and layer not in used and type(module).__module__.startswith("torch.nn"):
            causes[layer] = follow.unmade.get(layer, "it is not called")
    return causes


def families(uses: list[Use]) -> list[Tensor]:
    """Groups of units that compete with one another: those made by the same set of layers."""
    producers: dict[int, tuple[str, ...]] = {}
    for use in uses:
        if use.side == "out":
            for unit in use.units.unique().tolist():
                producers[unit] = (*producers.get(unit, ()), use.layer)
    producers.pop(FIXED, None)
    together = dict.fromkeys(producers.values())
    return [torch.tensor([unit for unit, layers in producers.items() if layers == family]) for family in together]


# --- removing units ---------------------------------------------------------------------------------------------------


def remove(model: nn.Module, uses: list[Use], gone: Tensor) -> nn.Module:
    """A new model without the units `gone`: their rows, columns and BatchNorm entries, as `uses` lists them."""
    model = _weights.plain(model)
    for use in uses:
        kept = torch.nonzero(~torch.isin(use.units, gone)).flatten()
        if len(kept) < len(use.units) and use.side == "parameter":
            _keep(*_weights.owner_of(model, use.layer), use.axis, kept)
        elif len(kept) < len(use.units):
            _narrow(model.get_submodule(use.layer), use, kept)
    return model


def _narrow(layer: nn.Module, use: Use, kept: Tensor) -> None:
    """Keep only these rows, columns or entries of a layer, in place, and update its size attributes."""
    _keep(layer, "weight", use.axis, kept)
    for name in [] if use.side == "in" else ["bias", "running_mean", "running_var"]:
        _keep(layer, name, 0, kept)
    width, n = len(kept), len(use.units)
    sizes = {
        "in": {"in_features": width, "in_channels": width * getattr(layer, "groups", 1)},
        "out": dict.fromkeys(["out_features", "out_channels", "embedding_dim"], width),
        "norm": dict.fromkeys(["num_features", "num_channels", "num_parameters", "out_channels"], width)
        | {name: getattr(layer, name, 0) * width // n for name in ("in_channels", "groups", "num_groups")},
    }
    for name, size in sizes[use.side].items():
        if hasattr(layer, name):
            setattr(layer, name, size)


def _keep(owner: nn.Module, name: str, axis: int, kept: Tensor) -> None:
    value = getattr(owner, name, None)
    if value is not None:
        smaller = value.detach().index_select(axis, kept).clone()
        is_parameter = isinstance(value, nn.Parameter)
        setattr(owner, name, nn.Parameter(smaller, value.requires_grad) if is_parameter else smaller)


# --- the check --------------------------------------------------------------------------------------------------------


def difference(model: nn.Module, small: nn.Module, uses: list[Use], gone: Tensor, example: Example) -> str:
    """How `small` differs on the example from a plain `model` in which the consumers of the units `gone` get zeros.

    Setting a consumer's weights for them to 0 has this effect. "" if nothing differs.
    """
    masked = {}
    for use in uses:
        if use.side == "in":
            name = f"{use.layer}.weight".lstrip(".")
            lost = torch.nonzero(torch.isin(use.units, gone)).flatten()
            masked[name] = model.get_parameter(name).detach().index_fill(use.axis, lost, 0)
    try:
        found, expected = _outputs(small, example), _outputs(model, example, masked)
    except ValueError as error:
        return f"without some of them the network does not run: {str(error).rpartition('): ')[2]}"
    if [value.shape for value in found] != [value.shape for value in expected]:
        return "without some of them the outputs have another shape"
    same = all(_close(a, b) for a, b in zip(found, expected, strict=True))
    return "" if same else "without some of them the network computes something else than with zeros in their place"


def _close(found: Tensor, expected: Tensor) -> bool:
    if not (expected.is_floating_point() or expected.is_complex()) or not expected.numel():
        return found.equal(expected)
    eps = torch.finfo(expected.dtype).eps
    scale = float(expected.abs().nan_to_num(posinf=0).max())
    return torch.allclose(found, expected, rtol=eps**0.5, atol=eps**0.5 * scale + eps, equal_nan=True)


def _trial(model: nn.Module, uses: list[Use], every: list[Tensor], example: Example) -> str:
    """`difference` after removing a random half of each of these families."""
    random = torch.Generator().manual_seed(0)
    gone = torch.cat([family[torch.randperm(len(family), generator=random)[: len(family) // 2]] for family in every])
    return difference(model, remove(model, uses, gone), uses, gone, example)


def _outputs(model: nn.Module, example: Example, weights: dict[str, Tensor] | None = None) -> list[Tensor]:
    """The model's outputs for the example, with `weights` in place of its own and the same random numbers each time."""
    try:
        with evaluating(model), torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return list(tensors(functional_call(model, weights or {}, tuple(x.clone() for x in tensors(example)))))
    except Exception as error:
        given = ", ".join(str(tuple(value.shape)) for value in tensors(example)) or type(example).__name__
        said = str(error).strip().partition("\n")[0]
        raise ValueError(f"model {type(model).__name__} does not take the example ({given}): {said}") from error
