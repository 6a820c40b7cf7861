"""The live picture: its marks are what matplotlib's own SVG backend draws, its still part is what does not move."""

import base64
import io
import re
import threading
import xml.etree.ElementTree as ET  # noqa: S405 - what is parsed is our own

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import LineCollection, PolyCollection
from PIL import Image

from labkit.live.picture import THEME, LiveFigure

NAMESPACE = "{http://www.w3.org/2000/svg}"
shares = st.floats(0.01, 0.99)


def parsed(text):
    return ET.fromstring(text)  # noqa: S314


def numbers(d):
    """The coordinates in a path's text."""
    return [float(word) for word in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", d)]


def axes(live):
    ax = live.figure.add_axes((0.15, 0.2, 0.8, 0.7))
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    return ax


def drawn_by_matplotlib(live, artist):
    """The paths of an artist, as matplotlib's SVG backend draws it: those that are not there without it."""

    def paths():
        out = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": "x", "path.simplify": False}):
            FigureCanvasSVG(live.figure).print_svg(out)
        root = parsed(out.getvalue())
        clips = {path for clip in root.iter(f"{NAMESPACE}clipPath") for path in clip.iter()}
        return [p.get("d") for p in root.iter(f"{NAMESPACE}path") if p not in clips]

    artist.set_visible(False)
    without = paths()
    artist.set_visible(True)
    found = paths()
    for path in without:
        found.remove(path)
    return found


@pytest.fixture(scope="module")
def live():
    return LiveFigure(3, 2)


MAKERS = {
    "line": lambda ax, y: ax.plot([0.1, 0.5, 0.9], y, lw=3)[0],
    "dashed": lambda ax, y: ax.plot([0.1, 0.5, 0.9], y, "--")[0],
    "bar": lambda ax, y: ax.bar([0.5], [y[0]], width=0.2)[0],
    "row": lambda ax, y: ax.barh([0.5], [y[1]], height=0.2)[0],
    "stairs": lambda ax, y: ax.stairs(y, [0.1, 0.3, 0.6, 0.9], fill=True),
    "band": lambda ax, y: ax.fill_between([0.1, 0.5, 0.9], 0, y),
    "lines": lambda ax, y: ax.add_collection(LineCollection([[(v, 0), (v, 1)] for v in y])),
    "polygon": lambda ax, y: ax.add_collection(PolyCollection([[(0.1, y[0]), (0.5, y[1]), (0.9, y[2])]])),
}


@pytest.mark.parametrize("kind", MAKERS)
@settings(deadline=None, max_examples=5)
@given(y=st.tuples(shares, shares, shares))
def test_the_outlines_are_those_of_matplotlibs_svg_backend(kind, y):
    live = LiveFigure(3, 2)
    artist = MAKERS[kind](axes(live), y)
    expected = drawn_by_matplotlib(live, artist)
    live.move([artist])
    marks = live.marks()
    assert len(marks) == len(expected) > 0
    for mark, d in zip(marks, expected, strict=True):
        assert numbers(mark["d"]) == pytest.approx(numbers(d), abs=0.011)


@settings(deadline=None, max_examples=5)
@given(x=shares, y=shares)
def test_a_marker_stands_where_its_point_is(x, y):
    live = LiveFigure(3, 2)
    ax = axes(live)
    (line,) = ax.plot([x, 0.5], [y, 0.5], "D", ms=8, color="#0072B2", mec="black")
    live.move([line])
    (mark,) = live.marks()
    left, bottom, width, height = (v * s for v, s in zip((0.15, 0.2, 0.8, 0.7), (216, 144, 216, 144), strict=True))
    assert mark["tag"] == "stamp"
    assert mark["at"][0] == pytest.approx([left + x * width, 144 - bottom - y * height], abs=0.01)
    corners = np.array(numbers(mark["d"])).reshape(-1, 2)
    assert np.abs(corners).max() == pytest.approx(4 * 2**0.5, abs=0.01)
    assert mark["fill"] == "var(--labkit-blue, #0072b2)"
    assert mark["stroke"] == "var(--labkit-ink, #000000)"
    assert mark["point"] is False
    line.set_data([x], [y])
    assert live.marks()[0]["point"] is True


def test_the_look_of_a_stroke_is_its_artists(live):
    live.figure.clear()
    live.forget()
    (line,) = axes(live).plot([0, 1], [0, 1], ":", lw=2.5, alpha=0.25, color="#123456")
    live.move([line])
    (mark,) = live.marks()
    assert (mark["stroke"], mark["stroke-width"], mark["stroke-opacity"]) == ("#123456", 2.5, 0.25)
    assert mark["fill"] == "none"
    dashes = [float(v) for v in mark["stroke-dasharray"].split()]
    assert dashes == pytest.approx(line._dash_pattern[1], rel=1e-4)
    assert mark["clip"] == pytest.approx([0.15 * 216, 0.1 * 144, 0.8 * 216, 0.7 * 144], abs=0.1)


@pytest.mark.parametrize(("ha", "anchor"), [("left", "start"), ("center", "middle"), ("right", "end")])
@pytest.mark.parametrize("va", ["baseline", "center", "top", "bottom"])
def test_a_text_stands_where_matplotlib_would_set_it(ha, va, anchor):
    live = LiveFigure(3, 2)
    text = live.figure.text(0.5, 0.5, "HHH", ha=ha, va=va, fontsize=20)
    canvas = FigureCanvasAgg(live.figure)
    canvas.draw()
    rows = np.nonzero((np.asarray(canvas.buffer_rgba())[..., :3] < 128).all(2).any(1))[0]
    live.move([text])
    (mark,) = live.marks()
    assert (mark["text-anchor"], mark["x"], mark["lines"], mark["font-size"]) == (anchor, 108, ["HHH"], 20)
    assert mark["y"] == pytest.approx(rows.max() + 1, abs=4)  # its baseline; an "H" has no part below it


def test_an_image_fills_its_axes_and_keeps_its_pixels():
    live = LiveFigure(3, 2)
    ax = live.figure.add_axes((0.25, 0.5, 0.5, 0.25))
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3)) / 255
    live.move([ax.imshow(rgb, aspect="auto")])
    (mark,) = live.marks()
    place = [mark[name] for name in ("x", "y", "width", "height")]
    assert place == pytest.approx([54, 36, 108, 36])
    sent = Image.open(io.BytesIO(base64.b64decode(mark["href"].partition(",")[2])))
    assert np.asarray(sent) / 255 == pytest.approx(rgb)


class Moving:
    """A live figure with a still line, and a moving line, text and bar that can hide."""

    def __init__(self):
        self.live = LiveFigure(3, 2)
        self.ax = axes(self.live)
        self.ax.plot([0, 1], [1, 0], color="grey")
        (self.line,) = self.ax.plot([], [], lw=3, color="red", zorder=5)
        self.text = self.ax.text(0.1, 0.8, "", fontsize=9, zorder=6)
        self.bar = self.ax.bar([0.5], [0], width=0.2, color="blue", zorder=7)[0]
        self.live.move([self.line, self.text, self.bar])

    def set(self, state):
        self.line.set_data([0, 0.3, 1], [state, 1 - state, state])
        self.text.set_text(f"state {state:.3f}")
        self.bar.set_height(state)
        self.bar.set_visible(state < 0.7)


def test_the_still_part_stays_while_artists_move():
    moving = Moving()
    moving.set(0.1)
    still, marks = moving.live.still(), moving.live.marks()
    moving.set(0.8)
    assert moving.live.still() is still
    assert moving.live.marks() != marks
    assert [mark["tag"] for mark in moving.live.marks()] == ["path", "text"]  # the bar hides
    moving.set(0.1)
    assert moving.live.marks() == marks
    assert "state" not in still


def test_the_still_part_is_drawn_anew_after_a_refresh_and_the_marks_follow():
    moving = Moving()
    moving.set(0.4)
    still, (line, *_) = moving.live.still(), moving.live.marks()
    moving.ax.set_ylim(0, 2)
    moving.live.refresh()
    (after, *_) = moving.live.marks()
    assert moving.live.still() != still
    height = 0.7 * 144
    lower = np.array(numbers(after["d"]))[1::2] - np.array(numbers(line["d"]))[1::2]
    assert lower == pytest.approx(np.array([0.4, 0.6, 0.4]) * height / 2, abs=0.02)


def test_the_still_part_is_plain_xml_whose_colours_are_the_themes():
    live = LiveFigure(3, 2)
    ax = axes(live)
    ax.set_title('fc1 <script>alert("x")</script> & co')
    ax.plot([0, 1], [0, 1], color="#0072B2")
    ax.axvline(0.5, color="#123456")
    root = parsed(live.still())
    texts = [element.text for element in root.iter(f"{NAMESPACE}text")]
    assert 'fc1 <script>alert("x")</script> & co' in texts
    assert not list(root.iter(f"{NAMESPACE}script"))
    assert not list(root.iter(f"{NAMESPACE}style"))  # it would hold for the whole page
    assert root.get("viewBox") == "0 0 216 144"
    assert root.get("width") is root.get("height") is None
    assert "var(--labkit-blue, #0072b2)" in live.still()
    bare = re.sub(r"var\(--labkit-\w+, #\w{6}\)", "", live.still())
    assert set(re.findall(r"#[0-9a-f]{6}\b", bare)) == {"#123456"}
    assert set(THEME) == {colour.lower() for colour in THEME}


def test_two_figures_of_a_page_share_no_identifier():
    def identifiers(live):
        ax = axes(live)
        ax.plot([0, 1], [0, 1], "o-")
        return {e.get("id") for e in parsed(live.still()).iter() if e.get("id")}

    one, other = identifiers(LiveFigure(3, 2)), identifiers(LiveFigure(3, 2))
    assert len(one) > 2
    assert not one & other


def test_points_that_can_be_pointed_at_lie_where_they_are_drawn():
    live = LiveFigure(3, 2)
    ax = axes(live)
    live.offer(ax, [(0.5, 0.25), (0.1, 7.0)], ["here", "beyond the axes"], [{"bits": 4}, {}])
    x, y = 216 * (0.15 + 0.8 * 0.5), 144 * (1 - 0.2 - 0.7 * 0.25)
    assert live.hot() == [(pytest.approx(x, abs=0.1), pytest.approx(y, abs=0.1), "here", {"bits": 4})]
    live.forget()
    assert live.hot() == []


def test_the_picture_without_a_browser_is_matplotlibs_with_all_its_artists():
    moving = Moving()
    moving.set(0.3)
    pixels = np.asarray(moving.live.pixels(dpi=100))
    marks = moving.live.marks()
    for artist in moving.live.moving:
        artist.set_animated(False)
    figure = moving.live.figure
    figure.set_dpi(100)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert (pixels == np.asarray(canvas.buffer_rgba())[..., :3]).mean() > 0.999  # one zorder may differ in a pixel
    figure.set_dpi(72)
    assert moving.live.marks() == marks  # and the figure is as it was


def test_the_table_holds_what_is_drawn():
    live = LiveFigure(3, 2)
    ax = axes(live)
    ax.set_title("accuracy", loc="left")
    ax.plot([0.1, 0.2], [0.9, 0.8], label="measured")
    ax.barh([0.5], [0.25])
    table = live.table()
    assert table.query("series == 'measured'")[["x", "y"]].to_numpy().tolist() == [[0.1, 0.9], [0.2, 0.8]]
    assert table.query("series == 'bar'")[["axes", "x", "y"]].to_numpy().tolist() == [["accuracy", 0.25, 0.5]]


def test_four_threads_draw_at_once_and_each_gets_what_it_would_have_got_alone():
    alone = {}
    for state in (0.1, 0.2, 0.3, 0.4):
        moving = Moving()
        moving.set(state)
        alone[state] = moving.live.marks()
    shared, wrong, start = Moving(), [], threading.Barrier(4)
    shared.set(0.6)
    expected = shared.live.marks(), shared.live.still()

    def draw(state):
        try:
            start.wait()
            for i in range(8):
                moving = Moving()
                moving.set(0.9)
                moving.live.marks()
                moving.set(state)
                if moving.live.marks() != alone[state]:
                    wrong.append(state)
                if i == 4:
                    shared.live.refresh()
                if (shared.live.marks(), shared.live.still()) != expected:
                    wrong.append("shared")
        except Exception as error:  # noqa: BLE001
            wrong.append(error)

    threads = [threading.Thread(target=draw, args=(state,)) for state in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
