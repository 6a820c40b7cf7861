"""Magnitude pruning: set the weights closest to zero to zero (Han et al. 2015; gradually, Zhu & Gupta 2017).

    M = 1 where |w| > θ, else 0          w_new = M ⊙ w

θ is given, or it is the magnitude below which a fraction `sparsity` of the weights lies. A pruned weight is a zero in
an ordinary module; `KeepZeros` keeps it zero while the rest is fine-tuned.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from labkit import _check
from labkit._module import clone, unwrapped
from labkit.compress import _weights
from labkit.optim import Step

SCOPES = ("layer", "global")
Importance = Callable[[Tensor], Tensor]


def keep_mask(importance: Tensor, sparsity: float) -> Tensor:
    """M = 1 where I > θ, else 0, as booleans; θ is the round(sparsity · n)-th smallest of the n importances.

    Exactly that many entries are False: ties at θ are dropped evenly over the tensor. ValueError where
    the importance holds NaN or sparsity is outside [0, 1].
    """
    _check.kind(Tensor, importance=importance)
    sparsity = _check.number("sparsity", sparsity, 0, 1)
    values = _weights.widened(importance.detach().flatten()).cpu().numpy()
    if np.isnan(values.min(initial=np.inf)):
        raise ValueError("importance holds NaN; allowed: numbers")
    pruned = round(sparsity * values.size)
    threshold = _kth_smallest(values, pruned) if pruned else -np.inf
    keep = values > threshold
    if missing := values.size - pruned - int(np.count_nonzero(keep)):
        keep[_evenly(np.flatnonzero(values == threshold), missing)] = True
    return torch.from_numpy(keep).to(importance.device).view_as(importance)


def _evenly(places: np.ndarray, n: int) -> np.ndarray:
    """`n` of the places, evenly spread. Rounded weights have many ties: the first ones alone would be whole neurons."""
    return places[np.arange(n) * len(places) // n]


def _kth_smallest(values: np.ndarray, k: int) -> np.floating:
    """np.sort(values)[k - 1], by a partial sort, ten times faster than torch.topk, unless a sample has ties.

    With the many ties of rounded or pruned weights, the partial sort takes 15 times as long.
    """
    some = values[:: max(1, values.size // 64)]
    ties = len(np.unique(some)) < len(some)
    kth: np.floating = (np.sort(values) if ties else np.partition(values, k - 1))[k - 1]
    return kth


def random_importance(seed: int) -> Callable[[Tensor], Tensor]:
    """A random `importance` for `prune`: the baseline that every criterion has to beat."""
    seed = _check.seed(seed)
    generator = torch.Generator().manual_seed(seed)
    return lambda weight: torch.rand(weight.shape, generator=generator)


def clustered_importance(strength: float) -> Importance:
    """An `importance` that keeps weights where others are kept, so that the mask compresses better.

    |w| · (rms of its row · rms of its column / mean square)^strength; `strength` is 0 to 2; 0 is plain magnitude.
    """
    _check.number("strength", strength, 0, 2)

    def importance(weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        row, column = (matrix.square().mean(axis, keepdim=True).sqrt() for axis in (1, 0))
        pulled = matrix.abs() * (row * column / matrix.square().mean().clamp(min=1e-20)) ** strength
        return pulled.view_as(weight)

    return importance


def threshold_mask(weight: Tensor, threshold: float) -> Tensor:
    """M = 1 where |w| > θ, else 0, as booleans."""
    _check.kind(Tensor, weight=weight)
    _check.number("threshold", threshold, 0, float("inf"))
    return weight.abs() > threshold


def prune(
    model: nn.Module,
    sparsity: float | Mapping[str, float] | None = None,
    *,
    threshold: float | None = None,
    scope: str = "global",
    layers: list[str] | None = None,
    exclude: list[str] | None = None,
    importance: Importance = torch.abs,
) -> nn.Module:
    """A new model whose smallest weights are zero; biases and BatchNorm do not change.

    Give `sparsity`, the fraction of zeros in [0, 1), or a mapping {layer: sparsity}; or `threshold` θ ≥ 0. `scope`
    says where weights compete: "global", all in one ranking, or "layer", each layer on its own. `layers` names the
    layers to prune, by default all; those of `exclude` are left out.
    `importance(weight)` scores the weights that compete for `sparsity`; magnitude by
    default. Weights already zero count towards the sparsity. A weight that weight_norm or similar computes becomes
    an ordinary parameter first. ValueError names what is wrong.
    """
    _check.one_of("scope", scope, SCOPES)
    _check.kind(Callable, importance=importance)
    if (sparsity is None) == (threshold is None):
        raise ValueError("give either sparsity or threshold: exactly one of them")
    model = clone(_weights.opened(model))
    if isinstance(sparsity, Mapping) and not sparsity:
        raise ValueError("sparsity is empty; allowed: a number, or a mapping from at least one layer to its own")
    if isinstance(sparsity, Mapping):
        masks: dict[str, Tensor] = {}
        for layer, share in sparsity.items():
            masks |= _masks(model, share, None, "layer", [layer], exclude, importance)
    else:
        masks = _masks(model, sparsity, threshold, scope, layers, exclude, importance)
    apply_masks(model, masks)
    return model


def _masks(
    model: nn.Module,
    sparsity: float | None,
    threshold: float | None,
    scope: str,
    layers: list[str] | None,
    exclude: list[str] | None,
    importance: Importance,
) -> dict[str, Tensor]:
    values = _weights.chosen(model, layers, exclude)
    _weights.checked(values)
    if threshold is not None:
        threshold = _check.number("threshold", threshold, 0, float("inf"))
        return {name: threshold_mask(value, threshold) for name, value in values.items()}
    share = _check.number("sparsity", sparsity, 0, 1, open_high=True)
    if scope == "layer":
        return {name: keep_mask(importance(value), share) for name, value in values.items()}
    joint = keep_mask(torch.cat([importance(v).flatten() for v in values.values()]), share)
    pieces = joint.split([v.numel() for v in values.values()])
    return {name: piece.view_as(values[name]) for name, piece in zip(values, pieces, strict=True)}


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """w ← M ⊙ w for each named weight, in place."""
    _check.kind(nn.Module, model=model)
    _check.kind(Mapping, masks=masks)
    model = unwrapped(model)
    for name, mask in masks.items():
        owner, attribute = _weights.owner_of(model, name)
        if getattr(getattr(owner, attribute, None), "shape", None) != mask.shape:
            raise ValueError(
                f"masks has {name} of the shape {tuple(mask.shape)}; allowed: weights of model, and their shapes"
            )
        # not weight * mask: it turns pruned negative weights into -0.0, which a file would have to store
        _weights.assign(model, name, torch.where(mask, getattr(owner, attribute), 0.0))


def masks_of(model: nn.Module) -> dict[str, Tensor]:
    """The mask of every weight, read off its zeros: True where it is not zero."""
    return {name: value != 0 for name, value in _weights.weights(model).items()}


def sparsity_of(model: nn.Module) -> float:
    """Achieved sparsity: zeros among all weights (biases and BatchNorm not counted)."""
    masks = masks_of(model).values()
    return 1 - sum(int(m.sum()) for m in masks) / max(1, sum(m.numel() for m in masks))


class KeepZeros:
    """A hook for `fit(after_step=…)`: weights that are zero in `model` are set back to zero after each optimizer step.

    Without it an optimizer with momentum or weight decay brings pruned weights back in its first step.
    """

    def __init__(self, model: nn.Module) -> None:
        self.masks = masks_of(model)

    def __call__(self, model: nn.Module, step: Step) -> None:
        """Set the weights back."""
        apply_masks(model, self.masks)


def cubic_sparsity(progress: float, initial_sparsity: float, final_sparsity: float) -> float:
    """s_t = s_f + (s_i - s_f)(1 - t)³ for t = progress in [0, 1] (Zhu & Gupta 2017)."""
    _check.numbers(progress=progress, initial_sparsity=initial_sparsity, final_sparsity=final_sparsity)
    return final_sparsity + (initial_sparsity - final_sparsity) * (1 - progress) ** 3


class GradualPruning:
    """A hook for `fit(after_step=…)` that raises the sparsity to `sparsity` while the network trains.

    The cubic schedule ends at the fraction `until` of training; the rest is fine-tuning. The mask is chosen again every
    `every` steps, by `importance`, among the weights of `layers` (by default all) but those of `exclude`, and kept in
    between. ValueError for settings out of range.
    """

    def __init__(
        self,
        sparsity: float,
        *,
        initial_sparsity: float = 0.0,
        until: float = 0.7,
        every: int = 50,
        scope: str = "global",
        layers: list[str] | None = None,
        exclude: list[str] | None = None,
        importance: Importance = torch.abs,
    ) -> None:
        _check.number("sparsity", sparsity, 0, 1, open_high=True)
        _check.number("initial_sparsity", initial_sparsity, 0, sparsity)
        _check.number("until", until, 0, 1, open_low=True)
        _check.whole("every", every, 1, 1_000_000)
        _check.one_of("scope", scope, SCOPES)
        _check.kind(Callable, importance=importance)
        self.initial_sparsity, self.sparsity, self.until, self.every = initial_sparsity, sparsity, until, every
        self.chosen = scope, layers, exclude, importance
        self.masks: dict[str, Tensor] = {}

    def __call__(self, model: nn.Module, step: Step) -> None:
        """Choose the mask when it is time, then apply it."""
        if (step.number - 1) % self.every == 0 or step.number == step.total:
            now = cubic_sparsity(min(1, step.progress / self.until), self.initial_sparsity, self.sparsity)
            self.masks = _masks(model, now, None, *self.chosen)
        apply_masks(model, self.masks)
