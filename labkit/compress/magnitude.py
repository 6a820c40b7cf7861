"""Magnitude pruning: the weights closest to zero go (Han et al. 2015; gradually, Zhu & Gupta 2017).

    M = 1 where |w| > θ, else 0          w_new = M ⊙ w

θ is given, or it is the magnitude below which a share `sparsity` of the weights lies. A pruned weight is a zero in an
ordinary module; `keep_zeros` holds it there while the rest is fine-tuned.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from labkit import _check
from labkit.compress import _weights

SCOPES = ("layer", "global")


def magnitude_mask(weight: Tensor, sparsity: float) -> Tensor:
    """Keep (True) all but the round(sparsity · n) smallest magnitudes of `weight`; ties go by position."""
    pruned = round(sparsity * weight.numel())
    mask = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
    if pruned:
        mask[torch.topk(weight.abs().flatten(), pruned, largest=False).indices] = False
    return mask.view_as(weight)


def threshold_mask(weight: Tensor, threshold: float) -> Tensor:
    """M = 1 where |w| > θ, else 0, as booleans."""
    return weight.abs() > threshold


def prune(
    model: nn.Module,
    sparsity: float | Mapping[str, float] | None = None,
    *,
    threshold: float | None = None,
    scope: str = "global",
    layers: list[str] | None = None,
) -> nn.Module:
    """A new model whose smallest weights are zero; biases and BatchNorm are left alone.

    Give `sparsity`, the share of zeros in [0, 1), or a mapping from layer to its own; or `threshold` θ ≥ 0. `scope`
    says where weights compete: "global", all in one ranking, or "layer", each layer on its own. `layers` names the
    layers to prune, all without it. Weights already zero count towards the sparsity. ValueError names what is wrong.
    """
    _check.one_of("scope", scope, SCOPES)
    if (sparsity is None) == (threshold is None):
        raise ValueError("give either sparsity or threshold, not both and not neither")
    if isinstance(sparsity, Mapping):
        masks = {k: v for layer, s in sparsity.items() for k, v in _masks(model, s, None, "layer", [layer]).items()}
    else:
        masks = _masks(model, sparsity, threshold, scope, layers)
    model = _weights.clone(model)
    apply_masks(model, masks)
    return model


def _masks(
    model: nn.Module, sparsity: float | None, threshold: float | None, scope: str, layers: list[str] | None
) -> dict[str, Tensor]:
    values = _weights.chosen(model, layers)
    _weights.checked(values)
    if threshold is not None:
        _check.number("threshold", threshold, 0, float("inf"))
        return {name: threshold_mask(value, threshold) for name, value in values.items()}
    _check.number("sparsity", sparsity, 0, 1, open_high=True)
    if scope == "layer":
        return {name: magnitude_mask(value, sparsity) for name, value in values.items()}
    joint = magnitude_mask(torch.cat([v.flatten() for v in values.values()]), sparsity)
    pieces = joint.split([v.numel() for v in values.values()])
    return {name: piece.view_as(values[name]) for name, piece in zip(values, pieces, strict=True)}


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """w ← M ⊙ w for each named weight, in place."""
    for name, mask in masks.items():
        owner, attribute = _weights.owner_of(model, name)
        setattr_weight(owner, attribute, getattr(owner, attribute) * mask)


def setattr_weight(owner: nn.Module, attribute: str, value: Tensor) -> None:
    """Give a weight new values: in place, or through its parametrization, which turns them into what it stores."""
    if attribute in owner._parameters:
        owner._parameters[attribute].copy_(value)
    else:
        setattr(owner, attribute, value)


def masks_of(model: nn.Module) -> dict[str, Tensor]:
    """The mask of every weight, read off its zeros: True where it is not zero."""
    return {name: value != 0 for name, value in _weights.weights(model).items()}


def sparsity_of(model: nn.Module) -> float:
    """Achieved sparsity: zeros among all weights (biases and BatchNorm not counted)."""
    masks = masks_of(model).values()
    return 1 - sum(int(m.sum()) for m in masks) / max(1, sum(m.numel() for m in masks))


def keep_zeros(model: nn.Module) -> Callable[[nn.Module, float], None]:
    """A hook for `fit(after_step=…)`: whatever is zero in `model` is made zero again behind every update.

    Without it an optimizer with momentum or weight decay brings pruned weights back in its first step.
    """
    masks = masks_of(model)
    return lambda trained, progress: apply_masks(trained, masks)


def cubic_sparsity(progress: float, initial_sparsity: float, final_sparsity: float) -> float:
    """s_t = s_f + (s_i - s_f)(1 - t)³ for t = progress in [0, 1] (Zhu & Gupta 2017)."""
    return final_sparsity + (initial_sparsity - final_sparsity) * (1 - progress) ** 3


def prune_gradually(
    final_sparsity: float, *, initial_sparsity: float = 0.0, until: float = 0.7, every: int = 50, scope: str = "global"
) -> Callable[[nn.Module, float], None]:
    """A hook for `fit(after_step=…)` that raises the sparsity while the network trains.

    The cubic schedule ends at the share `until` of training; the rest heals. The mask is chosen anew every `every`
    steps, among all weights, and held in between.
    """
    _check.number("final_sparsity", final_sparsity, 0, 1, open_high=True)
    _check.number("initial_sparsity", initial_sparsity, 0, final_sparsity)
    _check.number("until", until, 0, 1, open_low=True)
    _check.whole("every", every, 1, 1_000_000)
    _check.one_of("scope", scope, SCOPES)
    masks: dict[str, Tensor] = {}
    steps = 0

    def after_step(model: nn.Module, progress: float) -> None:
        nonlocal masks, steps
        if steps % every == 0 or progress == 1:
            now = cubic_sparsity(min(1, progress / until), initial_sparsity, final_sparsity)
            masks = _masks(model, now, None, scope, None)
        steps += 1
        apply_masks(model, masks)

    return after_step
