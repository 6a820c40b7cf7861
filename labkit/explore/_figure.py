"""The live figure: one matplotlib Figure, drawn with Agg, whose moving artists are blitted and sent as a PNG.

Widget callbacks run in other threads than cells (ipykernel 7 subshells), and matplotlib's text parser and pyplot are
not made for that. So nothing here touches pyplot, one process-wide lock stands around all drawing, and the layout is
fixed from the start.
"""

import functools
import struct
import threading
from collections.abc import Iterable
from typing import Any

import matplotlib
import numpy as np
from isal import isal_zlib
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text
from PIL import Image, ImageDraw, ImageFont

DRAWING = threading.RLock()
DPI = 100
# Pillow's words for matplotlib's alignments; of several lines only the top can be given
ACROSS = {"left": "l", "center": "m", "right": "r"}
UPRIGHT = {"baseline": "s", "center": "m", "top": "a", "bottom": "d"}


class LiveFigure:
    """A figure with a still background and the artists that move on it."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        self.moving: list[Artist] = []
        self._canvas = FigureCanvasAgg(self.figure)
        self._background: object = None

    def move(self, artists: Iterable[Artist]) -> None:
        """Declare artists that change from picture to picture."""
        for artist in artists:
            artist.set_animated(True)
            self.moving.append(artist)

    def refresh(self) -> None:
        """Draw the background anew next time: a limit, a label or a still artist has changed."""
        self._background = None

    def png(self) -> bytes:
        """The figure as it stands now."""
        with DRAWING:
            if self._background is None:
                self._canvas.draw()
                self._background = self._canvas.copy_from_bbox(self.figure.bbox)
            self._canvas.restore_region(self._background)
            renderer = self._canvas.get_renderer()
            shown = [artist for artist in self.moving if artist.get_visible()]
            for artist in shown:
                if not isinstance(artist, Text | AxesImage):
                    artist.draw(renderer)
            size = self._canvas.get_width_height()
            picture = Image.frombuffer("RGBX", size, self._canvas.buffer_rgba(), "raw", "RGBX", 0, 1).convert("RGB")
            for image in shown:
                if isinstance(image, AxesImage):
                    paste(picture, image)
            write_texts(picture, [text for text in shown if isinstance(text, Text)])
            return encode_png(np.asarray(picture))


def paste(picture: Image.Image, image: AxesImage) -> None:
    """Put a moving image, (h, w, 3) in [0, 1], where its axes are, with Pillow: a fifth of matplotlib's time."""
    rgb: Any = image.get_array()
    left, bottom, right, top = (round(edge) for edge in image.axes.bbox.extents)
    small = Image.fromarray((255 * np.asarray(rgb) + 0.5).astype(np.uint8))
    picture.paste(small.resize((right - left, top - bottom), Image.Resampling.NEAREST), (left, picture.height - top))


def write_texts(picture: Image.Image, texts: list[Text]) -> None:
    """Write moving texts on the picture with Pillow: matplotlib takes five times as long."""
    pen = ImageDraw.Draw(picture)
    for text in texts:
        x, y = text.get_transform().transform(text.get_position())
        anchor = ACROSS[text.get_horizontalalignment()] + UPRIGHT[text.get_verticalalignment()]
        font = _font(float(text.get_fontsize()) * DPI / 72)
        pen.text((x, picture.height - y), text.get_text(), "black", font, anchor, align="center")


@functools.cache
def _font(size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(matplotlib.get_data_path() + "/fonts/ttf/DejaVuSans.ttf", size)


def encode_png(rgb: np.ndarray) -> bytes:
    """An unfiltered PNG of (height, width, 3) bytes, deflated by ISA-L: a sixth of a general encoder's time."""
    height, width = rgb.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row starts with its filter type, 0
    rows[:, 1:] = rgb.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", isal_zlib.compress(rows.data, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", isal_zlib.crc32(kind + body))
        for kind, body in chunks
    )
