"""Structured pruning: whole neurons and channels are removed, so the matrices become smaller (Li et al. 2017).

A *unit* is a neuron of a linear layer or a channel of a convolution. Removing it removes a row of its own weight,
an entry of the BatchNorm after it, and a column of every layer that reads it; layers that are added share their units.
`channels` finds these rows and columns and `remove` removes them (in `_channels.py`). This module ranks and chooses.
"""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit import _check
from labkit._module import as_logits, evaluating, running
from labkit.compress import _weights
from labkit.compress._channels import FIXED, Example, Use, channels, difference, families, remove
from labkit.compress._channels import held as held  # for callers
from labkit.data import Split

IMPORTANCES = ("l1", "l2", "taylor", "activation", "random")
FROM_IMAGES = ("taylor", "activation")  # those that need calibration images
SCOPES = ("layer", "global")


def prune_channels(
    model: nn.Module,
    sparsity: float,
    *,
    example: Example,
    importance: str = "l1",
    scope: str = "global",
    round_to: int = 1,
    layers: list[str] | None = None,
    exclude: list[str] | None = None,
    calibration: Split | None = None,
    seed: int = 0,
) -> nn.Module:
    """A new, smaller model of the same class without its least important neurons and channels; all logits are kept.

    Whole units are removed, so the matrices become smaller (Li et al. 2017). In evaluation mode, removing a unit equals
    feeding its consumers zeros; this is tested on `example`. Units for which it is not true, or not known, are held:
    they are kept, and `held(model, example)` names their layers and the reasons (docs/structured_pruning.md lists the
    operations). Layers that are added, equal pieces of a split, and the groups of a convolution share their units,
    which are ranked as one.

    Args:
        model: a parametrized or quantized weight becomes ordinary floats.
        sparsity: the fraction of the units to remove, in [0, 1), rounded to whole units; one is always kept.
        example: a batch of inputs, two are enough, or a tuple of them for a model of several inputs. The model is run
            on it once, and its units are followed.
        importance: ranks the units: "l1", "l2", "taylor", "activation" or "random"; formulas in `unit_importance`.
        scope: "layer", each layer loses that fraction, or "global", all units compete by importance divided by the mean
            of their layer.
        round_to: each layer keeps a multiple of so many units, the nearest to what it would keep and at least one
            multiple, or all it has. Runtimes compute channels in eights: with 8 a smaller network is also faster.
        layers: names of the layers to remove units from, by default all.
        exclude: names of the layers to leave.
        calibration: "taylor" and "activation" use all of these images; the others refuse them.
        seed: "random" draws with it.

    Returns:
        A new model with fewer rows and columns: ordinary dense layers.

    Raises:
        ValueError: no unit, or none in a layer of `layers`, can be removed, with the reason for each layer; the path of
            the model depends on the values of its input; or a setting is out of range.

    Example:
        >>> data, model = lk.load_data("digits"), lk.models.mlp(64, 32, 10)
        >>> small = lk.prune_channels(model, sparsity=0.75, example=data.train.x[:2])
        >>> small[1], small[3]  # 24 of 32 neurons are gone
        (Linear(in_features=64, out_features=8, bias=True), Linear(in_features=8, out_features=10, bias=True))
        >>> model[1].out_features  # the input is never changed
        32
    """
    sparsity = _check.number("sparsity", sparsity, 0, 1, open_high=True)
    _check.one_of("scope", scope, SCOPES)
    round_to = _check.whole("round_to", round_to, 1, 2**31)
    _check_calibration(importance, calibration)
    seed = _check.seed(seed)
    _check.kind(nn.Module, model=model)
    model = _weights.plain(model)
    uses = channels(model, example, layers, exclude)
    ranks = unit_importance(model, uses, importance, calibration, seed)
    gone = least_important(ranks, families(uses), sparsity, scope, round_to)
    small = remove(model, uses, gone)
    if fault := difference(model, small, uses, gone, example):
        raise ValueError(f"units of model {type(model).__name__} cannot be followed: {fault}")
    return small


# --- how important is a unit? -----------------------------------------------------------------------------------------


def unit_importance(
    model: nn.Module, uses: list[Use], importance: str = "l1", calibration: Split | None = None, seed: int = 0
) -> Tensor:
    """The importance I of every unit number in `uses`.

    "l1"          I = Σ |w| over the unit's filter, its row of the weight (Li et al. 2017)
    "l2"          I = √Σ w² over the same
    "activation"  I = mean over images of Σ |a|, its outputs a as the next layers read them (Molchanov et al. 2017)
    "taylor"      I = mean over images of |Σ a · ∂L/∂a|: to first order, how much the cross-entropy L changes if the
                  unit outputs 0 (Molchanov et al. 2017; 2019 squares the same sum)
    "random"      a random number: the baseline

    The sums of coupled layers are added. ValueError unless `calibration` is given for "activation" and "taylor", and
    only for these.
    """
    _check_calibration(importance, calibration)
    size = 1 + max((int(use.units.max()) for use in uses), default=0)
    if importance == "random":
        return torch.rand(size, generator=torch.Generator().manual_seed(seed))
    if calibration is not None:
        return _heard(model, uses, size, calibration, gradient=importance == "taylor")
    total, power = torch.zeros(size), 1 if importance == "l1" else 2
    model = _weights.plain(model)
    for use in uses:
        if use.side == "out":
            rows = cast(Tensor, model.get_submodule(use.layer).weight).detach().movedim(use.axis, 0).flatten(1)
            total.index_add_(0, use.units, rows.double().abs().pow(power).sum(1).float())
    return total ** (1 / power)


def _check_calibration(importance: str, calibration: Split | None) -> None:
    """Refuse an unknown importance, images that it does not use, and one that lacks its images."""
    _check.one_of("importance", importance, IMPORTANCES)
    _check.kind(Split | None, calibration=calibration)
    if importance in FROM_IMAGES and calibration is None:
        raise ValueError(f"importance {importance!r} looks at images; give a Split of them as calibration")
    if importance not in FROM_IMAGES and calibration is not None:
        with_images = " and ".join(map(repr, FROM_IMAGES))
        raise ValueError(
            f"calibration is a Split; allowed with importance {importance!r}: None, only {with_images} use images"
        )


def _heard(model: nn.Module, uses: list[Use], size: int, images: Split, gradient: bool) -> Tensor:
    """Mean over the images of Σ |a|, or with `gradient` of |Σ a · ∂L/∂a|, over all places where a unit is read."""
    model, total = _weights.plain(model).requires_grad_(False), torch.zeros(size)
    readers = {use.layer: use for use in uses if use.side == "in" and (use.units != FIXED).any()}
    heard: list[tuple[Use, Tensor]] = []

    def note(use: Use, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        given = inputs[0] if inputs else named["input"]
        # one view per reader: its gradient is that of this reader alone
        a = given.detach().requires_grad_() if not given.requires_grad else given.view_as(given)
        a.retain_grad()
        heard.append((use, a))
        return ((a, *inputs[1:]), named) if inputs else ((), named | {"input": a})

    for name, use in readers.items():
        reader = model.get_submodule(name)
        reader.register_forward_pre_hook(lambda _m, a, k, use=use: note(use, a, k), with_kwargs=True)
    with evaluating(model), torch.enable_grad():
        for x, y in zip(images.x.split(250), images.y.split(250), strict=True):
            heard.clear()
            with running(model, "calibration", x):
                logits = as_logits(model, model(x), len(x), int(images.y.max()))
                loss = F.cross_entropy(logits, y, reduction="sum")
            if unheard := set(readers) - {use.layer for use, _ in heard}:
                raise ValueError(
                    f"{min(unheard)} is used without being called; allowed: importance 'l1', 'l2', 'random'"
                )
            if gradient:
                loss.backward()
            batch = torch.zeros(len(x), size)
            for use, a in heard:
                told = a.detach() * cast(Tensor, a.grad) if gradient else a.detach().abs()
                weight = cast(Tensor, model.get_submodule(use.layer).weight)
                told = told.movedim(told.ndim + 1 - weight.ndim, -1)  # a convolution's channels stand before its pixels
                told = told.reshape(len(x), -1, told.shape[-1]).sum(1).float()
                batch.index_add_(1, use.units.repeat(told.shape[1] // len(use.units)), told)  # once for each group
            total += batch.abs().sum(0)
    return total / len(images)


def least_important(
    importance: Tensor, families: list[Tensor], sparsity: float, scope: str, round_to: int = 1
) -> Tensor:  # fmt: skip
    """The units to remove; the most important unit of every family is always kept."""
    ranked = [family[importance[family].argsort()] for family in families]
    if scope == "layer":
        counts = [min(round(sparsity * len(units)), len(units) - 1) for units in ranked]
    else:
        counts = _lowest_of_all([importance[family] for family in families], sparsity)
    kept = [max(1, round((len(units) - n) / round_to)) * round_to for units, n in zip(ranked, counts, strict=True)]
    return torch.cat([units[: max(0, len(units) - most)] for units, most in zip(ranked, kept, strict=True)])


def _lowest_of_all(importances: list[Tensor], sparsity: float) -> list[int]:
    """How many units of each family are among the lowest of all, without the highest of each."""
    # layers differ in size and scale: without the division the smallest layers would be emptied first
    relative = [scores / scores.mean().clamp_min(1e-30) for scores in importances]
    for scores in relative:
        scores[scores.argmax()] = math.inf
    scores, owner = torch.cat(relative), torch.cat([torch.full((len(s),), i) for i, s in enumerate(relative)])
    free = int(scores.isfinite().sum())
    lowest = scores.argsort()[: min(round(sparsity * len(scores)), free)]
    return owner[lowest].bincount(minlength=len(importances)).tolist()
