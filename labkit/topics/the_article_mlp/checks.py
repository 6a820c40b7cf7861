"""Checks of notebook 09, and the three faulty backward passes of its exercise."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from labkit._verdict import Verdict, compare, in_words, name_of, raised, shown
from labkit.article import TANH, Array, Head, Net, backward, forward

__all__ = [
    "broken_gradients",
    "check_central_difference",
    "check_faulty_lines",
    "check_masked_step",
    "check_output_slope",
]

LINES = ("dZ2", "dZ1", "dW1", "db1", "dW2", "db2")
OUTPUTS = (  # outputs p, targets y
    ([[0.5, -0.25]], [[1.0, 0.0]]),
    ([[0.25, 0.0, -0.5], [0.75, -0.75, 0.5]], [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
)
STEPS = (  # weights, slopes, lr, mask
    ([0.5, 0.0, -1.0], [1.0, 2.0, -0.5], 0.5, [True, False, True]),
    ([[0.25, 0.0], [0.0, 2.0]], [[0.0, -4.0], [1.0, 1.0]], 0.25, [[True, True], [False, True]]),
)


@in_words
def check_central_difference(answer: Callable[[Callable[[float], float], float, float], float]) -> Verdict:
    """`answer(f, w, h)`: the slope of f at w by central differences with step h."""
    cases = [(math.sin, 1.0, 0.25), (math.exp, 0.0, 0.5), (math.cos, 2.0, 0.125)]
    solved = "the error falls as h², not as h: half the step, a quarter of the error"
    return compare(answer, lambda f, w, h: (f(w + h) - f(w - h)) / (2 * h), cases, solved)


@in_words
def check_output_slope(answer: Callable[[Array, Array], Array]) -> Verdict:
    """`answer(p, y)`: dL/dZ2 of L = mean (p - y)² with p = tanh Z2, both (n, outputs)."""
    cases = []
    for rows, wanted in OUTPUTS:
        p, y = np.array(rows), np.array(wanted)
        cases.append(((p, y), _slopes(np.arctanh(p), y)))
    return _arrays(answer, cases, "the chain rule: the slope of the mean of squares, times the slope of tanh")


@in_words
def check_masked_step(answer: Callable[[Array, Array, float, Array], Array]) -> Verdict:
    """`answer(w, slope, lr, mask)`: a step of gradient descent after which weights outside the mask are zero."""
    cases = []
    for *numbers, lr, mask in STEPS:
        w, slope = (np.array(v) for v in numbers)
        cases.append(((w, slope, lr, np.array(mask)), np.where(mask, w - lr * slope, 0.0)))
    return _arrays(answer, cases, "without the mask the first step would bring every pruned weight back")


@in_words
def check_faulty_lines(answer: Mapping[str, str]) -> Verdict:
    """`answer` names the one faulty line (of LINES) of each backward pass in `broken_gradients`."""
    truth = {"A": "db2", "B": "dZ1", "C": "dZ2"}
    if not isinstance(answer, Mapping):
        return Verdict(False, f"should be a dict with a line for A, B and C; yours is a {type(answer).__name__}")
    lines = {name: shown(line, str) for name, line in answer.items()}
    strange = [line for line in lines.values() if line not in (*LINES, "?")]
    if strange:
        return Verdict(False, f"a line is one of {', '.join(LINES)}; yours has {', '.join(strange)}")
    found = sum(lines.get(name) == line for name, line in truth.items())
    if found < len(truth):
        return Verdict(False, f"{found} of {len(truth)} lines are found; which parameters fail the check of each?")
    return Verdict(True, "the parameters that fail the check are those that depend on the faulty line")


def broken_a(net: Net, x: Array, y: Array, head: Head = TANH) -> tuple[float, Net]:
    """A backward pass with one fault: find it by the check before you read the code."""
    a1, z2 = forward(net, x)
    dz2 = head.slope(head.output(z2), y)
    return head.loss(z2, y), backward(net, x, a1, dz2) | {"b2": dz2.mean(axis=0)}  # mean instead of sum


def broken_b(net: Net, x: Array, y: Array, head: Head = TANH) -> tuple[float, Net]:
    """A backward pass with one fault: find it by the check before you read the code."""
    a1, z2 = forward(net, x)
    dz2 = head.slope(head.output(z2), y)
    dz1 = dz2 @ net["W2"].T * (1 - a1)  # a1 instead of a1²
    return head.loss(z2, y), backward(net, x, a1, dz2) | dict(W1=x.T @ dz1, b1=dz1.sum(axis=0))


def broken_c(net: Net, x: Array, y: Array, head: Head = TANH) -> tuple[float, Net]:
    """A backward pass with one fault: find it by the check before you read the code."""
    a1, z2 = forward(net, x)
    p = head.output(z2)
    dz2 = 2 / len(y) * (p - y) * (1 - p**2)  # the mean is over n · outputs entries, not over n rows
    return head.loss(z2, y), backward(net, x, a1, dz2)


broken_gradients = {"A": broken_a, "B": broken_b, "C": broken_c}


def _slopes(z: Array, y: Array, h: float = 1e-6) -> Array:
    """dL/dZ2, one central difference per entry."""
    slopes = np.zeros_like(z)
    for place in np.ndindex(z.shape):
        up, down = z.copy(), z.copy()
        up[place] += h
        down[place] -= h
        slopes[place] = (TANH.loss(up, y) - TANH.loss(down, y)) / (2 * h)
    return slopes


def _arrays(answer: Callable[..., Array], cases: list[tuple[tuple[Any, ...], Array]], solved: str) -> Verdict:
    """Try a student's function; the first array that differs is reported."""
    for arguments, expected in cases:
        inputs = ", ".join(repr(v.tolist()) if isinstance(v, np.ndarray) else repr(v) for v in arguments)
        call = f"{name_of(answer)}({inputs})"
        try:
            given = np.asarray(answer(*(v.copy() if isinstance(v, np.ndarray) else v for v in arguments)), float)
        except Exception as error:  # noqa: BLE001 - a student's code may raise anything
            return raised(call, error)
        if given.shape != expected.shape or not np.allclose(given, expected, rtol=1e-5, atol=1e-8):
            wanted, yours = ((v.round(4) + 0.0).tolist() for v in (expected, given))
            return Verdict(False, f"{call} should be {wanted}; yours is {yours}")
    return Verdict(True, solved)
