"""Panel of notebook 08: optimizers that walk over a surface from one point, at one learning rate."""

import math
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np

from labkit import drawing
from labkit.live import words
from labkit.live.controls import Control
from labkit.live.network import BESIDE, NetworkView, panel_of
from labkit.live.panel import Panel
from labkit.live.view import Card, Summary
from labkit.optim import RULES
from labkit.surfaces import HALF_WIDTH
from labkit.topics.optimizers import plots
from labkit.topics.optimizers.race import race
from labkit.topics.optimizers.runs import SLICE, STEPS, SURFACES, Settings, Walks, heights, steepest_curvature, walk

__all__ = ["optimizers", "race"]

EVERY = 10  # steps from one marker to the next
SHOWN_FIRST = ("SGD", "momentum", "RMSprop", "Adam")
NO_MOMENTUM = ("SGD", "Adagrad", "RMSprop")
ROW = 0.075  # height of a row of the key, as a share of the figure
UNPLACED = (0.5, 0, 0.5, 0.5)  # axes whose position depends on the number of rows of the key
CODES = {
    "ravine": "surface = lk.surfaces.ravine({condition}, {angle})",
    "Rosenbrock's valley": "surface = lk.surfaces.rosenbrock",
    "saddle": "surface = lk.surfaces.saddle",
    SLICE: 'table = lk.sweep.shipped_sweep("slice", "lenet-300-100", "fashion-mnist").drop(columns="y")\n'
    "surface = lk.surfaces.fitted(torch.tensor(table.to_numpy()))",
}


def ticked(settings: Mapping[str, Any]) -> list[str]:
    """The optimizers whose boxes are ticked."""
    return [name for name in RULES if settings.get(f"show {name}")]


def scene(*shown: str, **settings: Any) -> dict[str, Any]:
    """Settings of a scene, every box included."""
    return settings | {f"show {name}": name in shown for name in RULES}


class Optimizers(NetworkView):
    """The view: walks on the contours, loss against steps, and where each one ended."""

    name, settings_type, networks, size = "optimizers", Settings, (), BESIDE
    pure = True
    scenes = {
        "momentum against the zigzag": scene(
            "SGD", "momentum", surface="ravine", condition=50, angle=30, lr=0.03, momentum=0.8, x=-1.7, y=1.2
        ),
        "beyond 2 ÷ curvature": scene(
            "SGD", "momentum", "Adam", surface="ravine", condition=20, angle=0, lr=0.15, momentum=0.9, x=-1.7, y=1.2
        ),
        "a curved valley": scene(
            "SGD", "momentum", "RMSprop", "Adam", surface="Rosenbrock's valley", lr=0.0005, momentum=0.9, x=-1.7, y=1.2
        ),
        "away from a saddle": scene(
            "SGD", "momentum", "RMSprop", "Adam", surface="saddle", lr=0.05, momentum=0.9, x=-1.7, y=0.1
        ),
    }

    def __init__(self) -> None:
        super().__init__()
        add = self.live.figure.add_axes
        self.map, self.curves, self.key = add((0.062, 0.125, 0.418, 0.798)), add(UNPLACED), add(UNPLACED)

    def controls(self) -> dict[str, Control]:
        """A box for every optimizer, below the shared settings."""
        yes_no, note = [("no", False), ("yes", True)], "show this optimizer"
        boxes = {f"show {n}": Control("tick", n, yes_no, n in SHOWN_FIRST, note=note) for n in RULES}
        return super().controls() | boxes

    def idle(self, settings: Mapping[str, Any]) -> set[str]:
        """The ravine's shape on other surfaces, its angle if κ is 1; momentum if no ticked optimizer uses it."""
        form = {"condition", "angle"} if settings["surface"] != "ravine" else set()
        angle = {"angle"} if settings["condition"] == 1 else set()
        return form | angle | ({"momentum"} if set(ticked(settings)) <= set(NO_MOMENTUM) else set())

    def results(self, **settings: Any) -> Iterator[Walks]:  # type: ignore[override]  # there is no network
        """The walks for one setting of the controls; "show Adam" and so on select the optimizers."""
        yield walk(Settings(**{k: v for k, v in settings.items() if not k.startswith("show ")}), ticked(settings))

    def still_for(self, walks: Walks) -> Any:
        """The surface, and the optimizers in the key."""
        s = walks.settings
        return s.surface, (s.condition, s.angle) if s.surface == "ravine" else (), *walks.places

    def background(self, walks: Walks) -> None:
        """The map, an empty line for every walk on both axes, and the key."""
        names = list(walks.places)
        _, lowest, *ends = SURFACES[walks.settings.surface]
        taken = ROW * math.ceil(len(names) / 2)  # by the key; the curves get the rest
        self.key.set_position((0.497, 0.012, 0.503, max(taken, ROW)))
        self.curves.set_position((0.58, taken + 0.14, 0.395, 0.783 - taken))
        plots.surface_map(self.map, heights(walks.surface), HALF_WIDTH, lowest)
        plots.walk_axis(self.curves, STEPS, *ends)
        self.ways, self.lines = plots.walk_lines(self.map, names), plots.walk_lines(self.curves, names)
        self.ends = {name: dots for name, (_, dots) in plots.walk_lines(self.map, names).items()}
        for dots in self.ends.values():
            dots.set(markersize=12, markeredgewidth=1)
        (self.crosses,) = self.map.plot([], [], "x", ms=15, mew=3.5, color="black", clip_on=False)
        (self.origin,) = self.map.plot([], [], "o", ms=11, mfc="white", mec="black", mew=2)
        self.texts = plots.optimizer_key(self.key, names)
        self.map.set_title(f"○ start{' · ◯ lowest' if lowest else ''} · ✕ diverged", fontsize=11, loc="left")
        self.curves.set_title(f"loss (log scale), a marker every {EVERY} steps", fontsize=11, loc="left")
        self.live.move(chain(*self.ways.values(), self.ends.values(), [self.origin, self.crosses]))
        self.live.move(chain(*self.lines.values(), self.texts.values()))

    def update(self, walks: Walks) -> None:
        """Move the walks, their ends and the key."""
        crosses = []
        for name, places in walks.places.items():
            plots.fill_walk(self.map, self.ways[name], places, EVERY)
            drawing.set_points(self.ends[name], places[-1:][(np.abs(places[-1:]) <= HALF_WIDTH).all(1)])
            losses = drawing.within(self.lines[name][0], walks.losses[name])
            plots.fill_walk(self.curves, self.lines[name], np.stack([np.arange(STEPS + 1), losses], 1), EVERY)
            self.texts[name].set_text(f"{name}: {ending(walks, name, short=True)}")
            if walks.diverged(name) and (left := walks.left(name)) is not None:
                crosses.append(np.clip(np.nan_to_num(places[left]), -HALF_WIDTH, HALF_WIDTH))
        drawing.set_points(self.crosses, crosses)
        drawing.set_points(self.origin, [(walks.settings.x, walks.settings.y)])

    def summarize(self, walks: Walks) -> Summary:
        """The walks in words."""
        s, idle = walks.settings, "" if walks.places else " (no optimizer is ticked)"
        cards = [best_card(walks), fast_card(walks), curvature_card(walks), diverged_card(walks)]
        form = f" κ {s.condition}, turned by {s.angle}°" if s.surface == "ravine" else ""
        where = f"{s.surface}{form}, from ({s.x:g}, {s.y:g})"
        setting = f"{where}, lr {drawing.lr_text(s.lr)}, momentum {s.momentum:g}{idle}"
        alt = words.sentence(setting, cards) + "".join(f"; {n}: {ending(walks, n)}" for n in walks.places)
        status = f"{words.count(len(walks.places), 'optimizer')}, {STEPS} steps each, just computed"
        return Summary(cards, alt, status, found(walks))

    def code(self, settings: Mapping[str, Any]) -> str:
        """Build the surface, bind the rules, walk."""
        shown, surface = tuple(ticked(settings)), settings["surface"]
        if not shown:
            return ""
        lines = [
            *["import torch"] * (surface == SLICE),
            "import labkit as lk",
            CODES[surface].format(**settings),
            f"rules = {{n: lk.surfaces.walker(n, {settings['lr']}, {settings['momentum']}) for n in {shown}}}",
            f"places = lk.surfaces.paths(rules, surface, ({settings['x']}, {settings['y']}), {STEPS})",
            "{name: float(surface(way[-1])) for name, way in places.items()}",
        ]
        return "\n".join(lines)


def ending(walks: Walks, name: str, short: bool = False) -> str:
    """The state of an optimizer after its last step, as text; `short` with the map's ✕, for the key."""
    loss, left = walks.losses[name][-1], walks.left(name)
    if not walks.diverged(name):
        return f"loss {brief(loss)}" if short else f"loss {loss:.3g}{f', out at step {left}' if left else ''}"
    if short:
        return f"✕ at step {left}" if left is not None else f"✕ loss {brief(loss)}"
    return f"diverged, out at step {left}" if left is not None else f"diverged, loss {loss:.3g}"


def brief(loss: float) -> str:
    """A loss in two digits; above 100 in three."""
    return f"{loss:.2g}" if loss < 99.5 else f"{loss:.3g}"


def found(walks: Walks) -> str:
    """What was found, in a line."""
    gone, ends = walks.gone, walks.ends
    if not ends:
        return "every walk diverged" if walks.places else "tick an optimizer"
    if len(gone) == len(walks.places):
        return "every walk ends higher than it began"
    lost = f"; {' and '.join(gone)} diverged" if 0 < len(gone) < 3 else f"; {len(gone)} diverged" if gone else ""
    best, loss = next(iter(ends.items()))
    return f"{best} is lowest: loss {brief(loss)}{lost}"


def best_card(walks: Walks) -> Card:
    """The optimizers with the lowest and with the highest loss at the end."""
    if not walks.ends:
        return "lowest at the end", "–", "every walk diverged" if walks.losses else "tick an optimizer"
    (best, lowest), *_ = ends = [*walks.ends.items()]
    highest = f" · highest {ends[-1][0]}: {ends[-1][1]:.3g}" if len(ends) > 1 else ""
    return "lowest at the end", best, f"loss {lowest:.3g}{highest}"


def fast_card(walks: Walks) -> Card:
    """The optimizer that first falls below 1 % of the loss at the start, and stays there."""
    label = "first to stay below 1 %"
    if not walks.losses:
        return label, "–", "tick an optimizer"
    goal = next(iter(walks.losses.values()))[0] / 100
    # the last step above the goal; NaN is above it
    arrived = {n: int((~(losses <= goal)).nonzero()[0].max(initial=-1)) + 1 for n, losses in walks.losses.items()}
    first = min(arrived, key=lambda n: arrived[n])
    if arrived[first] > STEPS:
        return label, "none", f"loss {goal:.3g} is not reached in {STEPS} steps"
    return label, first, f"from step {arrived[first]} on · 1 % of the start: loss {goal:.3g}"


def curvature_card(walks: Walks) -> Card:
    """The learning rate above which plain descent diverges, from the curvature at the start."""
    curvature = steepest_curvature(walks.surface, (walks.settings.x, walks.settings.y))
    if not curvature > 0:
        return "2 ÷ curvature at the start", "–", "no upward curvature there"
    limit, lr = 2 / curvature, walks.settings.lr
    verdict = "below" if lr < limit else "above"
    return "2 ÷ curvature at the start", f"{limit:.3g}", f"your lr {drawing.lr_text(lr)} is {verdict} it"


def diverged_card(walks: Walks) -> Card:
    """The optimizers that end higher than they began."""
    return "diverged", str(len(walks.gone)), ", ".join(walks.gone) or f"of {len(walks.places)}, none"


def optimizers(preset: str = "") -> Panel:
    """The live panel of notebook 08: walks over surfaces, recomputed at every move."""
    return panel_of(Optimizers(), preset)
