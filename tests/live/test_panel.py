"""What every panel shares, with a made-up view: latest value wins, errors in words, nothing is left over."""

import io
import itertools
import threading

import ipywidgets as widgets
import pytest
from PIL import Image

from labkit.live.ahead import GivenUp, give_up_if_overtaken
from labkit.live.controls import Control
from labkit.live.panel import Panel
from labkit.live.picture import LiveFigure
from labkit.live.view import Summary, View
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


class FakeView(View):
    """Shows a dot at its setting: first as a preview, then settled. `first` and `second` hold gates or errors."""

    def __init__(self):
        self.live = LiveFigure(2, 1)
        ax = self.live.figure.add_axes((0, 0, 1, 1))
        ax.set_xlim(-1, 20)
        (self.dot,) = ax.plot([0], [0], "o", ms=14)
        self.live.move([self.dot])
        self.measured = []
        self.drawn, self.first, self.second = [], {}, {}
        self.fails_to_draw = self.fails_to_summarize = False

    def results(self, value, other=0):
        self.measured.append((value, other))
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

    def summarize(self, result):
        if self.fails_to_summarize:
            raise RuntimeError("cannot summarize")
        value, other, stage = result
        return Summary([("value", str(value), f"other {other}")], f"dot at {value}, {stage}", stage)


def picture(value, stage="settled"):
    """The marks of a view that has never shown anything else."""
    view = FakeView()
    view.draw((value, 0, stage))
    return view.live.marks()


def controls():
    return {
        "value": Control("slider", "value", [(str(i), i) for i in range(21)], 3),
        "other": Control("slider", "other", [(str(i), i) for i in range(6)], 0),
    }


numbers = itertools.count(1)


def ask(panel, **moves):
    """What the browser sends when controls are moved to stops, by their places; texts were typed."""
    panel.set_state({"asked": {"moves": {name: [next(numbers), where] for name, where in moves.items()}}})


@pytest.fixture
def panel():
    view = FakeView()
    view.first[BAD] = ValueError("13 is unlucky; allowed: other numbers")
    return Panel("fake", view, controls())


def settled(panel, value):
    return lambda: panel.frame["alt"] == f"dot at {value}, settled"


def in_thread(function, *arguments):
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    return thread


def test_a_panel_that_is_late_opens_with_its_preview_and_settles_afterwards(monkeypatch):
    monkeypatch.setattr("labkit.live.panel.OPENING", -1)
    view = FakeView()
    gate = view.second[3] = Gate()
    panel = Panel("fake", view, controls())
    assert panel.frame["alt"] == "dot at 3, preview"
    gate.opened.set()
    until(settled(panel, 3))
    until(lambda: panel._past == [{"value": 3, "other": 0}])


# a move


def test_a_new_panel_shows_a_settled_picture(panel):
    assert panel.alt == "dot at 3, settled"
    assert panel.frame["marks"] == picture(3)
    assert panel.cards == [("value", "3", "other 0")]
    assert panel.view.drawn == [(3, 0, "preview"), (3, 0, "settled")]


def test_a_move_shows_a_preview_at_once_and_then_settles(panel):
    gate = panel.view.second[7] = Gate()
    panel.controls["value"].value = 7
    assert (panel.alt, panel.status) == ("dot at 7, preview", "preview")
    assert panel.frame["marks"] == picture(7, "preview")
    gate.opened.set()
    until(settled(panel, 7))
    assert panel.frame["marks"] == picture(7)
    assert panel.cards == [("value", "7", "other 0")]


def test_a_picture_of_the_settings_before_never_carries_the_number_of_a_move(panel):
    """The settling of one move goes on while the next is being measured: its picture may not answer the next."""
    settling = panel.view.second[7] = Gate()
    next_move = panel.view.first[8] = Gate()
    ask(panel, value=7)
    answered = panel.frame["request"]
    assert settling.reached.wait(PATIENCE)
    mover = in_thread(lambda: ask(panel, value=8))
    assert next_move.reached.wait(PATIENCE)
    panel._publish()
    assert panel.frame["request"] == answered
    next_move.opened.set()
    mover.join()
    settling.opened.set()
    until(settled(panel, 8))
    assert panel.frame["request"] > answered


def test_a_refused_text_stays_in_words_while_a_run_goes_on():
    running, end = threading.Event(), threading.Event()

    def run(settings, show, overtaken):
        running.set()
        end.wait(10)

    panel = Panel("fake", FakeView(), controls(), job=("train", run))
    panel.press()
    assert running.wait(10)
    ask(panel, value="nonsense")
    end.set()
    until(lambda: not panel.works)
    assert panel.status.startswith("⚠ value: 'nonsense' cannot be read")
    assert panel.frame["status"] == panel.status


def test_every_control_is_heard_and_all_settings_arrive_together(panel):
    panel.controls["other"].value = 4
    until(lambda: panel.view.drawn[-1] == (3, 4, "settled"))
    panel.controls["value"].value = 9
    until(lambda: panel.view.drawn[-1] == (9, 4, "settled"))
    assert panel.settings() == {"value": 9, "other": 4}


def test_what_the_front_end_sends_is_a_move(panel):
    ask(panel, value=11)
    until(settled(panel, 11))
    assert panel.frame["marks"] == picture(11)


def test_picture_and_words_change_together(panel, monkeypatch):
    """In one message: a browser never shows the picture of one setting beside the words of another."""
    sent = []
    monkeypatch.setattr(
        Panel, "send_state", lambda self, key=None: sent.append({key} if isinstance(key, str) else set(key))
    )
    panel.view.second[5] = gate = Gate()
    panel.controls["value"].value = 5
    assert [names for names in sent if "frame" in names] == [{"frame"}]  # the still part has not changed
    assert panel.frame["marks"] == picture(5, "preview")
    assert panel.frame["alt"] == "dot at 5, preview"
    gate.opened.set()


def test_the_still_part_is_sent_again_only_when_it_has_changed(panel):
    first = panel.picture
    panel.controls["value"].value = 5
    until(settled(panel, 5))
    assert panel.picture is first
    panel.view.dot.axes.set_xlim(-1, 30)
    panel.view.live.refresh()
    panel.controls["value"].value = 6
    until(settled(panel, 6))
    assert panel.picture["svg"] != first["svg"]


# what a browser sends


def test_each_picture_carries_the_number_of_the_newest_move_it_answers(panel):
    ask(panel, value=11)
    number = panel._taken["value"]
    assert panel.frame["request"] == number
    until(settled(panel, 11))
    assert panel.frame["request"] == number


def test_moves_that_were_answered_are_not_taken_twice(panel):
    """The browser repeats what it has not seen answered; meanwhile another place may have moved the control."""
    moves = {"value": [next(numbers), 11]}
    panel.set_state({"asked": {"moves": moves}})
    panel.controls["value"].value = 4
    panel.set_state({"asked": {"moves": moves | {"other": [next(numbers), 2]}}})
    until(lambda: panel.view.drawn[-1] == (4, 2, "settled"))


def test_several_moves_in_one_message_are_one_measurement(panel):
    before = len(panel.view.measured)
    ask(panel, value=9, other=4)
    until(lambda: panel.view.drawn[-1] == (9, 4, "settled"))
    assert panel.view.measured[before:] == [(9, 4)]


def test_what_is_typed_is_taken_or_refused_in_words(panel):
    ask(panel, value="17")
    until(settled(panel, 17))
    ask(panel, value="many")
    assert panel.status.startswith("⚠ value: 'many' cannot be read; allowed: 0, 1, 2")
    assert panel.settings() == {"value": 17, "other": 0}
    ask(panel, value="8")
    until(settled(panel, 8))
    assert panel.status == "settled"


def test_a_press_in_the_browser_reaches_the_panel(panel):
    panel.controls["value"].value = 7
    until(settled(panel, 7))
    panel._handle_custom_msg({"do": "reset"}, [])
    until(settled(panel, 3))
    panel._handle_custom_msg({"do": "undo"}, [])
    until(settled(panel, 7))
    panel._handle_custom_msg({"do": "set", "text": "value=2; other=5"}, [])
    until(lambda: panel.view.drawn[-1] == (2, 5, "settled"))
    panel._handle_custom_msg({"do": "go", "settings": {"value": 12}}, [])
    until(lambda: panel.view.drawn[-1] == (12, 5, "settled"))
    panel._handle_custom_msg({"do": "set", "text": "nothing=2"}, [])
    assert panel.status == "⚠ ValueError: nothing is no control of this panel; allowed: value, other"


# several controls at once


def test_set_takes_what_share_gives(panel):
    panel.set(value=9, other=4)
    until(lambda: panel.view.drawn[-1] == (9, 4, "settled"))
    text = panel.share()
    assert text == "value=9; other=4"
    panel.reset()
    until(settled(panel, 3))
    panel.set(text)
    until(lambda: panel.view.drawn[-1] == (9, 4, "settled"))


def test_set_is_all_or_nothing(panel):
    before = len(panel.view.measured)
    with pytest.raises(ValueError, match="other is 77; allowed: 0, 1, 2, 3, 4, 5"):
        panel.set(value=9, other=77)
    assert panel.settings() == {"value": 3, "other": 0}
    assert len(panel.view.measured) == before


def test_a_scene_is_set_by_its_name():
    panel = Panel("fake", FakeView(), controls(), scenes={"far": {"value": 20, "other": 1}})
    panel.set("far")
    until(lambda: panel.view.drawn[-1] == (20, 1, "settled"))
    assert panel.layout_of["scenes"] == ["far"]


def test_undo_goes_back_step_by_step(panel):
    for value in (5, 9):
        panel.controls["value"].value = value
        until(settled(panel, value))
    for value in (5, 3):
        panel.undo()
        until(settled(panel, value))
    panel.undo()
    assert panel.settings()["value"] == 3


def test_what_changes_nothing_is_disabled(panel):
    panel.view.idle = lambda settings: {"other"} if settings["value"] > 10 else set()
    panel.controls["value"].value = 11
    assert panel.frame["places"]["other"]["disabled"]
    panel.controls["value"].value = 9
    assert not panel.frame["places"]["other"]["disabled"]


def test_a_pinned_result_stays_in_sight_beside_later_ones(panel):
    panel.view.compared = lambda pinned, now: f"{now[0] - pinned[0]:+d}"
    panel.pin()
    panel.controls["value"].value = 7
    until(settled(panel, 7))
    pinned = panel.frame["pinned"]
    assert (pinned["cards"], pinned["difference"]) == ([("value", "3", "other 0")], "+4")
    assert pinned["marks"] == [mark for mark in picture(3) if mark["point"]] != []
    panel.pin()
    assert panel.frame["pinned"] is None


# results that are kept, and measured ahead


@pytest.fixture
def pure():
    view = FakeView()
    view.pure = True
    return Panel("fake", view, controls())


def test_a_result_that_is_at_hand_is_shown_settled_at_once(pure):
    pure.controls["value"].value = 7
    until(settled(pure, 7))
    measured = len(pure.view.measured)
    pure.view.first[3] = ValueError("not measured again")
    pure.controls["value"].value = 3
    assert (pure.alt, pure.frame["prepared"]) == ("dot at 3, settled", True)
    until(lambda: pure._past[-1]["value"] == 3)
    assert len(pure.view.measured) == measured


def test_a_view_that_is_not_pure_measures_again(panel):
    panel.controls["value"].value = 7
    until(settled(panel, 7))
    gate = panel.view.second[3] = Gate()
    panel.controls["value"].value = 3
    assert (panel.alt, panel.frame["prepared"]) == ("dot at 3, preview", False)
    gate.opened.set()


def test_stops_beside_the_present_one_are_measured_ahead_while_a_control_has_the_focus(pure):
    pure._handle_custom_msg({"do": "focus", "name": "value"}, [])
    until(lambda: {2, 4, 1, 5} <= {value for value, _ in pure.view.measured})
    until(lambda: len(pure._kept) >= 7)
    assert pure.alt == "dot at 3, settled"
    pure.view.first[4] = ValueError("not measured again")
    pure.controls["value"].value = 4
    assert (pure.alt, pure.frame["prepared"]) == ("dot at 4, settled", True)


SHOWN = ("places", "marks", "cards", "alt", "status", "title", "progress", "code", "share")


def sent_ahead(panel, count):
    """The pictures that a panel sends ahead while its slider has the focus, by what they show."""
    sent = []
    panel.send = lambda content: sent.append(content["ahead"])
    panel._handle_custom_msg({"do": "focus", "name": "value"}, [])
    until(lambda: len(sent) >= count)
    return {picture["alt"]: picture for picture in sent}


def test_pictures_of_the_stops_beside_are_sent_ahead_as_they_are_shown_there(pure):
    here = pure.frame
    for alt, ahead in sent_ahead(pure, 6).items():
        pure.controls["value"].value = int(alt.removeprefix("dot at ").removesuffix(", settled"))
        assert {name: ahead[name] for name in SHOWN} == {name: pure.frame[name] for name in SHOWN}
        assert ahead["number"] == pure.picture["number"]
    pure.controls["value"].value = 3
    assert {name: here[name] for name in SHOWN} == {name: pure.frame[name] for name in SHOWN}


def test_what_is_drawn_ahead_leaves_the_artists_where_they_were(pure):
    sent_ahead(pure, 6)
    assert pure.view.live.marks() == pure.frame["marks"] == picture(3)
    summarize = pure.view.summarize

    def fails(result):
        if result[0] == 8:
            raise RuntimeError("cannot summarize")
        return summarize(result)

    pure.view.summarize = fails
    pure.controls["value"].value = 7
    until(settled(pure, 7))
    pure._handle_custom_msg({"do": "focus", "name": "value"}, [])
    until(lambda: (8, 0, "settled") in pure.view.drawn)
    until(lambda: pure.view.drawn[-1] == (7, 0, "settled"))
    assert pure.view.live.marks() == picture(7)


def test_what_is_saved_is_never_a_stop_that_is_drawn_ahead(pure):
    summarize, gate, sent = pure.view.summarize, Gate(), []

    def slow(result):
        if result[0] == 4:
            gate()
        return summarize(result)

    pure.view.summarize = slow
    pure.send = sent.append
    pure._handle_custom_msg({"do": "focus", "name": "value"}, [])
    assert gate.reached.wait(PATIENCE)  # the artists stand at 4
    saving = in_thread(pure._handle_custom_msg, {"do": "table"}, [])
    saving.join(0.2)  # time to read what it must not
    gate.opened.set()
    saving.join(PATIENCE)
    (table,) = (content["table"] for content in sent if "table" in content)
    assert table.splitlines()[1].split(",")[2] == "3.0"


def test_nothing_is_sent_ahead_whose_still_part_is_another(pure):
    pure.view.still_for = lambda result: result[0] > 3
    assert set(sent_ahead(pure, 3)) == {f"dot at {value}, settled" for value in (2, 1, 0)}
    assert (4, 0, "settled") not in pure.view.drawn


def test_measuring_ahead_is_given_up_for_a_real_move(pure):
    given_up, gate = threading.Event(), Gate()

    def ahead():
        gate()
        try:
            give_up_if_overtaken()
        except GivenUp:
            given_up.set()
            raise

    pure.view.second[4] = ahead
    pure._handle_custom_msg({"do": "focus", "name": "value"}, [])
    assert gate.reached.wait(PATIENCE)
    pure.controls["value"].value = 12
    gate.opened.set()
    assert given_up.wait(PATIENCE)
    until(settled(pure, 12))
    assert not any('"value": 4' in key for key in pure._kept)


def test_what_is_kept_is_bounded(pure, monkeypatch):
    monkeypatch.setattr("labkit.live.panel.KEPT", 3)
    for value in range(8, 14):
        pure.controls["value"].value = value
        until(settled(pure, value))
        until(lambda: pure._past[-1]["value"] == value)  # noqa: B023
    assert len(pure._kept) == 3


# errors


def test_an_exception_is_told_in_words_and_the_panel_works_on(panel):
    before = panel.frame["marks"]
    panel.controls["value"].value = BAD
    assert panel.status == "⚠ ValueError: 13 is unlucky; allowed: other numbers"
    assert panel.frame["marks"] == before
    panel.controls["value"].value = 14
    until(settled(panel, 14))
    assert panel.status == "settled"


def test_an_exception_while_settling_is_told_and_the_panel_works_on(panel):
    panel.view.second[5] = MemoryError("too large")
    panel.controls["value"].value = 5
    until(lambda: panel.status == "⚠ MemoryError: too large")
    assert panel.alt == "dot at 5, preview"
    panel.controls["value"].value = 6
    until(settled(panel, 6))


@pytest.mark.parametrize("step", ["draw", "summarize"])
def test_an_exception_while_drawing_or_telling_is_told(panel, step):
    setattr(panel.view, f"fails_to_{step}", True)
    panel.controls["value"].value = 5
    assert panel.status == f"⚠ RuntimeError: cannot {step}"
    setattr(panel.view, f"fails_to_{step}", False)
    panel.controls["value"].value = 6
    until(settled(panel, 6))


def test_a_view_without_any_result_says_so(panel):
    panel.view.results = lambda **settings: iter(())
    panel.controls["value"].value = 5
    assert panel.status.startswith("⚠ ")


# the latest value wins


def test_a_slow_setting_that_was_overtaken_is_never_shown(panel):
    slow = panel.view.first[1] = Gate()
    mover = in_thread(lambda: ask(panel, value=1))
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
    mover = in_thread(lambda: ask(panel, value=1))
    slow.reached.wait(PATIENCE)
    panel.controls["value"].value = 2
    until(settled(panel, 2))
    slow.opened.set()
    mover.join(PATIENCE)
    assert panel.status == "settled"


def test_a_settling_that_was_overtaken_is_never_shown(panel):
    slow = panel.view.second[1] = Gate()
    panel.controls["value"].value = 1
    slow.reached.wait(PATIENCE)
    panel.controls["value"].value = 2
    assert panel.alt == "dot at 2, preview"
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
    assert panel.status == "settled"


def test_a_late_comer_does_not_take_the_place_of_the_newest_in_the_queue(panel):
    """The other thread is busy with 1; 2 is slow to begin; 3 comes, is quick, and must settle in the end."""
    busy, slow = panel.view.second.setdefault(1, Gate()), panel.view.first.setdefault(2, Gate())
    panel.controls["value"].value = 1
    busy.reached.wait(PATIENCE)
    mover = in_thread(lambda: ask(panel, value=2))
    slow.reached.wait(PATIENCE)
    panel.controls["value"].value = 3
    assert panel.alt == "dot at 3, preview"
    slow.opened.set()
    mover.join(PATIENCE)
    busy.opened.set()
    until(settled(panel, 3))
    assert [r for r in panel.view.drawn[2:] if r[0] != 3] == [(1, 0, "preview")]


def test_a_burst_of_moves_from_several_threads_ends_in_the_last_value(panel):
    def drag(values):
        for value in values:
            ask(panel, value=value)

    threads = [in_thread(drag, [(7 * i + k) % 12 for i in range(20)]) for k in range(3)]
    for thread in threads:
        thread.join(PATIENCE)
    panel.controls["value"].value = 12
    until(settled(panel, 12))
    assert panel.frame["marks"] == picture(12)


# closing


def test_a_second_panel_of_the_cell_closes_the_first():
    first = Panel("fake", FakeView(), controls(), job=("train", lambda *_: None))
    (thread,) = [t for t in threading.enumerate() if t.name == "labkit-fake"]
    assert first.comm is not None
    second = Panel("fake", FakeView(), controls())
    assert first.comm is None
    thread.join(PATIENCE)
    assert not thread.is_alive()
    second.controls["value"].value = 8
    until(settled(second, 8))


def test_a_panel_of_another_cell_is_left_alone(monkeypatch):
    monkeypatch.setattr("labkit.live.panel._cell", lambda: "a cell")
    first = Panel("fake", FakeView(), controls())
    monkeypatch.setattr("labkit.live.panel._cell", lambda: "another")
    second = Panel("fake", FakeView(), controls())
    for panel in (first, second):
        panel.controls["value"].value = 8
        until(settled(panel, 8))


def test_a_panel_of_another_name_is_left_alone():
    first, other = (Panel(name, FakeView(), controls()) for name in ("fake", "other"))
    first.controls["value"].value = 8
    until(settled(first, 8))
    assert other.alt == "dot at 3, settled"


def test_a_closed_panel_shows_nothing_more(panel):
    slow = panel.view.second[5] = Gate()
    panel.controls["value"].value = 5
    slow.reached.wait(PATIENCE)
    (thread,) = [t for t in threading.enumerate() if t.name == "labkit-fake"]
    panel.close_all()
    slow.opened.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert panel.alt == "dot at 5, preview"


def test_many_runs_of_a_cell_leave_nothing_behind():
    def run_cell():
        return Panel("fake", FakeView(), controls(), job=("train", lambda *_: None))

    run_cell()
    before = len(INSTANCES)
    for _ in range(15):
        run_cell()
    assert len(INSTANCES) == before
    until(lambda: len([t for t in threading.enumerate() if t.name == "labkit-fake"]) == 1)


# the button


class Training:
    """A job that shows a result each time the test lets it, until it is overtaken."""

    def __init__(self):
        self.step, self.running, self.settings, self.ends = threading.Semaphore(0), 0, None, False

    def __call__(self, settings, show, overtaken):
        self.settings, self.running = settings, self.running + 1
        number = 0
        try:
            while not (overtaken() or self.ends):
                number += 1
                show((settings["value"], number, "training"))
                self.step.acquire(timeout=PATIENCE)
        finally:
            self.running -= 1


@pytest.fixture
def training():
    job = Training()
    panel = Panel("fake", FakeView(), controls(), job=("train", job))
    yield job, panel
    panel.close_all()
    job.step.release(100)


def works(panel):
    return panel.works


def test_a_job_streams_until_it_is_stopped(training):
    job, panel = training
    assert panel.layout_of["job"] == "train"
    panel.press()
    assert works(panel)
    until(lambda: panel.frame["alt"] == "dot at 3, training")
    assert job.settings == {"value": 3, "other": 0}
    job.step.release()
    until(lambda: panel.cards == [("value", "3", "other 2")])
    panel.stop()
    assert panel.status == "stopped"
    assert not works(panel)
    job.step.release()
    until(lambda: job.running == 0)
    assert panel.view.drawn[-1] == (3, 2, "training")


def test_a_picture_that_is_being_drawn_does_not_take_stopped_back(training, monkeypatch):
    job, panel = training
    panel.press()
    until(lambda: panel.frame["alt"] == "dot at 3, training")
    gate, summarize = Gate(), panel.view.summarize

    def slow(result):
        gate()
        return summarize(result)

    monkeypatch.setattr(panel.view, "summarize", slow)
    job.step.release()
    assert gate.reached.wait(PATIENCE)  # the second picture is on its way
    stopping = in_thread(panel.stop)
    stopping.join(0.3)
    gate.opened.set()
    stopping.join(PATIENCE)
    assert panel.status == "stopped"
    job.step.release()
    until(lambda: job.running == 0)
    assert panel.status == "stopped"


def test_a_move_overtakes_a_job(training):
    job, panel = training
    panel.press()
    until(lambda: panel.frame["alt"] == "dot at 3, training")
    panel.controls["value"].value = 6
    until(settled(panel, 6))
    assert not works(panel)
    job.step.release()
    until(lambda: job.running == 0)
    assert panel.alt == "dot at 6, settled"


def test_the_button_starts_anew_while_the_overtaken_job_still_ends(training):
    job, panel = training
    panel.press()
    until(lambda: panel.frame["alt"] == "dot at 3, training")  # it waits for its next step
    panel.controls["value"].value = 6
    panel.press()
    until(lambda: job.running == 2)
    until(lambda: panel.frame["alt"] == "dot at 6, training")
    threads = threading.active_count()
    job.step.release(100)  # two could both go to the newer job
    until(lambda: job.running == 1)
    until(lambda: threading.active_count() < threads)  # the overtaken job's thread has done its last
    assert works(panel)
    panel.stop()
    job.step.release()
    until(lambda: job.running == 0)


def test_a_job_that_ends_or_fails_is_no_longer_at_work():
    def job(settings, show, overtaken):
        if settings["value"] == BAD:
            raise ValueError("no")
        show((settings["value"], 0, "trained"))

    panel = Panel("fake", FakeView(), controls(), job=("train", job))
    panel.press()
    until(lambda: not works(panel))
    assert panel.alt == "dot at 3, trained"
    panel.controls["value"].value = BAD
    until(settled(panel, BAD))
    panel.press()
    until(lambda: panel.status == "⚠ ValueError: no")
    until(lambda: not works(panel))
    panel.controls["value"].value = 4
    until(settled(panel, 4))


def test_closing_a_panel_stops_its_job(training):
    job, panel = training
    panel.press()
    until(lambda: job.running == 1)
    panel.close_all()
    job.step.release()
    until(lambda: job.running == 0)


def test_a_run_starts_by_itself_and_does_not_block_the_controls():
    job = Training()
    opening = []
    thread = in_thread(lambda: opening.append(Panel("fake", FakeView(), controls(), run=job)))
    until(lambda: job.running == 1)  # the first run is shown to its end
    assert not opening
    job.ends = True
    job.step.release()
    thread.join(PATIENCE)
    (panel,) = opening
    job.ends = False
    panel.controls["value"].value = 5
    until(lambda: job.running == 1)
    until(lambda: panel.frame["alt"] == "dot at 5, training")
    assert works(panel)
    panel.controls["value"].value = 6
    assert panel.view.drawn[-1][0] == 6
    job.step.release(5)
    until(lambda: panel.frame["alt"] == "dot at 6, training")
    panel.close_all()
    job.step.release(100)


# without a kernel


def test_the_bundle_has_the_widget_a_picture_and_words(panel):
    data, metadata = panel._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == panel.model_id
    assert data["text/plain"] == "dot at 3, settled"
    assert metadata["image/png"]["alt"] == "dot at 3, settled"
    assert Image.open(io.BytesIO(data["image/png"])).size > (200, 100)
