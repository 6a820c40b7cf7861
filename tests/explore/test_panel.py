"""What every panel shares, with a made-up view: latest value wins, errors in words, nothing is left behind."""

import io
import threading

import ipywidgets as widgets
import numpy as np
import pytest
from PIL import Image

from labkit.explore._figure import LiveFigure
from labkit.explore._panel import Panel, Words
from tests.waiting import PATIENCE, until

INSTANCES = widgets.widgets.widget._instances
BAD = 13  # a setting whose first result cannot be had


class Gate:
    """A place where a thread waits, and where a test can see that it does."""

    def __init__(self):
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self):
        self.reached.set()
        assert self.opened.wait(PATIENCE)


class FakeView:
    """Shows a dot at its setting: first as a preview, then settled. `first` and `second` hold gates or errors."""

    def __init__(self):
        self.live = LiveFigure(2, 1)
        ax = self.live.figure.add_axes((0, 0, 1, 1))
        ax.set_xlim(-1, 20)
        (self.dot,) = ax.plot([0], [0], "o", ms=14)
        self.live.move([self.dot])
        self.drawn, self.first, self.second = [], {}, {}
        self.fails_to_draw = self.fails_to_tell = False

    def results(self, value, other=0):
        for stage, things in (("preview", self.first), ("settled", self.second)):
            thing = things.get(value)
            if isinstance(thing, Exception):
                raise thing
            if thing:
                thing()
            yield value, other, stage

    def draw(self, result):
        if self.fails_to_draw:
            raise RuntimeError("cannot draw")
        self.drawn.append(result)
        self.dot.set_xdata([result[0]])
        self.dot.set_markerfacecolor("white" if result[2] == "preview" else "black")

    def tell(self, result):
        if self.fails_to_tell:
            raise RuntimeError("cannot tell")
        value, other, stage = result
        return Words([("value", str(value), f"other {other}")], f"dot at {value}, {stage}", stage)


def picture(value, stage="settled"):
    """The picture of a view that has never shown anything else."""
    view = FakeView()
    view.draw((value, 0, stage))
    return view.live.png()


def controls():
    return {"value": widgets.IntSlider(3, min=0, max=20), "other": widgets.IntSlider(0, min=0, max=5)}


@pytest.fixture
def panel():
    view = FakeView()
    view.first[BAD] = ValueError("13 is unlucky; allowed: other numbers")
    return Panel("fake", view, controls())


def settled(panel, value):
    return lambda: panel.live.alt == f"dot at {value}, settled"


def in_thread(function, *arguments):
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    return thread


# a move


def test_a_new_panel_shows_a_settled_picture(panel):
    assert panel.live.alt == "dot at 3, settled"
    assert panel.live.png == picture(3)
    assert panel.live.cards == [("value", "3", "other 0")]
    assert panel.view.drawn == [(3, 0, "preview"), (3, 0, "settled")]


def test_a_move_shows_a_preview_at_once_and_then_settles(panel):
    gate = panel.view.second[7] = Gate()
    panel.controls["value"].value = 7
    assert (panel.live.alt, panel.live.status) == ("dot at 7, preview", "preview")
    assert panel.live.png == picture(7, "preview")
    gate.opened.set()
    until(settled(panel, 7))
    assert panel.live.png == picture(7)
    assert panel.live.cards == [("value", "7", "other 0")]


def test_every_control_is_heard_and_all_settings_arrive_together(panel):
    panel.controls["other"].value = 4
    until(lambda: panel.view.drawn[-1] == (3, 4, "settled"))
    panel.controls["value"].value = 9
    until(lambda: panel.view.drawn[-1] == (9, 4, "settled"))
    assert panel.settings() == {"value": 9, "other": 4}


def test_what_the_front_end_sends_is_a_move(panel):
    panel.controls["value"].set_state({"value": 11})
    until(settled(panel, 11))
    assert panel.live.png == picture(11)


def test_picture_and_words_change_together(panel):
    """In one message: a browser never shows the picture of one setting beside the words of another."""
    sent = []
    panel.live.send_state = lambda key=None: sent.append(set(key))
    panel.view.second[5] = gate = Gate()
    panel.controls["value"].value = 5
    assert sent == [{"png", "cards", "alt", "status"}]
    gate.opened.set()


# errors


def test_an_exception_is_told_in_words_and_the_panel_works_on(panel):
    before = panel.live.png
    panel.controls["value"].value = BAD
    assert panel.live.status == "⚠ ValueError: 13 is unlucky; allowed: other numbers"
    assert panel.live.png == before
    panel.controls["value"].value = 14
    until(settled(panel, 14))
    assert panel.live.status == "settled"


def test_an_exception_while_settling_is_told_and_the_panel_works_on(panel):
    panel.view.second[5] = MemoryError("too large")
    panel.controls["value"].value = 5
    until(lambda: panel.live.status == "⚠ MemoryError: too large")
    assert panel.live.alt == "dot at 5, preview"
    panel.controls["value"].value = 6
    until(settled(panel, 6))


@pytest.mark.parametrize("step", ["draw", "tell"])
def test_an_exception_while_drawing_or_telling_is_told(panel, step):
    setattr(panel.view, f"fails_to_{step}", True)
    panel.controls["value"].value = 5
    assert panel.live.status == f"⚠ RuntimeError: cannot {step}"
    setattr(panel.view, f"fails_to_{step}", False)
    panel.controls["value"].value = 6
    until(settled(panel, 6))


def test_a_view_without_any_result_says_so(panel):
    panel.view.results = lambda **settings: iter(())
    panel.controls["value"].value = 5
    assert panel.live.status.startswith("⚠ ")


# the latest value wins


def test_a_slow_setting_that_was_overtaken_is_never_shown(panel):
    slow = panel.view.first[1] = Gate()
    mover = in_thread(panel.controls["value"].set_state, {"value": 1})
    slow.reached.wait(PATIENCE)
    panel.controls["value"].value = 2
    until(settled(panel, 2))
    slow.opened.set()
    mover.join(PATIENCE)
    panel.controls["other"].value = 1  # whatever the slow one left behind would be shown before this
    until(lambda: panel.view.drawn[-1] == (2, 1, "settled"))
    assert not [result for result in panel.view.drawn if result[0] == 1]


def test_an_error_of_an_overtaken_setting_is_not_told(panel):
    slow = panel.view.first[1] = Gate()

    def fail():
        slow()
        raise ValueError("late")

    panel.view.first[1] = fail
    mover = in_thread(panel.controls["value"].set_state, {"value": 1})
    slow.reached.wait(PATIENCE)
    panel.controls["value"].value = 2
    until(settled(panel, 2))
    slow.opened.set()
    mover.join(PATIENCE)
    assert panel.live.status == "settled"


def test_a_settling_that_was_overtaken_is_never_shown(panel):
    slow = panel.view.second[1] = Gate()
    panel.controls["value"].value = 1
    slow.reached.wait(PATIENCE)
    panel.controls["value"].value = 2
    assert panel.live.alt == "dot at 2, preview"
    slow.opened.set()
    until(settled(panel, 2))
    assert (1, 0, "settled") not in panel.view.drawn


def test_an_error_while_settling_what_was_overtaken_is_not_told(panel):
    slow = Gate()

    def fail():
        slow()
        raise ValueError("late")

    panel.view.second[1] = fail
    panel.controls["value"].value = 1
    slow.reached.wait(PATIENCE)
    panel.controls["value"].value = 2
    slow.opened.set()
    until(settled(panel, 2))
    assert panel.live.status == "settled"


def test_a_late_comer_does_not_take_the_place_of_the_newest_in_the_queue(panel):
    """The other thread is busy with 1; 2 is slow to begin; 3 comes, is quick, and must settle in the end."""
    busy, slow = panel.view.second.setdefault(1, Gate()), panel.view.first.setdefault(2, Gate())
    panel.controls["value"].value = 1
    busy.reached.wait(PATIENCE)
    mover = in_thread(panel.controls["value"].set_state, {"value": 2})
    slow.reached.wait(PATIENCE)
    panel.controls["value"].value = 3
    assert panel.live.alt == "dot at 3, preview"
    slow.opened.set()
    mover.join(PATIENCE)
    busy.opened.set()
    until(settled(panel, 3))
    assert [r for r in panel.view.drawn[2:] if r[0] != 3] == [(1, 0, "preview")]


def test_a_burst_of_moves_from_several_threads_ends_in_the_last_value(panel):
    slider = panel.controls["value"]

    def drag(values):
        for value in values:
            slider.set_state({"value": value})

    threads = [in_thread(drag, [(7 * i + k) % 12 for i in range(20)]) for k in range(3)]
    for thread in threads:
        thread.join(PATIENCE)
    slider.value = 12
    until(settled(panel, 12))
    assert panel.live.png == picture(12)


# closing


def family(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from family(child)


def test_a_second_panel_of_the_name_closes_the_first():
    first = Panel("fake", FakeView(), controls(), job=("train", lambda *_: None))
    widgets_of_first = list(family(first))
    (thread,) = [t for t in threading.enumerate() if t.name == "labkit-fake"]
    assert all(w.comm is not None for w in widgets_of_first)
    second = Panel("fake", FakeView(), controls())
    assert all(w.comm is None for w in widgets_of_first)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    second.controls["value"].value = 8
    until(settled(second, 8))


def test_a_panel_of_another_name_is_left_alone():
    first, other = (Panel(name, FakeView(), controls()) for name in ("fake", "other"))
    first.controls["value"].value = 8
    until(settled(first, 8))
    assert other.live.alt == "dot at 3, settled"


def test_a_closed_panel_shows_nothing_more(panel):
    slow = panel.view.second[5] = Gate()
    panel.controls["value"].value = 5
    slow.reached.wait(PATIENCE)
    (thread,) = [t for t in threading.enumerate() if t.name == "labkit-fake"]
    panel.close_all()
    slow.opened.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert panel.live.alt == "dot at 5, preview"


def test_fifty_runs_of_a_cell_leave_nothing_behind():
    def run_cell():
        return Panel("fake", FakeView(), controls(), job=("train", lambda *_: None))

    run_cell()
    before = len(INSTANCES)
    for _ in range(50):
        run_cell()
    assert len(INSTANCES) == before
    until(lambda: len([t for t in threading.enumerate() if t.name == "labkit-fake"]) == 1)


# the button


class Training:
    """A job that shows a result each time the test lets it, until it is overtaken."""

    def __init__(self):
        self.step, self.running, self.settings = threading.Semaphore(0), 0, None

    def __call__(self, settings, show, overtaken):
        self.settings, self.running = settings, self.running + 1
        number = 0
        try:
            while not overtaken():
                number += 1
                show((settings["value"], number, "training"))
                self.step.acquire(timeout=PATIENCE)
        finally:
            self.running -= 1


@pytest.fixture
def training():
    job = Training()
    panel = Panel("fake", FakeView(), controls(), job=("train", job))
    (button,) = [w for w in family(panel) if isinstance(w, widgets.Button)]
    yield job, panel, button
    panel.close_all()
    job.step.release(100)


def test_a_job_streams_and_a_second_press_stops_it(training):
    job, panel, button = training
    assert button.description == "train"
    button.click()
    assert button.description == "stop"
    until(lambda: panel.live.alt == "dot at 3, training")
    assert job.settings == {"value": 3, "other": 0}
    job.step.release()
    until(lambda: panel.live.cards == [("value", "3", "other 2")])
    button.click()
    assert panel.live.status == "stopped"
    job.step.release()
    until(lambda: button.description == "train")
    assert job.running == 0
    assert panel.view.drawn[-1] == (3, 2, "training")


def test_a_picture_that_is_being_drawn_does_not_take_stopped_back(training, monkeypatch):
    job, panel, button = training
    button.click()
    until(lambda: panel.live.alt == "dot at 3, training")
    gate, tell = Gate(), panel.view.tell

    def slow(result):
        gate()
        return tell(result)

    monkeypatch.setattr(panel.view, "tell", slow)
    job.step.release()
    assert gate.reached.wait(PATIENCE)  # the second picture is on its way
    pressing = in_thread(button.click)
    pressing.join(0.3)
    gate.opened.set()
    pressing.join(PATIENCE)
    assert panel.live.status == "stopped"
    job.step.release()
    until(lambda: button.description == "train")
    assert panel.live.status == "stopped"


def test_a_move_overtakes_a_job(training):
    job, panel, button = training
    button.click()
    until(lambda: panel.live.alt == "dot at 3, training")
    panel.controls["value"].value = 6
    until(settled(panel, 6))
    job.step.release()
    until(lambda: button.description == "train")
    assert panel.live.alt == "dot at 6, settled"
    assert job.running == 0


def test_the_button_starts_anew_while_the_overtaken_job_still_ends(training):
    job, panel, button = training
    button.click()
    until(lambda: job.running == 1)
    panel.controls["value"].value = 6
    button.click()
    assert button.description == "stop"
    until(lambda: job.running == 2)
    until(lambda: panel.live.alt == "dot at 6, training")
    threads = threading.active_count()
    job.step.release(2)
    until(lambda: job.running == 1)
    until(lambda: threading.active_count() == threads - 1)  # the overtaken job's thread has done its last
    assert button.description == "stop"
    button.click()
    job.step.release()
    until(lambda: button.description == "train" and job.running == 0)


def test_a_job_that_ends_or_fails_gives_its_button_back():
    def job(settings, show, overtaken):
        if settings["value"] == BAD:
            raise ValueError("no")
        show((settings["value"], 0, "trained"))

    panel = Panel("fake", FakeView(), controls(), job=("train", job))
    (button,) = [w for w in family(panel) if isinstance(w, widgets.Button)]
    button.click()
    until(lambda: button.description == "train")
    assert panel.live.alt == "dot at 3, trained"
    panel.controls["value"].value = BAD
    until(settled(panel, BAD))
    button.click()
    until(lambda: panel.live.status == "⚠ ValueError: no")
    until(lambda: button.description == "train")
    panel.controls["value"].value = 4
    until(settled(panel, 4))


def test_closing_a_panel_stops_its_job(training):
    job, panel, button = training
    button.click()
    until(lambda: job.running == 1)
    panel.close_all()
    job.step.release()
    until(lambda: job.running == 0)


# without a kernel


def test_the_bundle_has_the_widget_a_picture_and_words(panel):
    data, metadata = panel._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == panel.model_id
    assert data["text/plain"] == "dot at 3, settled"
    assert metadata["image/png"]["alt"] == "dot at 3, settled"
    shown = np.asarray(Image.open(io.BytesIO(data["image/png"])))
    assert (shown == np.asarray(Image.open(io.BytesIO(picture(3))))).all()
