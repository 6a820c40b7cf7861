"""Walks of the optimizers over a surface: the settings of the panel, the surfaces, and what each walk reached."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from labkit import drawing
from labkit.live.controls import choice, real, steps
from labkit.surfaces import HALF_WIDTH, Surface, fitted, paths, ravine, rosenbrock, saddle, walker
from labkit.sweep import shipped_sweep

STEPS = 100
RATES = [(drawing.lr_text(lr), lr) for e in range(-4, 1) for m in (1, 1.5, 2, 3, 5, 7) for lr in [float(f"{m}e{e}")]]
CONDITIONS = [(str(c), c) for c in (1, 2, 5, 10, 20, 50, 100, 200, 500)]
ANGLES = [(f"{a}°", a) for a in range(0, 50, 5)]
GRID = 81  # points per side, for the contours
SLICE = "slice of LeNet-300-100"


@functools.cache
def lenet_slice() -> Surface:
    """The loss of the checkpoint on Fashion-MNIST, over the two directions of the shipped sweep."""
    table = shipped_sweep("slice", "lenet-300-100", "fashion-mnist")
    return fitted(torch.tensor(table.drop(columns="y").to_numpy()))


# name -> how κ and the angle make it, its lowest points, the ends of the axis of losses
SURFACES: dict[str, tuple[Callable[[float, float], Surface], list[tuple[float, float]], float, float]] = {
    "ravine": (ravine, [(0, 0)], 1e-6, 1e3),
    "Rosenbrock's valley": (lambda *_: rosenbrock, [(1, 1)], 1e-6, 1e4),
    "saddle": (lambda *_: saddle, [(0, 1), (0, -1)], 1e-6, 1e1),
    SLICE: (lambda *_: lenet_slice(), [], 1e-1, 1e1),
}


@dataclass(frozen=True)
class Settings:
    """The values of the controls, except the boxes that select the optimizers."""

    surface: str = choice("surface", list(SURFACES), "ravine", note="the loss that the optimizers walk over")
    condition: float = steps("ravine's κ", CONDITIONS, 20, note="curvature across the ravine ÷ that along it")
    angle: float = steps("turned by", ANGLES, 0, note="the ravine's angle to the x axis")
    lr: float = steps("lr", RATES, 0.05, note="the learning rate, shared by all")
    momentum: float = real(
        "momentum, β₁", 0.9, 0.99, 0.01, note="μ of momentum and Nesterov; β₁ of Adam, AMSGrad and AdamW"
    )
    x: float = real("start x", -1.7, HALF_WIDTH, 0.1, -HALF_WIDTH, note="where the walks begin")
    y: float = real("start y", 1.2, HALF_WIDTH, 0.1, -HALF_WIDTH, note="where the walks begin")


@dataclass(frozen=True)
class Walks:
    """The walks: every optimizer's places (STEPS + 1, 2) and losses (STEPS + 1,) on the surface."""

    settings: Settings
    surface: Surface
    places: dict[str, np.ndarray]
    losses: dict[str, np.ndarray]

    def diverged(self, optimizer: str) -> bool:
        """Whether its last loss is higher than its first, or NaN."""
        return not self.losses[optimizer][-1] <= self.losses[optimizer][0]

    def left(self, optimizer: str) -> int | None:
        """The step at which it first leaves the frame, if it does."""
        outside = ~(np.abs(self.places[optimizer]) <= HALF_WIDTH).all(1)
        return int(outside.argmax()) if outside.any() else None

    @property
    def ends(self) -> dict[str, float]:
        """The loss of every optimizer after the last step, the lowest first; those that are not finite are left out."""
        ends = {name: float(losses[-1]) for name, losses in self.losses.items() if np.isfinite(losses[-1])}
        return dict(sorted(ends.items(), key=lambda end: end[1]))

    @property
    def gone(self) -> list[str]:
        """The optimizers that diverged."""
        return [name for name in self.losses if self.diverged(name)]


def surface_of(name: str, condition: float, angle: float) -> Surface:
    """The surface of a menu entry."""
    return SURFACES[name][0](condition, angle)


def walk(settings: Settings, shown: list[str]) -> Walks:
    """Let the shown optimizers walk STEPS steps."""
    surface = surface_of(settings.surface, settings.condition, settings.angle)
    rules = {optimizer: walker(optimizer, settings.lr, settings.momentum) for optimizer in shown}
    found = paths(rules, surface, (settings.x, settings.y), STEPS) if rules else {}
    places = {optimizer: way.numpy() for optimizer, way in found.items()}
    losses = {optimizer: surface(way).numpy() for optimizer, way in found.items()}
    return Walks(settings, surface, places, losses)


def steepest_curvature(surface: Surface, start: tuple[float, float]) -> float:
    """The largest eigenvalue of the second derivatives at a place."""
    hessian = torch.autograd.functional.hessian(surface, torch.tensor(start, dtype=torch.float64))
    return float(torch.linalg.eigvalsh(hessian)[-1])


def heights(surface: Surface) -> np.ndarray:
    """The losses on a grid over the frame, rows y."""
    axis = torch.linspace(-HALF_WIDTH, HALF_WIDTH, GRID, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return surface(torch.stack([x, y], -1)).numpy()
