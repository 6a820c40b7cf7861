"""What every panel shares: controls, the figures above the picture, latest value wins, errors in words.

A panel is a plain object with three parts, each usable without widgets:

    results(**settings)   an iterator: a first, quick result within the time of a frame, then better ones
    draw(result)          moves the artists of its LiveFigure
    tell(result)          the result in words: cards (label, value, note), and the alt text
"""

import gc
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import anywidget
import ipywidgets as widgets
import traitlets

from labkit.explore._figure import DRAWING, LiveFigure

REST = 0.15  # seconds before a setting is settled: the drag may go on, and its first picture shall be on screen first
Card = tuple[str, str, str]  # label, value, note


class Words(NamedTuple):
    """A result in words."""

    cards: list[Card]
    alt: str
    status: str = ""


# a job gets the settings, a function that shows a result, and one that says whether it has been overtaken
Job = Callable[[dict[str, Any], Callable[[Any], None], Callable[[], bool]], None]


class View(Protocol):
    """What a panel module provides; see the module's docstring."""

    live: LiveFigure

    def results(self, *args: Any, **settings: Any) -> Iterator[Any]: ...  # noqa: D102
    def draw(self, result: Any) -> None: ...  # noqa: D102
    def tell(self, result: Any) -> Words: ...  # noqa: D102


class Live(anywidget.AnyWidget):
    """The picture, its alt text, the cards and a line of status, as the browser shows them."""

    # as texts: of a file, anywidget watches the changes, and so keeps every widget that was ever shown
    _esm = (Path(__file__).parent / "live.js").read_text()
    _css = (Path(__file__).parent / "live.css").read_text()
    png = traitlets.Bytes().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    cards: traitlets.List[Any] = traitlets.List().tag(sync=True)
    status = traitlets.Unicode().tag(sync=True)


class Panel(widgets.VBox):
    """Controls above a live view. A newer setting overtakes an older one; re-running a cell closes the old panel.

    `job` is a button's label and what it starts; `run` starts by itself when a setting has settled, and once at first.
    """

    _open: dict[str, "Panel"] = {}

    def __init__(
        self,
        name: str,
        view: View,
        controls: Mapping[str, widgets.Widget],
        job: tuple[str, Job] | None = None,
        run: Job | None = None,
    ) -> None:
        if name in Panel._open:
            Panel._open[name].close_all()
        Panel._open[name] = self
        self.name, self.view, self.controls, self.live = name, view, dict(controls), Live()
        self._numbers = itertools.count(1)
        self._newest = 0
        self._job: int | None = None  # the number of the run that the button stands for
        self._run = run
        self._unsettled: tuple[int, Iterator[Any], dict[str, Any]] | None = None
        self._wake = threading.Condition()
        self._closed = False
        buttons = [self._button(*job)] if job else []
        box = widgets.Box([*self.controls.values(), *buttons])
        box.add_class("labkit-controls")
        super().__init__([box, self.live])
        self.add_class("labkit-panel")
        self._start()
        _spare_the_collector()
        for control in self.controls.values():
            control.observe(self._moved, "value")
        threading.Thread(target=self._settle, daemon=True, name=f"labkit-{name}").start()

    def settings(self) -> dict[str, Any]:
        """The value of every control, by the name that `results` knows it under."""
        return {name: control.value for name, control in self.controls.items()}

    def _start(self) -> None:
        """Draw the first picture to its end, so that the notebook keeps a settled one."""
        self._finish(self._newest, self.view.results(**self.settings()), self.settings())

    def _moved(self, change: Mapping[str, Any]) -> None:
        """Show the first result of the new settings at once; leave the better ones to the other thread."""
        if change["new"] == change["old"]:  # what a browser sent was rounded to what was there
            return
        number, settings = next(self._numbers), self.settings()
        self._newest = number
        try:
            results = self.view.results(**settings)
            self._show(number, next(results))
        except Exception as error:  # noqa: BLE001 - whatever it is, the user must see it: a callback has no traceback
            self._fail(number, error)
            return
        with self._wake:
            if number == self._newest:
                self._unsettled = (number, results, settings)
                self._wake.notify()

    def _button(self, label: str, job: Job) -> widgets.Button:
        """A button that runs `job` in a thread of its own; pressed again, or when a control moves, the job stops."""
        button = widgets.Button(description=label, layout=widgets.Layout(width="auto"))

        def run(number: int, settings: dict[str, Any]) -> None:
            try:
                job(settings, lambda result: self._show(number, result), lambda: number != self._newest)
            except Exception as error:  # noqa: BLE001
                self._fail(number, error)
            finally:
                if number == self._job:  # else a newer run has the button
                    self._job, button.description = None, label

        def pressed(_: object) -> None:
            with DRAWING:  # a picture that is being drawn would say afterwards that the run goes on
                running = self._job == self._newest
                number = self._newest = next(self._numbers)
                if running:
                    self.live.status = "stopped"
            if not running:
                self._job, button.description = number, "stop"
                threading.Thread(target=run, args=(number, self.settings()), daemon=True).start()

        button.on_click(pressed)
        return button

    def _settle(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._unsettled or self._closed)
                if self._closed:
                    return
                if not self._unsettled:
                    continue
                number, results, settings = self._unsettled
                self._unsettled = None
            time.sleep(REST)
            try:
                self._finish(number, results, settings)
            except Exception as error:  # noqa: BLE001
                self._fail(number, error)
            del results

    def _finish(self, number: int, results: Iterator[Any], settings: dict[str, Any]) -> None:
        """Show the better results of a setting, then start its run; a newer setting overtakes both."""
        while number == self._newest and (result := next(results, None)) is not None:
            self._show(number, result)
        if self._run and number == self._newest:
            self._run(settings, lambda result: self._show(number, result), lambda: number != self._newest)

    def _show(self, number: int, result: Any) -> None:
        with DRAWING:
            if number != self._newest or self._closed:
                return
            self.view.draw(result)
            words = self.view.tell(result)
            with self.live.hold_sync():
                self.live.png = self.view.live.png()
                self.live.cards, self.live.alt, self.live.status = words.cards, words.alt, words.status

    def _fail(self, number: int, error: Exception) -> None:
        with DRAWING:
            if number == self._newest and not self._closed:
                self.live.status = f"⚠ {type(error).__name__}: {error}"

    def close_all(self) -> None:
        """Stop the thread and close every widget of the panel."""
        with self._wake:
            self._closed = True
            self._newest = -1
            self._wake.notify()
        for widget in _family(self):
            widget.close()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget, and beside it a still picture with its text for a reader without a kernel."""
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        still = {"image/png": self.live.png, "text/plain": self.live.alt}
        return {**data, **still}, {**metadata, "image/png": {"alt": self.live.alt}}


def _spare_the_collector() -> None:
    """Collect the garbage now, and leave what is alive out of later rounds: one over all of torch takes 0.1 s.

    What was left out before may have died since: a panel that another has closed, a network of the user's own.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _family(widget: widgets.Widget) -> list[widgets.Widget]:
    """A widget, all that is inside it, and their layouts and styles: ipywidgets keeps each until it is closed."""
    looks = [getattr(widget, name, None) for name in ("layout", "style")]
    inside = [part for child in getattr(widget, "children", ()) for part in _family(child)]
    return [widget, *filter(None, looks), *inside]
