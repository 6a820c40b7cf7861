"""Checks of notebook 08."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labkit._verdict import Verdict, compare, in_words, name_of, shown
from labkit.optim import State, adam
from labkit.surfaces import paths, rosenbrock, walker

__all__ = ["check_adam_step", "check_momentum_limit", "check_valley"]

GRADIENTS = torch.tensor([[0.5, -2.0], [0.25, 0.0], [-4.0, 1.0]], dtype=torch.float64)
GOAL, STEPS, START = 0.05, 100, (-1.7, 1.2)


@in_words
def check_adam_step(answer: Callable[..., Any]) -> Verdict:
    """`answer(w, g, m, s, t, lr)`: step t = 1, 2, … of Adam with β₁ = 0.9, β₂ = 0.999, ε = 1e-8; returns (w, m, s)."""
    state: State = {}
    w, lr = torch.tensor([1.0, -1.0], dtype=torch.float64), 0.1
    mine: Any = (w, torch.zeros_like(w), torch.zeros_like(w))
    for t, g in enumerate(GRADIENTS, 1):
        call = f"step {t}, g = {g.tolist()}: {name_of(answer)}"
        w, state = adam(w, g, state, lr)
        try:
            mine = answer(mine[0].clone(), g.clone(), mine[1].clone(), mine[2].clone(), t, lr)
            fault = _step_fault(mine, w)
        except Exception as error:  # noqa: BLE001 - a student's code may raise anything
            return Verdict(False, f"{call} raised {type(error).__name__}: {shown(error, str)}")
        if fault:
            return Verdict(False, f"{call} {fault}")
    return Verdict(True, "three steps of Adam; the first moves every weight by lr, whatever its gradient is")


def _step_fault(mine: Any, wanted: Tensor) -> str:
    """What is wrong with a step; "" if it is correct."""
    if not (isinstance(mine, tuple) and len(mine) == 3 and all(isinstance(part, Tensor) for part in mine)):
        return "should return three tensors, (w, m, s)"
    if mine[0].shape != wanted.shape:
        return f"should return w of shape {tuple(wanted.shape)}; yours has {tuple(mine[0].shape)}"
    if torch.allclose(mine[0].double(), wanted, rtol=1e-5, atol=1e-7):
        return ""
    rounded = [[round(value, 4) for value in part.tolist()] for part in (wanted, mine[0])]
    return f"should give w = {rounded[0]}; yours is {rounded[1]}"


@in_words
def check_momentum_limit(answer: Callable[[float, float], float]) -> Verdict:
    """`answer(curvature, momentum)`: the learning rate above which `momentum` diverges on a parabola ½ λ w²."""
    cases = [(1.0, 0.0), (20.0, 0.0), (20.0, 0.9), (4.0, 0.5), (100.0, 0.99)]
    solved = "momentum is stable up to almost twice the rate of plain descent, and moves 1 / (1 - μ) times as far"
    return compare(answer, momentum_limit, cases, solved)


def momentum_limit(curvature: float, momentum: float) -> float:
    """2 (1 + μ) / λ."""
    return 2 * (1 + momentum) / curvature


@in_words
def check_valley(answer: Callable[[], tuple[str, float, float]]) -> Verdict:
    """`answer()`: (optimizer, lr, momentum) that walks Rosenbrock's valley from START to below GOAL in STEPS steps."""
    try:
        name, lr, momentum = answer()
        walk = paths({name: walker(name, lr, momentum)}, rosenbrock, START, STEPS)[name]
    except Exception as error:  # noqa: BLE001 - a student's code may raise anything
        return Verdict(False, f"{name_of(answer)}() raised {type(error).__name__}: {shown(error, str)}")
    loss = float(rosenbrock(walk[-1]))
    setting = f"{name} with lr {lr:g} and momentum {momentum:g}"
    if not math.isfinite(loss):
        return Verdict(False, f"{setting} diverges")
    ends = f"{setting} ends at a loss of {loss:.3g}"
    return Verdict(loss < GOAL, ends if loss < GOAL else f"{ends}; should be below {GOAL:g}")
