"""Views of a trained network: which one is in use, its still background, the star on an axis of accuracies."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from torch import nn

from labkit import _check, drawing
from labkit.data import Data
from labkit.live.baseline import OF_IMAGES, Baseline, Key, given, shipped
from labkit.live.controls import Control, controls_of, layer_options
from labkit.live.panel import Panel
from labkit.live.picture import LiveFigure
from labkit.live.score import Score
from labkit.live.view import Job, View
from labkit.live.words import difference_words

# of a figure, in inches: with four controls or fewer these lie above the picture, with more beside it; at 1280 × 720,
# 1 inch is 101 px and 10 points are 14 px
WIDE, BESIDE = (10.8, 3.9), (8.3, 4.35)


class NetworkView(View):
    """A view of one network, a shipped checkpoint or the user's own, under settings that a dataclass declares.

    A subclass says what is measured (`measure`), what stands still for one network (`background`) and what moves
    (`update`).
    """

    name: ClassVar[str]
    settings_type: ClassVar[type]  # the dataclass that declares the controls
    networks: ClassVar[Sequence[Key]] = OF_IMAGES  # the menu; the first is chosen at first
    scenes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    size: ClassVar[tuple[float, float]] = WIDE
    button: ClassVar[str] = ""  # of the job, `train`
    runs = False  # whether a training starts by itself

    def __init__(self, own: Baseline | None = None) -> None:
        self.live, self.own = LiveFigure(*self.size), own
        self._shown: Any = None

    def dense(self, checkpoint: Key | None = None) -> Baseline:
        """The network in use."""
        if checkpoint or self.own is None:
            return shipped(checkpoint or self.networks[0])
        return self.own

    def controls(self) -> dict[str, Control]:
        """The controls; a menu of layers follows the network."""
        made = controls_of(self.settings_type)
        if self.own is None and len(self.networks) > 1:
            options = [(f"{model} on {data}", (model, data)) for model, data in self.networks]
            note = "the trained network that everything starts from"
            made = {"checkpoint": Control("menu", "network", options, self.networks[0], note=note)} | made
        if "layer" in made:
            made["layer"].offer(layer_options(self.dense().layers, everything(self.settings_type)))
            if "checkpoint" in made:
                sync_layers(made["checkpoint"], made["layer"], everything(self.settings_type))
        return made

    def results(self, checkpoint: Key | None = None, **settings: Any) -> Iterator[Any]:
        """Measure one setting of the controls; what is not named has its default."""
        dense, chosen = self.dense(checkpoint), self.settings_type(**settings)
        layer = getattr(chosen, "layer", None)
        if layer is not None and layer not in dense.layers:  # of the network that was in use before
            chosen = replace(chosen, layer="" if everything(self.settings_type) else dense.layers[0])
        return self.measure(dense, chosen)

    def measure(self, dense: Baseline, settings: Any) -> Iterator[Any]:
        """A first result, then better ones, of settings that are about `dense`."""
        raise NotImplementedError

    def train(self, settings: dict[str, Any], show: Any, overtaken: Any) -> None:
        """The job of the button, or what starts by itself."""
        raise NotImplementedError

    def still_for(self, result: Any) -> Any:
        """What the still part depends on; when it changes, `background` draws it anew."""
        return result.dense, getattr(result.settings, "layer", "")

    def background(self, result: Any) -> None:
        """Draw the still part and make the artists that move."""
        raise NotImplementedError

    def update(self, result: Any) -> None:
        """Move the artists."""
        raise NotImplementedError

    def draw(self, result: Any) -> None:
        """The still part where it has changed, then what moves."""
        key = self.still_for(result)
        if key != self._shown:
            for ax in self.live.figure.axes:
                ax.clear()
            self.live.forget()
            self.background(result)
            self._shown = key
        self.update(result)

    def compared(self, pinned: Any, now: Any) -> str:
        """The difference to a pinned result, image by image."""
        return difference_words(pinned, now)

    def loaded(self, settings: Mapping[str, Any]) -> list[str]:
        """The lines of code that have the network and its data."""
        if self.own is not None:
            return ["import labkit as lk", "# model, data: your own network and its data"]
        model, data = settings.get("checkpoint") or self.networks[0]
        return ["import labkit as lk", f'model, data = lk.load_model("{model}", "{data}"), lk.load_data("{data}")']


class Star:
    """The present network on axes of accuracies: a star with its 95 % interval; a plus once it was trained."""

    def __init__(self, live: LiveFigure, ax: Axes, colour: str = drawing.ORANGE) -> None:
        self._live, self._ax = live, ax
        (self.interval,) = ax.plot([], [], "-", color=drawing.RED, lw=3, solid_capstyle="butt", zorder=5)
        (self.star,) = ax.plot([], [], "*", ms=19, color=colour, mec="black", mew=1.2, zorder=6)
        (self.trained,) = ax.plot([], [], "P", ms=13, color=drawing.SKY, mec="black", mew=1.2, zorder=6)

    @property
    def artists(self) -> list[Artist]:
        """In the order in which they are drawn."""
        return [self.interval, self.star, self.trained]

    def place(self, x: float, score: Score | None, trained: bool = False) -> None:
        """Move it; what is not settled is paler and does not widen the axes, what has no score is not shown."""
        if score is None:
            for line in (self.interval, self.star, self.trained):
                line.set_data([], [])
            return
        if score.settled and drawing.make_room(self._ax, x, score.accuracy):
            self._live.refresh()
        mark = self.trained if trained else self.star
        mark.set_data([x], [score.accuracy])
        mark.set_alpha(1 if score.settled else 0.5)
        self.interval.set_data([x, x], score.interval)
        if not trained:
            self.trained.set_data([], [])


def everything(settings: Any) -> bool:
    """Whether the menu of layers has an entry for all of them."""
    return bool(settings.__dataclass_fields__["layer"].metadata["about"]["everything"])


def sync_layers(network: Control, menu: Control, everything: bool) -> None:
    """Let a menu of layers show those of the chosen checkpoint."""

    def offer(change: Mapping[str, Any]) -> None:
        with contextlib.suppress(Exception):  # the panel says in words why a checkpoint cannot be had
            menu.offer(layer_options(shipped(change["new"]).layers, everything))

    network.observe(offer, "value")


def open_panel(
    view: type[NetworkView], model: nn.Module | None = None, data: Data | None = None, preset: str = ""
) -> Panel:
    """A panel with a view of a shipped network, or of your own `model` with its `data`, in one of its scenes.

    ValueError if only one of model and data is given, or for a `preset` that the view does not have.
    """
    return panel_of(view(given(model, data)), preset)


def panel_of(view: NetworkView, preset: str = "") -> Panel:
    """A panel with a view, in one of its scenes."""
    controls = view.controls()
    _check.one_of("preset", preset, ("", *view.scenes))
    if preset:
        for name, value in view.scenes[preset].items():
            if name in controls:
                controls[name].value = value
    scenes = {scene: {n: v for n, v in of.items() if n in controls} for scene, of in view.scenes.items()}
    job: Job = view.train
    button, run = (view.button, job) if view.button else None, job if view.runs else None
    return Panel(view.name, view, controls, button, run, scenes)
