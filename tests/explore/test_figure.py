"""The live figure: what it sends is what matplotlib draws, pixel by pixel, from any thread."""

import io
import struct
import threading
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from labkit.explore._figure import DPI, LiveFigure, encode_png, write_texts


def pixels(png):
    picture = Image.open(io.BytesIO(png))
    assert picture.mode == "RGB"
    return np.asarray(picture)


shapes = st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3))


@given(shapes.flatmap(lambda shape: arrays(np.uint8, shape)))
def test_a_png_decodes_to_exactly_its_pixels(rgb):
    assert (pixels(encode_png(rgb)) == rgb).all()


def test_a_png_is_well_formed_chunk_by_chunk():
    raw = encode_png(np.zeros((2, 5, 3), np.uint8))
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    at, kinds = 8, []
    while at < len(raw):
        (length,) = struct.unpack(">I", raw[at : at + 4])
        kind, body = raw[at + 4 : at + 8], raw[at + 8 : at + 8 + length]
        assert struct.unpack(">I", raw[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        kinds.append(kind)
        at += 12 + length
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]


def test_a_slice_of_a_canvas_that_is_not_contiguous():
    rgba = np.random.default_rng(0).integers(0, 256, (4, 6, 4), np.uint8)
    assert (pixels(encode_png(rgba[..., :3])) == rgba[..., :3]).all()


class Moving:
    """A live figure with a still line, a moving line, a moving text, and a moving bar that can hide."""

    def __init__(self):
        self.live = LiveFigure(3, 2)
        ax = self.live.figure.add_axes((0.15, 0.2, 0.8, 0.7))
        ax.plot([0, 1], [1, 0], color="grey")
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1)
        (self.line,) = ax.plot([], [], lw=3, color="red", zorder=5)
        self.text = ax.text(0.1, 0.8, "", fontsize=9, zorder=6)
        self.bar = ax.bar([0.5], [0], width=0.2, color="blue", zorder=7)[0]
        self.ax = ax
        self.live.move([self.line, self.text, self.bar])

    def set(self, state):
        self.line.set_data([0, 0.3, 1], [state, 1 - state, state])
        self.text.set_text(f"state {state:.3f}")
        self.bar.set_height(state)
        self.bar.set_visible(state < 0.7)

    def redrawn(self):
        """What matplotlib draws from nothing, with the moving texts set on it as the last step."""
        texts = [artist for artist in self.live.moving if isinstance(artist, Text) and artist.get_visible()]
        for artist in self.live.moving:
            artist.set_animated(artist in texts)
        canvas = FigureCanvasAgg(self.live.figure)
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        write_texts(picture, texts)
        return np.asarray(picture)


@pytest.mark.parametrize("last", [0.0, 0.25, 0.9])
def test_a_blitted_picture_is_a_full_redraw_whatever_was_shown_before(last):
    moving = Moving()
    for state in (0.6, 0.1, 0.8, last):
        moving.set(state)
        png = moving.live.png()
    assert (pixels(png) == moving.redrawn()).all()


@pytest.mark.parametrize("ha", ["left", "center", "right"])
@pytest.mark.parametrize("va", ["baseline", "center", "top", "bottom"])
def test_a_moving_text_stands_where_matplotlib_would_set_it(ha, va):
    def ink(moving):
        live = LiveFigure(3, 2)
        text = live.figure.text(0.5, 0.5, "1,234 B", ha=ha, va=va, fontsize=12)
        if moving:
            live.move([text])
        rows, columns = np.nonzero((pixels(live.png()) < 128).all(axis=2))
        return np.array([rows.min(), rows.max(), columns.min(), columns.max()])

    far = (
        6 if va == "top" else 3
    )  # pixels: Pillow's top is the font's ascender, matplotlib's the ink of its tallest letters
    assert np.abs(ink(moving=True) - ink(moving=False)).max() <= far


def test_the_picture_has_the_size_of_the_figure_and_moves():
    moving = Moving()
    moving.set(0.1)
    one = pixels(moving.live.png())
    assert one.shape == (round(2 * DPI), round(3 * DPI), 3)
    moving.set(0.5)
    assert (pixels(moving.live.png()) != one).any()
    moving.set(0.1)
    assert (pixels(moving.live.png()) == one).all()


def test_what_is_still_is_drawn_anew_after_a_refresh():
    moving = Moving()
    moving.set(0.3)
    before = moving.live.png()
    moving.ax.set_ylim(0, 2)
    moving.set(0.3)
    moving.live.refresh()
    after = moving.live.png()
    assert after != before
    assert (pixels(after) == moving.redrawn()).all()


def test_four_threads_draw_their_own_figures_at_once():
    """And each gets what it would have got alone."""
    alone = {}
    for state in (0.1, 0.2, 0.3, 0.4):
        moving = Moving()
        moving.set(state)
        alone[state] = moving.live.png()
    wrong, start = [], threading.Barrier(4)

    def draw(state):
        try:
            start.wait()
            for _ in range(8):
                moving = Moving()
                moving.set(0.9)
                moving.live.png()
                moving.set(state)
                if moving.live.png() != alone[state]:
                    wrong.append(state)
        except Exception as error:  # noqa: BLE001
            wrong.append(error)

    run_together(draw, alone)
    assert wrong == []


def test_four_threads_draw_one_figure_at_once():
    moving, wrong = Moving(), []
    moving.set(0.4)
    expected = moving.live.png()

    def draw(number):
        for i in range(15):
            if i % 5 == number:
                moving.live.refresh()
            if moving.live.png() != expected:
                wrong.append(number)

    run_together(draw, range(4))
    assert wrong == []


def run_together(function, arguments):
    failures = []

    def guarded(argument):
        try:
            function(argument)
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(a,)) for a in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
