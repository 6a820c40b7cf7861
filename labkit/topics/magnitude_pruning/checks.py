"""Checks of notebook 01."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from labkit._verdict import Verdict, compare, in_words, name_of, raised, shown
from labkit.compress import _weights
from labkit.compress.magnitude import cubic_sparsity, prune
from labkit.data import Split
from labkit.measure import accuracy

__all__ = ["check_cubic_sparsity", "check_mask", "check_sensitivity"]

WEIGHTS = (
    torch.tensor([0.5, -0.125, -3.0, 0.25]),
    torch.tensor([[-2.0, 0.25, 1.0, -0.5], [0.125, -1.5, 0.75, 0.625]]),
)


@in_words
def check_mask(answer: Callable[[Tensor, float], Tensor]) -> Verdict:
    """`answer(weight, sparsity)`: the mask that drops exactly the round(sparsity · n) smallest magnitudes."""
    for weight in WEIGHTS:
        for sparsity in (0.25, 0.5, 0.75, 0.0):
            call = f"{name_of(answer)}({weight.tolist()}, {sparsity})"
            try:
                fault = _mask_fault(weight, sparsity, answer(weight.clone(), sparsity))
            except Exception as error:  # noqa: BLE001 - a student's code may raise anything; the verdict says so
                return raised(call, error)
            if fault:
                return Verdict(False, f"{call} {fault}")
    return Verdict(True, "the smallest magnitudes are dropped; `keep_mask` finds them without sorting everything")


def _mask_fault(weight: Tensor, sparsity: float, mask: Any) -> str:
    """What is wrong with a mask, checked weight by weight; empty if nothing is."""
    if not isinstance(mask, Tensor):
        return f"should be a tensor; yours is a {type(mask).__name__}"
    if mask.shape != weight.shape:
        return f"should have the shape {tuple(weight.shape)} of the weight; yours has {tuple(mask.shape)}"
    if not all(m in (0, 1) for m in mask.flatten().tolist()):
        return "should hold only True and False, or 1 and 0"
    pairs = list(zip(weight.flatten().tolist(), mask.flatten().tolist(), strict=True))
    kept, dropped = [w for w, m in pairs if m], [w for w, m in pairs if not m]
    target = round(sparsity * len(pairs))
    if len(dropped) != target:
        return f"should drop {target} of {len(pairs)} weights; yours drops {len(dropped)}"
    smallest, largest = min(kept, key=abs), max(dropped, key=abs, default=0)
    if abs(largest) > abs(smallest):
        return f"keeps {smallest:g} and drops {largest:g}, whose magnitude is larger"
    return ""


@in_words
def check_sensitivity(
    model: nn.Module,
    split: Split,
    answer: Callable[[nn.Module, Split, float], str],
    sparsities: tuple[float, ...] = (0.9, 0.95),
) -> Verdict:
    """`answer(model, split, sparsity)`: the layer that costs the most accuracy when only it is pruned to `sparsity`."""
    layers = [name.removesuffix(".weight") for name in _weights.weights(model)]
    for sparsity in sparsities:
        call = f"{name_of(answer)}(model, split, {sparsity})"
        scan = {layer: accuracy(prune(model, sparsity, layers=[layer]), split)["accuracy"] for layer in layers}
        try:
            given = str(answer(model, split, sparsity)).removesuffix(".weight")
        except Exception as error:  # noqa: BLE001 - a student's code may raise anything; the verdict says so
            return raised(call, error)
        if given not in layers:
            return Verdict(False, f"{call} should be one of {', '.join(layers)}; yours is {shown(given)}")
        if scan[given] > min(scan.values()):
            found = f"pruning another layer costs more than pruning {given}, which leaves {scan[given]:.2%}"
            return Verdict(False, f"{call}: {found}")
    found = ", ".join(f"{layer} {left:.2%}" for layer, left in sorted(scan.items(), key=lambda item: item[1]))
    return Verdict(True, f"with {sparsity:.0%} of one layer pruned, accuracy left: {found}")


@in_words
def check_cubic_sparsity(answer: Callable[[float, float, float], float]) -> Verdict:
    """`answer(progress, initial_sparsity, final_sparsity)`: the sparsity of the cubic schedule at this progress."""
    cases = [(0.0, 0.0, 0.9), (1.0, 0.0, 0.9), (0.5, 0.0, 0.5), (0.5, 0.5, 0.9), (0.25, 0.2, 0.95)]
    solved = "half-way through, the schedule has done seven eighths of the pruning"
    return compare(answer, cubic_sparsity, cases, solved)
