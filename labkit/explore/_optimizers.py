"""Panel of notebook 08: optimizers that walk over a surface from one place, at one learning rate."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from labkit import plots
from labkit.explore import _controls, _words
from labkit.explore._figure import LiveFigure
from labkit.explore._panel import Card, Panel, Words
from labkit.optim import RULES
from labkit.surfaces import FRAME, Surface, fitted, paths, ravine, rosenbrock, saddle, walker
from labkit.sweep import shipped_sweep

STEPS = 100
RATES = tuple(float(f"{m}e{e}") for e in range(-4, 1) for m in (1, 1.5, 2, 3, 5, 7))
CONDITIONS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
# name -> its lowest points, and the ends of the axis of losses
SURFACES: dict[str, tuple[list[tuple[float, float]], float, float]] = {
    "ravine": ([(0, 0)], 1e-6, 1e3),
    "Rosenbrock's valley": ([(1, 1)], 1e-6, 1e4),
    "saddle": ([(0, 1), (0, -1)], 1e-6, 1e1),
    "slice of LeNet-300-100": ([], 1e-1, 1e1),
}
SHOWN_FIRST = ("SGD", "momentum", "RMSprop", "Adam")
GRID = 81  # points a side, for the contours


@dataclass(frozen=True)
class Walks:
    """What was walked: the surface, where from, and every optimizer's places (STEPS + 1, 2) and losses (STEPS + 1,)."""

    name: str
    surface: Surface
    condition: float
    angle: float
    lr: float
    momentum: float
    start: tuple[float, float]
    places: dict[str, np.ndarray]
    losses: dict[str, np.ndarray]

    def diverged(self, optimizer: str) -> bool:
        """Whether it ends higher than it began, or nowhere."""
        return not self.losses[optimizer][-1] <= self.losses[optimizer][0]

    def left(self, optimizer: str) -> int | None:
        """The step at which it first leaves the frame, if it does."""
        outside = ~(np.abs(self.places[optimizer]) <= FRAME).all(1)
        return int(outside.argmax()) if outside.any() else None


def surface_of(name: str, condition: float, angle: float) -> Surface:
    """The surface that a menu's entry means."""
    closed = {"ravine": ravine(condition, angle), "Rosenbrock's valley": rosenbrock, "saddle": saddle}
    return closed[name] if name in closed else lenet_slice()


@functools.cache
def lenet_slice() -> Surface:
    """The loss of the checkpoint on Fashion-MNIST, over the two directions of the sweep that ships."""
    table = shipped_sweep("slice", "lenet-300-100", "fashion-mnist")
    return fitted(torch.tensor(table.drop(columns="y").to_numpy()))


def walk(
    name: str, condition: float, angle: float, lr: float, momentum: float, start: tuple[float, float], shown: list[str]
) -> Walks:
    """Let the shown optimizers walk STEPS steps."""
    surface = surface_of(name, condition, angle)
    rules = {optimizer: walker(optimizer, lr, momentum) for optimizer in shown}
    found = paths(rules, surface, start, STEPS) if rules else {}
    places = {optimizer: way.numpy() for optimizer, way in found.items()}
    losses = {optimizer: surface(way).numpy() for optimizer, way in found.items()}
    return Walks(name, surface, condition, angle, lr, momentum, start, places, losses)


def steepest_curvature(surface: Surface, start: tuple[float, float]) -> float:
    """The largest eigenvalue of the second derivatives at a place."""
    hessian = torch.autograd.functional.hessian(surface, torch.tensor(start, dtype=torch.float64))
    return float(torch.linalg.eigvalsh(hessian)[-1])


class Optimizers:
    """The view: walks on the contours, loss against steps, and where each one ended."""

    def __init__(self) -> None:
        self.live = LiveFigure(10.4, 4.7)
        self._shown: tuple[Any, ...] = ()
        self.map, self.curves, self.key = (
            self.live.figure.add_axes(box)
            for box in ((0.045, 0.1, 0.395, 0.84), (0.525, 0.46, 0.455, 0.48), (0.5, 0.01, 0.5, 0.31))
        )

    def results(
        self,
        surface: str,
        condition: float,
        angle: float,
        lr: float,
        momentum: float,
        x: float,
        y: float,
        **shown: bool,
    ) -> Iterator[Walks]:
        """One setting of the controls, walked; "show Adam" and the like say who takes part."""
        names = [name for name in RULES if shown.get(f"show {name}")]
        yield walk(surface, condition, angle, lr, momentum, (x, y), names)

    def draw(self, walks: Walks) -> None:
        """Move the walks, their ends and the key."""
        still = (walks.name, *([walks.condition, walks.angle] if walks.name == "ravine" else []))
        if still != self._shown:
            self._draw_still(walks)
            self._shown = still
        for name in RULES:
            places = walks.places.get(name, np.zeros((0, 2)))
            known = places[np.isfinite(places).all(1)]
            self.ways[name].set_data(*np.clip(known, -FRAME, FRAME).T)
            self.ends[name].set_data(*np.clip(known[-1:], -FRAME, FRAME).T)
            low, high = self.curves.get_ylim()
            losses = np.nan_to_num(walks.losses.get(name, np.zeros(0)), nan=high, posinf=high)
            self.lines[name].set_data(np.arange(len(losses)), np.clip(losses, low, high))
            self.texts[name].set_text(f"{name}: {ending(walks, name)}")
        gone = [
            walks.places[n][left] for n in walks.places if walks.diverged(n) and (left := walks.left(n)) is not None
        ]
        self.crosses.set_data(*np.clip(np.nan_to_num(np.array(gone).reshape(-1, 2)), -FRAME, FRAME).T)
        self.origin.set_data([walks.start[0]], [walks.start[1]])

    def _draw_still(self, walks: Walks) -> None:
        for ax in (self.map, self.curves, self.key):
            ax.clear()
        self.live.moving.clear()
        lowest, bottom, top = SURFACES[walks.name]
        plots.surface_map(self.map, heights(walks.surface), FRAME, lowest)
        plots.walk_axis(self.curves, STEPS, bottom, top)
        self.ways, self.lines = plots.walk_lines(self.map), plots.walk_lines(self.curves, mark_every=10)
        self.ends = plots.walk_lines(self.map)
        for line in self.ends.values():
            line.set(markersize=12, markeredgecolor="black", markeredgewidth=1)
        (self.crosses,) = self.map.plot([], [], "x", ms=15, mew=3.5, color="black", clip_on=False)
        (self.origin,) = self.map.plot([], [], "o", ms=11, mfc="white", mec="black", mew=2)
        self.texts = plots.optimizer_key(self.key)
        rings = "○ start · ring: lowest point" if lowest else "○ start"
        self.map.set_title(f"{rings} · ✕ left the frame, diverged", fontsize=10, loc="left")
        self.curves.set_title("loss against step (log scale)", fontsize=10, loc="left")
        self.live.move([*self.ways.values(), *self.ends.values(), self.origin, self.crosses])
        self.live.move([*self.lines.values(), *self.texts.values()])
        self.live.refresh()

    def tell(self, walks: Walks) -> Words:
        """The walks in words."""
        cards = [best_card(walks), fast_card(walks), curvature_card(walks), diverged_card(walks)]
        place = f"from ({walks.start[0]:g}, {walks.start[1]:g})"
        setting = f"{walks.name}, {place}, lr {plots.lr_text(walks.lr)}, momentum {walks.momentum:g}"
        alt = _words.sentence(setting, cards) + "; " + "; ".join(f"{n}: {ending(walks, n)}" for n in walks.places)
        return Words(cards, alt, f"{len(walks.places)} optimizers, {STEPS} steps each, walked just now")


def heights(surface: Surface) -> np.ndarray:
    """The losses on a grid over the frame, rows y."""
    axis = torch.linspace(-FRAME, FRAME, GRID, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return surface(torch.stack([x, y], -1)).numpy()


def ending(walks: Walks, name: str) -> str:
    """Where an optimizer stands behind its last step, in words."""
    if name not in walks.places:
        return "–"
    loss, left = walks.losses[name][-1], walks.left(name)
    if np.isfinite(loss) and not walks.diverged(name):
        return f"loss {loss:.3g}" + ("" if left is None else f", out at step {left}")
    return f"diverged, out at step {left}" if left is not None else f"diverged, loss {loss:.3g}"


def best_card(walks: Walks) -> Card:
    """Who is lowest now, and who is not."""
    ends = {name: losses[-1] for name, losses in walks.losses.items() if np.isfinite(losses[-1])}
    if not ends:
        return "lowest at the end", "–", "no walk has an end" if walks.losses else "tick an optimizer"
    best, worst = min(ends, key=lambda n: ends[n]), max(ends, key=lambda n: ends[n])
    return "lowest at the end", best, f"{ends[best]:.3g} · highest {worst}: {ends[worst]:.3g}"


def fast_card(walks: Walks) -> Card:
    """Who first comes below a hundredth of the loss at the start, and stays."""
    goal = next((losses[0] for losses in walks.losses.values()), np.nan) / 100
    # the last step above the goal; NaN is above it
    arrived = {name: int((~(losses <= goal)).nonzero()[0].max()) + 1 for name, losses in walks.losses.items()}
    first = min(arrived, key=lambda n: arrived[n], default=None)
    label = "first below 1 % of the start"
    if first is None or arrived[first] > STEPS:
        return label, "none", f"loss {goal:.3g} is not reached in {STEPS} steps"
    return label, first, f"for good from step {arrived[first]} on · loss {goal:.3g}"


def curvature_card(walks: Walks) -> Card:
    """The learning rate above which plain descent is thrown out, by the curvature where it starts."""
    curvature = steepest_curvature(walks.surface, walks.start)
    if not curvature > 0:
        return "2 ÷ curvature at the start", "–", "curved downwards everywhere there"
    limit = 2 / curvature
    verdict = "below" if walks.lr < limit else "above"
    return "2 ÷ curvature at the start", f"{limit:.3g}", f"your lr {plots.lr_text(walks.lr)} is {verdict} it"


def diverged_card(walks: Walks) -> Card:
    """Who ends higher than it began."""
    names = [name for name in walks.places if walks.diverged(name)]
    return "diverged", str(len(names)), ", ".join(names) or f"of {len(walks.places)}, none"


def optimizers() -> Panel:
    """The live panel of notebook 08: walks over surfaces, recomputed at every move."""
    controls: dict[str, Any] = {f"show {name}": _controls.tick(name, name in SHOWN_FIRST) for name in RULES}
    controls |= {
        "surface": _controls.choice("surface", list(SURFACES), "ravine"),
        "condition": _controls.steps("ravine's κ", [(str(c), c) for c in CONDITIONS], 20),
        "angle": _controls.steps("turned by", [(f"{a}°", a) for a in range(0, 50, 5)], 0),
        "lr": _controls.steps("lr", [(plots.lr_text(lr), lr) for lr in RATES], 0.05),
        "momentum": _controls.real("momentum, β₁", 0.9, 0.99, 0.01),
        "x": _controls.between("start x", -1.7, -FRAME, FRAME, 0.1),
        "y": _controls.between("start y", 1.2, -FRAME, FRAME, 0.1),
    }
    return Panel("optimizers", Optimizers(), controls)
