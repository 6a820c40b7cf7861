"""Structured pruning: whole neurons and channels leave, so the matrices themselves shrink (Li et al. 2017).

A *unit* is a neuron of a linear layer or a channel of a convolution. With it goes a row of its own weight, an entry of
the BatchNorm behind it, and a column of every layer that reads it; where layers are added, their units are one. Which
rows and columns those are, `channels` finds (in `_channels.py`). The rest is here: rank, choose, cut.
"""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit import _check
from labkit._module import evaluating
from labkit.compress import _weights
from labkit.compress._channels import CONVOLUTIONS, Use, channels, families
from labkit.data import Split

CRITERIA = ("l1", "l2", "taylor", "activation", "random")
SCOPES = ("layer", "global")


def prune_channels(
    model: nn.Module,
    example: Tensor,
    sparsity: float,
    *,
    criterion: str = "l1",
    scope: str = "layer",
    layers: list[str] | None = None,
    calibration: Split | None = None,
    seed: int = 0,
) -> nn.Module:
    """A new, smaller model of the same class without its least important neurons and channels; the logits all stay.

    `example` is a batch of inputs, two are enough, with which the graph is traced. `sparsity` in [0, 1) is the share of
    the units that leave, to the nearest unit; one always stays. `scope`: "layer", each layer gives up that share, or
    "global", all units compete by an importance divided by the mean of their layer. `layers` names the layers whose
    units may leave, all without it. `criterion` ranks the units, the formula in `importance`; "taylor" and
    "activation" look at all images of `calibration`, "random" draws with `seed`. Layers that are added share their
    units and are ranked as one. The weights of a quantized model come out as the floats they stand for.

    What is left computes what the whole model computes when the removed units say 0 to whoever reads them. ValueError
    names a layer or an operation through which channels cannot be followed, and settings out of range.
    """
    _check.number("sparsity", sparsity, 0, 1, open_high=True)
    _check.one_of("scope", scope, SCOPES)
    uses = channels(model, example, layers)
    ranks = importance(model, uses, criterion, calibration, seed)
    gone = least_important(ranks, families(uses), sparsity, scope)
    return remove(model, uses, gone)


# --- how important is a unit? -----------------------------------------------------------------------------------------


def importance(
    model: nn.Module, uses: list[Use], criterion: str = "l1", calibration: Split | None = None, seed: int = 0
) -> Tensor:
    """I for every unit number of `uses`.

    "l1"          I = Σ |w| over the unit's filter, its row of the weight (Li et al. 2017)
    "l2"          I = √Σ w² over the same
    "activation"  I = mean over images of Σ |a|: what the unit says to the layers that read it (Molchanov et al. 2017)
    "taylor"      I = mean over images of |Σ a · ∂L/∂a|: to first order, how much the cross-entropy L changes if the
                  unit says 0 (Molchanov et al. 2017; 2019 squares the same sum)
    "random"      a draw: the baseline

    Coupled layers add up their sums.
    """
    _check.one_of("criterion", criterion, CRITERIA)
    size = 1 + max((int(use.units.max()) for use in uses), default=0)
    if criterion == "random":
        return torch.rand(size, generator=torch.Generator().manual_seed(seed))
    if criterion in ("activation", "taylor"):
        if calibration is None:
            raise ValueError(f"criterion {criterion!r} looks at images; give a Split of them as calibration")
        return _heard(model, uses, size, calibration, gradient=criterion == "taylor")
    total, power = torch.zeros(size), 1 if criterion == "l1" else 2
    model = _weights.plain(model)
    for use in uses:
        if use.side == "out":
            weight = cast(Tensor, model.get_submodule(use.layer).weight).detach()
            total.index_add_(0, use.units, weight.flatten(1).abs().pow(power).sum(1))
    return total ** (1 / power)


def _heard(model: nn.Module, uses: list[Use], size: int, images: Split, gradient: bool) -> Tensor:
    """Mean over the images of Σ |a|, or with `gradient` of |Σ a · ∂L/∂a|, over all places where a unit is read."""
    model, total = _weights.plain(model).requires_grad_(False), torch.zeros(size)
    readers = {use.layer: use for use in uses if use.side == "in"}
    heard: list[tuple[Use, Tensor]] = []

    def note(use: Use, inputs: tuple) -> tuple:
        # a view of its own for every reader: its gradient is what comes back through this reader alone
        a = inputs[0].detach().requires_grad_() if not inputs[0].requires_grad else inputs[0].view_as(inputs[0])
        a.retain_grad()
        heard.append((use, a))
        return (a,)

    for name, use in readers.items():
        model.get_submodule(name).register_forward_pre_hook(lambda layer, inputs, use=use: note(use, inputs))
    with evaluating(model), torch.enable_grad():
        for x, y in zip(images.x.split(250), images.y.split(250), strict=True):
            heard.clear()
            loss = F.cross_entropy(model(x), y, reduction="sum")
            if gradient:
                loss.backward()
            batch = torch.zeros(len(x), size)
            for use, a in heard:
                told = a.detach() * cast(Tensor, a.grad) if gradient else a.detach().abs()
                told = told.flatten(2).sum(2) if isinstance(model.get_submodule(use.layer), CONVOLUTIONS) else told
                batch.index_add_(1, use.units, told.reshape(len(x), -1, told.shape[-1]).sum(1).float())
            total += batch.abs().sum(0)
    return total / len(images)


def least_important(importance: Tensor, families: list[Tensor], sparsity: float, scope: str) -> Tensor:
    """The units that leave; the most important of every family stays in any case."""
    if scope == "layer":
        ranked = [family[importance[family].argsort()] for family in families]
        return torch.cat([units[: min(round(sparsity * len(units)), len(units) - 1)] for units in ranked])
    # layers differ in size and scale: without the division the smallest layers would be emptied first
    relative = [importance[family] / importance[family].mean().clamp_min(1e-30) for family in families]
    for scores in relative:
        scores[scores.argmax()] = math.inf
    scores, units = torch.cat(relative), torch.cat(families)
    free = int(scores.isfinite().sum())
    return units[scores.argsort()[: min(round(sparsity * len(units)), free)]]


# --- taking units away ------------------------------------------------------------------------------------------------


def remove(model: nn.Module, uses: list[Use], gone: Tensor) -> nn.Module:
    """A new model without the units `gone`: rows, columns and BatchNorm entries leave wherever `uses` has them."""
    model = _weights.plain(model)
    for use in uses:
        kept = torch.nonzero(~torch.isin(use.units, gone)).flatten()
        if len(kept) < len(use.units):
            _keep(model.get_submodule(use.layer), use.side, kept)
    return model


def _keep(layer: nn.Module, side: str, kept: Tensor) -> None:
    """Keep these rows, columns or entries of a layer, in place, and let it know its new size."""
    entries = ["weight"] if side == "in" else ["weight", "bias", "running_mean", "running_var"]
    for name in entries:
        value = getattr(layer, name, None)
        if value is not None:
            smaller = value.detach().index_select(1 if side == "in" else 0, kept).clone()
            is_parameter = isinstance(value, nn.Parameter)
            setattr(layer, name, nn.Parameter(smaller, value.requires_grad) if is_parameter else smaller)
    sizes = {
        "in": ["in_features", "in_channels"],
        "out": ["out_features", "out_channels"],
        "norm": ["num_features", "in_channels", "out_channels", "groups"],
    }
    for name in sizes[side]:
        if hasattr(layer, name):
            setattr(layer, name, len(kept))
