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
    """A random `importance` for `prune`: the baseline that every other importance has to beat.

    Args:
        seed: the same seed gives the same scores.

    Returns:
        A function from a weight to random scores in [0, 1) of its shape. Each call draws new ones.

    Raises:
        ValueError: `seed` is outside 0 to 2^63 - 1.

    Example:
        >>> model = lk.models.mlp(64, 32, 10)
        >>> one, same, other = (lk.prune(model, 0.5, importance=lk.random_importance(seed)) for seed in (0, 0, 1))
        >>> one[1].weight.equal(same[1].weight), one[1].weight.equal(other[1].weight)
        (True, False)
    """
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

    w_new = M ⊙ w, with M = 1 where |w| > θ, else 0 (Han et al. 2015).

    Args:
        model: a weight that weight_norm or similar computes becomes an ordinary parameter first.
        sparsity: the fraction of zeros in [0, 1), or a mapping {layer: sparsity}. Weights already zero count towards
            it.
        threshold: θ ≥ 0. Give either this or `sparsity`.
        scope: where weights compete: "global", all in one ranking, or "layer", each layer on its own.
        layers: names of the layers to prune, by default all.
        exclude: names of the layers to leave out.
        importance: importance(weight) scores the weights that compete for `sparsity`; magnitude by default.

    Returns:
        A new model of the same class. Its pruned weights are zeros in ordinary modules.

    Raises:
        ValueError: names what is wrong: a setting out of range, an unknown layer, a weight that holds NaN.

    Example:
        >>> model = lk.models.mlp(64, 32, 10)  # 64 · 32 + 32 · 10 = 2,368 weights
        >>> thin = lk.prune(model, sparsity=0.9)
        >>> sum(int((layer.weight == 0).sum()) for layer in (thin[1], thin[3]))  # round(0.9 · 2,368)
        2131
        >>> bool((model[1].weight == 0).any())  # the input is never changed
        False
    """
    _check.one_of("scope", scope, SCOPES)
    _check.kind(Callable, importance=importance)
    if (sparsity is None) == (threshold is None):
        raise ValueError("give either sparsity or threshold: exactly one of them")
    model = clone(_weights.opened(model))
    if isinstance(sparsity, Mapping) and (layers is not None or exclude is not None):
        raise ValueError("sparsity is a mapping, which names its layers; allowed with layers or exclude: a number")
    if isinstance(sparsity, Mapping) and not sparsity:
        raise ValueError("sparsity is empty; allowed: a number, or a mapping from at least one layer to its own")
    if isinstance(sparsity, Mapping):
        masks: dict[str, Tensor] = {}
        for layer, share in sparsity.items():
            own = _masks(model, share, None, "layer", [layer], None, importance)
            if twice := own.keys() & masks.keys():
                raise ValueError(f"sparsity names {min(twice)} twice, also as {layer!r}; allowed: once for each weight")
            masks |= own
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
    scores = {name: importance(value) for name, value in values.items()}
    for name, score in scores.items():
        if getattr(score, "shape", None) != values[name].shape:
            raise ValueError(f"importance gives no tensor of the shape of {name}; allowed: one score per weight")
    if scope == "layer":
        return {name: keep_mask(score, share) for name, score in scores.items()}
    joint = keep_mask(torch.cat([score.flatten() for score in scores.values()]), share)
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

    Without it an optimizer with momentum or weight decay brings pruned weights back in its first step. This is the
    retraining of Han et al. (2015): only the weights that are left are trained.

    Args:
        model: the network whose zeros are kept. They are read once, here.

    Example:
        >>> data, thin = lk.load_data("digits"), lk.prune(lk.models.mlp(64, 32, 10), sparsity=0.9)
        >>> held, _ = lk.fit(thin, data.train, epochs=1, lr=0.01, after_step=lk.KeepZeros(thin), progress=False)
        >>> free, _ = lk.fit(thin, data.train, epochs=1, lr=0.01, progress=False)
        >>> [torch.equal(net[1].weight == 0, thin[1].weight == 0) for net in (held, free)]
        [True, False]
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

    s_t = s_f + (s_i - s_f)(1 - t)³, with t from 0 to 1 (Zhu & Gupta 2017). The mask is kept between two choices.

    Args:
        sparsity: s_f, the fraction of zeros at the end, in [0, 1).
        initial_sparsity: s_i, the fraction at the start, in [0, sparsity].
        until: the fraction of training, in (0, 1], at which the schedule ends; the rest is fine-tuning.
        every: steps between two choices of the mask, 1 or more.
        scope: where weights compete, "global" or "layer", as in `prune`.
        layers: names of the layers to prune, by default all.
        exclude: names of the layers to leave out.
        importance: importance(weight) scores the weights, those that are 0 lowest; magnitude by default.

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> data, model = lk.load_data("digits"), lk.models.mlp(64, 32, 10)
        >>> gradual = lk.GradualPruning(sparsity=0.9, every=5)
        >>> thin, _ = lk.fit(model, data.train, epochs=2, lr=0.01, after_step=gradual, progress=False)
        >>> sum(int((layer.weight == 0).sum()) for layer in (thin[1], thin[3]))  # round(0.9 · 2,368), at the end
        2131
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
