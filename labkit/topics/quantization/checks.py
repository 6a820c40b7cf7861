"""Checks of notebook 02."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from labkit._verdict import Verdict, compare, in_words, name_of, raised, shown
from labkit.compress import _weights
from labkit.compress.quantize import quantize
from labkit.data import Split
from labkit.measure import accuracy

__all__ = ["check_fake_quantize", "check_scale", "check_weakest_layer"]

WEIGHTS = ([0.5, -1.5, 0.25], [0.75, 0.125, 0.25], [-0.25, -7.75, 3.0])
ROUND_TRIPS = (  # x, scale, bits; no value lies half-way between two levels, and each x has one out of range
    ([-1.3125, -0.3125, 0.0625, 0.5625, 1.25], 0.25, 3),
    ([[0.4375, -6.0], [1.875, -0.6875]], 0.5, 4),
    ([2.25, -2.75, 0.25], 1.0, 2),
)


@in_words
def check_scale(answer: Callable[[Tensor, int], float]) -> Verdict:
    """`answer(x, bits)`: the scale of a symmetric grid: 2^bits - 1 steps span [-absmax, absmax], for 2 bits or more."""

    @functools.wraps(answer)
    def tried(x: list[float], bits: int) -> float:
        return answer(torch.tensor(x), bits)

    cases = [(x, bits) for bits in (2, 3, 8) for x in WEIGHTS]
    solved = "one more bit roughly halves the scale; one weight twice as large doubles it for all others"
    return compare(tried, lambda x, bits: 2 * max(map(abs, x)) / (2**bits - 1), cases, solved)


@in_words
def check_fake_quantize(answer: Callable[[Tensor, float, int], Tensor]) -> Verdict:
    """`answer(x, scale, bits)`: the round trip to signed integers and back, on a symmetric grid."""
    for x, scale, bits in ROUND_TRIPS:
        call = f"{name_of(answer)}({x}, {scale}, {bits})"
        try:
            fault = _round_trip_fault(torch.tensor(x), scale, bits, answer(torch.tensor(x), scale, bits))
        except Exception as error:  # noqa: BLE001 - a student's code may raise anything; the verdict says so
            return raised(call, error)
        if fault:
            return Verdict(False, f"{call} {fault}")
    return Verdict(True, "rounded, clipped to the grid, back to floats; torch has one kernel for it, `fake_quantize_…`")


def _round_trip_fault(x: Tensor, scale: float, bits: int, given: Any) -> str:
    """What is wrong with a round trip, computed number by number; empty if nothing is."""
    if not isinstance(given, Tensor):
        return f"should be a tensor; yours is a {type(given).__name__}"
    if given.shape != x.shape:
        return f"should have the shape {tuple(x.shape)} of x; yours has {tuple(given.shape)}"
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    levels = [min(max(round(v / scale), low), high) for v in x.flatten().tolist()]
    expected = (torch.tensor(levels) * scale).view_as(x)
    if not torch.allclose(given.float(), expected):
        return f"should be {expected.tolist()}; yours is {given.tolist()}"
    return ""


@in_words
def check_weakest_layer(model: nn.Module, split: Split, answer: str, bits: int = 2) -> Verdict:
    """`answer`: the name of the layer that costs the most accuracy when only it is quantized, symmetric, per layer."""
    layers = [name.removesuffix(".weight") for name in _weights.weights(model)]
    given = str(answer).removesuffix(".weight")
    if given not in layers:
        return Verdict(False, f"the layer should be one of {', '.join(layers)}; yours is {shown(given)}")
    left = {layer: accuracy(quantize(model, bits, layers=[layer]), split)["accuracy"] for layer in layers}
    if left[given] > min(left.values()):
        found = f"{bits}-bit weights in another layer cost more than in {given}, which leave {left[given]:.2%}"
        return Verdict(False, found)
    found = ", ".join(f"{layer} {value:.2%}" for layer, value in sorted(left.items(), key=lambda item: item[1]))
    return Verdict(True, f"with {bits}-bit weights in one layer, accuracy left: {found}")
