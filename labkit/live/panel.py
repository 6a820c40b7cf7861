"""What every panel shares: one widget for controls, words and picture; the latest value wins; errors in words."""

import contextlib
import ctypes
import functools
import gc
import itertools
import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from labkit.live.ahead import given_up
from labkit.live.controls import Control
from labkit.live.picture import DRAWING
from labkit.live.still import png
from labkit.live.view import Card, Job, Summary, View

REST = 0.15  # seconds before a setting is settled: the drag may go on, and its first picture shall be on screen first
OPENING = 10.0  # seconds after which a new panel that does not train is shown as it is
KEPT = 32  # settled results that stay at hand
AHEAD = (1, -1, 2, -2, 3, -3)  # stops beside the present one that are measured before they are asked for


class Panel(anywidget.AnyWidget):
    """Controls, words and a live picture. A newer setting overtakes an older one; re-running a cell closes its panel.

    `job` is a button's label and what it starts; `run` starts by itself when a setting has settled, and once at first.
    `scenes` are named settings for a lecturer, shown in a menu.
    """

    # as texts: of a file, anywidget watches the changes, and so keeps every widget that was ever shown
    _esm = (Path(__file__).parent / "panel.js").read_text()
    _css = (Path(__file__).parent / "panel.css").read_text()
    # ipywidgets echoes what a browser sends, for others on the same kernel; deserializing an echo costs the browser a
    # core in the very milliseconds in which the network is scored
    asked = traitlets.Dict().tag(sync=True, echo_update=False)
    layout_of = traitlets.Dict().tag(sync=True)  # what does not change: name, labels, kinds, help, buttons
    stops = traitlets.Dict().tag(sync=True)  # of the controls: the texts of what they offer
    picture = traitlets.Dict().tag(sync=True)  # the still part, its size, its points
    frame = traitlets.Dict().tag(sync=True)  # the rest: where the controls stand, marks, words, the number of the move

    _open: dict[tuple[str, Any], "Panel"] = {}

    def __init__(
        self,
        name: str,
        view: View,
        controls: Mapping[str, Control],
        job: tuple[str, Job] | None = None,
        run: Job | None = None,
        scenes: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        place = (name, _cell())
        if place in Panel._open:
            Panel._open[place].close_all()
        Panel._open[place] = self
        self.name, self.view, self.controls, self.scenes = name, view, dict(controls), dict(scenes or {})
        self._job, self._run = job, run
        self._numbers = itertools.count(1)
        self._newest = self._request = self._due = 0
        self._working: int | None = None  # the number of the job or run that is at work
        self._said = ""  # a status that belongs to no result: an error, "stopped"
        self._began = 0.0
        self._unsettled: tuple[int, Iterator[Any], dict[str, Any]] | None = None
        self._wake = threading.Condition()
        self._closed = self._together = False
        self._taken: dict[str, int] = {}  # the number of the browser's last move of each control
        self._focus: str | None = None
        self._kept: OrderedDict[Any, Any] = OrderedDict()
        self._drawn: dict[str, int] = {}  # of what is kept: the number of the still part it was drawn ahead on
        self._past: list[dict[str, Any]] = []
        self._shown: Any = None
        self._words = Summary([], "")
        self._prepared = False
        self._pinned: dict[str, Any] | None = None
        self._pinned_result: Any = None
        super().__init__()
        self.layout_of = self._describe()
        self.on_msg(self._message)
        self._start()
        spare_the_collector()
        for control in self.controls.values():
            control.observe(self._moved, "value")
            control.observe(self._offered, ["stops", "disabled"])
        threading.Thread(target=self._settle, daemon=True, name=f"labkit-{name}").start()

    # what it shows, for a program

    @property
    def cards(self) -> list[Card]:
        """The figures of the present result: label, value, note."""
        return list(self._words.cards)

    @property
    def alt(self) -> str:
        """The present result as a sentence."""
        return self._words.alt

    @property
    def title(self) -> str:
        """What was found, in a line."""
        return self._words.title

    @property
    def status(self) -> str:
        """What kind of figures these are, or what went wrong."""
        return self._said or self._words.status

    @property
    def works(self) -> bool:
        """Whether a training runs."""
        return self._working is not None

    def settings(self) -> dict[str, Any]:
        """The value of every control, by the name that `results` knows it under."""
        return {name: control.value for name, control in self.controls.items()}

    def set(self, text: str = "", /, **settings: Any) -> None:
        """Move several controls at once: by name, or by the `text` of `share`, or by the name of a scene.

        ValueError for a name that is not there, and for a value that a control does not take.
        """
        if text in self.scenes:
            settings = dict(self.scenes[text]) | settings
        elif text:
            parts = [part.partition("=") for part in text.split(";") if part.strip()]
            self._change({name.strip(): value for name, _, value in parts}, typed=True)
        self._change(settings)

    def share(self) -> str:
        """The settings as a short text that `set` takes."""
        return self._shared(self.settings())

    def _shared(self, settings: Mapping[str, Any]) -> str:
        return "; ".join(f"{name}={self.controls[name].text_of(value)}" for name, value in settings.items())

    def reset(self) -> None:
        """Back to the settings that the panel opened with."""
        self._change(self._first)

    def undo(self) -> None:
        """Back to the settings before the last ones that settled."""
        now = self.settings()
        while self._past and self._past[-1] == now:
            self._past.pop()
        if self._past:
            self._change(self._past[-1])

    def pin(self) -> None:
        """Keep the present result in sight as a ghost, beside the later ones; pinned again, it goes."""
        with DRAWING:
            if self._pinned is None:
                marks = [mark for mark in self.view.live.marks() if mark.get("point")]
                self._pinned = {"cards": self.cards, "marks": marks}
                self._pinned_result = self._shown
            else:
                self._pinned = self._pinned_result = None
            self._publish()

    def stop(self) -> None:
        """Stop the training that runs."""
        with DRAWING:
            if self._working is not None:
                self._newest, self._working = next(self._numbers), None
                self._tell("stopped")

    def press(self) -> None:
        """Start the job of the button."""
        if self._job is None:
            raise ValueError(f"the panel {self.name} has no button")
        number = self._newest = next(self._numbers)
        job, settings = self._job[1], self.settings()
        self._said = ""
        self._work(number)
        threading.Thread(target=self._labour, args=(number, settings, job), daemon=True).start()

    # what it is made of

    def _describe(self) -> dict[str, Any]:
        controls = [
            {"name": name, "label": control.label, "kind": control.kind, "help": control.help}
            for name, control in self.controls.items()
        ]
        job = self._job[0] if self._job else ""
        about = {"name": self.name, "controls": controls, "job": job, "scenes": list(self.scenes)}
        return about | {"file": self.view.file_note}

    def _places(self, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Where the controls stand at these settings; what changes nothing there is disabled."""
        idle, places = self.view.idle(settings), {}
        for name, value in settings.items():
            control = self.controls[name]
            index, text = control.index_of(value), control.text_of(value)
            places[name] = {"index": index, "text": text, "disabled": control.disabled or name in idle}
        return places

    def _offered(self, change: object) -> None:
        if not self._together:
            self._publish()

    def _start(self) -> None:
        """Draw the first picture to its end, so that the notebook keeps a settled one; what is late comes later."""
        self._first = self.settings()
        late = math.inf if self._run else time.perf_counter() + OPENING
        self._finish(self._newest, self.view.results(**self._first), self._first, late)

    def _change(self, settings: Mapping[str, Any], typed: bool = False) -> None:
        """Set several controls, then measure once; all of them or, if one is refused, none."""
        unknown = [name for name in settings if name not in self.controls]
        if unknown:
            raise ValueError(f"{unknown[0]} is no control of this panel; allowed: {', '.join(self.controls)}")
        before = self.settings()
        self._together = True
        try:
            for name, value in settings.items():
                control = self.controls[name]
                control.take(str(value)) if typed else setattr(control, "value", value)
        except Exception:
            for name, value in before.items():
                self.controls[name].value = value
            raise
        finally:
            self._together = False
        if self.settings() != before:
            self._measure()

    @traitlets.observe("asked")
    def _browser_moved(self, change: Mapping[str, Any]) -> None:
        """The moves that no picture has answered yet, {name: [number, stop or typed text]}; known ones are skipped."""
        moves = change["new"].get("moves", {})
        new = {name: move for name, move in moves.items() if move[0] > self._taken.get(name, 0)}
        if not new:
            return
        self._taken |= {name: move[0] for name, move in new.items()}
        request, before, refused = max(self._taken.values()), self.settings(), ""
        self._together = True
        for name, (_, where) in new.items():
            control = self.controls[name]
            try:
                control.take(where) if isinstance(where, str) else setattr(control, "value", control.values[where])
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not keep the other controls from moving
                refused = f"⚠ {error}"
        self._together = False
        if self.settings() != before:
            self._measure(request, refused)
        else:  # what is asked for is there, or was refused
            with DRAWING:
                self._request = self._due = request
                self._tell(refused)

    def _message(self, widget: object, content: Mapping[str, Any], buffers: object) -> None:
        """A press in the browser."""
        what = content.get("do")
        try:
            if what in ("reset", "undo", "pin", "stop", "press"):
                getattr(self, what)()
            elif what == "set":
                self.set(str(content["text"]))
            elif what == "go":
                self._change(self._reachable(content["settings"]))
            elif what == "focus":
                with self._wake:
                    self._focus = content.get("name")
                    self._wake.notify()
            elif what == "table":
                with DRAWING:  # a neighbouring stop may be drawn ahead
                    table = self.view.live.table()
                self.send({"table": table.to_csv(index=False)})
            elif what == "file":
                name, raw = self.view.file(self._shown)
                self.send({"file": name}, [raw])
        except Exception as error:  # noqa: BLE001 - whatever it is, the user must see it: a callback has no traceback
            self._fail(self._newest, error)

    def _reachable(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of a measured point, as far as this panel has controls for them."""
        return {
            name: tuple(value) if isinstance(value, list) else value  # a checkpoint, of which JSON makes a list
            for name, value in settings.items()
            if name in self.controls
        }

    def _moved(self, change: Mapping[str, Any]) -> None:
        if change["new"] != change["old"] and not self._together:
            self._measure()

    def _measure(self, request: int = 0, said: str = "") -> None:
        """Show the first result of the present settings at once; leave the better ones to the other thread.

        `request` is the number of the browser's move: only a picture of these settings, or an error, may carry it.
        """
        number, settings = next(self._numbers), self.settings()
        with DRAWING:
            self._newest, self._working, self._said = number, None, said
            self._due = max(self._due, request)
        try:
            results = self._known(settings) or self.view.results(**settings)
            self._show(number, next(results))
        except Exception as error:  # noqa: BLE001 - whatever it is, the user must see it: a callback has no traceback
            self._fail(number, error)
            return
        with self._wake:
            if number == self._newest:
                self._unsettled = (number, results, settings)
                self._wake.notify()

    def _known(self, settings: Mapping[str, Any]) -> Iterator[Any] | None:
        """The settled result of these settings, if it is still at hand."""
        key = _key(settings)
        self._prepared = self.view.pure and key in self._kept
        if not self._prepared:
            return None
        self._kept.move_to_end(key)
        return iter([self._kept[key]])

    def _keep(self, settings: Mapping[str, Any], result: Any) -> None:
        self._kept[_key(settings)] = result
        while len(self._kept) > KEPT:
            gone, _ = self._kept.popitem(last=False)
            self._drawn.pop(gone, None)

    def _labour(self, number: int, settings: dict[str, Any], job: Job) -> None:
        try:
            job(settings, lambda result: self._show(number, result), lambda: number != self._newest)
        except Exception as error:  # noqa: BLE001
            self._fail(number, error)
        finally:
            with DRAWING:
                if number == self._working:  # else a newer one is at work
                    self._working = None
                    self._publish()

    def _work(self, number: int) -> None:
        with DRAWING:
            self._working, self._began = number, time.perf_counter()
            self._publish()

    def _settle(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._unsettled or self._closed or self._focus)
                if self._closed:
                    return
                todo, self._unsettled = self._unsettled, None
            if todo:
                number, results, settings = todo
                time.sleep(REST)
                try:
                    self._finish(number, results, settings)
                except Exception as error:  # noqa: BLE001
                    self._fail(number, error)
                del results, todo
            self._prepare()
            _trimmer()(0)

    def _finish(
        self, number: int, results: Iterator[Any], settings: dict[str, Any], late: float = math.inf
    ) -> None:  # fmt: skip
        """Show the better results of a setting, then start its run; a newer setting overtakes both.

        Results after the time `late` are left to the other thread.
        """
        result = self._shown
        while number == self._newest and (better := next(results, None)) is not None:
            self._show(number, result := better)
            if time.perf_counter() > late:
                self._unsettled = (number, results, settings)
                return
        if number != self._newest:
            return
        if self.view.pure:
            self._keep(settings, result)
        if not self._past or self._past[-1] != settings:
            self._past = [*self._past[-50:], settings]
        if self._run:
            self._work(number)
            self._labour(number, settings, self._run)

    def _prepare(self) -> None:
        """Measure the stops beside the present one of the control in focus, until somebody moves."""
        with self._wake:
            name, number = self._focus, self._newest
            if not (name and self.view.pure) or self.works:
                self._focus = None
                return
        overtaken = lambda: self._closed or number != self._newest or self._focus != name  # noqa: E731
        token = given_up.set(overtaken)
        # what cannot be measured is told in words when somebody goes there
        with contextlib.suppress(Exception):
            control, settings = self.controls[name], self.settings()
            for step in AHEAD:
                place = control.index + step
                if not 0 <= place < len(control.stops) or overtaken():
                    continue
                ahead = settings | {name: control.values[place]}
                if _key(ahead) not in self._kept:
                    *_, result = self.view.results(**ahead)
                    self._keep(ahead, result)
                self._draw_ahead(ahead, overtaken)
        given_up.reset(token)
        with self._wake:
            self._wake.wait_for(lambda: self._unsettled or overtaken(), timeout=30)
            if self._focus == name and number == self._newest and not self._unsettled:
                self._focus = None

    def _draw_ahead(self, settings: Mapping[str, Any], overtaken: Callable[[], bool]) -> None:
        """Send the browser the picture of a stop, which it shows by itself when somebody goes there."""
        key = _key(settings)
        result = self._kept[key]
        with DRAWING:
            here, view = self.picture["number"], self.view
            if overtaken() or self._drawn.get(key) == here or view.still_for(result) != view.still_for(self._shown):
                return
            try:
                view.draw(result)
                picture = self._picture(view.summarize(result), settings)
            finally:
                view.draw(self._shown)
            if view.live.still() is self.picture["svg"]:
                self._drawn[key] = here
                self.send({"ahead": picture | {"number": here}})

    def _show(self, number: int, result: Any) -> None:
        with DRAWING:
            if number != self._newest or self._closed:
                return
            self.view.draw(result)
            self._words, self._shown, self._request = self.view.summarize(result), result, self._due
            self._publish()

    def _publish(self) -> None:
        """All in one message: never the picture of one setting beside the words of another.

        A message costs JupyterLab some milliseconds; two threads that hold messages back at once would lose some.
        """
        live, words, settings = self.view.live, self._words, self.settings()
        with DRAWING, self.hold_sync():
            still = live.still()
            self.stops = {name: [text for text, _ in control.stops] for name, control in self.controls.items()}
            if still is not self.picture.get("svg"):
                width, height = map(float, live.figure.bbox.size)
                size = {"width": width, "height": height, "number": next(self._numbers)}
                self.picture = {"svg": still, "points": live.hot()} | size
            self.frame = self._picture(words, settings) | {
                "request": self._request,
                "sent": next(self._numbers),  # what equals the last message is not sent
                "status": self.status,
                "works": self.works,
                "left": self._left(words.progress),
                "prepared": self._prepared,
                "pinned": self._ghost(),
            }

    def _picture(self, words: Summary, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What the artists and the words show, and where the controls stand for that."""
        return {
            "places": self._places(settings),
            "marks": self.view.live.marks(),
            "cards": words.cards,
            "alt": words.alt,
            "status": words.status,
            "title": words.title,
            "progress": words.progress,
            "code": self.view.code(settings),
            "share": self._shared(settings),
        }

    def _left(self, progress: float | None) -> str:
        """The time that the training still takes, in words."""
        if not self.works or not progress or progress >= 1:
            return ""
        seconds = (time.perf_counter() - self._began) * (1 - progress) / progress
        return f"about {seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"

    def _ghost(self) -> dict[str, Any] | None:
        if self._pinned is None:
            return None
        return {**self._pinned, "difference": self.view.compared(self._pinned_result, self._shown)}

    def _tell(self, text: str) -> None:
        self._said = text
        self._publish()

    def _fail(self, number: int, error: Exception) -> None:
        with DRAWING:
            if number == self._newest and not self._closed:
                self._request = self._due
                self._tell(f"⚠ {type(error).__name__}: {error}")

    def close_all(self) -> None:
        """Stop the thread and close the widget."""
        with self._wake:
            self._closed = True
            self._newest = -1
            self._wake.notify()
        self._kept.clear()
        with contextlib.suppress(AttributeError):  # ipywidgets keeps a widget's layout until it is closed
            self.layout.close()
        self.close()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget, and beside it a still picture with its text for a reader without a kernel."""
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        image = {"image/png": png(self.view.live, self._words), "text/plain": self.alt}
        return {**data, **image}, {**metadata, "image/png": {"alt": self.alt}}


def _key(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, default=str)


def _cell() -> Any:
    """What tells the cell that runs from others: two cells may show the same panel, a re-run replaces its own."""
    try:
        from IPython import get_ipython  # noqa: PLC0415 - there may be none

        return get_ipython().kernel.get_parent()["metadata"]["cellId"]
    except (ImportError, AttributeError, KeyError, TypeError):
        return None


@functools.cache
def _trimmer() -> Callable[[int], int]:
    """glibc's malloc_trim, which gives freed memory back: 80 MB after 20 moves; elsewhere a function without effect."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda pad: 0
    return trim


def spare_the_collector() -> None:
    """Collect the garbage now, and leave what is alive out of later rounds: one over all of torch takes 0.1 s.

    What was left out before may have died since: a panel that another has closed, a network of the user's own.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
