"""The live picture: one matplotlib Figure, its still part sent once as SVG, its moving artists as numbers.

matplotlib draws both. The still part goes through its SVG backend. A moving artist is drawn on a `Recorder`, a
renderer that only writes down what it is asked to draw: each stroke becomes a mark, the name of an SVG element and its
attributes, which a small script in the browser gives to that element. Colours of the house are names that the theme
of the page fills in.

Widget callbacks run in other threads than cells (ipykernel 7 subshells), and matplotlib's text parser is not made for
that: one process-wide lock stands around all drawing, and nothing here uses pyplot.
"""

import base64
import functools
import io
import itertools
import re
import threading
from collections.abc import Iterable
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import _path  # what the SVG backend turns paths into text with
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Affine2D
from PIL import Image

DRAWING = threading.RLock()
DPI = 72  # one unit of the SVG is one point; a panel of 1,088 px shows a point as 1.4 px
Mark = dict[str, Any]
# what the theme of the page fills in: see panel.css
THEME = {
    "#000000": "ink", "#ffffff": "paper", "#e6e6e6": "grid", "#d0d0d0": "quiet", "#c8c8c8": "quiet", "#cccccc": "grid",
    "#8a8a8a": "grey", "#0072b2": "blue", "#e69f00": "orange", "#009e73": "green", "#d55e00": "red",
    "#cc79a7": "purple", "#56b4e9": "sky", "#f0e442": "yellow",
}  # fmt: skip
ANCHORS = {"left": "start", "center": "middle", "right": "end"}
RISE = {"baseline": 0.0, "bottom": -0.2, "center": 0.35, "center_baseline": 0.35, "top": 0.8}  # in font sizes
XLINK = 'xmlns:xlink="http://www.w3.org/1999/xlink"'
_salts = itertools.count()


class LiveFigure:
    """A figure with a still part and the artists that move on it; `points` are the still ones one can point at."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height), dpi=DPI)
        self._canvas = FigureCanvasAgg(self.figure)
        self.moving: list[Artist] = []
        self.points: list[tuple[Axes, float, float, str, dict[str, Any]]] = []
        self._still, self._hot = "", list[tuple[float, float, str, dict[str, Any]]]()
        self._salt = f"labkit{next(_salts)}"

    def move(self, artists: Iterable[Artist]) -> None:
        """Declare artists that change from picture to picture, in the order in which they are drawn."""
        for artist in artists:
            artist.set_animated(True)
            self.moving.append(artist)

    def forget(self) -> None:
        """No artist moves any more and there is no point: the still part is about to be made anew."""
        self.moving.clear()
        self.points.clear()
        self.refresh()

    def refresh(self) -> None:
        """Draw the still part anew next time: a limit, a label or a still artist has changed."""
        self._still = ""

    def offer(
        self,
        ax: Axes,
        places: Iterable[tuple[float, float]],
        words: Iterable[str],
        settings: Iterable[dict[str, Any]] | None = None,
    ) -> None:
        """Points of `ax`, in its data's units, that say `words` when pointed at and lead to `settings` when clicked."""
        to = itertools.repeat({}) if settings is None else settings
        self.points += [(ax, float(x), float(y), word, one) for (x, y), word, one in zip(places, words, to)]  # noqa: B905

    def still(self) -> str:
        """The still part as SVG, with the theme's names for colours; the same text until `refresh`."""
        with DRAWING:
            if not self._still:
                self._still, self._hot = svg_of(self.figure, self._salt), self._places()
            return self._still

    def marks(self) -> list[Mark]:
        """What the moving artists show as they stand now."""
        with DRAWING:
            self.still()  # lays the axes out
            recorder = Recorder(*self.figure.bbox.size)
            for artist in self.moving:
                if artist.get_visible():
                    recorder.take(artist)
            return recorder.marks

    def hot(self) -> list[tuple[float, float, str, dict[str, Any]]]:
        """The points as (x, y from the top in points, words, settings); those outside their axes are left out."""
        self.still()
        return self._hot

    def _places(self) -> list[tuple[float, float, str, dict[str, Any]]]:
        height, found = self.figure.bbox.height, []
        for ax, x, y, words, settings in self.points:
            place = ax.transData.transform((x, y))
            if ax.bbox.padded(1).contains(*place):
                found.append((round(float(place[0]), 1), round(float(height - place[1]), 1), words, settings))
        return found

    def pixels(self, dpi: float = 144) -> Image.Image:
        """The whole picture through Agg, on white, for a reader without a kernel."""
        with DRAWING:
            still = [artist for artist in self.moving if artist.get_visible()]
            self.figure.set_dpi(dpi)
            try:
                self._canvas.draw()
                renderer = self._canvas.get_renderer()
                for artist in still:
                    artist.draw(renderer)
                return Image.fromarray(np.asarray(self._canvas.buffer_rgba())).convert("RGB")
            finally:
                self.figure.set_dpi(DPI)
                self._canvas.draw()  # so that text is laid out for DPI again

    def table(self) -> pd.DataFrame:
        """What is drawn: every point of every line and the length of every bar, with the titles of its axes."""
        rows: list[tuple[Any, ...]] = []
        for ax in self.figure.axes:
            title = ax.get_title(loc="left") or ax.get_title() or ax.get_ylabel()
            for line in ax.lines:
                name = str(line.get_label())
                pairs = zip(*(np.atleast_1d(np.asarray(v, float)) for v in line.get_data()), strict=True)
                rows += [(title, "" if name.startswith("_") else name, x, y) for x, y in pairs]
            bars = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
            rows += [(title, "bar", bar.get_x() + bar.get_width(), bar.get_y() + bar.get_height() / 2) for bar in bars]
        return pd.DataFrame(rows, columns=["axes", "series", "x", "y"])


def svg_of(figure: Figure, salt: str) -> str:
    """What of a figure does not move, as SVG whose text is text, without a size of its own."""
    width, height = figure.bbox.size
    out = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.patch.set_visible(False)  # the page shows through
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        renderer = RendererSVG(width, height, out, image_dpi=144, metadata=nothing)
        figure.draw(renderer)
        renderer.finalize()
        figure.patch.set_visible(True)
    text = out.getvalue()
    head = f'<svg viewBox="0 0 {width:g} {height:g}" xmlns="http://www.w3.org/2000/svg" {XLINK}>'
    text = head + text[text.index(">", text.index("<svg")) + 1 :]
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # another panel of the page has groups of the same names
    text = re.sub(r"<style.*?</style>", "", text, flags=re.S)  # it would hold for the whole page
    text = re.sub(r"font: ([^;\"]*?)([\d.]+px) [^;\"]+", r"font: \1\2 var(--labkit-font)", text)
    return re.sub(r"#[0-9a-f]{6}", lambda match: colour(match.group()), text)


def colour(hexed: str) -> str:
    """A colour as SVG takes it: a name of the theme where it is one of the house, with its own value beside it."""
    name = THEME.get(hexed)
    return f"var(--labkit-{name}, {hexed})" if name else hexed


class Recorder(RendererBase):
    """A renderer that writes down marks."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__()
        self.width, self.height, self.marks = width, height, list[Mark]()
        self._flip = Affine2D().scale(1, -1).translate(0, height)

    def take(self, artist: Artist) -> None:
        """Draw a moving artist; text and images by their own numbers, since the browser lays them out."""
        if isinstance(artist, Text):
            self._text(artist)
        elif isinstance(artist, AxesImage):
            self._image(artist)
        else:
            before = len(self.marks)
            artist.draw(self)
            if isinstance(artist, Line2D) and artist.get_marker() not in ("None", "", None):
                for mark in self.marks[before:]:
                    mark["point"] = np.size(artist.get_xdata()) == 1

    def draw_path(self, gc: Any, path: Any, transform: Any, rgbFace: Any = None) -> None:  # noqa: N803
        """One stroke or filled outline."""
        d = self._words(path, transform)
        if d:
            self.marks.append({"tag": "path", "d": d} | self._look(gc, rgbFace))

    def draw_markers(
        self, gc: Any, marker_path: Any, marker_trans: Any, path: Any, trans: Any, rgbFace: Any = None  # noqa: N803
    ) -> None:  # fmt: skip
        """One outline at many places."""
        d = _outline(marker_path, marker_trans + Affine2D().scale(1, -1))
        places = (trans + self._flip).transform(path.vertices)
        at = [[round(float(x), 2), round(float(y), 2)] for x, y in places if np.isfinite(x) and np.isfinite(y)]
        self.marks.append({"tag": "stamp", "d": d, "at": at} | self._look(gc, rgbFace))

    def get_canvas_width_height(self) -> tuple[float, float]:
        """In points."""
        return self.width, self.height

    def points_to_pixels(self, points: Any) -> Any:
        """A point is the unit."""
        return points

    def _words(self, path: Any, transform: Any) -> str:
        return _outline(path, transform + self._flip)

    def _look(self, gc: Any, face: Any) -> Mark:
        look: Mark = {"fill": "none", "stroke": "none"}
        forced = gc.get_alpha() if gc.get_forced_alpha() else None
        if face is not None:
            look["fill"] = colour(to_hex(face))
            opacity = forced if forced is not None else (face[3] if len(face) > 3 else 1)
            if opacity < 1:
                look["fill-opacity"] = round(float(opacity), 3)
        if gc.get_linewidth() > 0:
            rgba = gc.get_rgb()
            look["stroke"] = colour(to_hex(rgba))
            look["stroke-width"] = round(float(gc.get_linewidth()), 2)
            opacity = forced if forced is not None else rgba[3]
            if opacity < 1:
                look["stroke-opacity"] = round(float(opacity), 3)
            if gc.get_dashes()[1] is not None:
                look["stroke-dasharray"] = " ".join(f"{value:g}" for value in gc.get_dashes()[1])
            if gc.get_capstyle() != "butt":
                look["stroke-linecap"] = {"projecting": "square"}.get(gc.get_capstyle(), gc.get_capstyle())
        box = gc.get_clip_rectangle()
        if box is not None:
            look["clip"] = [round(float(v), 1) for v in (box.x0, self.height - box.y1, box.width, box.height)]
        return look

    def _text(self, text: Text) -> None:
        x, y = (text.get_transform() + self._flip).transform(text.get_position())
        size, lines = float(text.get_fontsize()), text.get_text().split("\n")
        rise = RISE[text.get_verticalalignment()] * size
        if len(lines) > 1 and "center" in text.get_verticalalignment():
            rise -= 0.6 * size * (len(lines) - 1)
        self.marks.append(
            {
                "tag": "text",
                "x": round(float(x), 2),
                "y": round(float(y + rise), 2),
                "text-anchor": ANCHORS[text.get_horizontalalignment()],
                "font-size": round(size, 2),
                "fill": colour(to_hex(text.get_color())),
                "lines": lines,
            }
        )

    def _image(self, image: AxesImage) -> None:
        rgb = np.asarray(image.get_array())
        out = io.BytesIO()
        Image.fromarray((255 * rgb + 0.5).astype(np.uint8)).save(out, "PNG", compress_level=1)
        left, bottom, right, top = image.axes.bbox.extents
        self.marks.append(
            {
                "tag": "image",
                "x": round(float(left), 2),
                "y": round(float(self.height - top), 2),
                "width": round(float(right - left), 2),
                "height": round(float(top - bottom), 2),
                "href": "data:image/png;base64," + base64.b64encode(out.getvalue()).decode(),
            }
        )


@functools.lru_cache(maxsize=256)
def _known_outline(key: tuple[bytes, bytes | None, bytes]) -> str:
    """The text of a marker's outline: there are few, drawn at every place of every picture."""
    vertices, codes, matrix = key
    path = matplotlib.path.Path(
        np.frombuffer(vertices).reshape(-1, 2), None if codes is None else np.frombuffer(codes, np.uint8)
    )
    return _text_of(path, Affine2D(np.frombuffer(matrix).reshape(3, 3)))


def _outline(path: Any, transform: Any) -> str:
    if len(path.vertices) < 40 and path.codes is not None:
        matrix = transform.get_matrix()
        codes = np.ascontiguousarray(path.codes, np.uint8).tobytes()
        return _known_outline((np.ascontiguousarray(path.vertices, float).tobytes(), codes, matrix.tobytes()))
    return _text_of(path, transform)


def _text_of(path: Any, transform: Any) -> str:
    simplify = path.should_simplify
    words = _path.convert_to_string(  # type: ignore[attr-defined]
        path, transform, None, simplify, None, 2, [b"M", b"L", b"Q", b"C", b"z"], False
    )
    return str(words.decode("ascii")).replace("\n", "")
